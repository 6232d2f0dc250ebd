"""Compare with the previous run: a change of a group's number or members doesn't add or clear fines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from support.report_samples import GENERATED_AT, ORG_UNITS, member, report_of

from evergreen_groups.groups import Group
from evergreen_groups.report import ChangeKind, Changes, GroupChange, Report
from evergreen_groups.report.history import Run, compare

Families = Mapping[int, Mapping[int, str]]
"""Fines by group number and member id."""

PATRONS = range(1, 13)
cents = st.integers(-300, 20_000).map(lambda amount: f"{Decimal(amount) / 100:.2f}")
fines = st.fixed_dictionaries(dict.fromkeys(PATRONS, cents))
numbers = st.fixed_dictionaries(dict.fromkeys(PATRONS, st.integers(101, 106)))


def families(groups: Mapping[int, int], owed: Mapping[int, str]) -> Families:
    found: dict[int, dict[int, str]] = {}
    for patron, group in groups.items():
        found.setdefault(group, {})[patron] = owed[patron]
    return found


def report(groups: Families, hidden: Mapping[int, tuple[int, str | None]] | None = None) -> Report:
    """Return a report of these families; ``hidden`` maps a group to its hidden members' number and fines."""
    found = []
    for number, owed in groups.items():
        members = tuple(member(patron, f"Patron {patron}", amount) for patron, amount in owed.items())
        count, amount = (hidden or {}).get(number, (0, "0.00"))
        found.append(Group(number, members, count, None if amount is None else Decimal(amount)))
    return report_of(sorted(found, key=lambda group: (-group.known_fines, group.number)))


def changes(before: Families, now: Families) -> Changes:
    return compare(Run.of(report(before)), Run.of(report(now)))


def kinds(found: Changes) -> dict[int, ChangeKind]:
    return {number: change.kind for number, change in found.by_group.items()}


def only(found: Changes) -> GroupChange:
    [change] = found.by_group.values()
    return change


@settings(deadline=None)
@given(numbers, fines, numbers, fines)
def test_everything_is_accounted_for_once(
    before: dict[int, int], owed_before: dict[int, str], now: dict[int, int], owed_now: dict[int, str]
) -> None:
    """However members move, the differences add up and each former amount belongs to one change."""
    earlier, later = report(families(before, owed_before)), report(families(now, owed_now))
    found = compare(Run.of(earlier), Run.of(later))
    assert set(found.by_group) == {group.number for group in later.groups}
    assert found.listed_difference == later.totals.group_fines - earlier.totals.group_fines
    both = [change for change in found.by_group.values() if change.before is not None]
    assert found.difference == sum(change.after - change.before for change in both)
    every = [*found.by_group.values(), *found.cleared]
    assert sum(change.before or 0 for change in every) == earlier.totals.group_fines
    assert sum(map(found.count, ChangeKind)) == len(every)
    assert {change.group for change in found.cleared} <= set(before.values())
    for change in found.by_group.values():
        signs = {ChangeKind.NEW: None, ChangeKind.WORSE: 1, ChangeKind.BETTER: -1, ChangeKind.UNCHANGED: 0}
        assert (change.before is None) == (change.kind is ChangeKind.NEW)
        if change.before is None:
            assert (change.difference, change.joined_count, change.left_count) == (None, None, None)
        else:
            assert signs[change.kind] == change.difference.compare(0)


@settings(deadline=None)
@given(numbers, fines, fines, st.permutations(range(101, 107)))
def test_other_numbers_for_the_same_people_change_nothing(
    groups: dict[int, int], owed_before: dict[int, str], owed_now: dict[int, str], others: Sequence[int]
) -> None:
    before = families(groups, owed_before)
    same = changes(before, families(groups, owed_now))
    renumbered = {patron: others[group - 101] for patron, group in groups.items()}
    found = changes(before, families(renumbered, owed_now))
    assert not found.cleared
    for group, change in same.by_group.items():
        number = others[group - 101]
        other = found.by_group[number]
        assert (other.kind, other.before, other.after) == (change.kind, change.before, change.after)
        assert other.formerly == (() if number == group else (group,))


@settings(deadline=None)
@given(numbers, fines, st.integers(101, 106), st.integers(101, 106))
def test_merged_groups_owe_what_they_owed(
    groups: dict[int, int], owed: dict[int, str], first: int, second: int
) -> None:
    merged = {patron: second if group == first else group for patron, group in groups.items()}
    found = changes(families(groups, owed), families(merged, owed))
    assert set(kinds(found).values()) == {ChangeKind.UNCHANGED}
    assert not found.cleared


