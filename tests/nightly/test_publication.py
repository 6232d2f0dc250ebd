"""A directory for each day: whole or not at all, private, and with an index that leads to every file."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import lxml.html
import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.report_samples import (
    FAMILIES,
    GENERATED_AT,
    changed_report,
    hostile_texts,
    member,
    report_of,
    sample_report,
)
from support.state_files import small_files

from evergreen_groups.errors import BusyError, ConfigurationError
from evergreen_groups.formats import FILE_FORMATS
from evergreen_groups.groups import Group
from evergreen_groups.ils import OrgUnit
from evergreen_groups.nightly import library_file_names
from evergreen_groups.nightly.output import publish, report_date
from evergreen_groups.report import ADULT, GUARDIAN, Contact, Criteria, PostalAddress, Report, libraries
from evergreen_groups.state.lock import hold

LIBRARIES = ("BM1", "BR1", "BR2", "BR3", "SL1")
DAY = report_date(sample_report()).isoformat()


def report() -> Report:
    return replace(sample_report(), criteria=Criteria())


def later(days: int) -> Report:
    return replace(report(), generated_at=GENERATED_AT + timedelta(days=days))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def editions(directory: Path) -> list[str]:
    return sorted(path.name.split(".")[0] for path in (directory / ".editions").iterdir() if path.is_dir())


def index(directory: Path) -> lxml.html.HtmlElement:
    return lxml.html.document_fromstring((directory / "latest" / "index.html").read_bytes())


def test_every_library_has_its_files(tmp_path: Path) -> None:
    published = publish(report(), tmp_path / "reports", ("html", "csv", "json", "xlsx"))
    expected = {f"{name}.{format}" for name in LIBRARIES for format in ("html", "csv", "json", "xlsx")}
    assert published.path == tmp_path / "reports"
    assert (published.path / "latest").readlink() == Path(DAY)
    assert (published.path / DAY).readlink().parent == Path(".editions")  # so that the directory can be moved
    assert {path.name for path in (published.path / "latest").iterdir()} == expected | {"index.html"}
    assert (published.library_count, published.file_count) == (5, 21)
    for name, part in libraries.by_library(report()).items():
        document = json.loads((published.path / "latest" / f"{name}.json").read_text("utf-8"))
        assert [group["group"] for group in document["groups"]] == [group.number for group in part.groups]
        assert document["criteria"]["orgs"] == [name]
    assert (published.path / "latest" / "BR1.csv").read_bytes().count(b"\r\n") == 5
    assert (published.path / "latest" / "BR1.xlsx").read_bytes().startswith(b"PK")


def text_of(path: Path) -> str:
    if path.suffix != ".xlsx":
        return path.read_text("utf-8")
    sheets = openpyxl.load_workbook(path).worksheets
    return "\n".join(str(cell.value) for sheet in sheets for row in sheet for cell in row)


def test_a_library_s_files_have_contact_data_of_its_own_patrons_only(tmp_path: Path) -> None:
    """Three families with members at all branches. Each branch has the contact of one; at BR2, it's a guardian."""
    homes = ("BR1", "BR2", "BR3")
    groups, contacts = [], {}
    for number, home in enumerate(homes, 1):
        ids = range(10 * number, 10 * number + 3)
        groups.append(
            Group(number, tuple(member(id, "A", "9.00", library=one) for id, one in zip(ids, homes, strict=True)))
        )
        contacts[number] = Contact(
            ids[number - 1],
            f"Name at {home}",
            GUARDIAN if home == "BR2" else ADULT,
            home,
            day_phone=f"Phone at {home}",
            email=f"Mail at {home}",
            postal_address=PostalAddress(f"Street at {home}", "", "Lakeland", "MN", "55555", "USA"),
        )
    units = (OrgUnit(1, "CONS", "", None), *(OrgUnit(id, name, "", 1) for id, name in enumerate(homes, 2)))
    publish(replace(report_of(groups), contacts=contacts, org_units=units), tmp_path, FILE_FORMATS)
    for format in FILE_FORMATS:
        for name, own in (("CONS", homes), *((home, (home,)) for home in homes)):
            text = text_of(tmp_path / "latest" / f"{name}.{format}")
            marks = {f"{what} at {home}" for what in ("Phone", "Mail", "Street") for home in own}
            assert set(re.findall(r"(?:Phone|Mail|Street) at BR\d", text)) == marks, (name, format)
            # The names of members are in the report anyway.
            assert ("Name at BR2" in text) == ("BR2" in own), (name, format)
    document = json.loads((tmp_path / "latest" / "BR1.json").read_text("utf-8"))
    assert [group["contact_withheld"] for group in document["groups"]] == [False, True, True]


