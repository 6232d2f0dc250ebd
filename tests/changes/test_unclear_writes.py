"""Writes without a clear answer: never sent twice, read back, and kept open while they may still land."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.change_ids import change_id
from support.fault_proxy import Call, Fault, FaultProxy, fault_proxy
from support.gateways import client_of, gateway_of, why_not_undone

from evergreen_groups.changes import JournalStep, StepState
from evergreen_groups.changes.reasons import TAKEN_OVER
from evergreen_groups.client import Client
from evergreen_groups.errors import UnreachableError
from evergreen_groups.gateway import TOKEN, Gateway, Record, RetryPolicy
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state.database import Database

pytestmark = pytest.mark.long  # too slow for a plain pytest run

UPDATE, NEW_GROUP = "open-ils.actor.patron.update", "open-ils.actor.usergroup.new"
QUICK = RetryPolicy(tries=2, first_delay=0.001, longest_delay=0.01)
PATRON, CARD = 1052, "20000000001052"
HOME, OTHER, OTHERS_CARD = 1015, 1002, "20000000001007"
BROKEN = 500, "osrfMethodException :  *** Call to [x] failed"
EMPTY: dict[str, object] = {"payload": [], "status": 200}
UNCLEAR = {
    "nothing": EMPTY,
    "null": {"payload": [None], "status": 200},
    "an empty text": {"payload": [""], "status": 200},
    "a hash": {"payload": [{}], "status": 200},
    "500": {"payload": [], "debug": "osrfMethodException :  *** Call to [x] failed", "status": 500},
    "404": {"payload": [], "debug": "Internal Server Error : Transport Error", "status": 404},
    "404 of the bus": {"payload": [], "debug": "osrfServiceException : Service Not Found", "status": 404},
    "404 of the service": {"payload": [], "debug": "osrfMethodException : Method [x] not found", "status": 404},
    "408": {"payload": [], "debug": "Timeout Error : Request Timeout", "status": 408},
    "no JSON": {"oops": True},
}


@pytest.fixture
def mover(proxy: FaultProxy, tmp_path: Path) -> Iterator[Client]:
    """A client over an unreliable network."""
    with gateway_of(proxy.url, "consortium_staff", retries=QUICK) as gateway:
        yield client_of(gateway, tmp_path)


def record_of(admin: Gateway, patron: int = PATRON) -> Record:
    record = admin.pcrud.retrieve("au", patron)
    assert record is not None
    return record


def move_as_staff(admin: Gateway, group: int, **more: object) -> None:
    changed = record_of(admin).replace(usrgroup=group, passwd=None, **more).to_wire(changed=True)
    admin.call("open-ils.actor", UPDATE, TOKEN, changed, write=True)


def steps(client: Client, number: int = 1) -> tuple[JournalStep, ...]:
    return client.moves.entry(change_id(client.moves, number)).steps


def at(monkeypatch: pytest.MonkeyPatch, **later: float) -> None:
    """Shift the clock of the changes relative to the ILS's."""
    monkeypatch.setattr(Database, "now", lambda _: datetime.now(UTC) + timedelta(**later))


def only(method: str, fault: Fault) -> object:
    return lambda call: fault if call.method == method else Fault.NONE


# -- late requests -----------------------------------------------------------------------------------------------------


