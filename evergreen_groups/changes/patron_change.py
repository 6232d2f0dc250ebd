"""One change of a patron on its way: fetched fresh, checked, written down, sent, read back, compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from evergreen_groups.changes.journal import StepState
from evergreen_groups.changes.landing import (
    Landing,
    SentChange,
    UnclearAnswer,
    Written,
    fields_but,
    group_number,
    is_no,
    is_older,
    judge,
    never_left,
    sending_of,
    value_of,
    written,
)
from evergreen_groups.changes.plans import GROUP, SideEffect, StepOutcome, StepT
from evergreen_groups.changes.reasons import (
    CHANGED_BY_ANOTHER,
    DELETED_MEANWHILE,
    HIDDEN_MEANWHILE,
    HIDDEN_NOW,
    NO_CONNECTION,
    NO_REASON,
    OLD_COPY,
    SO_ALREADY,
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
    """One step of a plan that is being applied.

    ``waits_for`` is an earlier change of the same patron that doesn't go together with this one. ``earlier`` is a
    request for this very change, by an earlier run, that may still come in.
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
        self._sent: SentChange | None = None  # the latest request that may have come in, or may yet
        self._base: Record | None = None  # what the latest request was made from
        self._last_reason = NO_REASON

    def apply(self) -> StepOutcome[StepT]:
        """Do it; up to ``TRIES`` times where the ILS takes the change once at most."""
        if self._waits_for is not None:
            return self._ended(StepState.NOT_DONE, reason=_waits(self._waits_for, self._journaled.now()))
        try:
            for _ in range(TRIES):
                outcome = self._try()
                if outcome is not None:
                    return outcome
            if self._sent is not None:
                return self._open(self._look_up(self._sent))
        except (GatewayError, DataError) as error:
            if self._sent is None:
                return self._ended(StepState.NOT_DONE, reason=refusal(self._gateway, error), error=error)
            # What came of it can't be found out now: the step stays open and the next run recovers it.
            reason = unreadable(error)
            self._journaled.record(StepState.SENDING, reason=reason)
            return StepOutcome(self._step, StepState.SENDING, reason=reason, error=error, sent=self._sent)
        return self._ended(StepState.FAILED, reason=self._last_reason.followed_by(_TRIED, count=TRIES))

    def _try(self) -> StepOutcome[StepT] | None:
        """One try; None where it has to be tried again."""
        before = read_patron(self._gateway, self._step.patron_id)
        landing = Landing(StepState.NOT_DONE) if self._sent is None else self._judged(self._sent, before)
        if landing.state in (StepState.DONE, StepState.FAILED):
            return self._landed(landing)
        obstacle = self._obstacle(before)
        if before is None or obstacle is not None:
            if landing.state is StepState.SENDING:
                return self._open(landing)
            return self._ended(StepState.NOT_DONE, reason=obstacle or NO_REASON)
        if value_of(before, self._step.field) == self._step.after:
            return self._found_so() if landing.state is StepState.NOT_DONE else self._open(landing)
        sending = sending_of(before, self._step.field, self._gateway, self._journaled.now())
        self._journaled.record_sending(sending)
        self._base = before
        step = self._step
        return self._send(before, SentChange(before.id, step.field, step.before, step.after, sending))

    def _send(self, before: Record, change: SentChange) -> StepOutcome[StepT] | None:
        """Send the change and find out what came of it; None where it has to be tried again."""
        # The journal has closed the earlier run's step by now, so this one answers for both requests.
        former, self._sent, self._earlier = self._sent or self._earlier, change, None
        try:
            answer = self._answer(before)
        except CollisionError:
            return self._collided(change, former)
        except GatewayError as error:
            if is_no(error):
                self._sent = former
                if former is None:
                    return self._ended(StepState.FAILED, reason=refusal(self._gateway, error), error=error)
                return self._open(self._look_up(former))
            if never_left(error):
                self._sent = former
                self._last_reason = NO_CONNECTION
                return None
        except UnclearAnswer:
            pass
        else:
            return self._confirmed(before, change, answer)
        return self._cleared_up(change)

    def _answer(self, before: Record) -> Written | int:
        """Send the change; gives what says yes: the record as it was written, or the new group's number.

        Raises:
            UnclearAnswer: it says something else.
            GatewayError: no answer, or one that says no.
        """
        if self._step.after is None:
            return group_number(self._gateway.call("open-ils.actor", _NEW_GROUP, TOKEN, before.id, write=True).value)
        value = self._step.after if self._step.field == GROUP else bool(self._step.after)
        changed = before.replace(**{self._step.field: value, "passwd": None}).to_wire(changed=True)
        answer = self._gateway.call("open-ils.actor", _UPDATE, TOKEN, changed, write=True).value
        yes = written(answer, before, self._step.field)
        if yes.value != self._step.after:  # somebody else has written it since
            raise UnclearAnswer
        return yes

    def _collided(self, change: SentChange, former: SentChange | None) -> StepOutcome[StepT] | None:
        """The record has been written since it was read: by somebody else, or by a copy of this very request.

        A network that sends a request twice may have the second one's answer come back.
        """
        landing = self._look_up(change)
        if landing.state is StepState.DONE:
            return self._landed(landing)
        self._sent = former
        self._last_reason = CHANGED_BY_ANOTHER
        return None

    def _cleared_up(self, change: SentChange) -> StepOutcome[StepT] | None:
        """Find out by the record what an unclear answer didn't tell; None where it may be sent again.

        Whatever the answer was: a service that fails after it has written answers 500, a bus that loses the answer
        404, and a gateway that has waited too long with nothing.
        """
        landing = self._look_up(change)
        if landing.state in (StepState.DONE, StepState.FAILED):
            return self._landed(landing)
        if not change.protected:
            return self._open(landing)
        if landing.state is StepState.NOT_DONE:
            self._sent = None
        self._last_reason = landing.reason
        return None

    def _look_up(self, change: SentChange) -> Landing:
        """What the record says of a change."""
        return self._judged(change, read_patron(self._gateway, change.patron))

    def _judged(self, change: SentChange, record: Record | None) -> Landing:
        """The same for a record that was read: one from before the change says nothing about it."""
        if record is not None and self._base is not None and is_older(record, self._base):
            return Landing(StepState.SENDING, reason=OLD_COPY)
        return judge(self._gateway, change, record, self._journaled.now())

    def _obstacle(self, record: Record | None) -> StepReason | None:
        """Why the plan no longer holds for this patron, None where it does."""
        if record is None:
            return HIDDEN_MEANWHILE
        if record.deleted:
            return DELETED_MEANWHILE
        now = value_of(record, self._step.field)
        if now not in (self._step.before, self._step.after):
            if self._step.field == GROUP:
                return StepReason(Message("moved meanwhile, to group {group}"), "moved-meanwhile", group=now)
            return StepReason(Message("changed meanwhile"), "lead-changed-meanwhile")
        return None

    def _confirmed(self, before: Record, change: SentChange, answer: Written | int) -> StepOutcome[StepT]:
        """Hold the record against what it was, after a clear yes."""
        if isinstance(answer, int):
            return self._removed(before, change, answer)
        return self._updated(before, answer.last_xact_id)

    def _updated(self, before: Record, last_xact_id: str) -> StepOutcome[StepT]:
        """The one field changed, and no other.

        ``last_xact_id`` is the mark of the write. Whatever is read back, the change was done.
        """
        after, wanted = read_patron(self._gateway, self._step.patron_id), self._step.after
        if after is None:
            return self._open(Landing(StepState.SENDING, reason=HIDDEN_NOW))
        if after.last_xact_id == last_xact_id:
            return self._compared(before, after)
        if after.last_xact_id == before.last_xact_id:
            return self._ended(StepState.DONE, value=wanted, reason=OLD_COPY)
        now = value_of(after, self._step.field)
        if now == wanted:
            return self._ended(StepState.DONE, value=now, reason=_CHANGED_AFTER)
        effect = SideEffect(self._step.field, wanted, now)
        reason = StepReason(_READ_BACK, "changed-again", value=now)
        return self._ended(StepState.DONE, value=wanted, reason=reason, effects=(effect,))

    def _removed(self, before: Record, change: SentChange, answer: int) -> StepOutcome[StepT]:
        """The same for a new group. No mark tells this write from others, and its number is the record's to say."""
        after = read_patron(self._gateway, self._step.patron_id)
        if after is None:
            return self._open(Landing(StepState.SENDING, reason=HIDDEN_NOW))
        if value_of(after, GROUP) == answer != self._step.before:
            return self._compared(before, after)
        landing = self._judged(change, after)
        if landing.state is StepState.DONE:
            reason = StepReason(_OTHER_ANSWER, "another-answer", group=answer)
            return self._ended(StepState.DONE, value=landing.value, reason=reason)
        return self._open(landing)

    def _compared(self, before: Record, after: Record) -> StepOutcome[StepT]:
        """Name whatever has changed beside the one field."""
        effects = tuple(side_effects(before, after, self._step.field))
        fields = ", ".join(effect.field for effect in effects)
        reason = StepReason(Message("also changed: {fields}"), "also-changed", fields=fields) if effects else NO_REASON
        return self._ended(StepState.DONE, value=value_of(after, self._step.field), reason=reason, effects=effects)

    def _found_so(self) -> StepOutcome[StepT]:
        """Somebody else has made the change since it was planned. Theirs is not ours to take back."""
        return self._ended(StepState.UNCHANGED, value=self._step.after, reason=SO_ALREADY)

    def _landed(self, landing: Landing) -> StepOutcome[StepT]:
        return self._ended(landing.state, value=landing.value, reason=landing.reason)

    def _open(self, landing: Landing) -> StepOutcome[StepT]:
        """Leave the step for the next run."""
        if landing.state is not StepState.SENDING:
            return self._landed(landing)
        self._journaled.record(StepState.SENDING, value=landing.value, reason=landing.reason)
        return StepOutcome(self._step, StepState.SENDING, landing.value, landing.reason, sent=self._sent)

    def _ended(
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
    if not change.may_land(now):  # it couldn't be read, or the account can't see the patron
        text = Message("what became of an earlier change of this patron isn't known yet; try again later")
        return StepReason(text, "waits-for-earlier")
    until = change.sending.until
    text = Message("an earlier change of this patron may still come in until {until:time}; try again after that")
    return StepReason(text, "waits-for-earlier", until=until.isoformat(timespec="seconds"))


def side_effects(before: Record, after: Record, changed: str) -> Iterator[SideEffect]:
    """Yield the fields that differ between two states of a record, except ``changed`` and the timestamps."""
    old, new = (
        {name: (sent, value) for name, sent, value in fields_but(record, changed)} for record in (before, after)
    )
    absent = (None, None)
    for name in {**old, **new}:
        (was, old_value), (became, new_value) = old.get(name, absent), new.get(name, absent)
        if old_value != new_value:
            yield SideEffect(name, was, became)
