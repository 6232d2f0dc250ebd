"""Outcomes of applied plans, and which steps wait for others."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.change_ids import change_id
from support.family_moves import (
    ANOTHER,
    ANOTHERS_CARD,
    CARD,
    HOME,
    NEW_GROUP,
    OTHER,
    OTHERS_CARD,
    PATRON,
    RETRIEVE,
    UPDATE,
    lacking,
    later,
    only_step,
    plan_with,
    record_of,
    write_as_staff,
)
from support.fault_proxy import Call, Fault, FaultProxy, with_numbers_as_text
from support.gateways import client_of, gateway_of, why_not_undone
from support.journals import begun
from support.recorded import idl_of, payload
from support.states import journal_in

from evergreen_groups.changes import PENALTIES, Operator, StepState
from evergreen_groups.changes.apply import TRIES, side_effects
from evergreen_groups.changes.journal import Sending, StoredStep
from evergreen_groups.changes.penalties import PatronPenalties
from evergreen_groups.changes.reasons import TAKEN_OVER
from evergreen_groups.client import Client
from evergreen_groups.errors import NotFoundError, TransportError, UnreachableError
from evergreen_groups.gateway import Gateway, Record
from evergreen_groups.gateway.record import decode
from evergreen_groups.sandbox import Sandbox


def losing(method: str) -> Callable[[Call], Fault]:
    """Lose the requests for ``method`` about the patron."""
    named = re.compile(rf"\b{PATRON}\b")  # not within a token, which is random
    return lambda call: (
        Fault.DROP_REQUEST if call.method == method and named.search(str(call.parameters)) else Fault.NONE
    )


class TestOutcome:
    def test_of_a_move(self, mover: Client) -> None:
        told: list[tuple[str, int, int]] = []
        plan = mover.move([CARD, ANOTHERS_CARD], to=OTHERS_CARD)
        outcome = plan.apply(lambda doing, done, of: told.append((doing, done, of)))
        assert outcome.done
        assert outcome.stopped is None
        assert [(step.state, step.value, step.reason) for step in outcome.steps] == [(StepState.DONE, OTHER, "")] * 2
        assert [step.step for step in outcome.steps] == list(plan.draft.steps)
        assert [(step.side_effects, step.error, step.sent) for step in outcome.steps] == [((), None, None)] * 2
        assert [(done, of) for _doing, done, of in told] == [(1, 2), (2, 2)]

    def test_what_comes_after_an_ils_that_is_away_is_not_begun(self, mover: Client, proxy: FaultProxy) -> None:
        plan = mover.move([CARD, ANOTHERS_CARD], to=OTHERS_CARD)
        proxy.decide = lambda call: Fault.DROP_REQUEST if call.method == RETRIEVE else Fault.NONE
        outcome = plan.apply()
        assert not outcome.done
        assert isinstance(outcome.stopped, TransportError)
        assert [step.state for step in outcome.steps] == [StepState.NOT_DONE, StepState.PLANNED]
        assert outcome.steps[0].error is outcome.stopped
        assert outcome.steps[1].reason == "not started"
        assert outcome.steps[1].step == plan.draft.steps[1]
        stored = mover.changes.entry(change_id(mover.changes, 1)).steps
        assert [step.state for step in stored] == [StepState.NOT_DONE, StepState.PLANNED]

    def test_side_effects_are_named(self, mover: Client, proxy: FaultProxy, sandbox: Sandbox) -> None:
        def also(call: Call) -> None:
            if call.method == UPDATE:
                sandbox._store.update("au", PATRON, {"day_phone": "555-0100", "barred": "t"})

        proxy.before_answer = also
        outcome = mover.move([CARD], to=OTHERS_CARD).apply()
        assert not outcome.done
        (step,) = outcome.steps
        assert (step.state, step.value) == (StepState.DONE, OTHER)
        assert {effect.field: effect.after for effect in step.side_effects} == {"day_phone": "555-0100", "barred": "t"}
        assert sorted(step.reason.removeprefix("Evergreen also changed ").split(", ")) == ["barred", "day_phone"]
        assert only_step(mover).reason == step.reason

    def test_fields_that_come_go_or_change(self, admin: Gateway) -> None:
        before = record_of(admin).replace(day_phone="1", evening_phone=None, other_phone="3", email="a@example.org")
        after = before.replace(
            day_phone="2", evening_phone="2", other_phone=None, usrgroup=OTHER, last_xact_id="x", passwd="y"
        )
        found = {it.field: (it.before, it.after) for it in side_effects(before, after, "usrgroup")}
        assert found == {"day_phone": ("1", "2"), "evening_phone": (None, "2"), "other_phone": ("3", None)}

    @pytest.mark.parametrize("answer_is_lost", [False, True])
    def test_numbers_read_back_as_text_are_the_same_numbers(
        self, mover: Client, proxy: FaultProxy, *, answer_is_lost: bool
    ) -> None:
        """Two kinds of gateway share an address: one sends numbers, the other strings."""
        proxy.alter = lambda call, answer: (
            with_numbers_as_text(answer) if call.method == RETRIEVE and UPDATE in proxy.seen else None
        )
        if answer_is_lost:
            proxy.garble = lambda call: {"payload": [], "status": 200} if call.method == UPDATE else None
        outcome = mover.move([CARD], to=OTHERS_CARD).apply()
        (step,) = outcome.steps
        assert (step.state, step.reason, step.side_effects) == (StepState.DONE, "", ())

    def test_a_refusal(self, mover: Client, proxy: FaultProxy) -> None:
        proxy.answer = lambda call: lacking("UPDATE_USER") if call.method == UPDATE else None
        outcome = mover.move([CARD], to=OTHERS_CARD).apply()
        (step,) = outcome.steps
        assert (step.state, step.value) == (StepState.FAILED, None)
        assert step.reason == "the account lacks UPDATE_USER at HARBOR"
        assert (outcome.stopped, proxy.seen.count(UPDATE)) == (None, 1)
        assert step.error is not None
        assert (only_step(mover).state, only_step(mover).reason) == (step.state, step.reason)
        assert (only_step(mover).permission, only_step(mover).org_unit) == ("UPDATE_USER", 11)

    def test_records_that_others_change_all_the_while(self, mover: Client, proxy: FaultProxy, admin: Gateway) -> None:
        def decide(call: Call) -> Fault:
            if call.method == UPDATE:
                write_as_staff(admin, day_phone=f"555-010{proxy.seen.count(UPDATE)}")
            return Fault.NONE

        proxy.decide = decide
        (step,) = mover.move([CARD], to=OTHERS_CARD).apply().steps
        assert (step.state, step.reason) == (StepState.FAILED, "another user changed this patron's record; tries: 3")
        assert proxy.seen.count(UPDATE) == TRIES == 3
        assert record_of(admin).usrgroup == HOME

    @pytest.mark.parametrize("method", [UPDATE, NEW_GROUP])
    def test_no_connection_time_and_again(self, mover: Client, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        """The request never left this machine, so it can't land later."""
        plan = plan_with(method, mover)
        call = Gateway.call

        def unreachable(gateway: Gateway, service: str, called: str, *params: object, **options: object) -> object:
            if called == method:
                raise UnreachableError("no connection", service=service, method=called)
            return call(gateway, service, called, *params, **options)  # type: ignore[arg-type]  # as they come

        monkeypatch.setattr(Gateway, "call", unreachable)
        (step,) = plan.apply().steps
        assert (step.state, step.reason) == (StepState.FAILED, "Evergreen can't be reached; tries: 3")
        assert mover.changes.open_steps() == []

    def test_what_cannot_be_read_back_stays_open(self, mover: Client, proxy: FaultProxy) -> None:
        plan = mover.move([CARD], to=OTHERS_CARD)
        proxy.decide = lambda call: (
            Fault.DROP_ANSWER
            if call.method == UPDATE or (call.method == RETRIEVE and UPDATE in proxy.seen)
            else Fault.NONE
        )
        (step,) = plan.apply().steps
        assert (step.state, step.reason) == (
            StepState.SENDING,
            "sent, but the result couldn't be read; it will be checked again",
        )
        assert (step.error is not None, step.sent is not None) == (True, True)

    @pytest.mark.parametrize(
        ("meanwhile", "reason"),
        [
            ({"usrgroup": 1001}, "another user moved the patron to group 1001"),
            ({"deleted": "t"}, "the patron's record was deleted"),
        ],
    )
    def test_obstacles(
        self, mover: Client, proxy: FaultProxy, sandbox: Sandbox, meanwhile: dict[str, object], reason: str
    ) -> None:
        plan = mover.move([CARD], to=OTHERS_CARD)
        sandbox._store.update("au", PATRON, meanwhile)
        (step,) = plan.apply().steps
        assert (step.state, step.reason, step.sent) == (StepState.NOT_DONE, reason, None)
        assert UPDATE not in proxy.seen

    def test_a_patron_who_is_hidden_meanwhile(self, mover: Client, proxy: FaultProxy) -> None:
        plan = mover.move([CARD], to=OTHERS_CARD)
        proxy.answer = lambda call: lacking("VIEW_USER") if call.method == RETRIEVE else None
        (step,) = plan.apply().steps
        assert (step.state, step.reason) == (StepState.NOT_DONE, "this patron is no longer visible")
        assert UPDATE not in proxy.seen

    def test_it_was_so_already(self, mover: Client, proxy: FaultProxy, admin: Gateway) -> None:
        plan = mover.set_lead(CARD)
        write_as_staff(admin, master_account=True)
        (step,) = plan.apply().steps
        assert (step.state, step.value, step.reason) == (StepState.UNCHANGED, 1, "already done")
        assert UPDATE not in proxy.seen
        assert only_step(mover).state is StepState.UNCHANGED
        assert "nothing was changed" in why_not_undone(mover, 1), "what somebody else did isn't ours to undo"


