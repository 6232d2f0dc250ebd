"""The terminal table and its columns: they fit the screen, keep names from steering it, and cut nothing off."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from support import report_samples as samples
from support.rendered import written

from evergreen_groups.groups import Group
from evergreen_groups.language import Language, catalogue, describe_total, price, use_language
from evergreen_groups.message import Message
from evergreen_groups.policy import Comparison, Limit
from evergreen_groups.render import printable
from evergreen_groups.render.column import Column
from evergreen_groups.render.columns import PLAIN, Cell, Columns, aligned, wrapped
from evergreen_groups.render.report import render
from evergreen_groups.report import Changes, Criteria, Report

SGR = re.compile("\x1b\\[[0-9;]*m")

NO_DETAILS_AT_80 = """\
                                                         Group    Highest   Over
Group  Name                   Library  Members           Fines  own fines  limit
────────────────────────────────────────────────────────────────────────────────
 1187  Castellanos-           BR1      4 (2 owe)     $1,289.35  $1,204.50      2
        Whitfield,
        Maximiliana
        Josephine
  902  Tanaka, Keiko (田中    BR3      6 (6 owe)        $29.00      $5.00   none
        恵子)
 2240  O'Malley, Síle         BR2      4 (2+ owe)       $28.39    $12.00+     2+
         incomplete: 2 members are hidden from this account (fines: $6.40).
   85  בן-דוד, יוסף *         BM1      2 (2 owe)        $25.25     $20.00      2
31007  Baptiste, Aimé         SL1      3 (1+ owes)     unknown    $25.00+     1+
         incomplete: 1 member is hidden from this account (fines: unknown).
────────────────────────────────────────────────────────────────────────────────
       Total, 5 groups                 19 (13+ owe)    unknown                7+
