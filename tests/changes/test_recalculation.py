"""Recalculating penalties after an audit: what changes, what doesn't and why, over a good network and a bad one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.fault_proxy import Call, Fault, FaultProxy, fault_proxy
from support.gateways import client_of, gateway_of
from support.recalculations import METHOD, QUICK, penalties

from evergreen_groups.audit import AuditCriteria, FindingKind, PatronFinding
from evergreen_groups.changes import Journal, Recalculated, StepState, recalculable
from evergreen_groups.client import Client
from evergreen_groups.errors import BusyError, PlanError
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state.directory import changes_lock


@pytest.fixture
def proxy(sandbox: Sandbox) -> Iterator[FaultProxy]:
    with fault_proxy(sandbox.url) as proxy:
        yield proxy


def findings(client: Client) -> list[PatronFinding]:
    return recalculable(client.audit(AuditCriteria()))


def by_id(people: tuple[Recalculated, ...]) -> dict[int, Recalculated]:
    return {person.finding.member.id: person for person in people}


def test_everything_is_settled_and_the_next_audit_finds_nothing(client: Client, sandbox: Sandbox) -> None:
    found = findings(client)
    outcome = client.recalculator.carry_out(found)
    assert outcome.stopped is None
    assert {person.reason for person in outcome.people if person.finding.kind is FindingKind.NOT_BLOCKED} == {
        "blocked in the ILS now"
    }
    assert by_id(outcome.people)[1042].reason == "not blocked for fines any more"
    assert all(person.settled and person.state is StepState.DONE for person in outcome.people)
    assert penalties(sandbox, 1030) == [(1, None)]
    assert findings(client) == []
    assert client.recalculator.carry_out([]).people == ()


def test_the_journal_has_it_and_it_cannot_be_taken_back(client: Client) -> None:
    client.recalculator.carry_out(findings(client))
    (entry,) = client.moves.entries()
    assert entry.action == "recalculate"
    assert {(step.patron, step.field, step.before, step.value) for step in entry.steps} == {
        (1030, "penalties", 0, 1),
        (1034, "penalties", 0, 1),
        (1036, "penalties", 0, 1),
        (1042, "penalties", 1, 0),
    }
    with pytest.raises(PlanError, match="can't be taken back"):
        client.moves.plan_undo(entry.id)


def test_what_a_recalculation_does_not_change_is_explained(client: Client, sandbox: Sandbox) -> None:
    with sandbox._store.transaction():
        (threshold,) = sandbox._store.rows("pgpt", {"penalty": 1})
        sandbox._store.update("pgpt", threshold["id"], {"threshold": "10.00"})
        sandbox._store.insert("ausp", {"usr": 1045, "standing_penalty": 1, "org_unit": 11})  # not the threshold's place
    found = findings(client)
    sandbox._store.insert("ausp", {"usr": 1036, "standing_penalty": 1, "org_unit": 1})  # meanwhile, and it won't last
    outcome = by_id(client.recalculator.carry_out(found).people)
    assert outcome[1036].reason.startswith("not blocked for fines any more: own fines don't reach")
    assert outcome[1045].reason.startswith("still blocked")
    assert not outcome[1036].settled
    assert not outcome[1045].settled
    assert outcome[1030].settled


def test_a_block_set_by_hand_is_never_at_risk(client: Client, sandbox: Sandbox, proxy: FaultProxy) -> None:
    with sandbox._store.transaction():
        sandbox._store.insert("ausp", {"usr": 1042, "standing_penalty": 1, "org_unit": 1, "staff": 1})
        sandbox._store.insert("ausp", {"usr": 1030, "standing_penalty": 25, "org_unit": 1, "staff": 1})
    outcome = by_id(client.recalculator.carry_out(findings(client)).people)
    assert outcome[1042].state is StepState.NOT_DONE
    assert "set by hand" in outcome[1042].reason
    assert penalties(sandbox, 1042) == [(1, None), (1, 1)]
    assert outcome[1030].settled  # a recalculation doesn't touch that kind
    assert sorted(penalties(sandbox, 1030), key=str) == [(1, None), (25, 1)]


@pytest.mark.parametrize("fault", [Fault.DROP_REQUEST, Fault.DROP_ANSWER])
def test_a_lost_call_is_read_back_and_never_sent_twice(
    sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path, fault: Fault
) -> None:
    proxy.decide = lambda call: fault if call.method == METHOD and call.parameters[1] == 1030 else Fault.NONE
    with gateway_of(proxy.url, "consortium_staff", retries=QUICK) as gateway:
        client = client_of(gateway, tmp_path)
        outcome = by_id(client.recalculator.carry_out(findings(client)).people)
    assert proxy.seen.count(METHOD) == 4
    landed = fault is Fault.DROP_ANSWER
    assert outcome[1030].settled == landed
    assert outcome[1030].state is (StepState.DONE if landed else StepState.FAILED)
    assert all(outcome[id].settled for id in (1034, 1036, 1042))


def test_a_run_cut_off_is_settled_by_the_next_one(sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path) -> None:
    cut = False

    def decide(call: Call) -> Fault:
        nonlocal cut
        if call.method == METHOD and call.parameters[1] == 1036:
            cut = True
            return Fault.DROP_ANSWER
        return Fault.DROP_REQUEST if cut else Fault.NONE

    proxy.decide = decide
    with gateway_of(proxy.url, "consortium_staff", retries=QUICK) as gateway:
        client = client_of(gateway, tmp_path)
        outcome = client.recalculator.carry_out(findings(client))
        assert outcome.stopped is not None
        states = {id: person.state for id, person in by_id(outcome.people).items()}
        assert states == {
            1030: StepState.DONE,
            1036: StepState.SENDING,
            1034: StepState.PLANNED,
            1042: StepState.PLANNED,
        }
        proxy.decide = lambda call: Fault.NONE
        (settled,) = client.moves.settle()
        assert settled.patron == 1036
        with closing(Journal(tmp_path / "state")) as journal:
            (entry,) = journal.entries(gateway.url)
        step = next(step for step in entry.steps if step.patron == 1036)
        assert (step.state, step.value) == (StepState.DONE, 1)
        rest = client.recalculator.carry_out(findings(client))
    assert {person.finding.member.id for person in rest.people} == {1034, 1042}
    assert all(person.settled for person in rest.people)


def test_one_run_at_a_time(client: Client, tmp_path: Path) -> None:
    found = findings(client)
    with changes_lock(tmp_path / "state", client.gateway.url), pytest.raises(BusyError):
        client.recalculator.carry_out(found)


def test_a_refusal_is_told_and_the_others_go_on(client: Client, sandbox: Sandbox) -> None:
    found = findings(client)
    with sandbox._store.transaction() as connection:
        connection.execute("DELETE FROM grants WHERE permission = 'UPDATE_USER'")
        connection.execute("DELETE FROM profile_grants WHERE permission = 'UPDATE_USER'")
    outcome = client.recalculator.carry_out(found)
    assert outcome.stopped is None
    assert {person.state for person in outcome.people} == {StepState.FAILED}
    assert all("UPDATE_USER" in person.reason for person in outcome.people)