@settings(deadline=None)
@given(numbers, fines, fines, numbers, st.integers(0, 6))
def test_a_group_that_top_leaves_out_is_not_cleared(
    before: dict[int, int], owed_before: dict[int, str], owed_now: dict[int, str], now: dict[int, int], top: int
) -> None:
    earlier, whole = report(families(before, owed_before)), report(families(now, owed_now))
    topped = replace(whole, groups=whole.groups[:top], left_out=whole.groups[top:])
    found, expected = compare(Run.of(earlier), Run.of(topped)), compare(Run.of(earlier), Run.of(whole))
    assert found.cleared == expected.cleared
    assert found.by_group == {group.number: expected.by_group[group.number] for group in topped.groups}
    assert Run.of(topped) == Run.of(whole)


def test_worse_better_unchanged_new_and_cleared() -> None:
    before = {1: {10: "20.00", 11: "10.00"}, 2: {20: "30.00", 21: "0.00"}, 3: {30: "25.00"}, 4: {40: "99.00"}}
    now = {1: {10: "20.00", 11: "10.01"}, 2: {20: "26.50", 21: "0.00"}, 3: {30: "25.00"}, 5: {50: "26.00"}}
    found = changes(before, now)
    assert kinds(found) == {1: ChangeKind.WORSE, 2: ChangeKind.BETTER, 3: ChangeKind.UNCHANGED, 5: ChangeKind.NEW}
    differences = {number: str(change.difference) for number, change in found.by_group.items()}
    assert differences == {1: "0.01", 2: "-3.50", 3: "0.00", 5: "None"}
    assert (found.difference, found.new_fines) == (Decimal("-3.49"), Decimal("26.00"))
    [cleared] = found.cleared
    assert (cleared.group, cleared.after) == (4, None)
    assert (cleared.before, cleared.difference, cleared.member_count) == (Decimal("99.00"), None, 1)
    assert cleared.members == {40}
    assert found.since == GENERATED_AT


def test_cleared_groups_come_with_the_highest_fines_first() -> None:
    run = Run.of(report({1: {10: "30.00"}, 2: {20: "50.00"}, 3: {30: "50.00"}}))
    stored = replace(run, listings=dict(sorted(run.listings.items())))
    assert [change.group for change in compare(stored, Run.of(report({}))).cleared] == [2, 3, 1]


def test_without_a_run_before_there_is_nothing_to_say() -> None:
    found = compare(None, Run.of(report({1: {10: "30.00"}})))
    assert not found.compared
    assert (found.since, found.by_group, found.cleared) == (None, {}, ())


def test_members_who_joined_and_left_are_counted() -> None:
    change = only(changes({1: {10: "30.00", 11: "1.00", 12: "0.00"}}, {1: {10: "30.00", 13: "5.00"}}))
    assert (change.kind, change.joined_count, change.left_count, change.formerly) == (ChangeKind.WORSE, 1, 2, ())


def test_a_split_leaves_the_number_where_it_is_and_says_what_the_other_part_is() -> None:
    before = {1: {10: "20.00", 11: "20.00", 12: "15.00", 13: "15.00"}}
    found = changes(before, {1: {10: "20.00", 11: "20.00"}, 9: {12: "15.00", 13: "15.00"}})
    assert kinds(found) == {1: ChangeKind.BETTER, 9: ChangeKind.NEW}
    assert found.by_group[9].formerly == (1,)
    assert (found.difference, found.new_fines, found.listed_difference) == (-30, 30, 0)


def test_a_number_that_others_have_got_is_another_group() -> None:
    before = {1: {10: "30.00", 11: "0.00"}}
    moved = changes(before, {9: {10: "30.00", 11: "0.00"}, 1: {50: "40.00", 51: "0.00"}})
    assert kinds(moved) == {9: ChangeKind.UNCHANGED, 1: ChangeKind.NEW}
    gone = changes(before, {1: {50: "40.00", 51: "0.00"}})
    assert kinds(gone) == {1: ChangeKind.NEW}
    assert [change.group for change in gone.cleared] == [1]


def test_half_of_the_members_elsewhere_are_not_the_group() -> None:
    found = changes({1: {10: "30.00", 11: "5.00"}}, {2: {11: "5.00", 20: "40.00"}})
    assert kinds(found) == {2: ChangeKind.NEW}
    assert [change.group for change in found.cleared] == [1]


