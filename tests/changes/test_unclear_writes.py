"""Writes without a clear answer: never sent twice, read back, and kept open while they may still land."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.change_ids import change_id
from support.family_moves import (
    ANOTHERS_CARD,
    BROKEN,
    CARD,
    EMPTY,
    HOME,
    NEW_GROUP,
    OTHER,
    OTHERS,
    OTHERS_CARD,
    PATRON,
    QUICK,
    RETRIEVE,
    UPDATE,
    cut_off_at,
    event,
    lacking,
    later,
    only,
    only_step,
    plan_with,
    record_of,
    value_of,
    write_as_staff,
)
from support.fault_proxy import Call, Fault, FaultProxy, fault_proxy
from support.gateways import client_of, gateway_of, why_not_undone

from evergreen_groups.changes import StepState
from evergreen_groups.client import Client, Plan
from evergreen_groups.errors import UnreachableError
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.sandbox import Sandbox

pytestmark = pytest.mark.long  # too slow for a plain pytest run

RESULTS = {
    "null": None,
    "an empty text": "",
    "a hash": {},
    "a number": 7,
    "a list": [],
    "an empty record": {"__c": "au", "__p": []},
    "a card": {"__c": "ac", "__p": [1] * 80},
    **{code: event(code) for code in ("DATABASE_QUERY_FAILED", "ACTOR_USER_NOT_FOUND", "INTERNAL_SERVER_ERROR")},
    "an unknown event": event("ITEM_AGE_PROTECTED"),
}
UNCLEAR = {
    **{name: {"payload": [result], "status": 200} for name, result in RESULTS.items()},
    "nothing": EMPTY,
    "500": {"payload": [], "debug": "osrfMethodException :  *** Call to [x] failed", "status": 500},
    "404": {"payload": [], "debug": "Internal Server Error : Transport Error", "status": 404},
    "404 of the bus": {"payload": [], "debug": "osrfServiceException : Service Not Found", "status": 404},
    "404 of the service": {"payload": [], "debug": "osrfMethodException : Method [x] not found", "status": 404},
    "408": {"payload": [], "debug": "Timeout Error : Request Timeout", "status": 408},
    "no JSON": {"oops": True},
}


def test_a_removal_that_may_still_come_in_is_not_sent_again(mover: Client, proxy: FaultProxy, admin: Gateway) -> None:
    proxy.decide = only(NEW_GROUP, Fault.HELD_REQUEST)
    outcome = mover.remove([CARD]).apply()
    assert proxy.seen.count(NEW_GROUP) == 1
    assert not outcome.done
    assert outcome.stopped is None
    (step,) = outcome.steps
    assert step.state is StepState.SENDING
    assert "the result will be known by" in step.reason
    assert "\n" not in step.reason
    assert only_step(mover).state is StepState.SENDING

    proxy.let_go()
    group = record_of(admin).usrgroup
    (recovered,) = mover.changes.recover()
    assert (recovered.patron, recovered.state, recovered.value) == (PATRON, StepState.DONE, group)
    assert group == 1100  # one new group
    proxy.heal()
    assert mover.undo(change_id(mover.changes, 1)).apply().done
    assert record_of(admin).usrgroup == HOME


def test_a_move_whose_requests_all_vanish_stays_open(mover: Client, proxy: FaultProxy, admin: Gateway) -> None:
    proxy.decide = only(UPDATE, Fault.HELD_REQUEST)
    outcome = mover.move([CARD], to=OTHERS_CARD).apply()
    assert outcome.steps[0].state is StepState.SENDING
    proxy.let_go()
    (recovered,) = mover.changes.recover()
    assert (recovered.state, recovered.value) == (StepState.DONE, OTHER)
    assert record_of(admin).usrgroup == OTHER


@pytest.mark.parametrize("answer", UNCLEAR)
@pytest.mark.parametrize("method", [UPDATE, NEW_GROUP])
def test_a_write_that_landed_is_done_whatever_was_answered(
    mover: Client, proxy: FaultProxy, admin: Gateway, method: str, answer: str
) -> None:
    proxy.garble = lambda call: UNCLEAR[answer] if call.method == method else None
    assert plan_with(method, mover).apply().done
    assert proxy.seen.count(method) == 1
    step = only_step(mover)
    assert (step.state, step.value) == (StepState.DONE, record_of(admin).usrgroup)
    assert step.value != HOME


def interrupt(plan: Plan, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, **ago: float) -> None:
    """Apply a plan of one step at that time, and lose its request together with the connection."""
    later(monkeypatch, **ago or {"hours": -2})
    cut_off_at(proxy, UPDATE, Fault.DROP_REQUEST)
    assert plan.apply().steps[0].state is StepState.SENDING
    monkeypatch.undo()
    proxy.heal()


@pytest.fixture
def overtaken(proxy: FaultProxy, admin: Gateway) -> None:
    """Staff move the patron before a removal comes in, which is held back."""

    def decide(call: Call) -> Fault:
        if call.method != NEW_GROUP:
            return Fault.NONE
        write_as_staff(admin, usrgroup=OTHER)
        return Fault.HELD_REQUEST

    proxy.decide = decide


@pytest.mark.usefixtures("overtaken")
@pytest.mark.parametrize("recoveries", [0, 2])
def test_a_removal_that_overwrote_a_move_by_staff_says_so(
    mover: Client, proxy: FaultProxy, admin: Gateway, recoveries: int
) -> None:
    """Recovery may have seen the move while the removal was still open."""
    mover.remove([CARD]).apply()
    for _ in range(recoveries):
        assert mover.changes.recover() == []
        assert [step.value for step in mover.changes.open_steps()] == [OTHER]
    proxy.let_go()
    (recovered,) = mover.changes.recover()
    assert (recovered.state, recovered.value) == (StepState.DONE, record_of(admin).usrgroup)
    assert f"another user moved the patron to group {OTHER}" in recovered.reason


def test_a_change_by_staff_right_after_ours_is_no_side_effect(mover: Client, proxy: FaultProxy, admin: Gateway) -> None:
    # Hold the answer back until staff have written: it still carries our last_xact_id.
    proxy.before_answer = lambda call: write_as_staff(admin, day_phone="555-0100") if call.method == UPDATE else None
    outcome = mover.move([CARD], to=OTHERS_CARD).apply()
    assert outcome.done
    assert outcome.steps[0].reason == "another user changed this patron's record"


def test_a_patron_hidden_from_the_next_account_stays_open_and_blocks_no_one(
    mover: Client, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = 1012
    interrupt(mover.move([f"2000000000{hidden}"], to=OTHERS_CARD), proxy, monkeypatch)
    with gateway_of(proxy.url, "north_manager") as gateway:
        elsewhere = client_of(gateway, tmp_path)
        assert elsewhere.gateway.pcrud.retrieve("au", hidden) is None
        assert elsewhere.changes.recover() == []
        assert elsewhere.set_lead("20000000001028").apply().done
        assert [step.patron for step in elsewhere.changes.open_steps()] == [hidden]
    assert only_step(mover).state is StepState.SENDING
    (recovered,) = mover.changes.recover()
    assert recovered.state is StepState.NOT_DONE


def test_recovery_only_reads(mover: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(mover.move([CARD], to=OTHERS_CARD), proxy, monkeypatch)
    proxy.seen.clear()
    assert mover.changes.recover()
    assert set(proxy.seen) <= {RETRIEVE, "", "open-ils.auth.login"}


@pytest.fixture
def somebody_else(admin: Gateway) -> object:
    """Another patron's record, as in a misdirected answer."""
    return admin.call("open-ils.actor", RETRIEVE, TOKEN, 1001).value


