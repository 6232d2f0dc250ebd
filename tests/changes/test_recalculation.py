"""Recalculating penalties after an audit: what changes, what doesn't and why, on good and bad networks."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from support.circulators import change_rows, take_away
from support.family_moves import BROKEN, EMPTY, event, lacking, later
from support.fault_proxy import Call, Fault, FaultProxy
from support.gateways import client_of, gateway_of
from support.recalculations import penalties, recalculates

from evergreen_groups.audit import AuditCriteria, FindingKind, PatronFinding
from evergreen_groups.changes import PlanOutcome, StepOutcome, StepState, StoredStep, over_limit_of, recalculable
from evergreen_groups.client import Client
from evergreen_groups.errors import PlanError
from evergreen_groups.gateway import TOKEN
from evergreen_groups.sandbox import Sandbox

pytestmark = pytest.mark.long


def findings(client: Client) -> list[PatronFinding]:
    return recalculable(client.audit(AuditCriteria()))


def by_id(outcome: PlanOutcome[StoredStep]) -> dict[int, StepOutcome[StoredStep]]:
    return {step.step.patron_id: step for step in outcome.steps}


def test_everything_is_resolved_and_the_next_audit_finds_nothing(client: Client, sandbox: Sandbox) -> None:
    found = findings(client)
    outcome = client.changes.recalculate(over_limit_of(found))
    assert outcome.stopped is None
    not_blocked = [finding.member.id for finding in found if finding.kind is FindingKind.NOT_BLOCKED]
    assert {by_id(outcome)[id].reason for id in not_blocked} == {"now blocked for fines"}
    assert by_id(outcome)[1042].reason == "no longer blocked for fines"
    assert all(person.resolved and person.state is StepState.DONE for person in outcome.steps)
    assert penalties(sandbox, 1030) == [(1, None)]
    assert findings(client) == []
    assert client.changes.recalculate(over_limit_of([])).steps == ()


def test_the_journal_has_it_and_it_cannot_be_taken_back(client: Client) -> None:
    client.changes.recalculate(over_limit_of(findings(client)))
    (entry,) = client.changes.entries()
    assert entry.action == "recalculate"
    assert {(step.patron, step.field, step.before, step.value) for step in entry.steps} == {
        (1030, "penalties", 0, 1),
        (1034, "penalties", 0, 1),
        (1036, "penalties", 0, 1),
        (1042, "penalties", 1, 0),
    }
    with pytest.raises(PlanError, match="can't be undone"):
        client.undo(entry.id)


def test_what_a_recalculation_does_not_change_is_explained(client: Client, sandbox: Sandbox) -> None:
    (threshold,) = sandbox._store.rows("pgpt", {"penalty": 1})
    sandbox._store.update("pgpt", threshold["id"], {"threshold": "10.00"})
    sandbox._store.insert("ausp", {"usr": 1045, "standing_penalty": 1, "org_unit": 11})  # not the threshold's unit
    audit = client.audit(AuditCriteria())
    assert not {1034, 1036, 1045} & {finding.member.id for finding in recalculable(audit)}
    (left_alone,) = audit.of_kind(FindingKind.LEFT_ALONE)
    (stale,) = audit.of_kind(FindingKind.NOT_OVER)
    higher = replace(stale, kind=FindingKind.NOT_BLOCKED, member=client.checks.of_user(1036).checked[0])
    found = [*recalculable(audit), higher, left_alone]
    # Set after the audit; the recalculation removes it.
    sandbox._store.insert("ausp", {"usr": 1036, "standing_penalty": 1, "org_unit": 1})
    outcome = by_id(client.changes.recalculate(over_limit_of(found)))
    assert outcome[1036].reason.startswith("no longer blocked for fines; own fines don't reach")
    assert outcome[1045].reason.startswith("still blocked for fines")
    assert not outcome[1036].resolved
    assert not outcome[1045].resolved
    assert outcome[1030].resolved


def test_a_block_set_by_staff_is_never_at_risk(client: Client, sandbox: Sandbox, proxy: FaultProxy) -> None:
    sandbox._store.insert("ausp", {"usr": 1042, "standing_penalty": 1, "org_unit": 1, "staff": 1})
    sandbox._store.insert("ausp", {"usr": 1030, "standing_penalty": 25, "org_unit": 1, "staff": 1})
    outcome = by_id(client.changes.recalculate(over_limit_of(findings(client))))
    assert outcome[1042].state is StepState.NOT_DONE
    assert "staff set a block" in outcome[1042].reason
    assert penalties(sandbox, 1042) == [(1, None), (1, 1)]
    assert outcome[1030].resolved  # a recalculation leaves this penalty type alone
    assert sorted(penalties(sandbox, 1030), key=str) == [(1, None), (25, 1)]


@pytest.mark.parametrize("fault", [Fault.DROP_REQUEST, Fault.DROP_ANSWER])
def test_a_lost_call_is_read_back_and_never_sent_twice(mover: Client, proxy: FaultProxy, fault: Fault) -> None:
    proxy.decide = lambda call: fault if recalculates(call) and call.parameters[1] == 1030 else Fault.NONE
    outcome = by_id(mover.changes.recalculate(over_limit_of(findings(mover))))
    assert len([call for call in proxy.calls if recalculates(call)]) == 4
    landed = fault is Fault.DROP_ANSWER
    assert outcome[1030].resolved == landed
    assert outcome[1030].state is (StepState.DONE if landed else StepState.SENDING)
    assert all(outcome[id].resolved for id in (1034, 1036, 1042))


def test_a_run_cut_off_is_resolved_by_the_next_one(mover: Client, proxy: FaultProxy) -> None:
    cut = False

    def decide(call: Call) -> Fault:
        nonlocal cut
        if recalculates(call) and call.parameters[1] == 1036:
            cut = True
            return Fault.DROP_ANSWER
        return Fault.DROP_REQUEST if cut else Fault.NONE

    proxy.decide = decide
    outcome = mover.changes.recalculate(over_limit_of(findings(mover)))
    assert outcome.stopped is not None
    states = {id: person.state for id, person in by_id(outcome).items()}
    assert states == {1030: StepState.DONE, 1036: StepState.SENDING, 1034: StepState.PLANNED, 1042: StepState.PLANNED}
    proxy.heal()
    (resolved,) = mover.changes.recover()
    assert resolved.patron == 1036
    (entry,) = mover.changes.entries()
    step = next(step for step in entry.steps if step.patron == 1036)
    assert (step.state, step.value) == (StepState.DONE, 1)
    rest = mover.changes.recalculate(over_limit_of(findings(mover)))
    assert by_id(rest).keys() == {1034, 1042}
    assert all(person.resolved for person in rest.steps)


def test_a_refusal_is_told_and_the_others_go_on(client: Client, sandbox: Sandbox) -> None:
    found = findings(client)
    take_away(sandbox, "UPDATE_USER")
    change_rows(sandbox, "DELETE FROM profile_grants WHERE permission = 'UPDATE_USER'")
    outcome = client.changes.recalculate(over_limit_of(found))
    assert outcome.stopped is None
    assert {person.state for person in outcome.steps} == {StepState.FAILED}
    assert all("UPDATE_USER" in person.reason for person in outcome.steps)
    (entry,) = client.changes.entries()
    assert {(step.permission, step.org_unit is None) for step in entry.steps} == {("UPDATE_USER", False)}


def test_a_refusal_leaves_an_earlier_request_open(mover: Client, proxy: FaultProxy) -> None:
    """That one may still come in."""
    proxy.decide = lambda call: Fault.DROP_REQUEST if recalculates(call) else Fault.NONE
    assert by_id(mover.changes.recalculate({1030: True}))[1030].state is StepState.SENDING
    proxy.heal()
    proxy.answer = lambda call: event("PERM_FAILURE") if recalculates(call) else None
    outcome = by_id(mover.changes.recalculate({1030: True, 1034: True}))
    assert (outcome[1030].state, outcome[1034].state) == (StepState.SENDING, StepState.FAILED)


OVERDUE = "circ.custom_penalty_override.PATRON_EXCEEDS_OVERDUE_COUNT"


def test_blocks_that_mean_something_else_stay(client: Client, sandbox: Sandbox) -> None:
    """Penalty 25 is for overdue items. A full recalculation removes it from patrons without overdue items."""
    sandbox._store.insert("aous", {"org_unit": 1, "name": OVERDUE, "value": "25"})
    sandbox._store.insert("pgpt", {"org_unit": 1, "grp": 1, "penalty": 25, "threshold": "10.00"})
    for staff in (1, None):
        sandbox._store.insert("ausp", {"usr": 1030, "standing_penalty": 25, "org_unit": 1, "staff": staff})
    outcome = by_id(client.changes.recalculate(over_limit_of(findings(client))))
    assert outcome[1030].resolved
    assert sorted(penalties(sandbox, 1030), key=str) == [(1, None), (25, 1), (25, None)]


OWN = {"id": 26, "name": "OWES_FINES", "label": "Owes fines", "block_list": "CIRC|HOLD"}


def test_a_librarys_own_penalty_for_fines_is_recalculated_too(client: Client, sandbox: Sandbox) -> None:
    sandbox._store.insert("csp", OWN)
    sandbox._store.insert(
        "aous", {"org_unit": 1, "name": "circ.custom_penalty_override.PATRON_EXCEEDS_FINES", "value": "26"}
    )
    sandbox._store.insert("pgpt", {"org_unit": 1, "grp": 1, "penalty": 26, "threshold": "5.00"})
    found = findings(client)
    assert 1030 in {finding.member.id for finding in found}
    sandbox._store.insert("ausp", {"usr": 1036, "standing_penalty": 26, "org_unit": 1, "staff": 1})
    outcome = by_id(client.changes.recalculate(over_limit_of(found)))
    assert outcome[1030].resolved
    assert penalties(sandbox, 1030) == [(26, None)]
    assert outcome[1036].state is StepState.NOT_DONE
    assert "staff set a block" in outcome[1036].reason


def test_another_librarys_penalty_for_fines_is_none_here(client: Client, sandbox: Sandbox) -> None:
    """The penalty may mean overdue items at the patron's library, so the audit doesn't count it as a fines block."""
    name = "circ.custom_penalty_override.PATRON_EXCEEDS_FINES"
    sandbox._store.insert("csp", OWN)
    sandbox._store.insert("aous", {"org_unit": 11, "name": name, "value": "26"})
    sandbox._store.insert("ausp", {"usr": 1030, "standing_penalty": 26, "org_unit": 1})
    outcome = by_id(client.changes.recalculate(over_limit_of(findings(client))))
    assert (outcome[1030].resolved, outcome[1030].reason) == (True, "now blocked for fines")


def test_a_penalty_that_blocks_nothing_resolves_nothing(client: Client, sandbox: Sandbox) -> None:
    """A library can turn the fines penalty into a mere note. Then having it doesn't block a patron."""
    found = findings(client)
    sandbox._store.update("csp", 1, {"block_list": None})
    outcome = by_id(client.changes.recalculate(over_limit_of(found)))
    assert penalties(sandbox, 1030) == [(1, None)]
    assert not outcome[1030].resolved
    assert outcome[1030].reason.startswith("still not blocked for fines; ")
    assert outcome[1030].reason.endswith("or its penalty blocks nothing")


