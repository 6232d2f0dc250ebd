"""Recalculate patrons' penalties one by one: journal, send, and read back.

Never remove a block that staff set: skip patrons with a block that the recalculation might remove.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.audit import RECALCULABLE, Audit, FindingKind, PatronFinding
from evergreen_groups.changes.apply import JournaledChanges, JournaledStep, NewStep
from evergreen_groups.changes.journal import PENALTIES, Operator, StepState
from evergreen_groups.changes.outcome_check import is_refusal, new_sending, was_never_sent
from evergreen_groups.changes.penalties import PenaltyReader
from evergreen_groups.changes.plans import Action
from evergreen_groups.changes.reasons import (
    BLOCK_BY_STAFF,
    BLOCK_BY_STAFF_GONE,
    NO_LONGER_VISIBLE,
    NO_REASON,
    NOT_STARTED,
    STALE_READ,
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
_DISAGREEMENTS = {  # why Evergreen may disagree with the rule, by whether it blocks the patron
    True: Message("own fines reach the ILS's threshold, or the block is from another library's threshold"),
    False: Message(
        "own fines don't reach the ILS's threshold for this profile and library, or its penalty blocks nothing"
    ),
}
_CHANGES = {  # by whether Evergreen blocked the patron before, and blocks them now
    (True, True): StepReason(Message("still blocked"), "still-blocked"),
    (False, True): StepReason(Message("blocked in the ILS now"), "blocked-now"),
    (True, False): StepReason(Message("not blocked for fines any more"), "block-lifted"),
    (False, False): StepReason(Message("still not blocked"), "still-not-blocked"),
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of one recalculation. ``resolved`` says whether Evergreen's block for fines now agrees with the rule.

    ``reason`` says what changed, or why nothing did.
    """

    state: StepState
    resolved: bool = False
    reason: StepReason = NO_REASON
    error: EvergreenGroupsError | None = None


