"""Having the ILS recalculate people's penalties: written down first, one by one, read back.

A block that staff set is never removed: whoever has one that a recalculation might take away is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.audit import RECALCULABLE, Audit, FindingKind, PatronFinding
from evergreen_groups.changes.apply import JournaledChanges, JournaledStep, NewStep
from evergreen_groups.changes.journal import PENALTIES, Operator, Sending, StepState
from evergreen_groups.changes.landing import is_no, never_left, new_sending
from evergreen_groups.changes.penalties import PenaltyReader
from evergreen_groups.changes.plans import Action
from evergreen_groups.changes.reasons import (
    BLOCK_BY_STAFF,
    BLOCK_BY_STAFF_GONE,
    HIDDEN_MEANWHILE,
    NO_REASON,
    NOT_BEGUN,
    OLD_COPY,
    StepReason,
    may_come_in,
    no_clear_answer,
    unreadable,
)
from evergreen_groups.changes.recovery import refusal, refused_permission
from evergreen_groups.errors import DataError, EvergreenGroupsError, GatewayError, not_visible
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.ils import PenaltyKinds, count_set_by_ils, rows_in_force
from evergreen_groups.message import Message
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from evergreen_groups.changes.penalties import PatronPenalties
    from evergreen_groups.state import State

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
        value = count_set_by_ils(after.in_force)
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


_ACTION = Action.RECALCULATE.value


@dataclass(frozen=True, slots=True)
class Recalculated:
    """What became of one person. ``reason`` says what changed, or why nothing did.

    ``resolved`` says that the finding doesn't hold any more; ``state`` is how far the call went.
    """

    finding: PatronFinding
    state: StepState
    resolved: bool = False
    reason: StepReason = NO_REASON
    error: EvergreenGroupsError | None = None


@dataclass(frozen=True, slots=True)
class Recalculations:
    """What became of all of them. ``stopped`` is the error that ended it early, None where everybody was reached."""

    people: tuple[Recalculated, ...]
    stopped: GatewayError | None = None


def recalculable(audit: Audit) -> list[PatronFinding]:
    """The findings that a recalculation may resolve, one for each person."""
    found = {finding.member.id: finding for kind in RECALCULABLE for finding in audit.of_kind(kind)}
    return list(found.values())


class Recalculator:
    """Has penalties recalculated at one gateway, with the journal in ``state``.

    ``operator`` is who has it done; that is written into the journal.
    """

    def __init__(self, gateway: Gateway, state: State, operator: Operator) -> None:
        self._gateway = gateway
        self._changes = JournaledChanges(gateway, state, operator)

    def recalculate(self, findings: Sequence[PatronFinding], progress: Progress = silent) -> Recalculations:
        """Recalculate for each person as seen from the home library.

        Raises:
            BusyError: another run is changing one of them.
            TransportError: what an interrupted run left open can't be looked up, or the penalties can't be read;
                nothing has been sent.
        """
        if not findings:
            return Recalculations(())
        attempts, stopped = self._attempts(
            [(finding.member.id, finding.kind is FindingKind.NOT_BLOCKED) for finding in findings], 0.0, progress
        )
        people = (
            Recalculated(finding, attempt.state, attempt.resolved, attempt.reason, attempt.error)
            for finding, attempt in zip(findings, attempts, strict=True)
        )
        return Recalculations(tuple(people), stopped)

    def for_patron(self, patron: int, *, over_limit: bool, timeout: float) -> Attempt:
        """Recalculate for one patron, who by the rule is over the limit or isn't.

        ``timeout`` is how many seconds to wait while another run changes the patron.

        Raises:
            BusyError: it still does.
            GatewayError: the ILS can't be reached, or refuses.
        """
        (attempt,), _stopped = self._attempts([(patron, over_limit)], timeout, silent)
        if attempt.error is not None:
            raise attempt.error
        return attempt

    def for_plan(
        self,
        patrons: Sequence[tuple[int, bool]],
        *,
        before_first: Callable[[], None],
        also: Callable[[Connection, str], None],
        begun: Callable[[], None],
        timeout: float,
        progress: Progress,
    ) -> None:
        """Recalculate for patrons (ids, with whether the rule has them over the limit), as a plan says.

        The other arguments are those of :meth:`StepApplier.apply`, and so is what it raises.
        """
        self._attempts(patrons, timeout, progress, before_first=before_first, also=also, begun=begun)

    def _attempts(
        self,
        patrons: Sequence[tuple[int, bool]],
        timeout: float,
        progress: Progress,
        *,
        before_first: Callable[[], None] | None = None,
        also: Callable[[Connection, str], None] | None = None,
        begun: Callable[[], None] | None = None,
    ) -> tuple[list[Attempt], GatewayError | None]:
        """One after the other, and the error that ended it early. ``patrons`` are ids with whether a block is due."""
        concerned = {patron for patron, _due in patrons}
        with self._changes.begin(concerned, timeout=timeout) as journal:
            if before_first is not None:
                before_first()
            reader = PenaltyReader(self._gateway)
            kinds = PenaltyKinds.read(self._gateway, reader.org_units)
            open_before = {it.patron for it in self._changes.open_changes(journal, concerned) if it.field == PENALTIES}
            counted = dict.fromkeys((patron for patron, _due in patrons), 0)
            for row in rows_in_force(self._gateway, counted):
                counted[row.patron] += row.staff is None

            def recalculate(position: int, journaled: JournaledStep) -> Attempt:
                patron, due = patrons[position]
                if position == 0 and begun is not None:
                    begun()
                return PatronRecalculation(
                    self._gateway,
                    journaled,
                    patron,
                    due=due,
                    reader=reader,
                    kinds=kinds,
                    is_open=patron in open_before,
                ).apply()

            steps = [NewStep(patron, PENALTIES, count, None) for patron, count in counted.items()]
            attempts, stopped = self._changes.apply(
                journal, _ACTION, steps, recalculate, also=also, doing=Message("recalculating"), progress=progress
            )
        left = [Attempt(StepState.PLANNED, reason=NOT_BEGUN)] * (len(patrons) - len(attempts))
        return [*attempts, *left], stopped