def test_a_block_that_staff_set_during_the_run_is_left_alone(
    mover: Client, sandbox: Sandbox, proxy: FaultProxy
) -> None:
    found = sorted(findings(mover), key=lambda finding: finding.member.id)
    assert [finding.member.id for finding in found][-1] == 1042

    def answered(call: Call) -> None:
        if recalculates(call) and call.parameters[1] == 1030:
            sandbox._store.insert("ausp", {"usr": 1042, "standing_penalty": 1, "org_unit": 1, "staff": 1})

    proxy.before_answer = answered
    outcome = by_id(mover.changes.recalculate(over_limit_of(found)))
    assert outcome[1042].state is StepState.NOT_DONE
    assert (1, 1) in penalties(sandbox, 1042)


def test_a_block_by_staff_that_is_gone_is_reported(mover: Client, sandbox: Sandbox, proxy: FaultProxy) -> None:
    block = sandbox._store.insert("ausp", {"usr": 1030, "standing_penalty": 25, "org_unit": 1, "staff": 1})

    def answered(call: Call) -> None:
        if recalculates(call):
            sandbox._store.update("ausp", block, {"stop_date": "2026-01-01T10:00:00+0000"})

    proxy.before_answer = answered
    outcome = by_id(mover.changes.recalculate(over_limit_of(findings(mover))))[1030]
    told = "a block set by staff is gone; set it again if needed"
    assert (outcome.state, outcome.reason, outcome.resolved) == (StepState.FAILED, told, False)
    (entry,) = mover.changes.entries()
    assert [step.reason for step in entry.steps if step.patron == 1030] == [told]