class PatronRecalculation:
    """A recalculation for one patron.

    ``due`` is whether the rule has the patron over the limit. ``is_open`` is whether an earlier recalculation may still
    run; once this one is sent, its step records the outcome of both.
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
        """Recalculate once.

        Read the penalties right before, because staff may have set a block since the run began.
        """
        try:
            before = self._reader.read(self._patron)
        except (GatewayError, DataError) as failure:
            return self._end(StepState.NOT_DONE, reason=refusal(self._gateway, failure), error=failure)
        if before is None:
            error = not_visible("the account can't see this patron any more", code="patron-hidden-meanwhile")
            return self._end(StepState.NOT_DONE, reason=NO_LONGER_VISIBLE, error=error)
        if self._would_remove_staff_block(before):
            return self._end(StepState.NOT_DONE, reason=BLOCK_BY_STAFF)
        return self._send_and_check(before)

    def _send_and_check(self, before: PatronPenalties) -> Attempt:
        """Send the request and determine its outcome."""
        sending = new_sending(self._gateway, self._journaled.now(), other_fields=before.digest)
        self._journaled.record_sending(sending)
        try:
            clear = self._send()
        except GatewayError as error:
            # An earlier request may still run, so the step stays open even if this one was refused.
            if self._is_open:
                refused = refusal(self._gateway, error)
                reason = may_come_in(sending.until).preceded_by(*refused.texts, **refused.values)
                return self._end(StepState.SENDING, reason=reason, error=error)
            return self._end(StepState.FAILED, reason=refusal(self._gateway, error), error=error)
        try:
            after = self._reader.read_again(self._patron, before)
        except (GatewayError, DataError) as error:
            reason = unreadable(error)
            self._journaled.record(StepState.SENDING, reason=reason)
            return Attempt(StepState.SENDING, reason=reason, error=error)
        if not clear and after.in_force == before.in_force:
            # The request may still be on its way. Leave the step open for the next run, which may safely send the
            # request again: two recalculations have the effect of one.
            reason = no_clear_answer(sending.until)
            self._journaled.record(StepState.SENDING, reason=reason)
            return Attempt(StepState.SENDING, reason=reason)
        return self._conclude(before, after)

    def _would_remove_staff_block(self, penalties: PatronPenalties) -> bool:
        """Return whether staff have set a block that a recalculation for fines may remove."""
        touched = self._kinds.for_fines_at(penalties.home_library)
        return any(row.staff is not None and row.kind in touched for row in penalties.in_force)

    def _send(self) -> bool:
        """Request the recalculation, and return whether the answer confirms it.

        Name the penalty. Without a name, Evergreen recalculates all penalties and may remove a block that staff set,
        for example one of the kind that a library uses in place of the standard penalty for overdue items
        (``penalties-update-022``). Every release with this method accepts a name: both came with Evergreen's commit
        20a752e24f (3.11).

        Raises:
            GatewayError: Evergreen refused, or couldn't be reached.
        """
        try:
            answer = self._gateway.call("open-ils.actor", _METHOD, TOKEN, self._patron, _PENALTY, write=True).value
        except GatewayError as error:
            if is_refusal(error) or was_never_sent(error):
                raise
            return False
        return str(answer) == "1"

    def _conclude(self, before: PatronPenalties, after: PatronPenalties) -> Attempt:
        """End the step with what the recalculation changed, and whether that resolves the finding."""
        still_there = {row.id for row in after.in_force}
        # Naming the penalty should prevent this. Report it loudly, because someone has to restore the block.
        if any(row.staff is not None and row.id not in still_there for row in before.in_force):
            return self._end(StepState.FAILED, reason=BLOCK_BY_STAFF_GONE)
        value = count_set_by_ils(after.in_force)
        had_block, has_block = self._is_blocked(before), self._is_blocked(after)
        if after.in_force == before.in_force and not after.current:
            return self._end(StepState.DONE, reason=STALE_READ, value=value)
        resolved = has_block is self._due
        reason = _CHANGES[had_block, has_block]
        if not resolved:
            reason = reason.followed_by(_DISAGREEMENTS[has_block])
        return self._end(StepState.DONE, resolved=resolved, reason=reason, value=value)

    def _is_blocked(self, penalties: PatronPenalties) -> bool:
        """Return whether Evergreen has blocked the patron for fines. Blocks by staff don't count."""
        blocking = self._kinds.blocking_for_fines_at(penalties.home_library)
        return any(row.staff is None and row.kind in blocking for row in penalties.in_force)

    def _end(
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
    """The outcome for one patron. ``reason`` says what changed, or why nothing did.

    ``resolved`` says that the finding no longer holds. ``state`` is the progress of the request.
    """

    finding: PatronFinding
    state: StepState
    resolved: bool = False
    reason: StepReason = NO_REASON
    error: EvergreenGroupsError | None = None


@dataclass(frozen=True, slots=True)
class Recalculations:
    """The outcomes for all patrons. ``stopped`` is the error that ended the run early, if any."""

    people: tuple[Recalculated, ...]
    stopped: GatewayError | None = None


def recalculable(audit: Audit) -> list[PatronFinding]:
    """Return the findings that a recalculation may resolve, one per patron."""
    found = {finding.member.id: finding for kind in RECALCULABLE for finding in audit.of_kind(kind)}
    return list(found.values())


class Recalculator:
    """Recalculates penalties at one gateway, journaled in ``state``.

    The journal names ``operator`` as the person responsible.
    """

    def __init__(self, gateway: Gateway, state: State, operator: Operator) -> None:
        self._gateway = gateway
        self._changes = JournaledChanges(gateway, state, operator)

    def recalculate(self, findings: Sequence[PatronFinding], progress: Progress = silent) -> Recalculations:
        """Recalculate the penalties of each finding's patron at the home library.

        Raises:
            BusyError: another run is changing one of the patrons.
            TransportError: the outcome of an interrupted run can't be looked up, or the penalties can't be read.
                Nothing was sent.
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
        """Recalculate for one patron, given whether the rule has them over the limit.

        ``timeout`` is how many seconds to wait while another run is changing the patron.

        Raises:
            BusyError: another run is still changing the patron.
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
        precheck: Callable[[], None],
        in_transaction: Callable[[Connection, str], None],
        on_start: Callable[[], None],
        timeout: float,
        progress: Progress,
    ) -> None:
        """Recalculate for a plan's ``patrons``: pairs of an id and whether the patron is over the limit.

        See :meth:`StepApplier.apply` for the other arguments and the errors.
        """
        self._attempts(patrons, timeout, progress, precheck=precheck, in_transaction=in_transaction, on_start=on_start)

    def _attempts(
        self,
        patrons: Sequence[tuple[int, bool]],
        timeout: float,
        progress: Progress,
        *,
        precheck: Callable[[], None] | None = None,
        in_transaction: Callable[[Connection, str], None] | None = None,
        on_start: Callable[[], None] | None = None,
    ) -> tuple[list[Attempt], GatewayError | None]:
        """Return the attempts in order, and the error that stopped the run. ``patrons`` as in ``for_plan``."""
        concerned = {patron for patron, _due in patrons}
        with self._changes.begin(concerned, timeout=timeout) as journal:
            if precheck is not None:
                precheck()
            reader = PenaltyReader(self._gateway)
            kinds = PenaltyKinds.read(self._gateway, reader.org_units)
            open_before = {it.patron for it in self._changes.open_changes(journal, concerned) if it.field == PENALTIES}
            # The journal stores how many penalties Evergreen had set as the value before.
            counted = dict.fromkeys((patron for patron, _due in patrons), 0)
            for row in rows_in_force(self._gateway, counted):
                counted[row.patron] += row.staff is None

            def recalculate(position: int, journaled: JournaledStep) -> Attempt:
                patron, due = patrons[position]
                if position == 0 and on_start is not None:
                    on_start()
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
                journal,
                _ACTION,
                steps,
                recalculate,
                in_transaction=in_transaction,
                doing=Message("recalculating"),
                progress=progress,
            )
        remaining = [Attempt(StepState.PLANNED, reason=NOT_STARTED)] * (len(patrons) - len(attempts))
        return [*attempts, *remaining], stopped
