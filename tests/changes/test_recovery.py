"""Recovery of steps that an earlier run left open, and edge cases of changes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.change_ids import change_id
from support.family_moves import (
    ANOTHER,
    ANOTHERS_CARD,
    CARD,
    NEW_GROUP,
    OTHER,
    OTHERS_CARD,
    PATRON,
    RETRIEVE,
    UPDATE,
    cut_off_at,
    lacking,
    later,
    only,
    only_step,
    plan_with,
    record_of,
    write_as_staff,
)
from support.fault_proxy import Call, Fault, FaultProxy, HttpAnswer
from support.gateways import client_of, gateway_of, why_not_undone
from support.recalculations import recalculates
from support.states import state_in

from evergreen_groups import errors
from evergreen_groups.changes import StepState
from evergreen_groups.changes.reasons import TIMED_OUT, refusal
from evergreen_groups.client import Client
from evergreen_groups.gateway import Gateway

HIDDEN = lacking("VIEW_USER", 12)
CALL = {"service": "open-ils.actor", "method": "m"}


def test_what_cannot_be_looked_up_because_nothing_answers_is_an_error(mover: Client, proxy: FaultProxy) -> None:
    proxy.decide = only(UPDATE, Fault.DROP_REQUEST)
    mover.move([CARD, ANOTHERS_CARD], to=OTHERS_CARD).apply()
    proxy.decide = lambda call: Fault.DROP_REQUEST
    with pytest.raises(errors.TransportError):
        mover.changes.recover()
    assert [step.patron for step in mover.changes.open_steps()] == [PATRON, ANOTHER]


def test_a_plan_is_not_begun_where_what_is_open_cannot_be_looked_up(mover: Client, proxy: FaultProxy) -> None:
    proxy.decide = only(UPDATE, Fault.DROP_REQUEST)
    mover.move([CARD], to=OTHERS_CARD).apply()
    plan = mover.set_lead(CARD)
    proxy.decide = lambda call: Fault.DROP_REQUEST
    proxy.seen.clear()
    with pytest.raises(errors.TransportError):
        plan.apply()
    assert UPDATE not in proxy.seen
    assert [entry.action for entry in mover.changes.entries()] == ["move"]


def test_what_is_open_of_one_patron_holds_up_nobody_else(mover: Client, proxy: FaultProxy) -> None:
    proxy.decide = only(UPDATE, Fault.DROP_REQUEST)
    mover.move([CARD], to=OTHERS_CARD).apply()
    plan = mover.set_lead(ANOTHERS_CARD)
    named = re.compile(rf"\b{PATRON}\b")  # not within a token, which is random
    proxy.decide = lambda call: Fault.DROP_REQUEST if named.search(str(call.parameters)) else Fault.NONE
    assert plan.apply().done
    assert [step.patron for step in mover.changes.open_steps()] == [PATRON]


def test_a_move_and_a_recalculation_are_looked_up_each_in_its_way(mover: Client, proxy: FaultProxy) -> None:
    proxy.decide = lambda call: Fault.DROP_REQUEST if recalculates(call) else Fault.NONE
    mover.changes.recalculate({PATRON: False})
    cut_off_at(proxy, UPDATE)
    mover.move([CARD], to=OTHERS_CARD).apply()
    proxy.heal()
    (resolved,) = mover.changes.recover()
    assert (resolved.field, resolved.value) == ("usrgroup", OTHER)


def test_recovery_writes_down_what_it_found_and_why(mover: Client, proxy: FaultProxy) -> None:
    cut_off_at(proxy, UPDATE)
    outcome = mover.move([CARD, ANOTHERS_CARD], to=OTHERS_CARD).apply()
    assert outcome.stopped is not None
    assert [step.state for step in outcome.steps] == [StepState.SENDING, StepState.PLANNED]
    proxy.heal()
    (found,) = mover.changes.recover()
    assert (found.state, found.value, found.reason) == (StepState.DONE, OTHER, "found done after an interruption")
    step, planned = mover.changes.entry(change_id(mover.changes, 1)).steps
    assert (step.state, step.value, step.reason) == (found.state, found.value, found.reason)
    assert planned.state is StepState.PLANNED
    assert mover.changes.recover() == []


@pytest.mark.parametrize("method", [UPDATE, NEW_GROUP])
def test_a_step_that_is_still_open_is_recovered_once_and_for_all(
    mover: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    proxy.decide = only(method, Fault.DROP_REQUEST)
    plan_with(method, mover).apply()
    assert mover.changes.recover() == []
    assert [(step.patron, step.state) for step in mover.changes.open_steps()] == [(PATRON, StepState.SENDING)]
    later(monkeypatch)
    (found,) = mover.changes.recover()
    assert (found.state, found.reason) == (StepState.NOT_DONE, "the request never arrived")
    assert mover.changes.recover() == mover.changes.open_steps() == []


def test_a_removal_is_not_taken_for_a_later_one(
    mover: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two removals can't be told apart by their outcome: each makes a new group."""
    proxy.decide = only(NEW_GROUP, Fault.DROP_REQUEST)
    mover.remove([CARD]).apply()
    later(monkeypatch)
    proxy.heal()
    assert mover.remove([CARD]).apply().done
    assert [entry.steps[0].state for entry in mover.changes.entries()] == [StepState.DONE, StepState.NOT_DONE]


