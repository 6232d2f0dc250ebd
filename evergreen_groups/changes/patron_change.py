"""Apply one change to a patron: fetch the record, check, journal, send, read back, and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from evergreen_groups.changes.journal import StepState
from evergreen_groups.changes.outcome_check import (
    ChangeVerdict,
    ConfirmedWrite,
    SentChange,
    UnclearAnswer,
    confirmed_write,
    is_older,
    is_refusal,
    judge,
    new_group_number,
    sending_of,
    untouched_fields,
    value_of,
    was_never_sent,
)
from evergreen_groups.changes.plans import GROUP, SideEffect, StepOutcome, StepT
from evergreen_groups.changes.reasons import (
    ALREADY_SET,
    CHANGED_BY_ANOTHER,
    DELETED_SINCE,
    HIDDEN_AFTER_SENDING,
    NO_CONNECTION,
    NO_LONGER_VISIBLE,
    NO_REASON,
    STALE_READ,
    StepReason,
    unreadable,
)
from evergreen_groups.changes.recovery import refusal, refused_permission
from evergreen_groups.errors import CollisionError, DataError, EvergreenGroupsError, GatewayError
from evergreen_groups.gateway import TOKEN
from evergreen_groups.groups import read_patron
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from evergreen_groups.changes.apply import JournaledStep
    from evergreen_groups.gateway import Gateway, Record

TRIES = 3
_UPDATE = "open-ils.actor.patron.update"
_NEW_GROUP = "open-ils.actor.usergroup.new"
_CHANGED_AFTER = StepReason(Message("somebody else changed the record right after"), "changed-again")
_READ_BACK = Message("it was read back as {value}; somebody else has changed it too")
_OTHER_ANSWER = Message("the ILS answered with group {group}: the request came in twice, or another answer came back")
_TRIED = Message("tries: {count}")


class PatronChange(Generic[StepT]):
    """One step of a plan while it is being applied.

    ``waits_for`` is an open request for the same patron that rules out sending this one. ``earlier`` is an earlier
    run's open request for this very change.
    """

    def __init__(
        self,
        gateway: Gateway,
        step: StepT,
        journaled: JournaledStep,
        *,
        waits_for: SentChange | None = None,
        earlier: SentChange | None = None,
    ) -> None:
        self._gateway = gateway
        self._step = step
        self._journaled = journaled
        self._waits_for = waits_for
        self._earlier = earlier
        self._sent: SentChange | None = None  # the latest request that may have reached Evergreen
        self._base: Record | None = None  # the record that the latest request was made from
        self._last_reason = NO_REASON

    def apply(self) -> StepOutcome[StepT]:
        """Apply the step. Try up to ``TRIES`` times if a repeat is safe."""
        if self._waits_for is not None:
            return self._end(StepState.NOT_DONE, reason=_waits(self._waits_for, self._journaled.now()))
        try:
            for _ in range(TRIES):
                outcome = self._try_once()
                if outcome is not None:
                    return outcome
            if self._sent is not None:
                return self._leave_open(self._look_up(self._sent))
        except (GatewayError, DataError) as error:
            if self._sent is None:
                return self._end(StepState.NOT_DONE, reason=refusal(self._gateway, error), error=error)
            # The outcome can't be read now. Leave the step open for the next run to recover.
            reason = unreadable(error)
            self._journaled.record(StepState.SENDING, reason=reason)
            return StepOutcome(self._step, StepState.SENDING, reason=reason, error=error, sent=self._sent)
        return self._end(StepState.FAILED, reason=self._last_reason.followed_by(_TRIED, count=TRIES))

    def _try_once(self) -> StepOutcome[StepT] | None:
        """Try once. Return None if the step has to be tried again."""
        before = read_patron(self._gateway, self._step.patron_id)
        # An earlier try may have taken effect by now.
        verdict = ChangeVerdict(StepState.NOT_DONE) if self._sent is None else self._judge(self._sent, before)
        if verdict.state in (StepState.DONE, StepState.FAILED):
            return self._record_verdict(verdict)
        obstacle = self._obstacle(before)
        if before is None or obstacle is not None:
            # Nothing more can be sent, but the earlier try may still arrive.
            if verdict.state is StepState.SENDING:
                return self._leave_open(verdict)
            return self._end(StepState.NOT_DONE, reason=obstacle or NO_REASON)
        if value_of(before, self._step.field) == self._step.after:
            # Perhaps our own earlier try, but this read doesn't prove it.
            if verdict.state is not StepState.NOT_DONE:
                return self._leave_open(verdict)
            # Another user made the change, so the step must not count as ours: an undo must not revert it.
            return self._end(StepState.UNCHANGED, value=self._step.after, reason=ALREADY_SET)
        sending = sending_of(before, self._step.field, self._gateway, self._journaled.now())
        self._journaled.record_sending(sending)
        self._base = before
        step = self._step
        return self._send(before, SentChange(before.id, step.field, step.before, step.after, sending))

    def _send(self, before: Record, change: SentChange) -> StepOutcome[StepT] | None:
        """Send the change and determine its outcome. Return None if the step has to be tried again."""
        # The journal has closed the earlier run's step by now, so this one answers for both requests.
        former, self._sent, self._earlier = self._sent or self._earlier, change, None
        try:
            answer = self._request(before)
        except CollisionError:
            return self._handle_collision(change, former)
        except GatewayError as error:
            if is_refusal(error):
                self._sent = former
                if former is None:
                    return self._end(StepState.FAILED, reason=refusal(self._gateway, error), error=error)
                return self._leave_open(self._look_up(former))
            if was_never_sent(error):
                self._sent = former
                self._last_reason = NO_CONNECTION
                return None
        except UnclearAnswer:
            pass
        else:
            if isinstance(answer, int):
                outcome = self._verify_new_group(before, change, answer)
            else:
                outcome = self._verify_update(before, answer.last_xact_id)
            return outcome
        return self._resolve_unclear(change)

    def _request(self, before: Record) -> ConfirmedWrite | int:
        """Send the change. Return the record as written, or the number of the new group.

        Raises:
            UnclearAnswer: the answer doesn't confirm the change.
            GatewayError: there is no answer, or Evergreen refuses.
        """
        if self._step.after is None:
            return new_group_number(
                self._gateway.call("open-ils.actor", _NEW_GROUP, TOKEN, before.id, write=True).value
            )
        value = self._step.after if self._step.field == GROUP else bool(self._step.after)
        # Clear passwd: Evergreen would set any other value as the new password.
        changed = before.replace(**{self._step.field: value, "passwd": None}).to_wire(changed=True)
        answer = self._gateway.call("open-ils.actor", _UPDATE, TOKEN, changed, write=True).value
        yes = confirmed_write(answer, before, self._step.field)
        if yes.value != self._step.after:  # the record has been written again since
            raise UnclearAnswer
        return yes

    def _handle_collision(self, change: SentChange, former: SentChange | None) -> StepOutcome[StepT] | None:
        """Handle a record that was written after it was read, by another user or by a duplicate of this request.

        A network that delivers a request twice may return the answer to the second one.
        """
        verdict = self._look_up(change)
        if verdict.state is StepState.DONE:
            return self._record_verdict(verdict)
        self._sent = former
        self._last_reason = CHANGED_BY_ANOTHER
        return None

    def _resolve_unclear(self, change: SentChange) -> StepOutcome[StepT] | None:
        """Read the record to resolve an unclear answer. Return None if the change may be sent again.

        The status code doesn't help: a service that fails after writing answers 500, a bus that loses the answer 404,
        and a gateway that times out nothing at all.
        """
        verdict = self._look_up(change)
        if verdict.state in (StepState.DONE, StepState.FAILED):
            return self._record_verdict(verdict)
        if not change.protected:
            # A repeat could make a second group.
            return self._leave_open(verdict)
        if verdict.state is StepState.NOT_DONE:
            # Evergreen would reject the request by now, so it no longer matters.
            self._sent = None
        self._last_reason = verdict.reason
        return None

    def _look_up(self, change: SentChange) -> ChangeVerdict:
        """Read the patron's record and infer the outcome of a change."""
        return self._judge(change, read_patron(self._gateway, change.patron))

    def _judge(self, change: SentChange, record: Record | None) -> ChangeVerdict:
        """Infer the outcome of a change from a record. A record from before the change proves nothing."""
        if record is not None and self._base is not None and is_older(record, self._base):
            return ChangeVerdict(StepState.SENDING, reason=STALE_READ)
        return judge(self._gateway, change, record, self._journaled.now())

    def _obstacle(self, record: Record | None) -> StepReason | None:
        """Return why the step no longer applies to this patron, or None if it does."""
        if record is None:
            return NO_LONGER_VISIBLE
        if record.deleted:
            return DELETED_SINCE
        now = value_of(record, self._step.field)
        if now not in (self._step.before, self._step.after):
            if self._step.field == GROUP:
                return StepReason(Message("moved meanwhile, to group {group}"), "moved-meanwhile", group=now)
            return StepReason(Message("changed meanwhile"), "lead-changed-meanwhile")
        return None

    def _verify_update(self, before: Record, last_xact_id: str) -> StepOutcome[StepT]:
        """Verify that an update changed only the one field.

        ``last_xact_id`` identifies our write. The change counts as done whatever value is read back.
        """
        after, wanted = read_patron(self._gateway, self._step.patron_id), self._step.after
        if after is None:
            return self._leave_open(ChangeVerdict(StepState.SENDING, reason=HIDDEN_AFTER_SENDING))
        if after.last_xact_id == last_xact_id:
            return self._end_as_done(before, after)
        if after.last_xact_id == before.last_xact_id:
            # The answer has confirmed the write, so this read is outdated.
            return self._end(StepState.DONE, value=wanted, reason=STALE_READ)
        now = value_of(after, self._step.field)
        if now == wanted:
            return self._end(StepState.DONE, value=now, reason=_CHANGED_AFTER)
        effect = SideEffect(self._step.field, wanted, now)
        reason = StepReason(_READ_BACK, "changed-again", value=now)
        return self._end(StepState.DONE, value=wanted, reason=reason, effects=(effect,))

    def _verify_new_group(self, before: Record, change: SentChange, answer: int) -> StepOutcome[StepT]:
        """Verify the move to a new group. No ``last_xact_id`` identifies this write, so the record decides."""
        after = read_patron(self._gateway, self._step.patron_id)
        if after is None:
            return self._leave_open(ChangeVerdict(StepState.SENDING, reason=HIDDEN_AFTER_SENDING))
        if value_of(after, GROUP) == answer != self._step.before:
            return self._end_as_done(before, after)
        verdict = self._judge(change, after)
        if verdict.state is StepState.DONE:
            reason = StepReason(_OTHER_ANSWER, "another-answer", group=answer)
            return self._end(StepState.DONE, value=verdict.value, reason=reason)
        return self._leave_open(verdict)

    def _end_as_done(self, before: Record, after: Record) -> StepOutcome[StepT]:
        """End the step as done and report any other fields that changed."""
        effects = tuple(side_effects(before, after, self._step.field))
        fields = ", ".join(effect.field for effect in effects)
        reason = StepReason(Message("also changed: {fields}"), "also-changed", fields=fields) if effects else NO_REASON
        return self._end(StepState.DONE, value=value_of(after, self._step.field), reason=reason, effects=effects)

    def _record_verdict(self, verdict: ChangeVerdict) -> StepOutcome[StepT]:
        return self._end(verdict.state, value=verdict.value, reason=verdict.reason)

    def _leave_open(self, verdict: ChangeVerdict) -> StepOutcome[StepT]:
        """Leave the step open for the next run."""
        if verdict.state is not StepState.SENDING:
            return self._record_verdict(verdict)
        self._journaled.record(StepState.SENDING, value=verdict.value, reason=verdict.reason)
        return StepOutcome(self._step, StepState.SENDING, verdict.value, verdict.reason, sent=self._sent)

    def _end(
        self,
        state: StepState,
        *,
        value: int | None = None,
        reason: StepReason = NO_REASON,
        effects: tuple[SideEffect, ...] = (),
        error: EvergreenGroupsError | None = None,
    ) -> StepOutcome[StepT]:
        self._journaled.record(state, value=value, reason=reason, refusal=refused_permission(error))
        return StepOutcome(self._step, state, value, reason, effects, error)


def _waits(change: SentChange, now: datetime) -> StepReason:
    if not change.may_still_arrive(now):  # the record couldn't be read, or the patron is hidden
        text = Message("what became of an earlier change of this patron isn't known yet; try again later")
        return StepReason(text, "waits-for-earlier")
    until = change.sending.until
    text = Message("an earlier change of this patron may still come in until {until:time}; try again after that")
    return StepReason(text, "waits-for-earlier", until=until.isoformat(timespec="seconds"))


def side_effects(before: Record, after: Record, changed: str) -> Iterator[SideEffect]:
    """Yield the fields that differ between two states of a record, except ``changed`` and the timestamps."""
    old, new = (
        {name: (sent, value) for name, sent, value in untouched_fields(record, changed)} for record in (before, after)
    )
    absent = (None, None)
    for name in {**old, **new}:
        (was, old_value), (became, new_value) = old.get(name, absent), new.get(name, absent)
        if old_value != new_value:
            yield SideEffect(name, was, became)
