"""Filter groups by what they owe for, since when, items out, and members."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from support.gateways import gateway_of

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.gateway import Gateway
from evergreen_groups.report import Choice, Criteria, History, Report, build_report
from evergreen_groups.report.build import apply_criteria
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State

ALL = Criteria()


@pytest.fixture
def whole(staff: Gateway) -> Report:
    return build_report(staff, ALL)


def numbers(report: Report) -> set[int]:
    return {group.number for group in report.groups}


@pytest.mark.parametrize(
    ("choice", "listed"),
    [
        (Choice(), {1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008}),
        (Choice(kinds=("LOST materials",)), {1003, 1008}),
        (Choice(kinds=("damage",)), set()),
        (Choice(kinds=("damage", "Lost materials")), {1003, 1008}),
        (Choice(with_items_out=True), {1004}),
        (Choice(over_limit=False), {1001, 1002, 1005}),
        (Choice(over_limit=True), {1003, 1004, 1006, 1007, 1008}),
        (Choice(over_limit=False, with_juvenile=True), {1001, 1002, 1005}),
        (Choice(profiles=("child",), kinds=("Lost materials",)), {1003, 1008}),
    ],
)
def test_chosen_from_a_reading(whole: Report, choice: Choice, listed: set[int]) -> None:
    narrowed = apply_criteria(whole, replace(ALL, choice=choice))
    assert numbers(narrowed) == listed
    assert narrowed.totals.group_count == len(listed)
    assert narrowed.notes == ()


def test_a_reading_of_its_own_lists_the_same(staff: Gateway, whole: Report) -> None:
    criteria = replace(ALL, choice=Choice(kinds=("Lost materials",)), sort="age", top=1)
    assert [group.number for group in build_report(staff, criteria).groups] == [
        group.number for group in apply_criteria(whole, criteria).groups
    ]


def test_owing_since(staff: Gateway, whole: Report) -> None:
    assert whole.details is not None
    since = {group.number: whole.details.of_group(group).owing_since for group in whole.groups}
    days = 200
    moment = whole.generated_at - timedelta(days)
    expected = {number for number, when in since.items() if when is not None and when <= moment}
    assert numbers(apply_criteria(whole, replace(ALL, choice=Choice(owing_since=days)))) == expected
    by_age = [since[group.number] for group in apply_criteria(whole, replace(ALL, sort="age")).groups]
    assert by_age == sorted(moment for moment in by_age if moment is not None)


def test_blocked_in_evergreen(staff: Gateway, sandbox: Sandbox) -> None:
    for row in sandbox._store.rows("ausp"):
        sandbox._store.delete("ausp", row["id"])
    sandbox._store.insert("ausp", {"org_unit": 1, "usr": 1013, "standing_penalty": 1})
    criteria = replace(ALL, choice=Choice(blocked=True))
    assert numbers(build_report(staff, criteria)) == {1003}


def test_a_profile_that_is_not_there(staff: Gateway) -> None:
    with pytest.raises(ConfigurationError, match="no profile"):
        build_report(staff, replace(ALL, choice=Choice(profiles=("Childe",))))


def test_where_it_is_not_known_a_note_says_so(sandbox: Sandbox) -> None:
    with sandbox._store.transaction() as connection:
        connection.execute("DELETE FROM grants WHERE usr = 2 AND permission = 'VIEW_USER_TRANSACTIONS'")
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        report = build_report(gateway, replace(ALL, choice=Choice(kinds=("lost materials",))))
    assert report.groups == ()
    assert any(note.startswith("Not listed: 8 more") for note in report.notes)


def test_a_narrower_run_clears_no_group(whole: Report, tmp_path: object) -> None:
    """Each choice has a separate history: runs with different choices aren't compared."""
    with State(tmp_path) as state:  # type: ignore[arg-type]
        history = History(state.database, "https://ils.example.org")
        history.record(whole)
        narrowed = apply_criteria(whole, replace(ALL, choice=Choice(kinds=("lost materials",))))
        assert history.compare(narrowed).since is None
        history.record(narrowed)
        changes = history.compare(whole)
        assert changes.cleared == ()
        assert changes.count(next(iter(changes.by_group.values())).kind) == len(whole.groups)
        again = apply_criteria(whole, replace(ALL, choice=Choice(kinds=("Lost Materials",)), sort="age"))
        assert history.compare(again).compared


def test_what_is_not_chosen_is_not_in_the_key_of_a_series() -> None:
    """Histories from before there were choices must continue."""
    assert Choice().document() == {}
    assert Choice(over_limit=False, kinds=("B", "a")).document() == {"over_limit": False, "kinds": ["a", "b"]}
    assert Choice(owing_since=60).needs_details
    assert not Choice(blocked=True, over_limit=True).needs_details