def test_a_change_that_somebody_shut_out_is_made_again_from_the_new_record(
    mover: Client, proxy: FaultProxy, admin: Gateway
) -> None:
    """The lost request can't land any more, because the record has changed since it was made."""

    def decide(call: Call) -> Fault:
        if call.method != UPDATE or proxy.seen.count(UPDATE) > 1:
            return Fault.NONE
        write_as_staff(admin, day_phone="555-0100")
        return Fault.DROP_REQUEST

    proxy.decide = decide
    assert mover.move([CARD], to=OTHERS_CARD).apply().done
    assert (record_of(admin).usrgroup, record_of(admin).day_phone) == (OTHER, "555-0100")
    assert (only_step(mover).state, only_step(mover).reason) == (StepState.DONE, "")


@pytest.mark.parametrize(("method", "value"), [(UPDATE, OTHER), (NEW_GROUP, 1100)])
def test_a_patron_who_is_hidden_once_it_is_sent_stays_open(
    mover: Client, proxy: FaultProxy, method: str, value: int
) -> None:
    plan = plan_with(method, mover)
    proxy.answer = lambda call: HIDDEN if call.method == RETRIEVE and method in proxy.seen else None
    (step,) = plan.apply().steps
    assert (step.state, step.reason) == (StepState.SENDING, "sent, but this patron is no longer visible")
    proxy.heal()
    assert [found.value for found in mover.changes.recover()] == [value]


@pytest.mark.parametrize("method", [UPDATE, NEW_GROUP])
def test_a_field_that_the_ils_changed_as_well_is_named(mover: Client, proxy: FaultProxy, method: str) -> None:
    def alter(call: Call, answer: HttpAnswer) -> HttpAnswer | None:
        if call.method != RETRIEVE or method not in proxy.seen:
            return None
        envelope = json.loads(answer.body)
        values = envelope["payload"][0]["__p"]
        values[values.index("Mireille")] = "Mireille Anne"
        return HttpAnswer.of(envelope)

    plan = plan_with(method, mover)
    proxy.alter = alter
    outcome = plan.apply()
    assert not outcome.done
    (step,) = outcome.steps
    assert step.state is StepState.DONE
    assert [(it.field, it.before, it.after) for it in step.side_effects] == [
        ("first_given_name", "Mireille", "Mireille Anne")
    ]
    assert only_step(mover).reason == "Evergreen also changed first_given_name"


def test_whom_the_account_cannot_see_is_not_taken_back(mover: Client, proxy: FaultProxy, tmp_path: Path) -> None:
    assert mover.move(["20000000001012"], to=OTHERS_CARD).apply().done
    with gateway_of(proxy.url, "north_manager") as gateway:
        why = why_not_undone(client_of(gateway, tmp_path), 1)
    assert why == "nothing to undo in change 1: 1 change to patrons your login can't see"


