"""Having one patron's penalties recalculated: looked at, written down, asked for once, read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.changes.answers import is_no, never_left
from evergreen_groups.changes.journal_step import Sending, StepState
from evergreen_groups.changes.landing import new_sending
from evergreen_groups.changes.recovery import refusal, refused_permission
from evergreen_groups.changes.step_reason import (
    BLOCK_BY_STAFF,
    BLOCK_BY_STAFF_GONE,
    HIDDEN_MEANWHILE,
    NO_REASON,
    OLD_COPY,
    StepReason,
    may_come_in,
    no_clear_answer,
    unreadable,
)
from evergreen_groups.errors import DataError, EvergreenGroupsError, GatewayError, not_visible
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.ils import PenaltyKinds, set_by_ils
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.changes.journaled import JournaledStep
    from evergreen_groups.changes.patron_penalties import PatronPenalties, PenaltyReader

_METHOD = "open-ils.actor.user.penalties.update_at_home"
_PENALTY = "PATRON_EXCEEDS_FINES"
_OTHERWISE = {  # why the ILS may see it otherwise than the rule: by whether it blocks
    True: Message("own fines reach the ILS's threshold, or the block is from another library's threshold"),
    False: Message(
        "own fines don't reach the ILS's threshold for this profile and library, or its penalty blocks nothing"
    ),
}
_CHANGES = {  # by whether the ILS blocked them before, and does now
    (True, True): StepReason(Message("still blocked"), "still-blocked"),
    (False, True): StepReason(Message("blocked in the ILS now"), "blocked-now"),
    (True, False): StepReason(Message("not blocked for fines any more"), "block-lifted"),
    (False, False): StepReason(Message("still not blocked"), "still-not-blocked"),
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """How far one recalculation went, and whether the block for fines is now as the rule has it.

    ``reason`` says what changed, or why nothing did.
    """

    state: StepState
    resolved: bool = False
    reason: StepReason = NO_REASON
    error: EvergreenGroupsError | None = None


class PatronRecalculation:
    """One recalculation on its way.

    ``due`` is whether the rule has them blocked, ``is_open`` whether an earlier one may still come in, for which this
    one's step answers once it is sent.
    """

    def __init__(
        self,
        gateway: Gateway,
        journaled: JournaledStep,
        patron: int,
        *,
        due: bool,
        reader: PenaltyReader,
        kinds: PenaltyKinds,
        is_open: bool,
    ) -> None:
        self._gateway = gateway
        self._journaled = journaled
        self._patron = patron
        self._due = due
        self._reader = reader
        self._kinds = kinds
        self._is_open = is_open

    def apply(self) -> Attempt:
        """Have it done, once.

        What is in force is read for each person just before: staff may have set a block since the run began.
        """
        try:
            before = self._reader.read(self._patron)
        except (GatewayError, DataError) as failure:
            return self._ended(StepState.NOT_DONE, reason=refusal(self._gateway, failure), error=failure)
        if before is None:
            error = not_visible("the account can't see this patron any more", code="patron-hidden-meanwhile")
            return self._ended(StepState.NOT_DONE, reason=HIDDEN_MEANWHILE, error=error)
        if self._would_harm(before):
            return self._ended(StepState.NOT_DONE, reason=BLOCK_BY_STAFF)
        return self._have_it_done(before)

    def _have_it_done(self, before: PatronPenalties) -> Attempt:
        """Send it and find out what came of it."""
        sending = new_sending(self._gateway, self._journaled.now(), other_fields=before.digest)
        self._journaled.record_sending(sending)
        try:
            clear = self._send()
        except GatewayError as error:
            if self._is_open:
                refused = refusal(self._gateway, error)
                reason = may_come_in(sending.until).preceded_by(*refused.texts, **refused.values)
                return self._ended(StepState.SENDING, reason=reason, error=error)
            return self._ended(StepState.FAILED, reason=refusal(self._gateway, error), error=error)
        try:
            after = self._reader.read_again(self._patron, before)
        except (GatewayError, DataError) as error:
            reason = unreadable(error)
            self._journaled.record(StepState.SENDING, reason=reason)
            return Attempt(StepState.SENDING, reason=reason, error=error)
        if not clear and after.in_force == before.in_force:
            return self._open(sending)
        return self._compared(before, after)

    def _would_harm(self, penalties: PatronPenalties) -> bool:
        """Whether staff have set a block that a recalculation of the fines' penalty may remove."""
        touched = self._kinds.for_fines_at(penalties.home_library)
        return any(row.staff is not None and row.kind in touched for row in penalties.in_force)

    def _send(self) -> bool:
        """Ask for it, and say whether the answer is a clear yes.

        The penalty is named: without a name everything is recalculated, and what staff have set of a kind that a
        library has put in place of the one for overdue items, say, is removed (``penalties-update-022``). There is no
        release that has this method and takes no name: both came with Evergreen's commit 20a752e24f (3.11).

        Raises:
            GatewayError: a clear no, or there was no connection.
        """
        try:
            answer = self._gateway.call("open-ils.actor", _METHOD, TOKEN, self._patron, _PENALTY, write=True).value
        except GatewayError as error:
            if is_no(error) or never_left(error):
                raise
            return False
        return str(answer) == "1"

    def _compared(self, before: PatronPenalties, after: PatronPenalties) -> Attempt:
        """Say what the recalculation changed, and whether that resolves the finding."""
        still_there = {row.id for row in after.in_force}
        if any(row.staff is not None and row.id not in still_there for row in before.in_force):
            return self._ended(StepState.FAILED, reason=BLOCK_BY_STAFF_GONE)
        value = set_by_ils(after.in_force)
        had_block, has_block = self._is_blocked(before), self._is_blocked(after)
        if after.in_force == before.in_force and not after.current:
            return self._ended(StepState.DONE, reason=OLD_COPY, value=value)
        resolved = has_block is self._due
        reason = _CHANGES[had_block, has_block]
        if not resolved:
            reason = reason.followed_by(_OTHERWISE[has_block])
        return self._ended(StepState.DONE, resolved=resolved, reason=reason, value=value)

    def _is_blocked(self, penalties: PatronPenalties) -> bool:
        """Whether the ILS has blocked them for fines; staff's own blocks aren't its to take back."""
        blocking = self._kinds.blocking_for_fines_at(penalties.home_library)
        return any(row.staff is None and row.kind in blocking for row in penalties.in_force)

    def _open(self, sending: Sending) -> Attempt:
        """Leave the step for the next run. Asking again meanwhile does no harm: twice is the same as once."""
        reason = no_clear_answer(sending.until)
        self._journaled.record(StepState.SENDING, reason=reason)
        return Attempt(StepState.SENDING, reason=reason)

    def _ended(
        self,
        state: StepState,
        *,
        resolved: bool = False,
        reason: StepReason,
        value: int | None = None,
        error: EvergreenGroupsError | None = None,
    ) -> Attempt:
        self._journaled.record(state, value=value, reason=reason, refusal=refused_permission(error))
        return Attempt(state, resolved, reason, error)
