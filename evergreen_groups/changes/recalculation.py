"""Having the ILS recalculate people's penalties: written down first, one by one, read back.

A block that staff set is never removed: whoever has one that a recalculation might take away is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evergreen_groups.audit import RECALCULABLE, Audit, FindingKind, PersonFinding
from evergreen_groups.changes.journal import PENALTIES, StepState
from evergreen_groups.changes.journaled import STOPPING, JournaledChanges, JournaledStep, NewStep
from evergreen_groups.changes.recovery import refusal
from evergreen_groups.errors import GatewayError, TransportError
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.ils import OrgUnits, Penalties, PenaltyRow, rows_in_force, set_by_ils
from evergreen_groups.progress import Progress, silent

_ACTION = "recalculate"
_METHOD = "open-ils.actor.user.penalties.update_at_home"
_OTHERWISE = {  # why the ILS may see it otherwise than the rule: by whether it blocks
    True: "own fines reach the ILS's threshold, or the block is from another library's threshold",
    False: "own fines don't reach the ILS's threshold for this profile and library",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """How far one recalculation went, and whether the block for fines is now as the rule has it.

    ``reason`` says what changed, or why nothing did.
    """

    state: StepState
    settled: bool = False
    reason: str = ""
    error: GatewayError | None = None


@dataclass(frozen=True, slots=True)
class Recalculated:
    """What became of one person. ``reason`` says what changed, or why nothing did.

    ``settled`` says that the finding doesn't hold any more; ``state`` is how far the call went.
    """

    finding: PersonFinding
    state: StepState
    settled: bool = False
    reason: str = ""
    error: GatewayError | None = None


@dataclass(frozen=True, slots=True)
class Recalculations:
    """What became of all of them. ``stopped`` is the error that ended it early, None where everybody was reached."""

    people: tuple[Recalculated, ...]
    stopped: GatewayError | None = None


def recalculable(audit: Audit) -> list[PersonFinding]:
    """The findings that a recalculation may settle, one for each person."""
    found = {finding.member.id: finding for finding in audit.people if finding.kind in RECALCULABLE}
    return list(found.values())


class Recalculator:
    """Has penalties recalculated at one gateway, with the journal in a state directory.

    ``account`` is the name of the ILS account that acts; it is written into the journal.
    """

    def __init__(self, gateway: Gateway, state_directory: Path, account: str) -> None:
        self._gateway = gateway
        self._changes = JournaledChanges(gateway, state_directory, account)

    def recalculate(self, findings: Sequence[PersonFinding], progress: Progress = silent) -> Recalculations:
        """Recalculate for each person as seen from the home library.

        Raises:
            BusyError: another run is changing something at the same gateway.
            TransportError: what an interrupted run left open can't be looked up, or the penalties can't be read;
                nothing has been sent.
        """
        if not findings:
            return Recalculations(())
        attempts, stopped = self._attempts(
            [(finding.member.id, finding.kind is FindingKind.NOT_BLOCKED) for finding in findings], 0.0, progress
        )
        people = (
            Recalculated(finding, attempt.state, attempt.settled, attempt.reason, attempt.error)
            for finding, attempt in zip(findings, attempts, strict=True)
        )
        return Recalculations(tuple(people), stopped)

    def for_patron(self, patron: int, *, over_limit: bool, patience: float) -> Attempt:
        """Recalculate for one patron, who by the rule is over the limit or isn't.

        ``patience`` is how many seconds to wait while another run changes something at the same gateway.

        Raises:
            BusyError: it still does.
            GatewayError: the ILS can't be reached, or refuses.
        """
        (attempt,), _stopped = self._attempts([(patron, over_limit)], patience, silent)
        if attempt.error is not None:
            raise attempt.error
        return attempt

    def _attempts(
        self, patrons: Sequence[tuple[int, bool]], patience: float, progress: Progress
    ) -> tuple[list[Attempt], GatewayError | None]:
        """One after the other, and the error that ended it early. ``patrons`` are ids with whether a block is due."""
        with self._changes.begin(patience) as journal:
            penalties = Penalties.read(self._gateway, OrgUnits.read(self._gateway))
            before: dict[int, list[PenaltyRow]] = {patron: [] for patron, _due in patrons}
            for row in rows_in_force(self._gateway, before):
                before[row.patron].append(row)

            def recalculate(position: int, journaled: JournaledStep) -> Attempt:
                patron, due = patrons[position]
                return _Recalculation(
                    self._gateway, journaled, patron, due=due, penalties=penalties, before=before[patron]
                ).apply()

            steps = [NewStep(id, PENALTIES, set_by_ils(rows), None) for id, rows in before.items()]
            attempts, stopped = self._changes.apply(
                journal, _ACTION, steps, recalculate, doing="recalculating", progress=progress
            )
        left = [Attempt(StepState.PLANNED, reason="not begun")] * (len(patrons) - len(attempts))
        return [*attempts, *left], stopped


class _Recalculation:
    """One recalculation on its way. ``due`` is whether the rule has them blocked, ``before`` what is in force."""

    def __init__(
        self,
        gateway: Gateway,
        journaled: JournaledStep,
        patron: int,
        *,
        due: bool,
        penalties: Penalties,
        before: Sequence[PenaltyRow],
    ) -> None:
        self._gateway = gateway
        self._journaled = journaled
        self._patron = patron
        self._due = due
        self._penalties = penalties
        self._before = before

    def apply(self) -> Attempt:
        if any(row.staff is not None and row.penalty in self._penalties.recalculated for row in self._before):
            return self._ended(
                StepState.NOT_DONE, reason="a block of theirs was set by staff, and a recalculation might remove it"
            )
        self._journaled.record(StepState.SENDING)
        try:
            try:
                self._gateway.call("open-ils.actor", _METHOD, TOKEN, self._patron, write=True)
            except TransportError:
                # Never sent again: if it landed, the penalties have changed; if not, the next audit finds it again.
                after = self._read()
                if {row.id for row in after} == {row.id for row in self._before}:
                    return self._ended(StepState.FAILED, reason="the answer was lost and nothing was changed")
            else:
                after = self._read()
        except STOPPING as error:
            return Attempt(StepState.SENDING, reason="the connection was lost", error=error)
        except GatewayError as error:
            return self._ended(StepState.FAILED, reason=refusal(self._gateway, error), error=error)
        return self._compared(after)

    def _read(self) -> list[PenaltyRow]:
        return list(rows_in_force(self._gateway, [self._patron]))

    def _compared(self, after: Sequence[PenaltyRow]) -> Attempt:
        """Say what the recalculation changed, and whether that settles the finding."""
        by_staff = {row.id for row in self._before if row.staff is not None} - {row.id for row in after}
        if by_staff:
            return self._ended(
                StepState.FAILED, reason="a block that was set by staff is gone; look at the patron's record"
            )
        value = set_by_ils(after)
        had_block, has_block = self._is_blocked(self._before), self._is_blocked(after)
        settled = has_block is self._due
        if has_block:
            reason = "still blocked" if had_block else "blocked in the ILS now"
        else:
            reason = "not blocked for fines any more" if had_block else "still not blocked"
        if not settled:
            reason += f": {_OTHERWISE[has_block]}"
        return self._ended(StepState.DONE, settled=settled, reason=reason, value=value)

    def _is_blocked(self, rows: Sequence[PenaltyRow]) -> bool:
        return any(row.penalty in self._penalties.for_fines and row.staff is None for row in rows)

    def _ended(
        self,
        state: StepState,
        *,
        settled: bool = False,
        reason: str,
        value: int | None = None,
        error: GatewayError | None = None,
    ) -> Attempt:
        self._journaled.record(state, value=value, reason=reason)
        return Attempt(state, settled, reason, error)
