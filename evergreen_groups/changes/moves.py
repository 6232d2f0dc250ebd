"""Changes to membership: plans that can be applied, the journal of those that were, and taking them back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evergreen_groups import arguments
from evergreen_groups.changes.journal_step import JournalEntry, JournalStep, Operator, StepState
from evergreen_groups.changes.journaled import JournaledChanges
from evergreen_groups.changes.plan_outcome import PlanOutcome, StepOutcome
from evergreen_groups.changes.planner import Planner
from evergreen_groups.changes.step_applier import StepApplier
from evergreen_groups.changes.step_reason import NOT_BEGUN
from evergreen_groups.changes.stored_plan import expected_groups
from evergreen_groups.errors import NotFoundError
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from evergreen_groups.arguments import Several
    from evergreen_groups.changes.journal import Journal
    from evergreen_groups.changes.plans import Draft
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import AdultRule
    from evergreen_groups.state import State


@dataclass(frozen=True)
class Plan:
    """A plan that can be applied. Look at ``draft`` first; nothing has been sent yet."""

    draft: Draft
    _gateway: Gateway = field(repr=False)
    _changes: JournaledChanges = field(repr=False)
    _undoes: str | None = None

    def apply(self, progress: Progress = silent, *, timeout: float = 0.0) -> PlanOutcome:
        """Do it, one step after the other; ``timeout`` is how many seconds to wait for whoever is in the way.

        Raises:
            BusyError: another run is changing one of the patrons or groups.
            TransportError: what an interrupted run left open can't be looked up; nothing has been sent.
        """
        arguments.seconds("timeout", timeout)
        steps = self.draft.steps
        if not steps:
            return PlanOutcome(())
        beside = [id for group in expected_groups(self.draft) for id in group.members]
        entries: list[str] = []
        outcomes, stopped = StepApplier(self._gateway, self._changes, beside).apply(
            self.draft.action.value,
            steps,
            undoes=self._undoes,
            also=lambda _connection, entry: entries.append(entry),
            timeout=timeout,
            progress=progress,
        )
        left = (StepOutcome(step, StepState.PLANNED, reason=NOT_BEGUN) for step in steps[len(outcomes) :])
        return PlanOutcome((*outcomes, *left), stopped, *entries)


class Moves:
    """Changes to membership at one gateway, with the journal in ``state``.

    ``operator`` is who has them made; that is written into the journal. ``adults`` says how many may come together in
    a group before it is warned of.
    """

    def __init__(self, gateway: Gateway, state: State, operator: Operator, *, adults: AdultRule | None = None) -> None:
        self._planner = Planner(gateway, adults=adults)
        self._changes = JournaledChanges(gateway, state, operator)
        self._gateway = gateway
        self._state = state

    @property
    def planner(self) -> Planner:
        """The planner, for making drafts of other shapes."""
        return self._planner

    def plan(self, draft: Draft) -> Plan:
        """Make a draft one that can be applied."""
        return Plan(draft, self._gateway, self._changes)

    def plan_move(self, barcodes: Several[str], *, to: str) -> Plan:
        """Plan to move patrons into the group of the patron with barcode ``to``.

        ``barcodes`` are those of any of their cards, blanks ignored, each patron once. Nothing is changed.

        Raises:
            PlanError: a barcode is unknown, hidden, or given twice.
            ArgumentError: ``barcodes`` is one text, or holds something else than texts.
            GatewayError: the ILS can't be reached or refuses.
        """
        return self.plan(self._planner.move(arguments.texts("barcodes", barcodes), arguments.text("to", to)))

    def plan_remove(self, barcodes: Several[str], *, lead: bool = False) -> Plan:
        """Plan to give each patron a new group of their own, as its lead where ``lead`` says so.

        Raises what :meth:`plan_move` does.
        """
        return self.plan(
            self._planner.remove(arguments.texts("barcodes", barcodes), lead=arguments.truth("lead", lead))
        )

    def plan_merge(self, source: str, *, to: str) -> Plan:
        """Plan to move everyone in the group of the patron with barcode ``source`` into the group of another.

        Raises what :meth:`plan_move` does.

        Raises:
            PlanError: the group has members whom the account can't see.
        """
        return self.plan(self._planner.merge(arguments.text("source", source), arguments.text("to", to)))

    def plan_lead(self, barcode: str, *, off: bool = False) -> Plan:
        """Plan to make the patron with this barcode a group lead, or no longer; raises what :meth:`plan_move` does."""
        return self.plan(self._planner.lead([arguments.text("barcode", barcode)], off=arguments.truth("off", off)))

    def plan_undo(self, entry: str) -> Plan:
        """Plan to take back the journal's entry with this id: who is still where it put them goes back.

        Raises:
            NotFoundError: there is no such entry for this gateway.
            PlanError: the entry is already undone, has nothing to undo, or can't be undone; the error says why.
            GatewayError: the ILS can't be reached or refuses.
        """
        found = self.entry(entry)
        if found.gateway != self._gateway.url:
            raise NotFoundError(
                "the journal's entry {entry} is of another gateway, {gateway}",
                code="entry-of-another-gateway",
                values={"entry": entry, "gateway": found.gateway},
            )
        draft = self._planner.undo(found, self._state.database.now(), self._journal().moved_since(found))
        return Plan(draft, self._gateway, self._changes, entry)

    def recover(self) -> list[JournalStep]:
        """Find out, by reading only, what became of steps of earlier runs that were left open; gives those that ended.

        Those that may still come in, or whose patrons the account can't see, stay open: see :meth:`open_steps`.

        Raises:
            TransportError: the ILS can't be reached.
        """
        return self._changes.recover()

    def open_steps(self) -> list[JournalStep]:
        """The steps whose outcome isn't known: they may still come in, or nobody who can see the patron has looked."""
        return self._journal().open_steps(self._gateway.url)

    def entries(self) -> list[JournalEntry]:
        """The journal's entries for this gateway, the latest first."""
        return self._journal().entries(self._gateway.url)

    def entry(self, id: str) -> JournalEntry:
        """One entry of the journal.

        Raises:
            NotFoundError: there is no such entry.
        """
        return self._journal().entry(arguments.text("id", id))

    def _journal(self) -> Journal:
        from evergreen_groups.changes.journal import Journal  # with it comes SQLAlchemy, which takes long to import

        return Journal(self._state.database)
