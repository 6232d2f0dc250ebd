"""One change of a patron on its way: fetched fresh, checked, written down, sent, read back, compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.changes.journal import StepState
from evergreen_groups.changes.plan_outcome import SideEffect, StepOutcome
from evergreen_groups.changes.plans import GROUP, Step
from evergreen_groups.changes.recovery import refusal, value_of
from evergreen_groups.errors import CollisionError, EventError, GatewayError, ProtocolError, TransportError
from evergreen_groups.gateway import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evergreen_groups.changes.journaled import JournaledStep
    from evergreen_groups.gateway import Gateway, Record

TRIES = 3
_MAY_CHANGE = {"last_xact_id", "last_update_time"}
_UPDATE = "open-ils.actor.patron.update"
_NEW_GROUP = "open-ils.actor.usergroup.new"


class PatronChange:
    """One step of a plan that is being applied."""

    def __init__(self, gateway: Gateway, step: Step, journaled: JournaledStep) -> None:
        self._gateway = gateway
        self._step = step
        self._journaled = journaled
        self._sending = False
        self._last_reason = ""

    def apply(self) -> StepOutcome:
        """Do it, at most ``TRIES`` times where somebody else changes the record in between or an answer is lost."""
        try:
            for _ in range(TRIES):
                outcome = self._try()
                if outcome is not None:
                    return outcome
        except GatewayError as error:
            if not self._sending:
                return self._ended(StepState.NOT_DONE, reason=refusal(self._gateway, error), error=error)
            # Whether it was done can't be found out now: the step stays open and the next run recovers it.
            return StepOutcome(self._step, StepState.SENDING, reason="the connection was lost", error=error)
        return self._ended(StepState.FAILED, reason=f"{self._last_reason}, {TRIES} times")

    def _try(self) -> StepOutcome | None:
        """One try; None where it has to be tried again."""
        before = self._fetch()
        obstacle = self._obstacle(before)
        if before is None or obstacle is not None:
            return self._ended(StepState.NOT_DONE, reason=obstacle or "")
        if value_of(before, self._step.field) == self._step.after:
            return self._ended(StepState.DONE, value=self._step.after, reason="it was so already")
        self._journaled.record(StepState.SENDING)
        self._sending = True
        return self._sent(before)

    def _sent(self, before: Record) -> StepOutcome | None:
        """Send the change and find out what came of it."""
        try:
            self._send(before)
        except CollisionError:
            self._last_reason = "the record was changed by somebody else"
        except TransportError:
            # Read back, never sent again blindly: only where it did not land may it be tried again.
            after = self._fetch()
            if value_of(after, self._step.field) != self._step.before:
                return self._compared(before, after)
            self._last_reason = "the answer was lost and nothing was changed"
        except (EventError, ProtocolError) as error:
            return self._ended(StepState.FAILED, reason=refusal(self._gateway, error), error=error)
        else:
            return self._compared(before, self._fetch())
        self._sending = False
        return None

    def _fetch(self) -> Record | None:
        return self._gateway.pcrud.retrieve("au", self._step.person.id)

    def _obstacle(self, record: Record | None) -> str | None:
        """Why the plan no longer holds for this patron, None where it does."""
        if record is None:
            return "the account can't see this patron any more"
        if bool(record.deleted) and not self._step.person.deleted:
            return "the account has been deleted meanwhile"
        now = value_of(record, self._step.field)
        if now not in (self._step.before, self._step.after):
            return f"moved meanwhile, to group {now}" if self._step.field == GROUP else "changed meanwhile"
        return None

    def _send(self, record: Record) -> None:
        if self._step.after is None:
            self._gateway.call("open-ils.actor", _NEW_GROUP, TOKEN, record.id, write=True)
            return
        value = self._step.after if self._step.field == GROUP else bool(self._step.after)
        changed = record.replace(**{self._step.field: value, "passwd": None}).to_wire(changed=True)
        self._gateway.call("open-ils.actor", _UPDATE, TOKEN, changed, write=True)

    def _compared(self, before: Record, after: Record | None) -> StepOutcome:
        """Hold the record against what it was: the one field changed, and no other."""
        now = value_of(after, self._step.field)
        if after is None or now is None:
            return self._ended(StepState.FAILED, reason="sent, but the account can't see this patron any more")
        if now == self._step.before:
            return self._ended(StepState.FAILED, reason="the ILS accepted the change and wrote nothing")
        if self._step.after not in (None, now):
            return self._ended(StepState.FAILED, reason=f"sent, but it is {now} now; somebody else changed it too")
        effects = tuple(side_effects(before, after, self._step.field))
        reason = f"also changed: {', '.join(effect.field for effect in effects)}" if effects else ""
        return self._ended(StepState.DONE, value=now, reason=reason, effects=effects)

    def _ended(
        self,
        state: StepState,
        *,
        value: int | None = None,
        reason: str = "",
        effects: tuple[SideEffect, ...] = (),
        error: GatewayError | None = None,
    ) -> StepOutcome:
        self._journaled.record(state, value=value, reason=reason)
        return StepOutcome(self._step, state, value, reason, effects, error)


def side_effects(before: Record, after: Record, changed: str) -> Iterator[SideEffect]:
    """The fields that differ between two states of a record, but for the one meant to change and the time stamps."""
    old, new = before.to_wire()["__p"], after.to_wire()["__p"]
    names = list(before._class.positions)
    for position in range(max(len(old), len(new))):
        was, is_now = (values[position] if position < len(values) else None for values in (old, new))
        name = names[position] if position < len(names) else f"field {position}"
        if was != is_now and name != changed and name not in _MAY_CHANGE:
            yield SideEffect(name, was, is_now)
