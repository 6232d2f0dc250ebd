"""Applying the steps of a plan, one after another, under the lease for those whom they concern."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.changes.journal_step import PENALTIES, StepState
from evergreen_groups.changes.patron_change import PatronChange
from evergreen_groups.changes.plan_outcome import PlannedStep, StepOutcome, StepT
from evergreen_groups.changes.plans import GROUP
from evergreen_groups.changes.step_reason import STAYS_LAST
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from evergreen_groups.changes.journaled import JournaledChanges, JournaledStep
    from evergreen_groups.changes.landing import SentChange
    from evergreen_groups.errors import GatewayError
    from evergreen_groups.gateway import Gateway


class StepApplier:
    """Applies steps at one gateway, through the journal of ``changes``.

    ``beside`` are the ids of those who are in the groups that are joined.
    """

    def __init__(self, gateway: Gateway, changes: JournaledChanges, beside: Collection[int] = ()) -> None:
        self._gateway = gateway
        self._changes = changes
        self._beside = beside

    def apply(
        self,
        action: str,
        steps: Sequence[StepT],
        *,
        undoes: str | None = None,
        before_first: Callable[[], None] | None = None,
        also: Callable[[Connection, str], None] | None = None,
        begun: Callable[[], None] | None = None,
        timeout: float = 0.0,
        progress: Progress = silent,
    ) -> tuple[list[StepOutcome[StepT]], GatewayError | None]:
        """Apply them; gives what became of each that was begun, and the error that ended it early.

        ``before_first`` is called with the lease held and nothing written yet, and may refuse all by an error;
        ``also`` writes something else together with the journal's entry; ``begun`` is called when that stands, before
        the first step; ``timeout`` is how many seconds to wait for whoever is changing the same patrons or groups.

        Raises:
            BusyError: somebody still does.
            TransportError: what an interrupted run left open can't be looked up; nothing has been sent.
        """
        course = _Course(self._gateway)

        def apply_step(position: int, journaled: JournaledStep) -> StepOutcome[StepT]:
            if position == 0 and begun is not None:
                begun()
            return course.apply(steps[position], journaled)

        patrons = {step.patron_id for step in steps}
        # Whoever was given a group of their own, without a clear answer, is known by being alone in it: what became of
        # that is found out before others come there.
        with self._changes.begin(patrons.union(self._beside), groups_of(steps), timeout) as journal:
            if before_first is not None:
                before_first()
            open_ones = self._changes.open_changes(journal, patrons)
            course.under_way = [change for change in open_ones if change.field != PENALTIES]
            return self._changes.apply(journal, action, steps, apply_step, undoes=undoes, also=also, progress=progress)


def groups_of(steps: Sequence[PlannedStep]) -> set[int]:
    """The numbers of the groups that patrons leave or join by these steps; new ones have none yet."""
    moves = [step for step in steps if step.field == GROUP]
    return {step.before for step in moves} | {step.after for step in moves if step.after is not None}


class _Course:
    """The steps of a plan one after another: which of them wait for others.

    ``under_way`` are the requests that may still come in.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.under_way: list[SentChange] = []
        self._left_behind: set[tuple[int, int | None]] = set()

    def apply(self, step: StepT, journaled: JournaledStep) -> StepOutcome[StepT]:
        """Apply one step, unless it has to wait."""
        way = (step.before, step.after)
        if step.last and way in self._left_behind:
            journaled.record(StepState.NOT_DONE, reason=STAYS_LAST)
            return StepOutcome(step, StepState.NOT_DONE, reason=STAYS_LAST)
        change = PatronChange(
            self._gateway,
            step,
            journaled,
            waits_for=self._waits_for(step, journaled.now()),
            earlier=self._taken_over(step),
        )
        outcome = change.apply()
        if outcome.sent is not None:
            self.under_way.append(outcome.sent)
        if step.field == GROUP and not outcome.state.is_as_planned:
            self._left_behind.add(way)
        return outcome

    def _waits_for(self, step: PlannedStep, now: datetime) -> SentChange | None:
        """The last of the earlier changes of the same patron that don't go together with this one.

        One that the ILS takes at any time would overwrite this one. One of another field, where it has come in,
        couldn't be told from somebody else's once this one has changed the record. The same change may be sent again.
        """
        waits = [
            change
            for change in self.under_way
            if change.patron == step.patron_id
            and (change.may_land(now) if change.field != step.field else not self._is_same(change, step))
        ]
        return max(waits, key=lambda change: change.sending.until, default=None)

    def _taken_over(self, step: PlannedStep) -> SentChange | None:
        """The request of an earlier run for the same change, whose outcome this step's will be."""
        same = (it for it in self.under_way if it.patron == step.patron_id and self._is_same(it, step))
        return next(same, None)

    @staticmethod
    def _is_same(change: SentChange, step: PlannedStep) -> bool:
        return change.means(step.field, step.before, step.after)
