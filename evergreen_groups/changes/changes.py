"""Changes made at a desk: plans that are stored, shown, and applied once under a key, and changes made earlier."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from evergreen_groups import arguments
from evergreen_groups.changes.apply import (
    JournaledChanges,
    StepApplier,
    refuse_hidden_patrons,
    refuse_outdated,
)
from evergreen_groups.changes.journal import JournalEntry, JournalStep, Operator, StepState
from evergreen_groups.changes.planner import Drafter, Planner
from evergreen_groups.changes.plans import (
    PlanOutcome,
    PlanRequest,
    ProposedPlan,
    StepOutcome,
    StoredPlan,
    expected_groups,
)
from evergreen_groups.changes.reasons import NOT_STARTED
from evergreen_groups.changes.recalculation import Recalculator
from evergreen_groups.errors import BusyError, NotFoundError, PlanError
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from evergreen_groups.arguments import Several
    from evergreen_groups.changes.journal import Journal
    from evergreen_groups.changes.plans import Draft
    from evergreen_groups.changes.store import PlanStore
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import AdultRule
    from evergreen_groups.ils import ReferenceData
    from evergreen_groups.state import State


@dataclass(frozen=True)
class Plan:
    """A plan that is ready to apply. Inspect ``draft`` first: nothing has been sent yet."""

    draft: Draft
    _gateway: Gateway = field(repr=False)
    _changes: JournaledChanges = field(repr=False)
    _undoes: str | None = None

    def apply(self, progress: Progress = silent, *, timeout: float = 0.0) -> PlanOutcome:
        """Apply the plan step by step. Wait up to ``timeout`` seconds for another run on the same patrons or groups.

        Raises:
            BusyError: another run is changing one of the patrons or groups.
            TransportError: the outcome of an interrupted run can't be looked up. Nothing was sent.
        """
        arguments.seconds("timeout", timeout)
        steps = self.draft.steps
        if not steps:
            return PlanOutcome(())
        # Recover these members' open steps too: see StepApplier.
        group_members = [id for group in expected_groups(self.draft) for id in group.members]
        entries: list[str] = []
        outcomes, stopped = StepApplier(self._gateway, self._changes, group_members).apply(
            self.draft.action.value,
            steps,
            undoes=self._undoes,
            in_transaction=lambda _connection, entry: entries.append(entry),
            timeout=timeout,
            progress=progress,
        )
        left = (StepOutcome(step, StepState.PLANNED, reason=NOT_STARTED) for step in steps[len(outcomes) :])
        return PlanOutcome((*outcomes, *left), stopped, *entries)


class Moves:
    """Changes to group membership at one gateway, journaled in ``state``.

    The journal names ``operator`` as the person responsible. ``adults`` sets how many adults a group may have before a
    plan warns.
    """

    def __init__(self, gateway: Gateway, state: State, operator: Operator, *, adults: AdultRule | None = None) -> None:
        self._planner = Planner(gateway, adults=adults)
        self._changes = JournaledChanges(gateway, state, operator)
        self._gateway = gateway
        self._state = state

    @property
    def planner(self) -> Planner:
        """The planner, for drafts that the methods below don't cover."""
        return self._planner

    def plan(self, draft: Draft) -> Plan:
        """Turn a draft into a plan that can be applied."""
        return Plan(draft, self._gateway, self._changes)

    def plan_move(self, barcodes: Several[str], *, to: str) -> Plan:
        """Plan to move patrons into the group of the patron with barcode ``to``.

        Any barcode of a patron will do. Blanks are ignored, and each patron may be named once. Planning changes
        nothing.

        Raises:
            PlanError: a barcode is unknown, hidden, or given twice.
            ArgumentError: ``barcodes`` is a single string or contains something other than strings.
            GatewayError: the ILS can't be reached or refuses.
        """
        return self.plan(self._planner.move(arguments.texts("barcodes", barcodes), arguments.text("to", to)))

    def plan_remove(self, barcodes: Several[str], *, lead: bool = False) -> Plan:
        """Plan to give each patron a new group of their own, as its lead if ``lead`` is true.

        Raises the errors of :meth:`plan_move`.
        """
        return self.plan(
            self._planner.remove(arguments.texts("barcodes", barcodes), lead=arguments.boolean("lead", lead))
        )

    def plan_merge(self, source: str, *, to: str) -> Plan:
        """Plan to move the whole group of the patron with barcode ``source`` into the group of the patron ``to``.

        Raises the errors of :meth:`plan_move`.

        Raises:
            PlanError: the group has members whom the account can't see.
        """
        return self.plan(self._planner.merge(arguments.text("source", source), arguments.text("to", to)))

    def plan_lead(self, barcode: str, *, off: bool = False) -> Plan:
        """Plan to make a patron a group lead, or with ``off`` no longer one. Raises the errors of :meth:`plan_move`."""
        return self.plan(self._planner.lead([arguments.text("barcode", barcode)], off=arguments.boolean("off", off)))

    def plan_undo(self, entry: str) -> Plan:
        """Plan to undo a journal entry, moving back every patron who is still where the entry put them.

        Raises:
            NotFoundError: this gateway has no entry with this id.
            PlanError: the entry is already undone, has nothing to undo, or can't be undone. The error says why.
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
        """Resolve steps that earlier runs left open, by reading only, and return the resolved steps.

        Steps that may still reach Evergreen, or whose patrons are hidden, stay open. See :meth:`open_steps`.

        Raises:
            TransportError: the ILS can't be reached.
        """
        return self._changes.recover()

    def open_steps(self) -> list[JournalStep]:
        """Return steps with an unknown outcome: they may still reach Evergreen, or the patron was hidden so far."""
        return self._journal().open_steps(self._gateway.url)

    def entries(self) -> list[JournalEntry]:
        """Return this gateway's journal entries, latest first."""
        return self._journal().entries(self._gateway.url)

    def entry(self, id: str) -> JournalEntry:
        """Return one journal entry.

        Raises:
            NotFoundError: the id is unknown.
        """
        return self._journal().entry(arguments.text("id", id))

    def _journal(self) -> Journal:
        from evergreen_groups.changes.journal import Journal  # imports SQLAlchemy, which is slow

        return Journal(self._state.database)