class TestWaiting:
    """A request that may still land holds up only the changes that conflict with it."""

    def test_the_same_move_may_be_sent_again(self, mover: Client, proxy: FaultProxy) -> None:
        proxy.decide = losing(UPDATE)
        assert not mover.move([CARD], to=OTHERS_CARD).apply().done
        proxy.heal()
        assert mover.move([CARD], to=OTHERS_CARD).apply().done
        assert mover.changes.recover() == []
        assert [entry.steps[0].state for entry in mover.changes.entries()] == [StepState.DONE, StepState.NOT_DONE]
        assert only_step(mover).reason == TAKEN_OVER

    @pytest.mark.parametrize("minutes", [0, 30])
    def test_until_it_can_no_longer_come_in(
        self, mover: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, minutes: int
    ) -> None:
        proxy.decide = losing(NEW_GROUP)
        (lost,) = mover.remove([CARD]).apply().steps
        assert lost.sent is not None
        proxy.heal()
        later(monkeypatch, minutes=minutes)
        (step,) = mover.move([CARD], to=OTHERS_CARD).apply().steps
        if minutes:
            assert step.state is StepState.DONE
            return
        until = f"{lost.sent.request.until.astimezone():%H:%M}"
        assert step.state is StepState.NOT_DONE
        assert step.reason == f"an earlier change to this patron isn't confirmed yet; try again after {until}"
        assert UPDATE not in proxy.seen
        (again,) = mover.remove([CARD]).apply().steps
        assert (again.state, proxy.seen.count(NEW_GROUP)) == (StepState.NOT_DONE, 1)

    def test_within_one_plan(self, mover: Client, proxy: FaultProxy) -> None:
        proxy.decide = losing(NEW_GROUP)
        outcome = mover.remove([CARD, ANOTHERS_CARD], lead=True).apply()
        states = {(step.step.member.id, step.step.field): step.state for step in outcome.steps}
        assert states == {
            (PATRON, "usrgroup"): StepState.SENDING,
            (PATRON, "master_account"): StepState.NOT_DONE,
            (ANOTHER, "usrgroup"): StepState.DONE,
            (ANOTHER, "master_account"): StepState.DONE,
        }

    def test_recalculations_hold_up_nobody(self, mover: Client, tmp_path: Path) -> None:
        journal = journal_in(tmp_path / "state")
        (step,) = begun(
            journal, mover.gateway.url, Operator("groups"), "recalculate", [StoredStep(PATRON, PENALTIES, 0, None)]
        )
        now, unchanged = datetime.now(UTC), PatronPenalties(11, ()).digest
        journal.record_sending(step, Sending(now, now + timedelta(minutes=16), other_fields=unchanged))
        assert mover.move([CARD], to=OTHERS_CARD).apply().done
        assert [it.id for it in mover.changes.open_steps()] == [step]