@pytest.mark.parametrize("odd", ["somebody else", "a list", "a text"])
def test_a_record_that_is_not_the_patrons_changes_nothing(
    mover: Client, proxy: FaultProxy, somebody_else: object, odd: str
) -> None:
    plan = mover.move([CARD], to=OTHERS_CARD)
    answer = {"somebody else": somebody_else, "a list": [1], "a text": "x"}[odd]
    proxy.answer = lambda call: answer if call.method == RETRIEVE else None
    outcome = plan.apply()
    assert [step.state for step in outcome.steps] == [StepState.NOT_DONE]
    assert "not the requested patron" in outcome.steps[0].reason
    assert UPDATE not in proxy.seen


def test_a_record_that_is_not_the_patrons_tells_nothing_afterwards(
    mover: Client, proxy: FaultProxy, somebody_else: object
) -> None:
    plan = mover.move([CARD, ANOTHERS_CARD], to=OTHERS_CARD)
    proxy.answer = lambda call: somebody_else if call.method == RETRIEVE and UPDATE in proxy.seen else None
    first, second = plan.apply().steps
    assert (first.state, second.state) == (StepState.SENDING, StepState.NOT_DONE)
    assert mover.changes.recover() == []
    proxy.heal()
    assert [step.state for step in mover.changes.recover()] == [StepState.DONE]