RECENT = timedelta(days=7)
"""How far back the list of a user's own changes goes."""

MAX_GROUP_CHANGES = 50
"""How many changes the history of a group lists."""

Visible = Callable[[Collection[int]], Collection[int]]
"""A function from patron ids to the subset that the session may see."""

_UNDECIDED = (StepState.PLANNED, StepState.SENDING)


@dataclass(frozen=True, slots=True)
class Change:
    """A change, reduced to what the caller may see.

    ``is_under_way`` means that the change is being applied now. In a change that isn't, a planned step never started,
    and a step in state ``SENDING`` has an unknown outcome. ``hidden_step_count`` counts the steps for patrons whom the
    caller can't see. ``is_own`` says whether the caller made the change.
    """

    entry: JournalEntry
    is_under_way: bool
    is_own: bool
    hidden_step_count: int = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: every step is done or had nothing to change."""
        return not self.hidden_step_count and all(step.state.is_as_planned for step in self.entry.steps)


class ChangeReader:
    """Reads changes at one gateway from the journal in ``state``, for an ``operator`` whose ``staff`` id is known."""

    def __init__(self, gateway: Gateway, state: State, operator: Operator) -> None:
        self._gateway = gateway
        self._state = state
        self._operator = operator

    def change(self, id: str, visible: Visible | None = None) -> Change:
        """Return a change, after resolving open steps where possible.

        ``visible``, here and below, maps patron ids to those the session may see. Pass it if they are known already;
        the default makes one call.

        Raises:
            NotFoundError: the id is unknown, or the caller can see none of its patrons.
        """
        entry = self._resolved(self.entry(arguments.text("id", id)))
        (seen,) = self._visible_changes([entry], visible) or (None,)
        if seen is None:
            raise _no_such_change(id)
        return seen

    def own(self, id: str) -> Change:
        """Return one of the caller's own changes as the journal has it, without any call to the ILS.

        Raises:
            NotFoundError: the id is unknown, or another user made it.
        """
        entry = self.entry(arguments.text("id", id))
        if entry.operator.staff != self._operator.staff:
            raise _no_such_change(id)
        entry, is_under_way = self._current(entry)
        return Change(entry, is_under_way=is_under_way, is_own=True)

    def wait(self, id: str, timeout: float) -> None:
        """Wait up to ``timeout`` seconds until a change is no longer being applied.

        Raises:
            NotFoundError: the id is unknown.
        """
        undecided = {step.patron for step in self.entry(id).steps if step.state in _UNDECIDED}
        if undecided:
            JournaledChanges(self._gateway, self._state, self._operator).wait(undecided, timeout)

    def recent(self, visible: Visible | None = None) -> list[Change]:
        """Return the caller's own changes of the last days, latest first."""
        journal = self._journal()
        entries = journal.entries_of(self._gateway.url, self._operator.staff or 0, journal.now() - RECENT)
        return self._visible_changes(entries, visible)

    def of_group(self, group: int, visible: Visible | None = None) -> list[Change]:
        """Return the latest changes to a group, latest first."""
        return self._visible_changes(
            self._journal().entries_about(self._gateway.url, group, MAX_GROUP_CHANGES), visible
        )

    def entry(self, id: str) -> JournalEntry:
        """Return a journal entry of this gateway with all its steps.

        Raises:
            NotFoundError: the id is unknown.
        """
        try:
            entry = self._journal().entry(id)
        except NotFoundError:
            # Same error as for a change with hidden patrons, so a caller can't find out which change ids exist.
            raise _no_such_change(id) from None
        if entry.gateway != self._gateway.url:
            raise _no_such_change(id)
        return entry

    def moved_since(self, entry: JournalEntry) -> frozenset[int]:
        """Return the ids of the entry's patrons whom later entries move."""
        return self._journal().moved_since(entry)

    def _resolved(self, entry: JournalEntry) -> JournalEntry:
        """Resolve an entry's open steps, except those that another run is working on."""
        open_ones = {step.patron for step in entry.steps if step.state is StepState.SENDING}
        if not open_ones:
            return entry
        JournaledChanges(self._gateway, self._state, self._operator).recover(open_ones)
        return self.entry(entry.id)

    def _visible_changes(self, entries: Sequence[JournalEntry], visible_of: Visible | None) -> list[Change]:
        """Return the entries as changes, without hidden patrons' steps and without entries that have no other steps."""
        visible = (visible_of or self._visible)({step.patron for entry in entries for step in entry.steps})
        found = []
        for read in entries:
            if not any(step.patron in visible for step in read.steps):
                continue
            entry, is_under_way = self._current(read)
            steps = tuple(step for step in entry.steps if step.patron in visible)
            found.append(
                Change(
                    replace(entry, steps=steps),
                    is_under_way=is_under_way,
                    is_own=entry.operator.staff == self._operator.staff,
                    hidden_step_count=len(entry.steps) - len(steps),
                )
            )
        return found

    def _current(self, entry: JournalEntry) -> tuple[JournalEntry, bool]:
        """Return an entry and whether it is being applied now. If it isn't, read the entry again."""
        undecided = {step.patron for step in entry.steps if step.state in _UNDECIDED}
        if not undecided:
            return entry, False
        if JournaledChanges(self._gateway, self._state, self._operator).is_under_way(undecided):
            return entry, True
        # The run may have ended after the entry was read. Read again to get all outcomes.
        return self.entry(entry.id), False

    def _visible(self, patrons: Collection[int]) -> set[int]:
        """Return the patrons (ids) whom the session may see."""
        found = self._gateway.pcrud.columns_by_values("au", ("id",), "id", sorted(patrons))
        return {id for batch in found for (id,) in batch}

    def _journal(self) -> Journal:
        from evergreen_groups.changes.journal import Journal  # imports SQLAlchemy, which is slow

        return Journal(self._state.database)