def test_one_who_is_hidden_in_passing_is_not_passed_over(mover: Client, proxy: FaultProxy) -> None:
    """Undo would report success although it skipped a patron."""
    assert mover.move([CARD], to=OTHERS_CARD).apply().done
    proxy.answer = lambda call: HIDDEN if call.method == RETRIEVE else None
    with pytest.raises(errors.NotFoundError, match="patron 1052 is no longer visible"):
        mover.undo(change_id(mover.changes, 1))


def test_what_is_not_known_to_be_done_is_not_taken_back(mover: Client, proxy: FaultProxy) -> None:
    proxy.decide = only(UPDATE, Fault.DROP_REQUEST)
    mover.move([CARD], to=OTHERS_CARD).apply()
    assert why_not_undone(mover, 1) == "nothing to undo in change 1: patron 1052: not confirmed yet"


def test_a_refusal_names_the_library_even_where_it_cannot_be_looked_up(mover: Client, proxy: FaultProxy) -> None:
    lacking = errors.PermissionDeniedError("no", textcode="PERM_FAILURE", permission="UPDATE_USER", org_unit=12, **CALL)
    assert refusal(mover.gateway, lacking) == "the account lacks UPDATE_USER at PINE"
    proxy.refuse = lambda call: (500, "") if ".aou" in call.method else None
    assert refusal(mover.gateway, lacking) == "the account lacks UPDATE_USER at org unit 12"
    nowhere = errors.PermissionDeniedError("no", textcode="PERM_FAILURE", permission="UPDATE_USER", **CALL)
    assert refusal(mover.gateway, nowhere) == "the account lacks UPDATE_USER"
    assert (
        refusal(mover.gateway, errors.EventError("no", textcode="ODD", **CALL)) == "Evergreen refused the change (ODD)"
    )
    assert refusal(mover.gateway, errors.ServerError("no", status=500, **CALL)) == "Evergreen reported an error"
    assert refusal(mover.gateway, errors.CutOffError("no", **CALL)) == "Evergreen can't be reached"
    assert refusal(mover.gateway, errors.TimedOutError("no", **CALL)) == TIMED_OUT
    assert refusal(mover.gateway, errors.DataError("what came is odd")) == "what came is odd"


def test_a_removal_is_found_out_before_others_join(mover: Client, proxy: FaultProxy) -> None:
    """A removal is recognized by the patron being alone in the new group, so check it before another patron joins."""
    cut_off_at(proxy, NEW_GROUP)
    assert mover.remove([CARD]).apply().stopped is not None
    proxy.heal()
    assert [step.patron for step in mover.changes.open_steps()] == [PATRON]
    assert mover.move([OTHERS_CARD], to=CARD).apply().done
    step = only_step(mover)
    assert (step.state, step.reason) == (StepState.DONE, "found done after an interruption")


def test_steps_under_change_by_another_process_are_left_alone(mover: Client, proxy: FaultProxy, tmp_path: Path) -> None:
    """Two patrons have open steps. Skip the one that another process is changing now."""
    proxy.decide = only(UPDATE, Fault.DROP_ANSWER)
    proxy.refuse = lambda call: (500, "") if call.method == RETRIEVE and UPDATE in proxy.seen else None
    mover.move([CARD], to=OTHERS_CARD).apply()
    proxy.seen.clear()
    mover.move([ANOTHERS_CARD], to="20000000001001").apply()
    proxy.heal()
    assert [step.patron for step in mover.changes.open_steps()] == [PATRON, ANOTHER]
    with state_in(tmp_path / "state").change_lease(mover.gateway.url, [PATRON]):
        assert [step.patron for step in mover.changes.recover()] == [ANOTHER]
        assert [step.patron for step in mover.changes.open_steps()] == [PATRON]
        with pytest.raises(errors.BusyError):
            mover.set_lead(CARD).apply()
        seen = mover.changes.change(change_id(mover.changes, 1))
        assert (seen.is_under_way, [step.state for step in seen.entry.steps]) == (True, [StepState.SENDING])
    seen = mover.changes.change(change_id(mover.changes, 1))  # the next reader recovers the step
    assert (seen.is_under_way, seen.is_done) == (False, True)
    assert mover.changes.open_steps() == []
