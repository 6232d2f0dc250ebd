"""A part of the report is what the report with --org would be."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateways import gateway_of
from support.report_samples import FAMILIES, GENERATED_AT, member, report_of, sample_report

from evergreen_groups.groups import Group
from evergreen_groups.ils import OrgUnit
from evergreen_groups.report import (
    ChangeKind,
    Changes,
    Criteria,
    GroupChange,
    Report,
    RunTotals,
    build_report,
    libraries,
)
from evergreen_groups.report.libraries import HIDDEN_PATRONS
from evergreen_groups.report.models import GroupNow
from evergreen_groups.sandbox import Sandbox

TREE = (
    OrgUnit(1, "CONS", "Example Consortium", None),
    OrgUnit(2, "SYS1", "First System", 1),
    OrgUnit(3, "SYS2", "Second System", 1),
    OrgUnit(5, "BR2", "Second Branch", 2),
    OrgUnit(4, "BR1", "First Branch", 2),
    OrgUnit(6, "BR3", "Third Branch", 3),
    OrgUnit(8, "SL1", "Sub-library", 6),
    OrgUnit(9, "BM1", "Bookmobile", 3),
)


def sample(**criteria: object) -> Report:
    report = replace(sample_report(), org_units=TREE)
    return replace(report, criteria=Criteria(**criteria))  # type: ignore[arg-type]  # handed on as they come


def numbers(report: Report) -> list[int]:
    return [group.number for group in report.groups]


def test_libraries_stand_in_the_order_of_the_tree() -> None:
    shown = " ".join(f"{library.shortname}:{library.depth}" for library in libraries.reported_libraries(sample()))
    assert shown == "CONS:0 SYS1:1 BR1:2 BR2:2 SYS2:1 BM1:2 BR3:2 SL1:3"


def test_libraries_that_were_not_asked_for_get_no_part() -> None:
    assert list(libraries.by_library(sample(orgs=("br3", "SYS1")))) == ["SYS1", "BR1", "BR2", "BR3", "SL1"]
    assert [library.depth for library in libraries.reported_libraries(sample(orgs=("br3", "SYS1")))] == [0, 1, 1, 0, 1]


def test_a_library_that_was_added_after_the_tree_was_read_is_not_lost() -> None:
    report = replace(report_of([Group(1, (member(1, "A", "30.00", library="#77"),))]), org_units=TREE)
    assert libraries.reported_libraries(report)[-1] == libraries.ReportedLibrary("#77", "", 0)
    assert numbers(libraries.by_library(report)["#77"]) == [1]


def test_without_a_tree_home_libraries_stand_alone() -> None:
    parts = libraries.by_library(replace(sample_report(), criteria=Criteria()))
    assert {name: numbers(part) for name, part in parts.items()}["BR3"] == [902]
    assert list(parts) == ["BM1", "BR1", "BR2", "BR3", "SL1"]


def test_several_libraries_together_have_each_group_once() -> None:
    part = libraries.for_libraries(sample(), ("sys1", "BM1"))
    assert numbers(part) == [1187, 902, 2240, 85]
    assert part.totals == report_of(part.groups).totals
    assert part.criteria.orgs == ("sys1", "BM1")
    assert numbers(libraries.for_libraries(sample(), ("NOWHERE",))) == []


def test_notes_are_kept_and_say_that_they_are_about_the_whole_report() -> None:
    parts = libraries.by_library(sample())
    assert parts["CONS"].notes == sample().notes
    assert parts["BR1"].notes == tuple(f"Overall: {note}" for note in sample().notes)
    hidden = HIDDEN_PATRONS.with_values({"permission": "VIEW_USER", "libraries": "BR3"})
    assert libraries.by_library(replace(sample(), notes=(hidden,)))["BR1"].notes == (hidden,)


def test_groups_that_top_left_out_are_counted_where_they_belong() -> None:
    report = replace(sample(), left_out=FAMILIES[:2], groups=FAMILIES[2:], left_out_count=2)
    parts = libraries.by_library(report)
    assert [parts[name].left_out_count for name in ("CONS", "BR1", "SYS2", "SL1")] == [2, 1, 1, 0]
    assert parts["BR1"].left_out == FAMILIES[:1]


def changes() -> Changes:
    def change(group: int, kind: ChangeKind, before: str | None, after: str | None, *homes: str) -> GroupChange:
        amounts = [None if amount is None else Decimal(amount) for amount in (before, after)]
        return GroupChange(group, kind, *amounts, homes[0], frozenset(homes))

    listed = [
        change(1187, ChangeKind.WORSE, "1200.00", "1289.35", "BR1", "BR2"),
        change(902, ChangeKind.NEW, None, "29.00", "BR3", "BM1"),
    ]
    present = GroupNow(9, "Lead", 2, Decimal("1.00"), frozenset({"SL1"}))
    cleared = (
        replace(change(7, ChangeKind.CLEARED, "31.00", None, "BR2", "SL1"), present=present),
        change(8, ChangeKind.CLEARED, "26.00", None, "BR1"),
    )
    before = GENERATED_AT - timedelta(days=1)
    trends = {name: (RunTotals(before, count, count * 3, Decimal(count)),) for count, name in enumerate(("BR3", "BR1"))}
    whole = (RunTotals(before, 9, 30, Decimal("400.00")),)
    by_group = {one.group: one for one in listed}
    return Changes(before, by_group, cleared, trend=whole, library_trends=trends)


def test_changes_are_those_of_the_part() -> None:
    parts = libraries.by_library(replace(sample(), changes=changes()))

    def of(shortname: str) -> Changes:
        found = parts[shortname].changes
        assert found
        return found

    assert set(of("CONS").by_group) == {1187, 902}
    assert set(of("BR2").by_group) == {1187}
    cleared = {name: [one.group for one in of(name).cleared] for name in ("CONS", "BR1", "BR2", "BR3", "BM1")}
    assert cleared == {"CONS": [7, 8], "BR1": [8], "BR2": [7], "BR3": [7], "BM1": []}
    assert (of("BR1").difference, of("BR1").listed_difference) == (Decimal("89.35"), Decimal("89.35") - 26)
    assert of("BR1").trend == changes().library_trends["BR1"]
    assert of("BM1").trend == ()
    shown = {name: bool(of(name).cleared[0].present) for name in ("CONS", "BR2", "BR3", "SL1")}
    assert shown == {"CONS": True, "BR2": False, "BR3": True, "SL1": True}  # BR2 has no member of that group any more
    together = libraries.for_libraries(replace(sample(), changes=changes()), ("BR1", "BR3")).changes
    assert together
    assert together.trend == ()
    assert [one.group for one in together.cleared] == [7, 8]


def test_groups_that_came_from_other_libraries_count_in_the_list_s_difference() -> None:
    trend = tuple(RunTotals(GENERATED_AT, 1, 3, Decimal(fines)) for fines in ("125.75", "163.89"))
    assert replace(changes(), trend=trend).list_difference == Decimal("38.14")
    assert replace(changes(), trend=trend[:1]).list_difference is None
    assert replace(changes(), trend=(*trend, replace(trend[0], group_fines=None))).list_difference is None


@st.composite
def reports_with_trees(draw: st.DrawFn) -> Report:
    """Org units below each other in any way, and groups whose members have any of them as home library."""
    count = draw(st.integers(1, 8))
    units = [OrgUnit(1, "U1", "", None)]
    for number in range(2, count + 1):
        units.append(OrgUnit(number, f"U{number}", "", draw(st.integers(1, number - 1))))
    homes = st.integers(1, count).map(lambda number: f"U{number}")
    groups = [
        Group(
            number,
            tuple(
                member(number * 10 + place, "A", "13.00", library=home)
                for place, home in enumerate(draw(st.lists(homes, min_size=1, max_size=4)))
            ),
        )
        for number in range(draw(st.integers(0, 6)))
    ]
    return replace(report_of(groups), org_units=tuple(draw(st.permutations(units))))


def is_at_or_below(report: Report, home: str, shortname: str) -> bool:
    units = {unit.id: unit for unit in report.org_units}
    [current] = [unit for unit in report.org_units if unit.shortname == home]
    while current.shortname != shortname and current.parent is not None:
        current = units[current.parent]
    return current.shortname == shortname


@given(reports_with_trees())
def test_parts_are_what_their_definition_says(report: Report) -> None:
    parts = libraries.by_library(report)
    assert set(parts) == {unit.shortname for unit in report.org_units}
    for shortname, part in parts.items():
        expected = [
            group.number
            for group in report.groups
            if any(is_at_or_below(report, one.library, shortname) for one in group.members)
        ]
        assert numbers(part) == expected
        assert part == libraries.for_libraries(report, (shortname,))


@pytest.mark.parametrize(
    ("account", "shortnames"),
    [
        ("consortium_staff", ("LAKELAND", "NORTH", "HARBOR", "PINE", "VALLEY", "ELM", "MILL", "BUS")),
        ("north_manager", ("LAKELAND", "NORTH", "HARBOR", "PINE")),
    ],
)
def test_a_part_is_the_report_for_that_library(sandbox: Sandbox, account: str, shortnames: tuple[str, ...]) -> None:
    with gateway_of(sandbox.url, account) as gateway:
        parts = libraries.by_library(build_report(gateway, Criteria()))
        for shortname in shortnames:
            alone = build_report(gateway, Criteria(orgs=(shortname,)))
            assert parts[shortname].criteria == alone.criteria
            assert (parts[shortname].groups, parts[shortname].totals) == (alone.groups, alone.totals)


def test_a_hidden_library_has_a_part_that_says_so(sandbox: Sandbox) -> None:
    with gateway_of(sandbox.url, "north_manager") as gateway:
        part = libraries.by_library(build_report(gateway, Criteria()))["MILL"]
    assert part.groups == ()
    assert "VIEW_USER at VALLEY" in part.notes[-1]
