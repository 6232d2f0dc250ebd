"""Groups no longer listed: their current state is looked up through their members."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from support.fault_proxy import Fault, fault_proxy
from support.gateways import gateway_of

from evergreen_groups.gateway import Gateway, RetryPolicy
from evergreen_groups.report import Criteria, GroupChange, History, Report, build_report, look_up_cleared
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State

FORMER = [1008, 1003, 1006, 1001, 1005, 1004, 1007, 1002]


@pytest.fixture
def staff(sandbox: Sandbox, tmp_path: Path) -> Iterator[Gateway]:
    """Yield a gateway whose report has been recorded once."""
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        with State(tmp_path) as state:
            history = History(state.database, sandbox.url)
            history.record(build_report(gateway, Criteria()))
        yield gateway


Cleared = Callable[[], dict[int, GroupChange]]


@pytest.fixture
def looked_up(sandbox: Sandbox, staff: Gateway, tmp_path: Path) -> Cleared:
    """Return a function that looks up the groups which the report no longer lists, by number."""
    return lambda: cleared(look_up_cleared(staff, tonight(staff, sandbox, tmp_path)))


def tonight(gateway: Gateway, sandbox: Sandbox, directory: Path) -> Report:
    report = build_report(gateway, Criteria())
    with State(directory) as state:
        history = History(state.database, sandbox.url)
        return replace(report, changes=history.compare(report))


def cleared(report: Report) -> dict[int, GroupChange]:
    assert report.changes
    return {change.group: change for change in report.changes.cleared}


def pay(sandbox: Sandbox, patron: int) -> None:
    store = sandbox._store
    with store.transaction():
        for transaction in store.rows("mbts", {"usr": patron, "xact_finish": None}):
            store.update("mbts", transaction["id"], {"balance_owed": "0.00"})


def move(sandbox: Sandbox, patrons: list[int], number: int) -> None:
    with sandbox._store.transaction():
        for patron in patrons:
            sandbox._store.update("au", patron, {"usrgroup": number})


def members(sandbox: Sandbox, group: int) -> list[int]:
    return [row["id"] for row in sandbox._store.rows("au", {"usrgroup": group, "deleted": "f"})]


def test_what_is_left_to_pay(sandbox: Sandbox, looked_up: Cleared) -> None:
    pay(sandbox, members(sandbox, 1002)[0])
    [(group, change)] = looked_up().items()
    assert (group, change.before) == (1002, Decimal("25.00"))
    assert change.present is not None
    assert change.present.group == 1002
    assert change.present.member_count == len(members(sandbox, 1002))
    assert Decimal(0) < change.present.group_fines < Decimal("25.00")
    assert change.present.lead_name
    assert change.member_count == change.present.member_count
    assert change.difference == change.present.group_fines - 25


def test_what_paid_groups_owed_is_not_what_the_list_lost(
    sandbox: Sandbox, staff: Gateway, tmp_path: Path, looked_up: Cleared
) -> None:
    """Joining and leaving the list are no changes of what groups owe."""
    owed = {group.number: group.known_fines for group in build_report(staff, Criteria()).groups}
    payer = members(sandbox, 1002)[0]
    paid = sum((Decimal(row["balance_owed"]) for row in sandbox._store.rows("mbts", {"usr": payer})), Decimal(0))
    pay(sandbox, payer)
    found = look_up_cleared(staff, tonight(staff, sandbox, tmp_path)).changes
    assert found
    assert (found.difference, found.new_fines, found.cleared_difference) == (0, 0, -paid)
    assert found.listed_difference == -owed[1002]


def test_groups_that_became_one_owe_once_what_it_owes(
    sandbox: Sandbox, looked_up: Cleared, staff: Gateway, tmp_path: Path
) -> None:
    former = members(sandbox, 1002), members(sandbox, 1007)
    before = {group.number: group.known_fines for group in build_report(staff, Criteria()).groups}
    for patron in (*former[0], *former[1]):
        pay(sandbox, patron)
    move(sandbox, former[1], 1002)
    found = look_up_cleared(staff, tonight(staff, sandbox, tmp_path)).changes
    assert found
    assert found.cleared_difference == -before[1002] - before[1007]


def test_a_group_in_a_listed_one_by_now_has_no_change_of_its_own(sandbox: Sandbox, looked_up: Cleared) -> None:
    first, second, *others = members(sandbox, 1003)
    move(sandbox, [first], 1008)
    with sandbox._store.transaction():
        for patron in (second, *others):
            sandbox._store.update("au", patron, {"deleted": "t"})
    change = looked_up()[1003]
    assert change.present is not None
    assert (change.present.group, change.difference) == (1008, None)


def test_a_group_with_another_number_by_now_is_found(sandbox: Sandbox, looked_up: Cleared) -> None:
    patrons = members(sandbox, 1002)
    for patron in patrons:
        pay(sandbox, patron)
    move(sandbox, patrons, 4711)
    change = looked_up()[1002]
    assert change.present is not None
    assert (change.present.group, change.present.group_fines) == (4711, Decimal("0.00"))


def test_a_group_that_was_cut_in_half_is_the_half_with_its_number(sandbox: Sandbox, looked_up: Cleared) -> None:
    stays, *leave = members(sandbox, 1007)
    move(sandbox, leave, 4711)
    change = looked_up()[1007]
    assert change.present is not None
    assert (len(leave), change.present.group, change.present.member_count) == (1, 1007, len([stays]))


def test_no_other_family_is_shown_for_a_group_whose_members_have_parted(sandbox: Sandbox, looked_up: Cleared) -> None:
    for number, patron in enumerate(members(sandbox, 1002)):
        move(sandbox, [patron], 5000 + number)
    move(sandbox, [1001], 1002)  # the number now belongs to another family
    assert looked_up()[1002].present is None


def test_nothing_is_said_of_groups_that_the_account_no_longer_sees(
    sandbox: Sandbox, staff: Gateway, tmp_path: Path
) -> None:
    with gateway_of(sandbox.url, "harbor_desk") as gateway:
        report = look_up_cleared(gateway, tonight(gateway, sandbox, tmp_path))
    seen = {group.number for group in report.groups}
    assert report.changes
    assert 0 < len(seen) < len(FORMER)
    assert report.hidden_libraries == {"LAKELAND", "NORTH", "PINE", "VALLEY", "MILL", "BUS", "ELM"}
    assert cleared(report) == {}
    assert {change.group for change in report.changes.hidden} == set(FORMER) - seen
    assert report.changes.difference == 0


def test_it_costs_the_same_for_any_number_of_groups(sandbox: Sandbox, staff: Gateway, tmp_path: Path) -> None:
    pay(sandbox, members(sandbox, 1002)[0])
    counts = []
    with fault_proxy(sandbox.url) as proxy, gateway_of(proxy.url, "consortium_staff") as gateway:
        for group in (1002, *FORMER[:-1]):
            for patron in members(sandbox, group):
                pay(sandbox, patron)
            if group in (1002, FORMER[-2]):
                report = tonight(gateway, sandbox, tmp_path)
                proxy.seen.clear()
                found = cleared(look_up_cleared(gateway, report))
                # One call finds out how the release treats hidden rows, whatever is looked up.
                counts.append((len(found), sum(".count." not in method for method in proxy.seen)))
        proxy.seen.clear()
        unchanged = replace(report, changes=None)
        assert look_up_cleared(gateway, unchanged) is unchanged
        assert not proxy.seen
    (one, calls), (all_of_them, calls_for_all) = counts
    assert (one, all_of_them) == (1, len(FORMER))
    assert calls == calls_for_all <= 6


def test_a_gateway_that_fails_then_does_not_cost_the_report(
    sandbox: Sandbox, staff: Gateway, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pay(sandbox, members(sandbox, 1002)[0])
    once = RetryPolicy(tries=1)
    with fault_proxy(sandbox.url) as proxy, gateway_of(proxy.url, "consortium_staff", retries=once) as gateway:
        report = tonight(gateway, sandbox, tmp_path)
        proxy.decide = lambda call: Fault.DROP_REQUEST
        with caplog.at_level(logging.WARNING):
            assert look_up_cleared(gateway, report) == report
        proxy.heal()
    assert "cleared groups stand now could not be looked up" in caplog.text
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_fines_of_hidden_members_that_are_not_told_leave_the_amount_open(
    sandbox: Sandbox, staff: Gateway, tmp_path: Path
) -> None:
    for patron in members(sandbox, 1006):
        pay(sandbox, patron)
    denied = {"ilsevent": "5000", "textcode": "PERM_FAILURE", "ilsperm": "VIEW_USER", "ilspermloc": 1}
    with fault_proxy(sandbox.url) as proxy, gateway_of(proxy.url, "north_manager") as gateway:
        proxy.answer = lambda call: denied if call.method.endswith("members.balance_owed") else None
        present = cleared(look_up_cleared(gateway, tonight(gateway, sandbox, tmp_path)))[1006].present
    assert present is not None
    assert (present.member_count, present.group_fines) == (3, None)