"""


def table(report: Report, *, details: bool = True, width: int = 80, color: bool = False) -> str:
    return written(report, "table", details=details, width=width, color=color)


def headed(heading: str, *, right: bool = False, least: int | None = None) -> Column[str]:
    return Column("", str, Message(heading), "number" if right else "text", least=least)


def squeezed(text: str) -> str:
    return "".join(text.split())


def test_looks_as_it_should_at_80_columns() -> None:
    assert NO_DETAILS_AT_80 in table(samples.sample_report(), details=False)


@pytest.mark.parametrize("details", [True, False])
@pytest.mark.parametrize("width", [80, 100, 116, 200])
@pytest.mark.parametrize(
    "report",
    [samples.sample_report(), samples.changed_report(), samples.empty_report(), samples.detailed()],
    ids=["sample", "changed", "empty", "detailed"],
)
def test_no_line_is_longer_than_the_screen(report: Report, width: int, details: bool) -> None:
    lines = table(report, width=width, details=details).splitlines()
    assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize("width", [80, 200])
def test_every_fact_is_there(width: int) -> None:
    report = samples.sample_report()
    shown = squeezed(table(report, width=width))
    for group in report.groups:
        assert describe_total(group.group_fines) in shown
        for one in group.members:
            assert squeezed(one.barcode or "no card") in shown
            assert price(one.own_fines) in shown
    assert "forinformationonly" in shown
    assert "https://ils.example.org/osrf-gateway-v1" in shown
    assert squeezed(samples.INCOMPLETE_NOTE) in shown
    assert "Incompletegroups:2" in shown
    assert "amemberatSYS1orBM1orbelow;atmost5;highestGroupFinesfirst" in shown


def test_time_has_its_zone() -> None:
    assert re.search(r"^Data as of +1\d Aug 2026, \d\d:\d\d \S+$", table(samples.sample_report()), re.MULTILINE)
    with use_language(Language("en", timezone=catalogue.timezone_of("America/Toronto"))):
        assert re.search(r"\nData as of +14 Aug 2026, 04:15 EDT\n", table(samples.sample_report()))


def test_marks() -> None:
    lines = table(samples.sample_report(), width=200).splitlines()
    tanaka = next(line for line in lines if line.startswith("  902"))
    assert "  none  " in tanaka
    assert tanaka.endswith("no member over the limit")
    without_lead = next(line for line in lines if line.startswith("   85"))
    assert without_lead.endswith("no group lead")
    theo = next(line for line in lines if "Theo" in line)
    assert "$88.10   over" in theo
    keiko = next(line for line in lines if "Keiko" in line and not line.startswith("  902"))
    assert re.search(r"\$4\.90 {9}.*group lead$", keiko)


def test_changes_have_a_column_where_there_is_room() -> None:
    lines = table(samples.changed_report(), width=130, details=False).splitlines()
    shown = {line.split()[0]: line for line in lines if line[:5].strip().isdigit()}
    assert re.search(r"\$1,289\.35 +\+\$85\.35 +\$1,204\.50", shown["1187"])
    assert re.search(r"\$29\.00 +new +\$5\.00", shown["902"])
    assert re.search(r"\$28\.39 +-\$11\.61 +\$12\.00", shown["2240"])
    assert re.search(r"unknown +unknown +\$25\.00\+", shown["31007"])
    assert re.search(r"unknown +unknown +7\+", next(line for line in lines if "Total, 5 groups" in line))
    assert "split from group 77" in lines[lines.index(shown["902"]) + 2]


def test_changes_stand_under_the_group_on_a_narrow_screen() -> None:
    report = samples.changed_report()
    shown = table(report)
    assert "\n         owes more: +$85.35; 1 member joined\n lead" in shown
    assert "\n         owes less: -$11.61; formerly group 11; 2 members left\n" in shown
    assert "\n         new; split from group 77\n" in shown
    assert "\n         group 84 was merged into this one\n" in shown


@pytest.mark.parametrize("width", [80, 200])
def test_counts_of_changes_and_cleared_groups(width: int) -> None:
    shown = squeezed(table(samples.changed_report(), width=width))
    counted = "1groupnewlylisted,1groupowesmore,1groupowesless,2groupsunchanged,2groupsnolongerlisted"
    apart = "notincluded:1groupnewlylisted($29.00),2groupsnolongerlisted(unknown)"
    assert f"{counted}ChangeinGroupFines:unknown;{apart}" in shown
    for words in ("611Featherstonehaugh,", "$1,260.10$3.00nowgroup612;now", "unknownnotknownnotfound:"):
        assert words in shown


def test_nothing_is_said_of_changes_without_a_run_before() -> None:
    first = replace(samples.sample_report(), changes=Changes(None, {}, trend=samples.changed_report().changes.trend))
    assert table(first) == table(samples.sample_report())


def test_empty_report_is_a_friendly_line() -> None:
    shown = table(samples.empty_report())
    assert "No groups to list." in shown
    assert "Total" not in shown


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (Limit(), "Only a member's own fines count toward the $5.00 limit."),
        (Limit(Decimal("1000.00"), Comparison.REACHES), "Only a member's own fines count toward the $1,000.00 limit."),
        (Limit(None), "There is no limit for own fines, so no member is over it."),
    ],
)
def test_limit_in_words(limit: Limit, words: str) -> None:
    assert words in table(samples.report_of((), criteria=Criteria(limit=limit)), width=200)


@pytest.mark.long
@settings(deadline=None, max_examples=60)
@given(samples.hostile_reports() | samples.hostile_changed_reports(), st.sampled_from([80, 200]), st.booleans())
def test_names_can_not_steer_the_terminal(report: Report, width: int, details: bool) -> None:
    plain = table(report, width=width, details=details)
    assert all(line.isprintable() or printable(line) == line for line in plain.split("\n"))
    assert max(cell_len(line) for line in plain.split("\n")) <= width
    colored = table(report, width=width, details=details, color=True)
    assert SGR.sub("", colored) == plain


def test_color_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in table(samples.sample_report())
    monkeypatch.delenv("FORCE_COLOR")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1m" in table(samples.sample_report(), color=True)


def test_red_is_for_a_block_of_ones_own() -> None:
    red = "\x1b[1;31m"
    assert red not in table(samples.sample_report(), color=True)
    for width in (80, 140):
        shown = table(samples.blocked_report(), width=width, color=True)
        found = [part.partition("\x1b[0m")[0] for part in shown.split(red)[1:]]
        assert sum("blocked" in words for words in found) == 2
        allowed = "group lead over blocked in Evergreen own fines within the limit"
        assert set(re.sub("[,()]", "", " ".join(found)).split()) <= set(allowed.split())


@pytest.mark.parametrize("width", [80, 240])
def test_over_the_limit_and_blocked_in_evergreen_are_told_apart(width: int) -> None:
    lines = table(samples.blocked_report(), width=width).splitlines()
    words = " ".join(" ".join(lines).split())
    assert "ver the limit, not yet blocked in Evergreen (at least 6 members)" in words
    assert "locked in Evergreen, own fines within the limit (at least 1 member)" in words
    if width == 80:
        assert " blocked = over the limit, blocked in Evergreen (at least 1 member)" in words
        assert "(blocked)" in next(line for line in lines if "29999000000977" in line)
    if width == 240:
        assert "group lead, blocked in Evergreen" in words
        theo = next(line for line in lines if "Theo" in line)
        assert "  over  " in theo
        assert "over the limit, not yet blocked in" in theo
    assert all(len(line) <= width for line in lines)


def test_markup_in_names_is_inert() -> None:
    report = samples.report_of([Group(1, (samples.member(1, "[red]Rot[/red] :smile: [link=x]y[/]", "30.00"),))])
    assert "[red]Rot[/red] :smile: [link=x]y[/]" in table(report, width=200, color=True)


def test_encoding_without_the_characters() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    render(samples.sample_report(), "table", stream, width=80)
    stream.flush()
    assert b"O'Malley, S?le" in raw.getvalue()
    assert b"-" * 80 in raw.getvalue()


@given(samples.hostile_texts.map(printable), st.integers(2, 40))
def test_wrapping_loses_nothing(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert squeezed("".join(lines)) == squeezed(text)
    assert max(map(cell_len, lines)) <= width


def test_wraps_at_blanks_and_hyphens() -> None:
    assert wrapped("Castellanos-Whitfield, Maximiliana", 16) == ["Castellanos-", "Whitfield,", "Maximiliana"]
    assert wrapped("田中さくら", 4) == ["田中", "さく", "ら"]
    assert wrapped("", 4) == [""]


def test_wrapped_lines_are_indented_and_stay_in_their_column() -> None:
    columns = Columns((headed("A"), headed("B", least=4)), [[Cell("1"), Cell("eins zwei drei", indent=2)]], width=11)
    shown = "".join(segment.text for segment in columns.row([Cell("1"), Cell("eins zweidreivier", indent=2)]))
    assert shown == "1    eins\n      zweid\n      reivi\n      er\n"


@pytest.mark.parametrize("blank", ["\xa0", "\u202f"])
def test_an_amount_stays_on_one_line(blank: str) -> None:
    amount = f"1{blank}234,50{blank}$"
    assert wrapped(f"plus de {amount}", 12) == ["plus de", amount]
    assert wrapped(f"doit {amount} depuis", 14) == ["doit", amount, "depuis"]


@pytest.mark.parametrize("name", ["Müller", "山田, 太郎", "e\u0301lan", "\u200f4.90\xa0\u200f$", ""])
def test_what_follows_begins_at_the_same_place(name: str) -> None:
    columns = Columns([headed("Name"), headed("Fines", right=True)], [[Cell(name), Cell("1.00")]], 80)
    (line,) = "".join(segment.text for segment in columns.row([Cell(name), Cell("1.00")])).splitlines()
    assert cell_len(line) == columns.width == sum(columns.widths) + 2
    assert "".join(segment.text for segment in columns.heading(PLAIN)).startswith("Name")
    assert cell_len(aligned(name, 12)) == cell_len(aligned(name, 12, right=True)) == 12


NARROW = [headed("Groupe", right=True), headed("Nom", least=8), headed("Bibliothèque", least=7)]
ROW = [Cell("1008"), Cell("O'Sullivan-Byrne, Siobhán", indent=2), Cell("20000000001032")]


@pytest.mark.parametrize("width", [80, 42, 36, 34])
def test_a_barcode_is_not_broken_while_a_name_can_be(width: int) -> None:
    columns = Columns(NARROW, [ROW], width)
    lines = "".join(segment.text for segment in columns.row(ROW)).splitlines()
    assert columns.width <= width
    assert lines[0].endswith("20000000001032")


def test_words_of_names_are_broken_last() -> None:
    columns = Columns(NARROW, [ROW], 38)
    lines = "".join(segment.text for segment in columns.row(ROW)).splitlines()
    assert [line.split()[-2 if number == 0 else -1] for number, line in enumerate(lines)] == [
        "O'Sullivan-",
        "Byrne,",
        "Siobhán",
    ]


def test_a_long_heading_is_parted_by_a_hyphen() -> None:
    columns = Columns([headed("Bibliothèque", least=7), headed("Dû")], [[Cell("PINE"), Cell("1,00")]], 13)
    lines = "".join(segment.text for segment in columns.heading(PLAIN)).splitlines()
    assert lines == ["Biblio-", "thèque   Dû"]
    assert columns.width <= 13