def test_details_and_byte_order_mark_are_for_every_library(tmp_path: Path) -> None:
    published = publish(report(), tmp_path, ("csv",), details=False, bom=True)
    for name in LIBRARIES:
        content = (published.path / "latest" / f"{name}.csv").read_bytes()
        assert content.startswith(b"\xef\xbb\xbfgroup,")
        assert content.count(b"\r\n") == 1 + len(libraries.by_library(report())[name].groups)


def test_a_page_says_which_library_it_is_of(tmp_path: Path) -> None:
    published = publish(report(), tmp_path, ("html", "xlsx"))
    page = lxml.html.document_fromstring((published.path / "latest" / "BR2.html").read_bytes())
    assert page.findtext(".//h1") == "Groups with high combined fines: BR2"
    assert page.findtext(".//title") == "Groups with high combined fines: BR2, 14 Aug 2026"
    assert page.xpath("string(//dt[.='Listed']/following-sibling::dd)").endswith(
        "with a member at BR2 or below; highest Group Fines first"
    )
    summary = openpyxl.load_workbook(published.path / "latest" / "BR2.xlsx")["Summary"]
    assert summary["A1"].value == "Groups with high combined fines: BR2"


def test_nobody_else_may_read_them(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        published = publish(report(), tmp_path / "reports")
    finally:
        os.umask(before)
    for path in (published.path, *published.path.rglob("*")):
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path


def test_a_directory_that_is_there_keeps_its_mode_and_what_lies_in_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "2020-01-01").mkdir()
    (tmp_path / "2020-01-02").symlink_to("notes.txt")
    publish(report(), tmp_path, ("csv",), keep_days=1)
    assert mode(tmp_path) == 0o750
    names = {"notes.txt", "2020-01-01", "2020-01-02", DAY, "latest", ".editions"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_second_run_of_the_day_takes_the_place_of_the_first(tmp_path: Path) -> None:
    publish(report(), tmp_path)
    publish(replace(report_of(FAMILIES[:1]), criteria=Criteria()), tmp_path, ("json",))
    assert {path.name for path in (tmp_path / DAY).iterdir()} == {"BR1.json", "BR2.json", "index.html"}
    assert editions(tmp_path) == [DAY]


def test_older_days_stay_unless_it_is_said_how_long(tmp_path: Path) -> None:
    for days in range(5):
        publish(later(days), tmp_path, ("csv",))
    days = [report_date(later(number)).isoformat() for number in range(5)]
    assert editions(tmp_path) == days
    publish(later(4), tmp_path, ("csv",), keep_days=3)
    assert editions(tmp_path) == days[2:]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".editions", *days[2:], "latest"]
    assert str((tmp_path / "latest").readlink()) == days[4]


def test_a_clock_that_is_decades_ahead_for_a_night_throws_nothing_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for days in range(3):
        publish(later(days), tmp_path, ("csv",), keep_days=3)
    publish(later(26_000), tmp_path, ("csv",), keep_days=3)
    assert "check the clock" in caplog.text
    kept = [report_date(later(number)).isoformat() for number in (0, 1, 2, 26_000)]
    assert editions(tmp_path) == kept
    publish(later(3), tmp_path, ("csv",), keep_days=3)
    assert editions(tmp_path) == sorted({*kept, report_date(later(3)).isoformat()} - {kept[0]})
    assert f"{tmp_path / kept[3]} is dated in the future because a clock was wrong; delete it" in caplog.text


