"""Having the ILS recalculate people's penalties: written down first, one by one, read back.

A block that staff set is never removed: whoever has one that a recalculation might take away is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.audit import RECALCULABLE, Audit, FindingKind, PatronFinding
from evergreen_groups.changes.journal_step import PENALTIES, Operator, StepState
from evergreen_groups.changes.journaled import JournaledChanges, JournaledStep, NewStep
from evergreen_groups.changes.patron_penalties import PenaltyReader
from evergreen_groups.changes.patron_recalculation import Attempt, PatronRecalculation
from evergreen_groups.changes.plans import Action
from evergreen_groups.changes.step_reason import NO_REASON, NOT_BEGUN, StepReason
from evergreen_groups.ils import PenaltyKinds, rows_in_force
from evergreen_groups.message import Message
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from evergreen_groups.errors import EvergreenGroupsError, GatewayError
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State

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
