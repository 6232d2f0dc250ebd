"""Having the ILS recalculate people's penalties: written down first, one by one, read back.

A block that staff set by hand is never removed: whoever has one that a recalculation might take away is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from evergreen_groups.audit import RECALCULABLE, Audit, FindingKind, PatronFinding
from evergreen_groups.changes.journal import PENALTIES, Journal, StepState
from evergreen_groups.changes.recovery import refusal, settle
from evergreen_groups.errors import GatewayError, LoginRefusedError, NoSessionError, TransportError
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.ils import OrgUnits, Penalty, PenaltyKinds, set_by_ils
from evergreen_groups.progress import Progress, silent
from evergreen_groups.state import changes_lock

_ACTION = "recalculate"
_METHOD = "open-ils.actor.user.penalties.update_at_home"
_OTHERWISE = {  # why the ILS may see it otherwise than the rule: by whether it blocks
    True: "own fines reach the ILS's threshold, or the block is from another library's threshold",
    False: "own fines don't reach the ILS's threshold for this profile and library",
}
_STOPPING = (TransportError, NoSessionError, LoginRefusedError)


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

    finding: PatronFinding
    state: StepState
    settled: bool = False
    reason: str = ""
    error: GatewayError | None = None


@dataclass(frozen=True, slots=True)
class Recalculations:
    """What became of all of them. ``stopped`` is the error that ended it early, None where everybody was reached."""

    people: tuple[Recalculated, ...]
    stopped: GatewayError | None = None


def recalculable(audit: Audit) -> list[PatronFinding]:
    """The findings that a recalculation may settle, one for each person."""
    found = {finding.member.id: finding for finding in audit.patrons if finding.kind in RECALCULABLE}
    return list(found.values())


class Recalculator:
    """Has penalties recalculated at one gateway, with the journal in a state directory.

    ``account`` is the name of the ILS account that acts; it is written into the journal.
    """

    def __init__(self, gateway: Gateway, state_directory: Path, account: str) -> None:
        self._gateway = gateway
        self._directory = state_directory
        self._account = account

    def carry_out(self, findings: Sequence[PatronFinding], progress: Progress = silent) -> Recalculations:
        """Recalculate for each person as seen from the home library.

        Raises:
            BusyError: another run is changing something at the same gateway.
            TransportError: what an interrupted run left open couldn't be settled, or the penalties couldn't be read;
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
        lock = changes_lock(self._directory, self._gateway.url, patience)
        with lock, closing(Journal(self._directory)) as journal:
            settle(self._gateway, journal)
            org_units = OrgUnits.read(self._gateway)
            kinds = PenaltyKinds.read(self._gateway, org_units)
            before = kinds.in_force(self._gateway, org_units, [patron for patron, _due in patrons])
            steps = [(id, PENALTIES, set_by_ils(penalties), None) for id, penalties in before.items()]
            ids = journal.begin(self._gateway.url, self._account, _ACTION, steps)
            attempts: list[Attempt] = []
            stopped: GatewayError | None = None
            for step, (patron, due) in zip(ids, patrons, strict=True):
                if stopped is not None:
                    attempts.append(Attempt(StepState.PLANNED, reason="not begun"))
                    continue
                person = _Recalculation(
                    self._gateway,
                    journal,
                    step,
                    patron,
                    due=due,
                    kinds=kinds,
                    org_units=org_units,
                    before=before[patron],
                )
                attempts.append(person.carry_out())
                progress("recalculating", len(attempts), len(ids))
                if isinstance(attempts[-1].error, _STOPPING):
                    stopped = attempts[-1].error
        return attempts, stopped


class _Recalculation:
    """One recalculation on its way. ``due`` is whether the rule has them blocked, ``before`` what is in force."""

    def __init__(
        self,
        gateway: Gateway,
        journal: Journal,
        step: int,
        patron: int,
        *,
        due: bool,
        kinds: PenaltyKinds,
        org_units: OrgUnits,
        before: Sequence[Penalty],
    ) -> None:
        self._gateway = gateway
        self._journal = journal
        self._step = step
        self._patron = patron
        self._due = due
        self._kinds = kinds
        self._org_units = org_units
        self._before = before

    def carry_out(self) -> Attempt:
        if any(penalty.by_staff and penalty.kind.id in self._kinds.recalculated for penalty in self._before):
            return self._ended(
                StepState.NOT_DONE, reason="a block of theirs was set by hand, and a recalculation might remove it"
            )
        self._journal.note(self._step, StepState.SENDING)
        try:
            try:
                self._gateway.call("open-ils.actor", _METHOD, TOKEN, self._patron, write=True)
            except TransportError:
                # Never sent again: if it landed, the penalties have changed; if not, the next audit finds it again.
                after = self._read()
                if {penalty.id for penalty in after} == {penalty.id for penalty in self._before}:
                    return self._ended(StepState.FAILED, reason="the answer was lost and nothing was changed")
            else:
                after = self._read()
        except (TransportError, NoSessionError, LoginRefusedError) as error:
            return Attempt(StepState.SENDING, reason="the connection was lost", error=error)
        except GatewayError as error:
            return self._ended(StepState.FAILED, reason=refusal(self._gateway, error), error=error)
        return self._compared(after)

    def _read(self) -> list[Penalty]:
        return self._kinds.in_force(self._gateway, self._org_units, [self._patron])[self._patron]

    def _compared(self, after: Sequence[Penalty]) -> Attempt:
        """Say what the recalculation changed, and whether that settles the finding."""
        by_staff = {penalty.id for penalty in self._before if penalty.by_staff} - {penalty.id for penalty in after}
        if by_staff:
            return self._ended(
                StepState.FAILED, reason="a block that was set by hand is gone; look at the patron's record"
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

    def _is_blocked(self, penalties: Sequence[Penalty]) -> bool:
        return any(penalty.kind.id in self._kinds.for_fines and not penalty.by_staff for penalty in penalties)

    def _ended(
        self,
        state: StepState,
        *,
        settled: bool = False,
        reason: str,
        value: int | None = None,
        error: GatewayError | None = None,
    ) -> Attempt:
        self._journal.note(self._step, state, value=value, reason=reason)
        return Attempt(state, settled, reason, error)