def test_a_day_whose_link_was_taken_away_is_removed_by_the_next_run(tmp_path: Path) -> None:
    publish(report(), tmp_path, ("csv",))
    (tmp_path / DAY).unlink()
    publish(later(1), tmp_path, ("csv",))
    assert editions(tmp_path) == [report_date(later(1)).isoformat()]


@pytest.mark.parametrize("format", ["html", "csv", "json", "xlsx"])
def test_a_disk_that_takes_no_more_leaves_the_old_edition(tmp_path: Path, format: str) -> None:
    publish(report(), tmp_path, (format,))
    before = {path.name: path.read_bytes() for path in (tmp_path / DAY).iterdir()}
    with small_files(400), pytest.raises(ConfigurationError) as caught:
        publish(report_of(FAMILIES[:2]), tmp_path, (format,))
    assert str(caught.value) == f"cannot write {tmp_path}: File too large; free up disk space, or choose another path"
    assert {path.name: path.read_bytes() for path in (tmp_path / "latest").iterdir()} == before
    assert editions(tmp_path) == [DAY]


def test_a_second_run_at_the_same_time_is_refused(tmp_path: Path) -> None:
    publish(report(), tmp_path, ("csv",))
    with hold(tmp_path / ".editions" / "lock", "is testing"), pytest.raises(BusyError) as caught:
        publish(report(), tmp_path, ("csv",))
    assert f"another run is writing to {tmp_path} (process {os.getpid()}" in str(caught.value)
    assert (tmp_path / "latest" / "BR1.csv").is_file()


@pytest.mark.parametrize("name", ["latest", DAY])
def test_a_directory_where_a_link_should_be_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "precious").write_text("precious")
    with pytest.raises(ConfigurationError, match=rf"{name} already exists; move .* away, or choose another path"):
        publish(report(), tmp_path)
    assert (tmp_path / name / "precious").read_text() == "precious"
    assert editions(tmp_path) == []


