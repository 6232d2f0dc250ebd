"""The number of calls for a plan and a change doesn't grow with the number of members."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.circulators import change_rows
from support.desks import move, remove
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of
from support.states import state_in

from evergreen_groups.changes import Action, Changer, Operator, PlanRequest
from evergreen_groups.gateway import Gateway
from evergreen_groups.ils import ReferenceData
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings

pytestmark = pytest.mark.long  # too slow for a plain pytest run

WHOSE_SESSION = "open-ils.auth.session.retrieve"


@pytest.fixture
def gateway(proxy: FaultProxy) -> Iterator[Gateway]:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        gateway.login()
        yield gateway


def desk_of(gateway: Gateway, directory: Path, operator: Operator) -> Changer:
    """Return a desk with cached reference data, as in a service after its first plan."""
    reference = ReferenceData(PolicySettings())
    desk = Changer(gateway, state_in(directory), operator, reference)
    for named in (1030, "20000000001030"):
        desk.planner.basis([named, 1052])
    reference.limits(gateway)
    reference.org_units(gateway)
    return desk


@pytest.fixture
def desk(gateway: Gateway, tmp_path: Path) -> Changer:
    return desk_of(gateway, tmp_path, Operator("desk", staff=1))


@pytest.mark.parametrize(
    "request_",
    [
        move("20000000001052", to="20000000001007"),
        move(1052, to=1007),
        move("20000000001052", 1053, "20000000001001", to="20000000001007"),
        remove("20000000001052", 1053),
        PlanRequest(Action.MERGE, ("20000000001052",), target="20000000001007"),
        PlanRequest(Action.LEAD, ("20000000001052", "20000000001053")),
        PlanRequest(Action.RECALCULATE, (1030, 1036)),
    ],
    ids=lambda request: request.action.value,
)
def test_a_plan_takes_four(desk: Changer, proxy: FaultProxy, request_: PlanRequest) -> None:
    proxy.seen.clear()
    desk.propose(request_)
    assert len(proxy.seen) <= 4, proxy.seen


@pytest.mark.parametrize("hidden_in", [(1001,), (1015,), (1001, 1015), (1001, 1004, 1015)])
@pytest.mark.parametrize(
    "request_",
    [
        move("20000000001052", to="20000000001002"),
        move("20000000001015", 1003, "20000000001002", to="20000000001051"),
        remove("20000000001002", 1052),
    ],
    ids=["one", "of three groups", "removal"],
)
def test_six_with_hidden_members(
    proxy: FaultProxy, sandbox: Sandbox, tmp_path: Path, request_: PlanRequest, hidden_in: tuple[int, ...]
) -> None:
    """Each of these groups has one member who is hidden from the account."""
    for group, patron in zip(hidden_in, (1012, 1013, 1014), strict=False):
        sandbox._store.update("au", patron, {"usrgroup": group})
    with gateway_of(proxy.url, "harbor_desk") as gateway:
        desk = desk_of(gateway, tmp_path, Operator("desk", staff=4))
        proxy.seen.clear()
        proposed = desk.propose(request_)
        calls = list(proxy.seen)
    counts = {group.number: group.hidden_member_count for group in proposed.draft.groups if group.number}
    assert counts == {group: int(group in hidden_in) for group in counts}
    assert len(calls) == (6 if any(counts.values()) else 4), calls


def test_with_more_hidden_members_than_there_are_rows(proxy: FaultProxy, sandbox: Sandbox, tmp_path: Path) -> None:
    """Visible members and org units are too few to count them with, so each group is asked about on its own."""
    for patron in (*range(1012, 1020), 1022, 1023):
        sandbox._store.update("au", patron, {"usrgroup": 1001 if patron % 2 else 1015, "home_ou": 21})
    with gateway_of(proxy.url, "harbor_desk") as gateway:
        desk = desk_of(gateway, tmp_path, Operator("desk", staff=4))
        proxy.seen.clear()
        proposed = desk.propose(move(1052, to=1002))
        calls = list(proxy.seen)
    assert {group.number: group.hidden_member_count for group in proposed.draft.groups} == {1001: 5, 1015: 5}
    assert len(calls) == 10, calls


def test_one_about_a_hundred_as_well(desk: Changer, proxy: FaultProxy, sandbox: Sandbox) -> None:
    change_rows(sandbox, "UPDATE au SET usrgroup = 1001 WHERE id BETWEEN 1012 AND 1053")
    proxy.seen.clear()
    proposed = desk.propose(move(*range(1012, 1030), to=1007))
    assert len(proposed.stored.steps) == 18
    assert len(proxy.seen) <= 4, proxy.seen


def test_whose_session_it_is_is_asked_once(gateway: Gateway, tmp_path: Path, proxy: FaultProxy) -> None:
    desk = desk_of(gateway, tmp_path, Operator("a program"))
    proxy.seen.clear()
    plan = desk.propose(move(1052, to=1007)).stored
    assert proxy.seen.count(WHOSE_SESSION) == 1
    assert len(proxy.seen) <= 5, proxy.seen
    proxy.seen.clear()
    desk.apply(plan.id, "k")
    assert WHOSE_SESSION not in proxy.seen


@pytest.mark.parametrize("request_", [move(1052, to=1007), remove(1052)], ids=["move", "remove"])
def test_a_move_of_one_takes_five(desk: Changer, proxy: FaultProxy, request_: PlanRequest) -> None:
    plan = desk.propose(request_).stored.id
    proxy.seen.clear()
    desk.apply(plan, "k")
    assert len(proxy.seen) <= 5, proxy.seen
    proxy.seen.clear()
    desk.apply(plan, "k")
    assert proxy.seen == []


def test_taking_one_back(desk: Changer, proxy: FaultProxy) -> None:
    change = desk.apply(desk.propose(move(1052, to=1007)).stored.id, "k")
    proxy.seen.clear()
    desk.propose(PlanRequest(Action.UNDO, change=change))
    # In addition to the plan's calls: who may see the change, and the patron's record from the primary.
    assert len(proxy.seen) <= 6, proxy.seen


def test_an_undo_that_nobody_looks_at_reads_no_fines_and_no_addresses(desk: Changer, proxy: FaultProxy) -> None:
    change = desk.apply(desk.propose(move(1052, to=1007)).stored.id, "k")
    proxy.seen.clear()
    desk.undo(change, "u")
    assert len(proxy.seen) == 6, proxy.seen
    assert not [call for call in proxy.seen if "mous" in call or "aua" in call]