def test_hidden_fines_that_are_not_known_make_it_uncertain() -> None:
    seen = report({1: {10: "30.00", 11: "9.00"}})
    hidden = report({1: {10: "30.00"}}, hidden={1: (1, None)})
    for before, now, kind in ((seen, hidden, ChangeKind.BETTER), (hidden, seen, ChangeKind.WORSE)):
        change = only(compare(Run.of(before), Run.of(now)))
        assert (change.kind, change.certain, change.difference, change.known_before) == (kind, False, None, None)
        assert (change.joined_count, change.left_count) == (None, None)  # only the account's view changed
    assert Run.of(hidden).totals(())[""].group_fines is None


def test_hidden_fines_that_are_known_are_compared() -> None:
    seen = report({1: {10: "30.00", 11: "9.00"}})
    hidden = report({1: {10: "30.00"}}, hidden={1: (1, "9.00")})
    change = only(compare(Run.of(seen), Run.of(hidden)))
    assert (change.kind, change.certain, change.left_count) == (ChangeKind.UNCHANGED, True, None)


def test_a_group_whose_visible_members_are_others_may_still_be_the_same() -> None:
    before = report({1: {10: "30.00"}}, hidden={1: (1, "0.00")})
    assert kinds(compare(Run.of(before), Run.of(report({1: {11: "30.00"}}, hidden={1: (1, "0.00")})))) == {
        1: ChangeKind.UNCHANGED
    }
    assert kinds(compare(Run.of(before), Run.of(report({1: {11: "30.00"}})))) == {1: ChangeKind.UNCHANGED}
    moved = report({1: {11: "30.00"}, 2: {10: "30.00"}}, hidden={1: (1, "0.00")})
    assert kinds(compare(Run.of(before), Run.of(moved))) == {1: ChangeKind.NEW, 2: ChangeKind.UNCHANGED}


def test_groups_at_hidden_libraries_are_not_cleared_and_those_that_become_visible_not_certain() -> None:
    here = Group(1, (member(10, "A", "30.00", library="BR1"), member(11, "B", "0.00", library="BR2")))
    there = Group(2, (member(20, "C", "40.00", library="BR2"),))
    whole, part = report_of((there, here)), replace(report_of((here,)), hidden_libraries=frozenset({"BR2"}))
    less = compare(Run.of(whole), Run.of(part))
    assert less.cleared == ()
    assert [(change.group, change.before) for change in less.hidden] == [(2, Decimal("40.00"))]
    assert less.count(ChangeKind.HIDDEN) == 1
    assert less.difference == 0
    more = compare(Run.of(part), Run.of(whole))
    assert kinds(more) == {1: ChangeKind.UNCHANGED, 2: ChangeKind.NEW}
    assert [change.certain for change in more.by_group.values()] == [False, True]
    paid = compare(Run.of(whole), Run.of(replace(report_of(()), hidden_libraries=frozenset({"BR2"}))))
    assert [change.group for change in paid.cleared] == [1]  # one of its members is visible


def test_totals_of_an_org_unit_count_each_group_once() -> None:
    both = Group(1, (member(10, "A", "20.00", library="BR1"), member(11, "B", "10.00", library="BR2")))
    one = Group(2, (member(20, "C", "26.00", library="BR1"),))
    run = Run.of(report_of((both, one)))
    found = run.totals(ORG_UNITS)
    amounts = {name: (totals.group_count, str(totals.group_fines)) for name, totals in found.items()}
    assert amounts == {**dict.fromkeys(("", "CONS", "SYS", "BR1"), (2, "56.00")), "BR2": (1, "30.00")}
    assert set(run.totals(())) == {"", "BR1", "BR2"}
    assert found[""].member_count == 3


@settings(deadline=None, max_examples=30)
@given(numbers, fines, numbers, fines, st.sets(st.integers(101, 106)))
def test_a_part_has_its_own_changes(
    before: dict[int, int], owed_before: dict[int, str], now: dict[int, int], owed_now: dict[int, str], part: set[int]
) -> None:
    found = changes(families(before, owed_before), families(now, owed_now))
    restricted = found.restricted(part, {"BR1"})
    assert restricted.by_group == {group: change for group, change in found.by_group.items() if group in part}
    assert restricted.cleared == found.cleared
    assert found.restricted(part, {"BR2"}).cleared == ()