def test_the_penalty_is_named(client: Client, proxy: FaultProxy, tmp_path: Path) -> None:
    sent: list[list[object]] = []
    proxy.before_answer = lambda call: sent.append(call.parameters[1:]) if recalculates(call) else None
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        client_of(gateway, tmp_path).changes.recalculate(over_limit_of(findings(client)))
    assert sorted(sent) == [[id, "PATRON_EXCEEDS_FINES"] for id in (1030, 1034, 1036, 1042)]


@pytest.mark.parametrize(
    "answer",
    [
        EMPTY,
        {"payload": [event("DATABASE_QUERY_FAILED")], "status": 200},
        {"payload": [event("INTERNAL_SERVER_ERROR")], "status": 200},
        {"payload": [], "debug": "osrfMethodException :  *** Call to [x] failed", "status": 500},
        {"payload": [], "debug": "Internal Server Error : Transport Error", "status": 404},
        {"payload": [None], "status": 200},
        {"payload": [{"odd": 1}], "status": 200},
    ],
)
def test_an_unclear_answer_is_cleared_up_by_reading(
    mover: Client, proxy: FaultProxy, answer: dict[str, object]
) -> None:
    proxy.garble = lambda call: answer if recalculates(call) else None
    outcome = mover.changes.recalculate(over_limit_of(findings(mover)))
    assert all(person.resolved and person.state is StepState.DONE for person in outcome.steps)
    assert len([call for call in proxy.calls if recalculates(call)]) == 4