def test_a_yes_without_a_change_is_none(
    mover: Client, proxy: FaultProxy, admin: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evergreen answers like this if the record isn't marked as changed; so does an answer to an earlier request."""
    written = admin.call("open-ils.actor", "open-ils.actor.user.fleshed.retrieve", TOKEN, PATRON).value
    proxy.answer = lambda call: written if call.method == UPDATE else None
    (step,) = mover.move([CARD], to=OTHERS_CARD).apply().steps
    assert step.state is StepState.SENDING
    assert "the result will be known by" in step.reason
    later(monkeypatch)
    assert [found.state for found in mover.changes.recover()] == [StepState.NOT_DONE]


def test_somebody_who_moves_them_on_at_once_is_named(mover: Client, proxy: FaultProxy, admin: Gateway) -> None:
    proxy.before_answer = lambda call: write_as_staff(admin, usrgroup=1010) if call.method == UPDATE else None
    outcome = mover.move([CARD], to=OTHERS_CARD).apply()
    (moved,) = outcome.steps
    assert (moved.state, moved.value) == (StepState.DONE, OTHER)
    assert moved.reason == "another user changed this patron's record"
    assert [(effect.field, effect.before, effect.after) for effect in moved.side_effects] == [("usrgroup", OTHER, 1010)]
    assert not outcome.done
    assert "patron 1052 is now in group 1010" in why_not_undone(mover, 1)


def test_a_refusal_after_an_unclear_answer_leaves_the_first_open(mover: Client, proxy: FaultProxy) -> None:
    def decide(call: Call) -> Fault:
        first = call.method == UPDATE and proxy.seen.count(UPDATE) == 1
        return Fault.HELD_REQUEST if first else Fault.NONE

    proxy.decide = decide
    proxy.answer = lambda call: lacking("UPDATE_USER") if call.method == UPDATE else None
    (step,) = mover.move([CARD], to=OTHERS_CARD).apply().steps
    assert step.state is StepState.SENDING
    assert proxy.seen.count(UPDATE) == 2
    proxy.let_go()
    assert [found.state for found in mover.changes.recover()] == [StepState.DONE]


def test_an_account_that_is_deleted_while_its_move_is_on_its_way_is_not_moved_again(
    mover: Client, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    def decide(call: Call) -> Fault:
        if call.method == UPDATE:
            sandbox._store.update("au", PATRON, {"deleted": "t"})
        return Fault.HELD_REQUEST if call.method == UPDATE else Fault.NONE

    proxy.decide = decide
    (step,) = mover.move([CARD], to=OTHERS_CARD).apply().steps
    assert step.state is StepState.SENDING
    assert proxy.seen.count(UPDATE) == 1


def test_a_clock_that_was_wrong_does_not_hold_a_patron_for_years(
    mover: Client, proxy: FaultProxy, admin: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch, days=26_000)
    proxy.decide = only(NEW_GROUP, Fault.DROP_REQUEST)
    mover.remove([CARD]).apply()
    monkeypatch.undo()
    proxy.heal()
    now = datetime.now(UTC)
    assert mover.changes.recover() == []  # it may have been sent a moment ago
    step = only_step(mover)
    assert step.sending is not None
    assert now <= step.sending.at < step.sending.until < now + timedelta(minutes=20)
    assert step.sending.until.isoformat(timespec="seconds") == dict(step.reason.values)["until"]
    later(monkeypatch)
    assert [step.state for step in mover.changes.recover()] == [StepState.NOT_DONE]
    assert mover.remove([CARD]).apply().done


def test_less_than_a_day_ahead_is_waited_for(mover: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch, hours=20)
    proxy.decide = only(NEW_GROUP, Fault.DROP_REQUEST)
    mover.remove([CARD]).apply()
    monkeypatch.undo()
    proxy.heal()
    sent = only_step(mover).sending
    assert mover.changes.recover() == []
    assert only_step(mover).sending == sent


def test_a_clock_that_evergreens_contradicts_restarts_nothing(
    mover: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.decide = only(NEW_GROUP, Fault.DROP_REQUEST)
    mover.remove([CARD]).apply()
    sent = only_step(mover).sending
    later(monkeypatch, days=-20_000)
    assert mover.changes.recover() == []
    assert only_step(mover).sending == sent


@pytest.mark.parametrize(("field", "before", "after"), [("usrgroup", HOME, OTHER), ("master_account", 0, 1)])
def test_a_change_whose_copy_collides_with_itself_is_done(
    mover: Client, proxy: FaultProxy, sandbox: Sandbox, field: str, before: int, after: int
) -> None:
    proxy.decide = only(UPDATE, Fault.REQUEST_REPEATED)
    plan = mover.move([CARD], to=OTHERS_CARD) if field == "usrgroup" else mover.set_lead(CARD)
    assert plan.apply().done
    step = only_step(mover)
    assert (step.state, step.value) == (StepState.DONE, after)
    proxy.heal()
    assert mover.undo(change_id(mover.changes, 1)).apply().done
    assert value_of(sandbox, field=field) == before


def test_a_collision_with_other_changes_is_another_users(mover: Client, proxy: FaultProxy, admin: Gateway) -> None:
    """Another user makes the same move, and changes another field, before our request arrives."""

    def decide(call: Call) -> Fault:
        if call.method == UPDATE and proxy.seen.count(UPDATE) == 1:
            write_as_staff(admin, usrgroup=OTHER, day_phone="555-0100")
        return Fault.NONE

    proxy.decide = decide
    outcome = mover.move([CARD], to=OTHERS_CARD).apply()
    assert outcome.done
    step = only_step(mover)
    assert (step.state, step.reason) == (StepState.UNCHANGED, "already done")
    assert "nothing was changed" in why_not_undone(mover, 1)


@pytest.mark.parametrize("fault", [Fault.REQUEST_TWICE, Fault.REQUEST_REPEATED])
def test_a_removal_that_came_in_twice_has_the_group_of_the_record(
    mover: Client, proxy: FaultProxy, sandbox: Sandbox, fault: Fault
) -> None:
    proxy.decide = only(NEW_GROUP, fault)
    (outcome,) = mover.remove([CARD]).apply().steps
    stored = value_of(sandbox)
    assert stored == 1101
    step = only_step(mover)
    assert (step.state, step.value, outcome.value) == (StepState.DONE, stored, stored)
    told = "Evergreen answered with another group, 1100"
    assert step.reason == (told if fault is Fault.REQUEST_TWICE else "")
    proxy.heal()
    assert mover.undo(change_id(mover.changes, 1)).apply().done
    assert value_of(sandbox) == HOME


@pytest.mark.parametrize("answer", ["7", 0, HOME, "1099"])
def test_another_number_than_the_records_is_not_believed(
    mover: Client, proxy: FaultProxy, sandbox: Sandbox, answer: object
) -> None:
    proxy.garble = lambda call: {"payload": [answer], "status": 200} if call.method == NEW_GROUP else None
    assert mover.remove([CARD]).apply().done
    step = only_step(mover)
    assert (step.state, step.value) == (StepState.DONE, value_of(sandbox))
    assert step.reason == f"Evergreen answered with another group, {answer}"
    assert mover.undo(change_id(mover.changes, 1)).apply().done
    assert value_of(sandbox) == HOME


class TestLateCopy:
    """A copy of ``usergroup.new`` that lands after the read-back. The journal has the group from the first request."""

    @pytest.mark.parametrize("lead", [False, True])
    def test_undo_works_from_where_the_patron_is_now(
        self, mover: Client, proxy: FaultProxy, sandbox: Sandbox, *, lead: bool
    ) -> None:
        removed_twice(mover, proxy, lead=lead)
        entry, now = mover.changes.entry(change_id(mover.changes, 1)), value_of(sandbox)
        assert entry.steps[0].value != now, "the journal has the other group"
        plan = mover.undo(entry.id)
        last = plan.draft.steps[-1]
        assert (last.field, last.before, last.after) == ("usrgroup", now, HOME)
        assert plan.apply().done
        assert (value_of(sandbox), value_of(sandbox, field="master_account")) == (HOME, 0)

    @pytest.mark.parametrize(("patron", "changes"), [(OTHERS, {"usrgroup": 1101}), (PATRON, {"day_phone": "555-0100"})])
    def test_where_another_change_followed_undo_keeps_away(
        self, mover: Client, proxy: FaultProxy, sandbox: Sandbox, patron: int, changes: dict[str, object]
    ) -> None:
        removed_twice(mover, proxy)
        assert value_of(sandbox) == 1101
        before = sandbox._store.rows("au", {"id": patron})[0]
        sandbox._store.update("au", patron, changes)
        assert f"patron {PATRON} is now in group 1101" in why_not_undone(mover, 1)
        sandbox._store.update("au", patron, {name: before[name] for name in changes})
        assert len(mover.undo(change_id(mover.changes, 1)).draft.steps) == 1

    def test_a_later_removal_of_our_own_is_no_copy(self, mover: Client, proxy: FaultProxy, sandbox: Sandbox) -> None:
        removed_twice(mover, proxy)
        assert mover.move([CARD], to=OTHERS_CARD).apply().done
        assert mover.remove([CARD]).apply().done
        assert f"is now in group {value_of(sandbox)}" in why_not_undone(mover, 1)


def removed_twice(client: Client, proxy: FaultProxy, *, lead: bool = False) -> None:
    """Remove the patron. A copy of the request lands after the change has been read back."""
    proxy.decide = only(NEW_GROUP, Fault.LATE_COPY)
    assert client.remove([CARD], lead=lead).apply().done
    proxy.heal()
    proxy.let_go()


def after_the_write(proxy: FaultProxy, method: str, answer: object) -> None:
    """Answer every read of the record with ``answer`` once the write has been sent."""
    proxy.answer = lambda call: answer if call.method == RETRIEVE and method in proxy.seen else None


def test_an_old_copy_does_not_make_a_move_undone(
    mover: Client, proxy: FaultProxy, admin: Gateway, sandbox: Sandbox
) -> None:
    plan = mover.move([CARD], to=OTHERS_CARD)
    after_the_write(proxy, UPDATE, admin.call("open-ils.actor", RETRIEVE, TOKEN, PATRON).value)
    (outcome,) = plan.apply().steps
    assert (outcome.state, outcome.value) == (StepState.DONE, OTHER)
    assert outcome.reason == "the record read back is older than the change"
    proxy.heal()
    assert mover.undo(change_id(mover.changes, 1)).apply().done
    assert value_of(sandbox) == HOME


def test_an_old_copy_leaves_a_removal_open_until_it_is_seen(
    mover: Client, proxy: FaultProxy, admin: Gateway, sandbox: Sandbox
) -> None:
    plan = mover.remove([CARD])
    after_the_write(proxy, NEW_GROUP, admin.call("open-ils.actor", RETRIEVE, TOKEN, PATRON).value)
    (outcome,) = plan.apply().steps
    assert outcome.state is StepState.SENDING
    proxy.heal()
    (found,) = mover.changes.recover()
    assert (found.state, found.value) == (StepState.DONE, value_of(sandbox))
    assert proxy.seen.count(NEW_GROUP) == 1


@pytest.mark.parametrize("landed", [True, False])
def test_a_stale_read_that_looks_right_proves_nothing(
    mover: Client, proxy: FaultProxy, admin: Gateway, sandbox: Sandbox, landed: bool
) -> None:
    """Undo a move while the read-back returns a stale record from before the move."""
    sandbox._store.update("au", PATRON, {"last_update_time": "2026-01-05T10:00:00+0000"})
    old = admin.call("open-ils.actor", RETRIEVE, TOKEN, PATRON).value
    assert mover.move([CARD], to=OTHERS_CARD).apply().done
    undo = mover.undo(change_id(mover.changes, 1))
    proxy.seen.clear()
    proxy.decide = only(UPDATE, Fault.DROP_ANSWER if landed else Fault.DROP_REQUEST)
    after_the_write(proxy, UPDATE, old)
    (outcome,) = undo.apply().steps
    assert (outcome.state, outcome.reason) == (StepState.SENDING, "the record read back is older than the change")
    proxy.heal()
    assert [found.state for found in mover.changes.recover()] == ([StepState.DONE] if landed else [])
    assert only_step(mover, 2).state is (StepState.DONE if landed else StepState.SENDING)


def test_a_fleshed_record_is_the_answer_to_something_else(mover: Client, proxy: FaultProxy, admin: Gateway) -> None:
    """The write's own answer is fleshed. Compared with the unfleshed record, every field would look changed."""
    plan = mover.move([CARD], to=OTHERS_CARD)
    fleshed: list[object] = []

    def carried_out(call: Call, answer: object) -> None:
        if call.method == UPDATE:
            found = admin.call("open-ils.actor", "open-ils.actor.user.fleshed.retrieve", TOKEN, PATRON, ["cards"])
            fleshed.append(found.value)

    proxy.carried_out = carried_out
    proxy.garble = lambda call: EMPTY if call.method == UPDATE else None
    proxy.answer = lambda call: fleshed[0] if call.method == RETRIEVE and fleshed else None
    (outcome,) = plan.apply().steps
    assert outcome.state is StepState.SENDING
    proxy.heal()
    (found,) = mover.changes.recover()
    assert (found.state, found.value) == (StepState.DONE, OTHER)


@pytest.mark.parametrize("textcode", ["NO_SESSION", "XACT_COLLISION", "DATABASE_UPDATE_FAILED", "PERM_FAILURE"])
@pytest.mark.parametrize("method", [UPDATE, NEW_GROUP])
def test_a_no_to_the_reading_back_is_none_to_the_write(
    mover: Client, proxy: FaultProxy, sandbox: Sandbox, method: str, textcode: str
) -> None:
    plan = plan_with(method, mover)
    after_the_write(proxy, method, event(textcode))
    (outcome,) = plan.apply().steps
    assert outcome.state is StepState.SENDING
    assert proxy.seen.count(method) == 1
    proxy.heal()
    (found,) = mover.changes.recover()
    assert (found.state, found.value) == (StepState.DONE, value_of(sandbox))


@pytest.mark.parametrize("method", [UPDATE, NEW_GROUP])
def test_no_connection_for_the_reading_back_sends_nothing_again(
    mover: Client, proxy: FaultProxy, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    call, sent = Gateway.call, []

    def cut(gateway: Gateway, service: str, name: str, *params: object, **options: object) -> object:
        if name == RETRIEVE and sent:
            raise UnreachableError("no connection", service=service, method=name)
        if name == method:
            sent.append(name)
        return call(gateway, service, name, *params, **options)  # type: ignore[arg-type]

    plan = plan_with(method, mover)
    monkeypatch.setattr(Gateway, "call", cut)
    outcome = plan.apply()
    assert (outcome.steps[0].state, sent) == (StepState.SENDING, [method])
    assert isinstance(outcome.stopped, UnreachableError)
    monkeypatch.undo()
    assert [found.value for found in mover.changes.recover()] == [value_of(sandbox)]


def test_a_last_look_that_fails_leaves_the_step_open(mover: Client, proxy: FaultProxy) -> None:
    """The plan goes on after the last failed attempt, and the step that was sent stays open."""
    plan = mover.move([CARD, ANOTHERS_CARD], to=OTHERS_CARD)
    mine = []

    def refuse(call: Call) -> tuple[int, str] | None:
        is_mine = call.method == RETRIEVE and call.parameters[1] == PATRON
        mine.append(is_mine)
        return BROKEN if is_mine and sum(mine) > 6 else None

    proxy.refuse = refuse
    proxy.decide = lambda call: Fault.DROP_REQUEST if call.method == UPDATE and _patron(call) == PATRON else Fault.NONE
    first, second = plan.apply().steps
    assert (first.state, second.state) == (StepState.SENDING, StepState.DONE)


def _patron(call: Call) -> int:
    return int(call.parameters[1]["__p"][28])


def test_another_field_waits_while_a_change_may_still_come_in(
    mover: Client, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    """If the lead flag changed first, a move that landed unnoticed would look like another user's change."""
    hits = 0

    def refuse(call: Call) -> tuple[int, str] | None:
        nonlocal hits
        hits += call.method == RETRIEVE and UPDATE in proxy.seen
        return BROKEN if 0 < hits <= 2 else None

    proxy.refuse = refuse
    proxy.garble = lambda call: EMPTY if call.method == UPDATE else None
    (moved,) = mover.move([CARD], to=OTHERS_CARD).apply().steps
    assert moved.state is StepState.SENDING
    hits = 0
    proxy.seen.clear()
    proxy.refuse = lambda call: BROKEN if call.method == RETRIEVE else None
    (lead,) = mover.set_lead(CARD).apply().steps
    assert lead.state is StepState.NOT_DONE
    assert "an earlier change to this patron isn't confirmed yet; try again after" in lead.reason
    proxy.heal()
    assert [found.state for found in mover.changes.recover()] == [StepState.DONE]
    assert mover.set_lead(CARD).apply().done
    assert (value_of(sandbox), value_of(sandbox, field="master_account")) == (OTHER, 1)


# -- merging -----------------------------------------------------------------------------------------------------------

SOURCE, TARGET = "20000000001043", "20000000001047"


@pytest.mark.parametrize("number", [1, 2])
def test_the_same_merge_carries_on_where_it_stopped(sandbox: Sandbox, tmp_path: Path, number: int) -> None:
    former = value_of(sandbox, 1043)
    members = [row["id"] for row in sandbox._store.rows("au", {"usrgroup": former})]
    assert len(members) == 2
    with fault_proxy(sandbox.url) as proxy, gateway_of(proxy.url, "consortium_staff", retries=QUICK) as gateway:
        client = client_of(gateway, tmp_path)
        plan = client.merge(SOURCE, to=TARGET)
        cut_off_at(proxy, UPDATE, at=number)
        assert plan.apply().stopped is not None
        proxy.heal()
        client.changes.recover()
        client.merge(SOURCE, to=TARGET).apply()
    assert {value_of(sandbox, member) for member in members} == {value_of(sandbox, 1047)}


def test_whom_a_merge_is_named_by_stays_until_the_others_have_moved(
    mover: Client, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    former = value_of(sandbox, 1043)
    proxy.answer = lambda call: event("PERM_FAILURE") if call.method == UPDATE and _patron(call) != 1043 else None
    outcome = mover.merge(SOURCE, to=TARGET).apply()
    assert [step.state for step in outcome.steps] == [StepState.FAILED, StepState.NOT_DONE]
    assert outcome.steps[1].reason == "moves last, once everyone else in the group has moved"
    (entry,) = mover.changes.entries()
    assert entry.steps[1].reason == outcome.steps[1].reason
    assert value_of(sandbox, 1043) == former
    proxy.heal()
    assert mover.merge(SOURCE, to=TARGET).apply().done