def _no_such_change(id: str) -> NotFoundError:
    return NotFoundError("there is no change {change}", code="no-such-change", values={"change": id})


WAIT = 5.0
"""How many seconds to wait for another desk that is changing the same patrons or groups."""


class DeskChanges:
    """Changes that ``operator`` makes at one gateway, with plans and journal in ``state``.

    ``may_undo_others`` returns whether the operator may undo other users' changes. ``adults`` sets how many adults a
    group may have before a plan warns.
    """

    def __init__(
        self,
        gateway: Gateway,
        state: State,
        operator: Operator,
        reference: ReferenceData,
        *,
        may_undo_others: Callable[[], bool] = lambda: False,
        adults: AdultRule | None = None,
    ) -> None:
        self._gateway = gateway
        self._state = state
        self._given = operator
        self._reference = reference
        self._planner = Planner(gateway, lambda: reference.org_units(gateway), adults=adults)
        self._drafter = Drafter(gateway, self._planner, reference)
        self._may_undo_others = may_undo_others

    @property
    def planner(self) -> Planner:
        """The planner for this gateway."""
        return self._planner

    def propose(self, request: PlanRequest) -> ProposedPlan:
        """Make a plan and store it. Changes nothing in Evergreen.

        Raises:
            PlanError: the request is unclear or impossible, for example a barcode is unknown, hidden, or given twice.
            NotFoundError: the change to undo doesn't exist.
        """
        checked = arguments.instance("request", request, PlanRequest).checked()
        draft, due = self._drafter.draft(checked, self._to_undo)
        stored = StoredPlan.of(draft, self._staff, request.change, due, self._state.database.now())
        self._store().add(stored)
        return ProposedPlan(stored, draft)

    def apply(
        self,
        plan: str,
        key: str,
        *,
        timeout: float = WAIT,
        on_start: Callable[[str], None] | None = None,
        progress: Progress = silent,
    ) -> str:
        """Apply a plan under an idempotency key and return the id of the journal entry, the same for each repeat.

        ``on_start`` is called with this id as soon as nothing can refuse the plan any more, before the first step, for
        callers that don't wait for the end. ``timeout`` is how many seconds to wait for another desk, or for an earlier
        request with the same key that is still running.

        Raises:
            NotFoundError: the caller has no plan with this id.
            PlanError: the key belongs to another change, or the plan was applied under another key, has expired, has
                nothing to do, or is outdated.
            BusyError: another run is changing the same patrons or groups.
            GatewayError: the ILS can't be reached. Nothing was sent.
        """
        arguments.text("key", key)
        stored = self.find(arguments.text("plan", plan))
        change = self._applied_change(stored, key)
        if change is None:
            return self._apply(stored, key, timeout, on_start, progress)
        if on_start is None:
            self.history.wait(change, timeout)
        return change

    def find(self, plan: str) -> StoredPlan:
        """Return one of the caller's plans.

        Raises:
            NotFoundError: the caller has no plan with this id.
        """
        stored = self._store().find(plan, self._staff)
        if stored is None:
            raise NotFoundError("there is no such plan", advice="make it again", code="no-such-plan")
        return stored

    def undo(
        self,
        change: str,
        key: str,
        *,
        timeout: float = WAIT,
        on_start: Callable[[str], None] | None = None,
        progress: Progress = silent,
    ) -> str:
        """Undo a change without showing the plan first. Works like :meth:`apply`, under a separate key."""
        arguments.text("change", change)
        earlier = self._store().under_key(arguments.text("key", key), self._staff)
        if earlier is not None:
            return self._repeated_undo(earlier, change, timeout if on_start is None else 0.0)
        try:
            try:
                entry, now, moved_since = self._to_undo(change)
            except BusyError:
                # Two identical requests may run at once. The first one holds the lease to resolve open steps, so wait.
                self.history.wait(change, timeout)
                earlier = self._store().under_key(key, self._staff)
                if earlier is not None:
                    return self._repeated_undo(earlier, change, timeout if on_start is None else 0.0)
                entry, now, moved_since = self._to_undo(change)
            stored = self._planner.undo_without_preview(entry, self._staff, now, moved_since)
            self._store().add(stored)
            return self.apply(stored.id, key, timeout=timeout, on_start=on_start, progress=progress)
        except (PlanError, BusyError):
            # Two identical requests may run at once. Each makes a plan, and only one of them can apply its plan.
            earlier = self._store().under_key(key, self._staff)
            if earlier is None:
                raise
            return self._repeated_undo(earlier, change, timeout if on_start is None else 0.0)

    def may_undo(self, change: Change) -> bool:
        """Return whether the operator may undo a change now. Asks the ILS if another user made the change."""
        return not change.is_under_way and (change.is_own or self._may_undo_others())

    @property
    def history(self) -> ChangeReader:
        """The changes made so far."""
        return ChangeReader(self._gateway, self._state, self._operator)

    @property
    def _staff(self) -> int:
        return self._operator.staff or 0

    @property
    def _operator(self) -> Operator:
        if self._given.staff is None:  # a program that knows only its account's name
            self._given = replace(self._given, staff=self._reference.user(self._gateway))
        return self._given

    def _to_undo(self, id: str) -> tuple[JournalEntry, datetime, frozenset[int]]:
        """Return a change that the operator may undo, the current time, and the patron ids that later changes move."""
        # Don't filter the operator's own change by visibility: they know its patrons already, and the undo itself skips
        # patrons who are hidden by now.
        is_own = self.history.entry(id).operator.staff == self._staff
        change = self.history.change(id, (lambda patrons: patrons) if is_own else None)
        if not (change.is_own or self._may_undo_others()):
            raise PlanError(
                "change {change} is somebody else's",
                advice="ask whoever made it, or somebody who may take back what others did",
                code="undo-of-another",
                values={"change": id},
            )
        if change.is_under_way:
            raise BusyError(
                "change {change} is still being made",
                advice="wait until it has ended",
                code="undo-too-early",
                values={"change": id},
            )
        return self.history.entry(id), self._state.database.now(), self.history.moved_since(change.entry)

    def _applied_change(self, stored: StoredPlan, key: str) -> str | None:
        """Return the entry that applied a plan under this key, or None if the plan can still be applied."""
        from evergreen_groups.changes.store import already_applied, expired, key_conflict

        if stored.key is not None and stored.key != key:
            raise already_applied()
        if stored.key is not None:
            if stored.change is None:  # retention has deleted the entry since
                raise already_applied()
            return stored.change
        under_key = self._store().under_key(key, self._staff)
        if under_key is not None and under_key.id != stored.id:
            raise key_conflict()
        if under_key is not None:  # applied after ``stored`` was read
            return self._applied_change(under_key, key)
        too_old = expired(stored, self._state.database.now())
        if too_old is not None:
            raise too_old
        if not stored.steps:
            raise PlanError("there is nothing to do", code="plan-empty")
        return None

    def _repeated_undo(self, earlier: StoredPlan, change: str, timeout: float) -> str:
        from evergreen_groups.changes.store import already_applied, key_conflict

        if earlier.undoes != change:
            raise key_conflict()
        if earlier.change is None:
            raise already_applied()
        self.history.wait(earlier.change, timeout)
        return earlier.change

    def _apply(
        self,
        stored: StoredPlan,
        key: str,
        timeout: float,
        on_start: Callable[[str], None] | None,
        progress: Progress,
    ) -> str:
        entries: list[str] = []

        def precheck() -> None:
            # Another request may have applied the plan while this one waited for the lease.
            again = self._store().find(stored.id, self._staff)
            change = None if again is None else self._applied_change(again, key)
            if change is not None:
                raise _AlreadyApplied(change)
            if self._given.approved_by is not None:
                refuse_hidden_patrons(self._gateway, stored)
            refuse_outdated(self._gateway, stored)

        def claim(connection: Connection, change: str) -> None:
            self._store().claim(connection, stored, key, change)
            entries.append(change)

        def report_start() -> None:
            if on_start is not None:
                on_start(entries[0])

        try:
            self._run(stored, precheck, claim, report_start, timeout, progress)
        except _AlreadyApplied as applied:
            return applied.change
        except BusyError:
            # The first of two clicks may be applying this very plan. If so, return its change.
            again = self._store().find(stored.id, self._staff)
            change = None if again is None else self._applied_change(again, key)
            if change is None:
                raise
            return change
        return entries[0]

    def _run(
        self,
        stored: StoredPlan,
        precheck: Callable[[], None],
        claim: Callable[[Connection, str], None],
        on_start: Callable[[], None],
        timeout: float,
        progress: Progress,
    ) -> None:
        if stored.is_recalculation:
            Recalculator(self._gateway, self._state, self._operator).for_plan(
                [(step.patron_id, step.due) for step in stored.steps],
                precheck=precheck,
                in_transaction=claim,
                on_start=on_start,
                timeout=timeout,
                progress=progress,
            )
            return
        changes = JournaledChanges(self._gateway, self._state, self._operator)
        StepApplier(self._gateway, changes, stored.members).apply(
            stored.action.value,
            stored.steps,
            undoes=stored.undoes,
            precheck=precheck,
            in_transaction=claim,
            on_start=on_start,
            timeout=timeout,
            progress=progress,
        )

    def _store(self) -> PlanStore:
        database = self._state.database
        from evergreen_groups.changes.store import PlanStore

        return PlanStore(database, self._gateway.url)


class _AlreadyApplied(Exception):  # noqa: N818 - control flow, never shown: the other request's change is the result
    """Another request has already applied the plan under the same key."""

    def __init__(self, change: str) -> None:
        self.change = change