def test_a_removal_that_may_still_come_in_is_not_sent_again(
    mover: Client, proxy: FaultProxy, admin: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.decide = only(NEW_GROUP, Fault.HELD_REQUEST)
    outcome = mover.moves.plan_remove([CARD]).apply()
    assert proxy.seen.count(NEW_GROUP) == 1
    assert not outcome.done
    assert outcome.stopped is None
    (step,) = outcome.steps
    assert step.state is StepState.SENDING
    assert "may still come in until" in step.reason
    assert "\n" not in step.reason
    assert steps(mover)[0].state is StepState.SENDING

    proxy.let_go()
    group = record_of(admin).usrgroup
    (recovered,) = mover.moves.recover()
    assert (recovered.patron, recovered.state, recovered.value) == (PATRON, StepState.DONE, group)
    assert group == 1100  # one new group
    proxy.decide = lambda call: Fault.NONE
    assert mover.moves.plan_undo(change_id(mover.moves, 1)).apply().done
    assert record_of(admin).usrgroup == HOME


def test_a_patron_with_a_removal_under_way_is_not_changed_again(
    mover: Client, proxy: FaultProxy, admin: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.decide = only(NEW_GROUP, Fault.HELD_REQUEST)
    outcome = mover.moves.plan_remove([CARD], lead=True).apply()
    assert [step.state for step in outcome.steps] == [StepState.SENDING, StepState.NOT_DONE]
    assert "an earlier change of this patron may still come in" in outcome.steps[1].reason
    again = mover.moves.plan_remove([CARD]).apply()
    moved = mover.moves.plan_move([CARD], to=OTHERS_CARD).apply()
    assert [step.state for step in (*again.steps, *moved.steps)] == [StepState.NOT_DONE] * 2
    assert (proxy.seen.count(NEW_GROUP), proxy.seen.count(UPDATE)) == (1, 0)
    at(monkeypatch, minutes=30)
    proxy.decide = lambda call: Fault.NONE
    assert mover.moves.plan_remove([CARD]).apply().done
    assert record_of(admin).usrgroup == 1100


def test_a_move_whose_requests_all_vanish_stays_open(
    mover: Client, proxy: FaultProxy, admin: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.decide = only(UPDATE, Fault.HELD_REQUEST)
    outcome = mover.moves.plan_move([CARD], to=OTHERS_CARD).apply()
    assert outcome.steps[0].state is StepState.SENDING
    proxy.let_go()
    (recovered,) = mover.moves.recover()
    assert (recovered.state, recovered.value) == (StepState.DONE, OTHER)
    assert record_of(admin).usrgroup == OTHER


def test_a_move_that_somebody_else_shut_out_is_over_at_once(mover: Client, proxy: FaultProxy, admin: Gateway) -> None:
    proxy.decide = only(UPDATE, Fault.HELD_REQUEST)
    mover.moves.plan_move([CARD], to=OTHERS_CARD).apply()
    move_as_staff(admin, HOME, day_phone="555-0100")
    (recovered,) = mover.moves.recover()
    assert recovered.state is StepState.NOT_DONE
    assert "somebody else changed the record first" in recovered.reason
    proxy.let_go()
    assert record_of(admin).usrgroup == HOME


# -- unclear answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", UNCLEAR)
@pytest.mark.parametrize("method", [UPDATE, NEW_GROUP])
def test_a_write_that_landed_is_done_whatever_was_answered(
    mover: Client, proxy: FaultProxy, admin: Gateway, method: str, answer: str
) -> None:
    proxy.garble = lambda call: UNCLEAR[answer] if call.method == method else None  # type: ignore[assignment]
    plan = mover.moves.plan_move([CARD], to=OTHERS_CARD) if method == UPDATE else mover.moves.plan_remove([CARD])
    outcome = plan.apply()
    assert outcome.done
    assert proxy.seen.count(method) == 1
    (step,) = steps(mover)
    assert (step.state, step.value) == (StepState.DONE, record_of(admin).usrgroup)
    assert step.value != HOME


def test_a_write_that_failed_on_the_server_is_open_until_it_can_be_known(
    mover: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.refuse = lambda call: (
        (500, "osrfMethodException :  *** Call to [x] failed") if call.method == UPDATE else None
    )
    outcome = mover.moves.plan_move([CARD], to=OTHERS_CARD).apply()
    assert not outcome.done
    at(monkeypatch, minutes=30)
    mover.moves.recover()
    assert steps(mover)[0].state is StepState.NOT_DONE


# -- changes by other users --------------------------------------------------------------------------------------------


def interrupted_move(
    mover: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, card: str = CARD, **ago: float
) -> None:
    """Start a move, and lose the request together with the connection."""
    at(monkeypatch, **ago)
    gone = False

    def decide(call: Call) -> Fault:
        nonlocal gone
        gone = gone or call.method == UPDATE
        return Fault.DROP_REQUEST if gone else Fault.NONE

    proxy.decide = decide
    outcome = mover.moves.plan_move([card], to=OTHERS_CARD).apply()
    assert outcome.steps[0].state is StepState.SENDING
    monkeypatch.undo()
    proxy.decide = lambda call: Fault.NONE


def test_the_same_move_made_by_staff_later_is_not_ours(
    mover: Client, proxy: FaultProxy, admin: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_move(mover, proxy, monkeypatch, hours=-2)
    move_as_staff(admin, OTHER)
    (recovered,) = mover.moves.recover()
    assert recovered.state is StepState.FAILED
    assert "somebody else" in recovered.reason
    assert f"group {OTHER}" in recovered.reason
    assert "that change failed" in why_not_undone(mover, 1)


def test_the_same_move_with_other_changes_is_not_taken_for_ours(
    mover: Client, proxy: FaultProxy, admin: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_move(mover, proxy, monkeypatch)
    move_as_staff(admin, OTHER, day_phone="555-0100")
    (recovered,) = mover.moves.recover()
    assert recovered.state is StepState.FAILED
    assert "somebody else" in recovered.reason


def test_a_removal_does_not_take_a_move_by_staff_for_its_own(
    mover: Client, proxy: FaultProxy, admin: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decide(call: Call) -> Fault:
        if call.method != NEW_GROUP:
            return Fault.NONE
        move_as_staff(admin, OTHER)
        return Fault.HELD_REQUEST

    proxy.decide = decide
    (step,) = mover.moves.plan_remove([CARD]).apply().steps
    assert step.state is StepState.SENDING
    assert f"somebody else moved the patron to group {OTHER}" in step.reason
    at(monkeypatch, minutes=30)
    (recovered,) = mover.moves.recover()
    assert (recovered.state, recovered.value) == (StepState.FAILED, None)
    assert f"somebody else moved the patron to group {OTHER}" in recovered.reason


def test_a_removal_that_overwrote_a_move_by_staff_says_so(mover: Client, proxy: FaultProxy, admin: Gateway) -> None:
    def decide(call: Call) -> Fault:
        if call.method != NEW_GROUP:
            return Fault.NONE
        move_as_staff(admin, OTHER)
        return Fault.HELD_REQUEST

    proxy.decide = decide
    mover.moves.plan_remove([CARD]).apply()
    proxy.let_go()
    (recovered,) = mover.moves.recover()
    assert (recovered.state, recovered.value) == (StepState.DONE, record_of(admin).usrgroup)
    assert f"somebody else had moved the patron to group {OTHER}" in recovered.reason


def test_a_change_by_staff_right_after_ours_is_no_side_effect(mover: Client, proxy: FaultProxy, admin: Gateway) -> None:
    def answered(call: Call) -> None:
        if call.method == UPDATE:
            changed = record_of(admin).replace(day_phone="555-0100", passwd=None).to_wire(changed=True)
            admin.call("open-ils.actor", UPDATE, TOKEN, changed, write=True)

    # Hold the answer back until staff have written: it still carries our last_xact_id.
    proxy.before_answer = answered
    outcome = mover.moves.plan_move([CARD], to=OTHERS_CARD).apply()
    assert outcome.done
    assert outcome.steps[0].reason == "somebody else changed the record right after"


# -- recovery by the next run ------------------------------------------------------------------------------------------


def test_a_patron_hidden_from_the_next_account_stays_open_and_blocks_no_one(
    mover: Client, proxy: FaultProxy, sandbox: Sandbox, admin: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = 1012
    interrupted_move(mover, proxy, monkeypatch, "20000000001012", hours=-2)
    with gateway_of(proxy.url, "north_manager") as gateway:
        elsewhere = client_of(gateway, tmp_path)
        assert elsewhere.gateway.pcrud.retrieve("au", hidden) is None
        assert elsewhere.moves.recover() == []
        assert elsewhere.moves.plan_lead("20000000001028").apply().done
        assert [step.patron for step in elsewhere.moves.open_steps()] == [hidden]
    assert steps(mover)[0].state is StepState.SENDING
    (recovered,) = mover.moves.recover()
    assert recovered.state is StepState.NOT_DONE


def test_recovery_only_reads(mover: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_move(mover, proxy, monkeypatch, hours=-2)
    proxy.seen.clear()
    assert mover.moves.recover()
    assert set(proxy.seen) <= {"open-ils.actor.user.retrieve.authoritative", "", "open-ils.auth.login"}


def test_one_patron_whose_record_breaks_the_service_does_not_stop_the_others(
    mover: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.decide = only(UPDATE, Fault.DROP_REQUEST)
    mover.moves.plan_move([CARD, "20000000001053"], to=OTHERS_CARD).apply()
    proxy.decide = lambda call: Fault.NONE
    at(monkeypatch, minutes=30)
    proxy.refuse = lambda call: (
        BROKEN if call.method.startswith("open-ils.actor.user.retrieve") and call.parameters[1] == PATRON else None
    )
    assert [step.patron for step in mover.moves.recover()] == [1053]
    assert [step.patron for step in mover.moves.open_steps()] == [PATRON]


# -- sites with read replicas ------------------------------------------------------------------------------------------


def test_what_was_written_is_read_where_it_was_written(tmp_path: Path) -> None:
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(differences=["replica"], replica_delay=math.inf))
        client = client_of(stack.enter_context(gateway_of(sandbox.url, "consortium_staff")), tmp_path)
        assert client.moves.plan_move([CARD], to=OTHERS_CARD).apply().done
        removed = client.moves.plan_remove(["20000000001053"], lead=True).apply()
        assert removed.done
        assert client.moves.plan_undo(change_id(client.moves, 2)).apply().done
        undone = client.moves.plan_undo(change_id(client.moves, 1))
        assert [step.member.id for step in undone.draft.steps] == [PATRON]
        assert undone.apply().done
        sandbox.catch_up()
        assert client.gateway.pcrud.count("au", {"usrgroup": HOME, "deleted": "f"}) == 3


def test_a_lost_answer_is_cleared_up_where_reads_are_behind(tmp_path: Path) -> None:
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(differences=["replica"], replica_delay=math.inf))
        proxy = stack.enter_context(fault_proxy(sandbox.url))
        gateway = stack.enter_context(gateway_of(proxy.url, "consortium_staff", retries=QUICK))
        client = client_of(gateway, tmp_path)
        proxy.garble = lambda call: EMPTY if call.method in (UPDATE, NEW_GROUP) else None
        assert client.moves.plan_move([CARD], to=OTHERS_CARD).apply().done
        assert client.moves.plan_remove(["20000000001053"]).apply().done
        assert (proxy.seen.count(UPDATE), proxy.seen.count(NEW_GROUP)) == (1, 1)


# -- answers to other questions ----------------------------------------------------------------------------------------

RETRIEVE = "open-ils.actor.user.retrieve.authoritative"


def another(patron: int, admin: Gateway) -> object:
    """Read another patron's record, to stand in for a misdirected answer."""
    return admin.call("open-ils.actor", RETRIEVE, TOKEN, patron).value


@pytest.mark.parametrize("odd", ["somebody else", "a list", "a text"])
def test_a_record_that_is_not_the_patrons_changes_nothing(
    mover: Client, proxy: FaultProxy, admin: Gateway, odd: str
) -> None:
    plan = mover.moves.plan_move([CARD], to=OTHERS_CARD)
    answer = {"somebody else": another(1001, admin), "a list": [1], "a text": "x"}[odd]
    proxy.answer = lambda call: answer if call.method == RETRIEVE else None
    outcome = plan.apply()
    assert [step.state for step in outcome.steps] == [StepState.NOT_DONE]
    assert "something else than the patron" in outcome.steps[0].reason
    assert UPDATE not in proxy.seen


def test_a_record_that_is_not_the_patrons_tells_nothing_afterwards(
    mover: Client, proxy: FaultProxy, admin: Gateway
) -> None:
    plan = mover.moves.plan_move([CARD, "20000000001053"], to=OTHERS_CARD)
    answer = another(1001, admin)
    proxy.answer = lambda call: answer if call.method == RETRIEVE and UPDATE in proxy.seen else None
    first, second = plan.apply().steps
    assert (first.state, second.state) == (StepState.SENDING, StepState.NOT_DONE)
    assert mover.moves.recover() == []
    proxy.answer = lambda call: None
    assert [step.state for step in mover.moves.recover()] == [StepState.DONE]


@pytest.mark.parametrize("members", [None, "1052", {"1052": 1}])
def test_members_that_are_no_list_tell_nothing(mover: Client, proxy: FaultProxy, members: object) -> None:
    proxy.garble = lambda call: (
        EMPTY
        if call.method == NEW_GROUP
        else {"payload": [members], "status": 200}
        if call.method.startswith("open-ils.actor.usergroup.members.retrieve.auth")
        else None
    )
    (step,) = mover.moves.plan_remove([CARD]).apply().steps
    assert step.state is StepState.SENDING
    assert mover.moves.recover() == []
    proxy.garble = lambda call: None
    assert [found.state for found in mover.moves.recover()] == [StepState.DONE]


@pytest.mark.parametrize("odd", [None, "", 7, [], {"__c": "au", "__p": []}, {"__c": "ac", "__p": [1] * 80}])
def test_an_answer_that_is_not_the_patron_written_is_no_yes(
    mover: Client, proxy: FaultProxy, admin: Gateway, odd: object
) -> None:
    proxy.garble = lambda call: {"payload": [odd], "status": 200} if call.method == UPDATE else None
    outcome = mover.moves.plan_move([CARD], to=OTHERS_CARD).apply()
    assert outcome.done
    assert record_of(admin).usrgroup == OTHER
    assert proxy.seen.count(UPDATE) == 1


def test_a_yes_without_a_change_is_none(
    mover: Client, proxy: FaultProxy, admin: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evergreen answers like this if the record isn't marked as changed; so does an answer to an earlier request."""
    written = admin.call("open-ils.actor", "open-ils.actor.user.fleshed.retrieve", TOKEN, PATRON).value
    proxy.answer = lambda call: written if call.method == UPDATE else None
    (step,) = mover.moves.plan_move([CARD], to=OTHERS_CARD).apply().steps
    assert step.state is StepState.SENDING
    assert "no clear answer came and nothing was changed so far" in step.reason
    at(monkeypatch, minutes=30)
    assert [found.state for found in mover.moves.recover()] == [StepState.NOT_DONE]


def test_somebody_who_moves_them_on_at_once_is_named(mover: Client, proxy: FaultProxy, admin: Gateway) -> None:
    proxy.before_answer = lambda call: move_as_staff(admin, 1010) if call.method == UPDATE else None
    outcome = mover.moves.plan_move([CARD], to=OTHERS_CARD).apply()
    (moved,) = outcome.steps
    assert (moved.state, moved.value) == (StepState.DONE, OTHER)
    assert moved.reason == "it was read back as 1010; somebody else has changed it too"
    assert [(effect.field, effect.before, effect.after) for effect in moved.side_effects] == [("usrgroup", OTHER, 1010)]
    assert not outcome.done
    assert "patron 1052 has been changed since and is now in group 1010" in why_not_undone(mover, 1)


def test_a_refusal_after_an_unclear_answer_leaves_the_first_open(mover: Client, proxy: FaultProxy) -> None:
    refused = {
        "ilsevent": "5000",
        "textcode": "PERM_FAILURE",
        "ilsperm": "UPDATE_USER",
        "ilspermloc": "4",
        "desc": "No",
    }

    def decide(call: Call) -> Fault:
        first = call.method == UPDATE and proxy.seen.count(UPDATE) == 1
        return Fault.HELD_REQUEST if first else Fault.NONE

    proxy.decide = decide
    proxy.answer = lambda call: refused if call.method == UPDATE else None
    (step,) = mover.moves.plan_move([CARD], to=OTHERS_CARD).apply().steps
    assert step.state is StepState.SENDING
    assert proxy.seen.count(UPDATE) == 2
    proxy.let_go()
    assert [found.state for found in mover.moves.recover()] == [StepState.DONE]


def test_an_account_that_is_deleted_while_its_move_is_on_its_way_is_not_moved_again(
    mover: Client, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    def decide(call: Call) -> Fault:
        if call.method == UPDATE:
            sandbox._store.update("au", PATRON, {"deleted": "t"})
        return Fault.HELD_REQUEST if call.method == UPDATE else Fault.NONE

    proxy.decide = decide
    (step,) = mover.moves.plan_move([CARD], to=OTHERS_CARD).apply().steps
    assert step.state is StepState.SENDING
    assert proxy.seen.count(UPDATE) == 1


def test_no_connection_at_all_is_tried_again_and_sends_nothing_twice(
    mover: Client, admin: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request never left this machine, so it can't land later."""
    call = Gateway.call
    tries: list[str] = []

    def unreachable_once(gateway: Gateway, service: str, method: str, *params: object, **options: object) -> object:
        tries.append(method)
        if method == NEW_GROUP and tries.count(NEW_GROUP) == 1:
            raise UnreachableError("no connection", service=service, method=method)
        return call(gateway, service, method, *params, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Gateway, "call", unreachable_once)
    assert mover.moves.plan_remove([CARD]).apply().done
    assert tries.count(NEW_GROUP) == 2
    assert record_of(admin).usrgroup == 1100


def test_a_removal_that_landed_and_was_changed_later_is_not_ours_to_tell(
    mover: Client, proxy: FaultProxy, admin: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, hours=-2)
    proxy.decide = only(NEW_GROUP, Fault.DROP_REQUEST)
    mover.moves.plan_remove([CARD]).apply()
    monkeypatch.undo()
    admin.call("open-ils.actor", NEW_GROUP, TOKEN, PATRON, write=True)  # staff do the same, hours later
    (recovered,) = mover.moves.recover()
    assert recovered.state is StepState.FAILED
    assert "somebody else has written the record since" in recovered.reason
    assert "that change failed" in why_not_undone(mover, 1)


def test_a_mark_as_lead_is_recovered_like_a_move(
    mover: Client, proxy: FaultProxy, admin: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, hours=-2)
    proxy.decide = only(UPDATE, Fault.DROP_REQUEST)
    mover.moves.plan_lead(CARD).apply()
    monkeypatch.undo()
    changed = record_of(admin).replace(master_account=True, passwd=None).to_wire(changed=True)
    admin.call("open-ils.actor", UPDATE, TOKEN, changed, write=True)
    (recovered,) = mover.moves.recover()
    assert recovered.state is StepState.FAILED
    assert recovered.reason.startswith("changed as it was meant, but somebody else")


def test_a_clock_that_was_wrong_does_not_hold_a_patron_for_years(
    mover: Client, proxy: FaultProxy, admin: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, days=26_000)
    proxy.decide = only(NEW_GROUP, Fault.DROP_REQUEST)
    mover.moves.plan_remove([CARD]).apply()
    monkeypatch.undo()
    proxy.decide = lambda call: Fault.NONE
    now = datetime.now(UTC)
    assert mover.moves.recover() == []  # it may have been sent a moment ago
    (step,) = steps(mover)
    assert step.sending is not None
    assert now <= step.sending.at < step.sending.until < now + timedelta(minutes=20)
    assert step.sending.until.isoformat(timespec="seconds") == dict(step.reason.values)["until"]
    at(monkeypatch, minutes=30)
    assert [step.state for step in mover.moves.recover()] == [StepState.NOT_DONE]
    assert mover.moves.plan_remove([CARD]).apply().done


def test_a_clock_that_evergreens_contradicts_restarts_nothing(
    mover: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.decide = only(NEW_GROUP, Fault.DROP_REQUEST)
    mover.moves.plan_remove([CARD]).apply()
    sent = steps(mover)[0].sending
    at(monkeypatch, days=-20_000)
    assert mover.moves.recover() == []
    assert steps(mover)[0].sending == sent


def test_a_later_run_that_made_the_change_is_not_counted_twice(
    mover: Client, proxy: FaultProxy, admin: Gateway, tmp_path: Path
) -> None:
    proxy.decide = only(UPDATE, Fault.DROP_REQUEST)
    mover.moves.plan_move([CARD], to=OTHERS_CARD).apply()
    proxy.decide = lambda call: Fault.NONE
    assert mover.moves.plan_move([CARD], to=OTHERS_CARD).apply().done
    assert mover.moves.recover() == []
    assert steps(mover)[0].reason == TAKEN_OVER
    assert [entry.steps[0].state for entry in mover.moves.entries()] == [StepState.DONE, StepState.NOT_DONE]


def test_a_move_by_staff_that_recovery_saw_is_named_when_the_removal_overwrites_it(
    mover: Client, proxy: FaultProxy, admin: Gateway
) -> None:
    proxy.decide = only(NEW_GROUP, Fault.HELD_REQUEST)
    mover.moves.plan_remove([CARD]).apply()
    move_as_staff(admin, OTHER)
    assert mover.moves.recover() == []
    assert mover.moves.recover() == []
    (seen,) = mover.moves.open_steps()
    assert seen.value == OTHER
    proxy.let_go()
    (recovered,) = mover.moves.recover()
    assert f"somebody else had moved the patron to group {OTHER}" in recovered.reason