def test_what_may_still_come_in_is_looked_up_by_the_next_run(mover: Client, proxy: FaultProxy) -> None:
    proxy.decide = lambda call: Fault.HELD_REQUEST if recalculates(call) and call.parameters[1] == 1030 else Fault.NONE
    outcome = by_id(mover.changes.recalculate(over_limit_of(findings(mover))))
    assert outcome[1030].state is StepState.SENDING
    assert "the result will be known by" in outcome[1030].reason
    assert mover.changes.recover() == []
    proxy.let_go()
    (recovered,) = mover.changes.recover()
    assert (recovered.patron, recovered.state, recovered.value) == (1030, StepState.DONE, 1)


@pytest.mark.parametrize("account", ["consortium_staff", "north_manager"])
def test_penalties_are_read_where_they_were_set(account: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(differences=["replica"], replica_delay=math.inf))
        client = client_of(stack.enter_context(gateway_of(sandbox.url, account)), tmp_path)
        found = findings(client)
        assert found
        outcome = client.changes.recalculate(over_limit_of(found))
        assert {person.state for person in outcome.steps} == {StepState.DONE}
        assert all(person.resolved for person in outcome.steps)


RETRIEVE = "open-ils.actor.user.fleshed.retrieve.authoritative"


def test_a_recalculation_that_cannot_be_read_back_stays_open(mover: Client, proxy: FaultProxy) -> None:
    proxy.refuse = lambda call: (
        BROKEN
        if call.method == RETRIEVE and call.parameters[1] == 1030 and any(map(recalculates, proxy.calls))
        else None
    )
    outcome = by_id(mover.changes.recalculate(over_limit_of(sorted(findings(mover), key=lambda it: it.member.id))))
    assert outcome[1030].state is StepState.SENDING
    assert all(outcome[id].resolved for id in (1034, 1036, 1042))
    assert mover.changes.recover() == []
    proxy.heal()
    assert [(step.patron, step.state) for step in mover.changes.recover()] == [(1030, StepState.DONE)]


def test_penalties_of_somebody_else_are_no_answer(mover: Client, proxy: FaultProxy) -> None:
    found = findings(mover)
    other = mover.gateway.call("open-ils.actor", RETRIEVE, TOKEN, 1001, ["standing_penalties"]).value
    proxy.answer = lambda call: other if call.method == RETRIEVE else None
    outcome = mover.changes.recalculate(over_limit_of(found))
    assert {person.state for person in outcome.steps} == {StepState.NOT_DONE}
    assert not any(map(recalculates, proxy.calls))


def test_an_account_that_may_not_look_where_it_works_reads_the_others_way(mover: Client, proxy: FaultProxy) -> None:
    proxy.answer = lambda call: lacking("VIEW_USER", 4) if call.method == RETRIEVE else None
    outcome = mover.changes.recalculate(over_limit_of(findings(mover)))
    assert all(person.resolved for person in outcome.steps)


def test_a_patron_who_is_hidden_by_then_is_left_alone(client: Client, sandbox: Sandbox, tmp_path: Path) -> None:
    found = findings(client)
    with gateway_of(sandbox.url, "north_manager") as gateway:
        outcome = by_id(client_of(gateway, tmp_path).changes.recalculate(over_limit_of(found)))
    assert outcome[1030].state is StepState.NOT_DONE
    assert outcome[1030].reason == "this patron is no longer visible"
    assert penalties(sandbox, 1030) == []


def test_what_never_came_in_is_known_in_the_end(
    mover: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.decide = lambda call: Fault.DROP_REQUEST if recalculates(call) and call.parameters[1] == 1030 else Fault.NONE
    mover.changes.recalculate(over_limit_of(findings(mover)))
    later(monkeypatch)
    (recovered,) = mover.changes.recover()
    assert (recovered.state, recovered.reason) == (StepState.NOT_DONE, "the request never arrived")
