"""Changes to membership: plans that can be applied, the journal of those that were, and taking them back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evergreen_groups.changes.journal_step import PENALTIES, JournalEntry, JournalStep, StepState
from evergreen_groups.changes.journaled import JournaledChanges, JournaledStep, NewStep
from evergreen_groups.changes.patron_change import PatronChange
from evergreen_groups.changes.plan_outcome import PlanOutcome, StepOutcome
from evergreen_groups.changes.planner import Planner
from evergreen_groups.changes.plans import GROUP
from evergreen_groups.errors import NotFoundError
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evergreen_groups.changes.journal import Journal
    from evergreen_groups.changes.landing import SentChange
    from evergreen_groups.changes.plans import Draft, Step
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State


@dataclass(frozen=True)
class Plan:
    """A plan that can be applied. Look at ``draft`` first; nothing has been sent yet."""

    draft: Draft
    _gateway: Gateway = field(repr=False)
    _changes: JournaledChanges = field(repr=False)
    _undoes: int | None = None

    def apply(self, progress: Progress = silent) -> PlanOutcome:
        """Do it, one step after the other.

        Raises:
            BusyError: another run is changing groups at the same gateway.
            TransportError: what an interrupted run left open can't be looked up; nothing has been sent.
        """
        steps = self.draft.steps
        if not steps:
            return PlanOutcome(())

        course = _Course(self._gateway)

        def apply_step(position: int, journaled: JournaledStep) -> StepOutcome:
            return course.apply(steps[position], journaled)

        new = [NewStep(step.member.id, step.field, step.before, step.after) for step in steps]
        with self._changes.begin() as journal:
            course.under_way = [it for it in self._changes.open_changes(journal) if it.field != PENALTIES]
            outcomes, stopped = self._changes.apply(
                journal, self.draft.action.value, new, apply_step, undoes=self._undoes, progress=progress
            )
        left = (StepOutcome(step, StepState.PLANNED, reason="not begun") for step in steps[len(outcomes) :])
        return PlanOutcome((*outcomes, *left), stopped)


class _Course:
    """The steps of a plan one after another: which of them wait for others.

    ``under_way`` are the requests that may still come in.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.under_way: list[SentChange] = []
        self._left_behind: set[tuple[int, int | None]] = set()

    def apply(self, step: Step, journaled: JournaledStep) -> StepOutcome:
        """Apply one step, unless it has to wait."""
        way = (step.before, step.after)
        if step.last and way in self._left_behind:
            reason = "stays until everybody else of the group has moved; the same command carries on"
            journaled.record(StepState.NOT_DONE, reason=reason)
            return StepOutcome(step, StepState.NOT_DONE, reason=reason)
        change = PatronChange(
            self._gateway, step, journaled, waits_for=self._waits_for(step), earlier=self._taken_over(step)
        )
        outcome = change.apply()
        if outcome.sent is not None:
            self.under_way.append(outcome.sent)
        if step.field == GROUP and outcome.state is not StepState.DONE:
            self._left_behind.add(way)
        return outcome

    def _waits_for(self, step: Step) -> SentChange | None:
        """The last of the earlier changes of the same patron that don't go together with this one.

        One that the ILS takes at any time would overwrite this one. One of another field, where it has come in,
        couldn't be told from somebody else's once this one has changed the record. The same change may be sent again.
        """
        waits = [
            change
            for change in self.under_way
            if change.patron == step.member.id
            and (change.may_land if change.field != step.field else not self._is_same(change, step))
        ]
        return max(waits, key=lambda change: change.sending.until, default=None)

    def _taken_over(self, step: Step) -> SentChange | None:
        """The request of an earlier run for the same change, whose outcome this step's will be."""
        same = (it for it in self.under_way if it.patron == step.member.id and self._is_same(it, step))
        return next(same, None)

    @staticmethod
    def _is_same(change: SentChange, step: Step) -> bool:
        return change.means(step.field, step.before, step.after)


class Moves:
    """Changes to membership at one gateway, with the journal in ``state``.

    ``account`` is the name of the ILS account that acts; it is written into the journal.
    """

    def __init__(self, gateway: Gateway, state: State, account: str) -> None:
        self._planner = Planner(gateway)
        self._changes = JournaledChanges(gateway, state, account)
        self._gateway = gateway
        self._state = state

    @property
    def planner(self) -> Planner:
        """The planner, for making drafts of other shapes."""
        return self._planner

    def plan(self, draft: Draft) -> Plan:
        """Make a draft one that can be applied."""
        return Plan(draft, self._gateway, self._changes)

    def plan_move(self, barcodes: Sequence[str], *, to: str) -> Plan:
        """Plan to move patrons into the group of the patron with barcode ``to``.

        Raises:
            PlanError: a barcode is unknown, hidden, or given twice.
        """
        return self.plan(self._planner.move(barcodes, to))

    def plan_remove(self, barcodes: Sequence[str], *, lead: bool = False) -> Plan:
        """Plan to give each patron a new group of their own."""
        return self.plan(self._planner.remove(barcodes, lead=lead))

    def plan_merge(self, source: str, *, to: str) -> Plan:
        """Plan to move everyone in the group of one patron into the group of another."""
        return self.plan(self._planner.merge(source, to))

    def plan_lead(self, barcode: str, *, off: bool = False) -> Plan:
        """Plan to make a patron group lead, or no longer."""
        return self.plan(self._planner.lead(barcode, off=off))

    def plan_undo(self, entry: int) -> Plan:
        """Plan to take back a journal entry.

        Raises:
            NotFoundError: there is no such entry for this gateway.
        """
        found = self.entry(entry)
        if found.gateway != self._gateway.url:
            raise NotFoundError(
                "the journal's entry {entry} is of another gateway, {gateway}",
                textcode="ENTRY_NOT_FOUND",
                code="entry-of-another-gateway",
                values={"entry": entry, "gateway": found.gateway},
            )
        return Plan(self._planner.undo(found), self._gateway, self._changes, entry)

    def recover(self) -> list[JournalStep]:
        """Find out, by reading only, what became of steps of earlier runs that were left open; gives those that ended.

        Those that may still come in, or whose patrons the account can't see, stay open: see :meth:`open_steps`.

        Raises:
            BusyError: another run is changing groups at the same gateway.
            TransportError: the ILS can't be reached.
        """
        return self._changes.recover()

    def open_steps(self) -> list[JournalStep]:
        """The steps whose outcome isn't known: they may still come in, or nobody who can see the patron has looked."""
        return self._journal().open_steps(self._gateway.url)

    def entries(self) -> list[JournalEntry]:
        """The journal's entries for this gateway, the latest first."""
        return self._journal().entries(self._gateway.url)

    def entry(self, id: int) -> JournalEntry:
        """One entry of the journal.

        Raises:
            NotFoundError: there is no such entry.
        """
        return self._journal().entry(id)

    def _journal(self) -> Journal:
        from evergreen_groups.changes.journal import Journal  # with it comes SQLAlchemy, which takes long to import

        return Journal(self._state.database)