def test_a_path_that_cannot_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path, words in (
        (tmp_path / "file", f"File exists; move {tmp_path / 'file'} away, or choose another path"),
        (tmp_path / "no" / "such", "No such file or directory; create the directory, or choose another path"),
        (tmp_path / "file" / "reports", "Not a directory; choose another path"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            publish(report(), path)
        assert str(caught.value) == f"cannot write {path}: {words}"


def test_most_short_names_stay_as_they_are() -> None:
    names = ("BR1", "Main_Branch", "ELM-2", "v1.2", "Étampes", "a/b", "../../etc/passwd", ".hidden", "INDEX", "nul", "")
    made = library_file_names(names)
    assert [made[name] for name in names[:4]] == list(names[:4])
    for name, beginning in {"a/b": "a_b-", "Étampes": "_tampes-", "INDEX": "INDEX-", "nul": "nul-"}.items():
        assert made[name].startswith(beginning)
    # Names that differ in capitals alone.
    made = library_file_names(("br1", "BR1", "BR2"))
    assert made["BR2"] == "BR2"
    assert len({name.casefold() for name in made.values()}) == 3


@given(st.lists(st.text() | hostile_texts, unique=True))
def test_file_names_are_safe_and_differ(shortnames: list[str]) -> None:
    made = list(library_file_names(shortnames).values())
    assert len({name.casefold() for name in made}) == len(shortnames)
    for name in made:
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,80}", name)
        assert name.casefold() != "index"


def tree_report() -> Report:
    units = (
        OrgUnit(1, "CONS", "Example Consortium", None),
        OrgUnit(2, "BR1", "First <b>Branch</b>", 1),
        *[OrgUnit(number, name, "", 1) for number, name in enumerate(("BR2", "BR3", "SL1", "BM1", "BR9"), 3)],
    )
    return replace(changed_report(), criteria=Criteria(), org_units=units)


def rows(table: lxml.html.HtmlElement) -> dict[str, list[str]]:
    found = {}
    for row in table.xpath("tbody/tr | tfoot/tr"):
        name = row[0].xpath("string((.//bdi)[1])") or row[0].text_content()
        found[name] = [cell.text_content() for cell in row[1:]]
    return found


def test_the_index_sums_up_each_library_and_counts_each_group_once(tmp_path: Path) -> None:
    publish(tree_report(), tmp_path, ("html", "csv"))
    [table] = index(tmp_path).xpath("//table[@id='libraries']")
    assert [head.text_content() for head in table.xpath("thead//th")] == [
        *("Library", "Groups", "Members", "Group Fines", "Over the limit"),
        *("New", "Owes more", "Owes less", "No longer listed", "Change in Group Fines", "Other files"),
    ]
    shown = rows(table)
    assert list(shown) == ["CONS", "BM1", "BR1", "BR2", "BR3", "BR9", "SL1", "All libraries"]
    assert shown["CONS"][:4] == shown["All libraries"][:4] == ["5", "19", "unknown", "at least 7"]
    assert shown["BR1"][:6] == ["1", "4", "$1,289.35", "2", "0", "1"]
    assert shown["BR9"][:4] == ["0", "0", "$0.00", "0"]
    assert sum(int(figures[0]) for name, figures in shown.items() if name.startswith(("B", "S"))) > 5


def test_the_index_shows_how_the_sums_went(tmp_path: Path) -> None:
    publish(tree_report(), tmp_path, ("html",))
    assert index(tmp_path).xpath("//h2/text()") == ["Libraries", "Please note"]
    assert "last 30 reports" in index(tmp_path).xpath("string(//div[dd//svg]/dt)")


def test_the_index_marks_hidden_libraries(tmp_path: Path) -> None:
    publish(replace(tree_report(), hidden_libraries=frozenset({"BR9"})), tmp_path, ("html",))
    said = "the report's account can't see this library's patrons"
    [row] = [row for row in index(tmp_path).xpath("//tbody/tr/th") if said in row.text_content()]
    assert row.xpath("string(.//bdi)") == "BR9"
    page = lxml.html.document_fromstring((tmp_path / "latest" / "BR9.html").read_bytes())
    assert page.xpath("string(//p[@class='empty'])") == f"{said[0].upper()}{said[1:]}."


def test_the_index_leads_to_every_file(tmp_path: Path) -> None:
    published = publish(tree_report(), tmp_path, ("html", "csv", "xlsx"))
    links = index(tmp_path).xpath("//a/@href[not(starts-with(., '#'))]")
    assert sorted([*links, "index.html"]) == sorted(path.name for path in (published.path / "latest").iterdir())
    labels = index(tmp_path).xpath("//td[@class='files']/a/@aria-label")
    assert labels[:2] == ["CONS as CSV", "CONS as XLSX"]


def test_the_index_without_pages_or_changes(tmp_path: Path) -> None:
    publish(report(), tmp_path, ("json",))
    tree = index(tmp_path)
    assert tree.xpath("//a/@href[not(starts-with(., '#'))]") == [f"{name}.json" for name in LIBRARIES]
    assert [head.text_content() for head in tree.xpath("//thead//th")][-1] == "Over the limit"


def test_nothing_in_the_index_comes_from_a_name_or_from_outside(tmp_path: Path) -> None:
    hostile = "</a><script>alert(1)</script>"
    family = Group(1, (member(1, "A", "30.00", library=hostile), member(2, "B", "1.00", library='"><img src=x>')))
    publish(report_of([family], notes=[hostile]), tmp_path)
    tree = index(tmp_path)
    assert len(tree.xpath("//script")) == 1
    assert not tree.xpath("//img | //@src | //link | //@style | //@onclick")
    assert hostile in [name.text_content() for name in tree.xpath("//tbody//bdi")]
    assert all(re.fullmatch(r"#?[\w.-]+", link) for link in tree.xpath("//@href"))
    policy = tree.xpath("string(//meta[@http-equiv='Content-Security-Policy']/@content)")
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