def test_an_entry_of_another_gateway(mover: Client, sandbox: Sandbox, tmp_path: Path) -> None:
    mover.move([CARD], to=OTHERS_CARD).apply()
    id = change_id(mover.changes, 1)
    with gateway_of(sandbox.url, "consortium_staff") as other:
        elsewhere = client_of(other, tmp_path)
        with pytest.raises(NotFoundError, match=r"change 1-.{6} was made at another gateway") as told:
            elsewhere.undo(id)
        assert elsewhere.changes.entries() == []
        assert elsewhere.changes.open_steps() == []
    assert told.value.code == "entry-of-another-gateway"
    assert told.value.values == {"entry": id, "gateway": mover.gateway.url}


def recorded_patron(exchange_id: str) -> Record:
    """Return the patron in an answer, without the fleshed ``groups``, which only the first answer has."""
    record = decode(payload(exchange_id)[0], idl_of("3.16"))
    assert isinstance(record, Record)
    return record.replace(groups=None)


def test_search_words_made_by_another_release_are_rebuilt() -> None:
    """The patron was last written by 3.17, which indexes the guardian's name, and is moved by 3.16."""
    before, after = recorded_patron("3.16/move-fleshed-003"), recorded_patron("3.16/move-fleshed-004")
    assert before.name_kw_tsvector != after.name_kw_tsvector
    assert list(side_effects(before, after, "usrgroup")) == []


def test_another_name_is_an_effect() -> None:
    before = recorded_patron("3.16/move-fleshed-003")
    after = before.replace(name_keywords="Lukas", name_kw_tsvector="'lukas':1")
    assert [effect.field for effect in side_effects(before, after, "usrgroup")] == ["name_keywords"]
