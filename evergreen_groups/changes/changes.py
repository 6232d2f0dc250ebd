"""Changes as a desk makes them: a plan that is stored and shown, applied once under a key, and looked at afterwards."""

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
    refuse_what_no_longer_fits,
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
from evergreen_groups.changes.reasons import NOT_BEGUN
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
            self._planner.remove(arguments.texts("barcodes", barcodes), lead=arguments.boolean("lead", lead))
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
        return self.plan(self._planner.lead([arguments.text("barcode", barcode)], off=arguments.boolean("off", off)))

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


RECENT = timedelta(days=7)
"""How far back somebody's own changes are listed."""

MOST_OF_A_GROUP = 50
"""How many changes of a group's past are listed."""

Visible = Callable[[Collection[int]], Collection[int]]
"""Gives those of some patrons (ids) whom the session may see."""

_UNDECIDED = (StepState.PLANNED, StepState.SENDING)


@dataclass(frozen=True, slots=True)
class Change:
    """A change as far as the caller may see it.

    ``is_under_way`` says that it is being applied now; else a step that is planned was never begun, and what became of
    one that is being sent isn't known yet. ``hidden_step_count`` is how many steps are about patrons whom the caller
    can't see, ``is_own`` whether the caller made it.
    """

    entry: JournalEntry
    is_under_way: bool
    is_own: bool
    hidden_step_count: int = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: every step of it was done, or had nothing to change."""
        return not self.hidden_step_count and all(step.state.is_as_planned for step in self.entry.steps)


class ChangeReader:
    """Reads changes at one gateway from the journal in ``state``, for ``operator``, whose ``staff`` is known."""

    def __init__(self, gateway: Gateway, state: State, operator: Operator) -> None:
        self._gateway = gateway
        self._state = state
        self._operator = operator

    def change(self, id: str, visible: Visible | None = None) -> Change:
        """A change, with what became of it as far as that can be found out now.

        ``visible``, here and below, gives those of some patrons whom the session may see, for whoever knows; else it
        is one call.

        Raises:
            NotFoundError: there is none, or the caller sees none of its patrons.
        """
        entry = self._looked_up(self.entry(arguments.text("id", id)))
        (seen,) = self._as_seen([entry], visible) or (None,)
        if seen is None:
            raise _no_such_change(id)
        return seen

    def own(self, id: str) -> Change:
        """A change of the caller's own, as it was when it was made: nothing is asked of the ILS.

        Raises:
            NotFoundError: there is none, or it is somebody else's.
        """
        entry = self.entry(arguments.text("id", id))
        if entry.operator.staff != self._operator.staff:
            raise _no_such_change(id)
        entry, is_under_way = self._course_of(entry)
        return Change(entry, is_under_way=is_under_way, is_own=True)

    def wait(self, id: str, timeout: float) -> None:
        """Wait until a change isn't being made any more, ``timeout`` seconds at most.

        Raises:
            NotFoundError: there is none.
        """
        undecided = {step.patron for step in self.entry(id).steps if step.state in _UNDECIDED}
        if undecided:
            JournaledChanges(self._gateway, self._state, self._operator).wait(undecided, timeout)

    def recent(self, visible: Visible | None = None) -> list[Change]:
        """The caller's own changes of the last days, the latest first."""
        journal = self._journal()
        entries = journal.entries_of(self._gateway.url, self._operator.staff or 0, journal.now() - RECENT)
        return self._as_seen(entries, visible)

    def of_group(self, group: int, visible: Visible | None = None) -> list[Change]:
        """What is known of a group's past, the latest first."""
        return self._as_seen(self._journal().entries_about(self._gateway.url, group, MOST_OF_A_GROUP), visible)

    def entry(self, id: str) -> JournalEntry:
        """The journal's entry of this gateway, with all its steps.

        Raises:
            NotFoundError: there is none.
        """
        try:
            entry = self._journal().entry(id)
        except NotFoundError:
            # In the words that are said of one whose patrons are hidden: which it is, is nobody's business.
            raise _no_such_change(id) from None
        if entry.gateway != self._gateway.url:
            raise _no_such_change(id)
        return entry

    def moved_since(self, entry: JournalEntry) -> frozenset[int]:
        """Return the ids of those of an entry's patrons whom later entries move."""
        return self._journal().moved_since(entry)

    def _looked_up(self, entry: JournalEntry) -> JournalEntry:
        """An entry after a look at what became of the steps whose outcome isn't known, where nobody is at them."""
        open_ones = {step.patron for step in entry.steps if step.state is StepState.SENDING}
        if not open_ones:
            return entry
        JournaledChanges(self._gateway, self._state, self._operator).recover(open_ones)
        return self.entry(entry.id)

    def _as_seen(self, entries: Sequence[JournalEntry], visible_of: Visible | None) -> list[Change]:
        """Entries without the steps of patrons whom the caller can't see; those without any step are left out."""
        visible = (visible_of or self._visible)({step.patron for entry in entries for step in entry.steps})
        found = []
        for read in entries:
            if not any(step.patron in visible for step in read.steps):
                continue
            entry, is_under_way = self._course_of(read)
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

    def _course_of(self, entry: JournalEntry) -> tuple[JournalEntry, bool]:
        """An entry, and whether it is being applied now; where it isn't, with what has become of it."""
        undecided = {step.patron for step in entry.steps if step.state in _UNDECIDED}
        if not undecided:
            return entry, False
        if JournaledChanges(self._gateway, self._state, self._operator).is_under_way(undecided):
            return entry, True
        # Whoever was at it may have ended after it was read: then that reading is of the middle.
        return self.entry(entry.id), False

    def _visible(self, patrons: Collection[int]) -> set[int]:
        """Those of the patrons (ids) whom the session may see."""
        found = self._gateway.pcrud.columns_by_values("au", ("id",), "id", sorted(patrons))
        return {id for batch in found for (id,) in batch}

    def _journal(self) -> Journal:
        from evergreen_groups.changes.journal import Journal  # with it comes SQLAlchemy, which takes long to import

        return Journal(self._state.database)


def _no_such_change(id: str) -> NotFoundError:
    return NotFoundError("there is no change {change}", code="no-such-change", values={"change": id})


WAIT = 5.0
"""How long to wait for another desk that is changing the same patrons or groups, in seconds."""


class DeskChanges:
    """Changes at one gateway, with plans and journal in ``state``, made by ``operator``.

    ``may_undo_others`` says whether the operator may take back what others have done; ``adults`` how many of them may
    come together in a group before it is warned of.
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
        """The planner."""
        return self._planner

    def propose(self, request: PlanRequest) -> ProposedPlan:
        """Make a plan and store it; nothing is changed by that.

        Raises:
            PlanError: the request is unclear, or can't be done: a barcode is unknown, hidden, or given twice.
            NotFoundError: there is no such change to undo.
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
        begun: Callable[[str], None] | None = None,
        progress: Progress = silent,
    ) -> str:
        """Apply a plan under an idempotency key; gives the id of the journal's entry, the same each time.

        ``begun`` is called with that id when nothing can refuse the plan any more, before the first step: whoever
        gives it doesn't wait for the end. ``timeout`` is how many seconds to wait for another desk, or, where the
        very same has been asked for a moment ago, for that.

        Raises:
            NotFoundError: there is no such plan of the caller's.
            PlanError: the key stands for another change; the plan was applied under another key, is too old, has
                nothing to do, or no longer fits.
            BusyError: somebody else is changing the same patrons or groups.
            GatewayError: the ILS can't be reached; nothing has been sent.
        """
        arguments.text("key", key)
        stored = self.find(arguments.text("plan", plan))
        change = self._applied(stored, key)
        if change is None:
            return self._apply(stored, key, timeout, begun, progress)
        if begun is None:
            self.past.wait(change, timeout)
        return change

    def find(self, plan: str) -> StoredPlan:
        """A plan of the caller's.

        Raises:
            NotFoundError: there is none.
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
        begun: Callable[[str], None] | None = None,
        progress: Progress = silent,
    ) -> str:
        """Take a change back, without showing the plan for it first; as :meth:`apply`, under a key of its own."""
        arguments.text("change", change)
        earlier = self._store().under_key(arguments.text("key", key), self._staff)
        if earlier is not None:
            return self._undone(earlier, change, timeout if begun is None else 0.0)
        try:
            try:
                entry, now, moved_since = self._to_undo(change)
            except BusyError:
                # The same may have been asked twice at once. The first looks up what became of the change, so wait.
                self.past.wait(change, timeout)
                earlier = self._store().under_key(key, self._staff)
                if earlier is not None:
                    return self._undone(earlier, change, timeout if begun is None else 0.0)
                entry, now, moved_since = self._to_undo(change)
            stored = self._planner.undo_at_once(entry, self._staff, now, moved_since)
            self._store().add(stored)
            return self.apply(stored.id, key, timeout=timeout, begun=begun, progress=progress)
        except (PlanError, BusyError):
            # The same may have been asked twice at once: each has made a plan of its own, and one applies its.
            earlier = self._store().under_key(key, self._staff)
            if earlier is None:
                raise
            return self._undone(earlier, change, timeout if begun is None else 0.0)

    def may_undo(self, change: Change) -> bool:
        """Whether the operator may take a change back now; where it is another's, the ILS may be asked."""
        return not change.is_under_way and (change.is_own or self._may_undo_others())

    @property
    def past(self) -> ChangeReader:
        """What has been changed."""
        return ChangeReader(self._gateway, self._state, self._operator)

    @property
    def _staff(self) -> int:
        return self._operator.staff or 0

    @property
    def _operator(self) -> Operator:
        if self._given.staff is None:  # a program that only knows its account's name
            self._given = replace(self._given, staff=self._reference.user(self._gateway))
        return self._given

    def _to_undo(self, id: str) -> tuple[JournalEntry, datetime, frozenset[int]]:
        """Return a change that the operator may take back, what time it is, and whom later changes move (ids)."""
        # Of one's own nobody is told anything new, and who can't be seen any more isn't changed.
        is_own = self.past.entry(id).operator.staff == self._staff
        change = self.past.change(id, (lambda patrons: patrons) if is_own else None)
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
        return self.past.entry(id), self._state.database.now(), self.past.moved_since(change.entry)

    def _applied(self, stored: StoredPlan, key: str) -> str | None:
        """The entry by which a plan was applied under this key; None where it can be applied."""
        from evergreen_groups.changes.store import applied_before, expired, key_of_another

        if stored.key is not None and stored.key != key:
            raise applied_before()
        if stored.key is not None:
            if stored.change is None:  # its entry has been forgotten since
                raise applied_before()
            return stored.change
        under_key = self._store().under_key(key, self._staff)
        if under_key is not None and under_key.id != stored.id:
            raise key_of_another()
        if under_key is not None:  # since this one was read
            return self._applied(under_key, key)
        too_old = expired(stored, self._state.database.now())
        if too_old is not None:
            raise too_old
        if not stored.steps:
            raise PlanError("there is nothing to do", code="plan-empty")
        return None

    def _undone(self, earlier: StoredPlan, change: str, timeout: float) -> str:
        from evergreen_groups.changes.store import applied_before, key_of_another

        if earlier.undoes != change:
            raise key_of_another()
        if earlier.change is None:
            raise applied_before()
        self.past.wait(earlier.change, timeout)
        return earlier.change

    def _apply(
        self,
        stored: StoredPlan,
        key: str,
        timeout: float,
        begun: Callable[[str], None] | None,
        progress: Progress,
    ) -> str:
        entries: list[str] = []

        def before_first() -> None:
            # By another request that held the lease until now.
            again = self._store().find(stored.id, self._staff)
            change = None if again is None else self._applied(again, key)
            if change is not None:
                raise _AppliedMeanwhile(change)
            if self._given.approved_by is not None:
                refuse_hidden_patrons(self._gateway, stored)
            refuse_what_no_longer_fits(self._gateway, stored)

        def claim(connection: Connection, change: str) -> None:
            self._store().claim(connection, stored, key, change)
            entries.append(change)

        def report_begun() -> None:
            if begun is not None:
                begun(entries[0])

        try:
            self._run(stored, before_first, claim, report_begun, timeout, progress)
        except _AppliedMeanwhile as meanwhile:
            return meanwhile.change
        except BusyError:
            # It may be this very plan that is being applied, by the first of two clicks: then that is the answer.
            again = self._store().find(stored.id, self._staff)
            change = None if again is None else self._applied(again, key)
            if change is None:
                raise
            return change
        return entries[0]

    def _run(
        self,
        stored: StoredPlan,
        before_first: Callable[[], None],
        claim: Callable[[Connection, str], None],
        begun: Callable[[], None],
        timeout: float,
        progress: Progress,
    ) -> None:
        if stored.is_recalculation:
            Recalculator(self._gateway, self._state, self._operator).for_plan(
                [(step.patron_id, step.due) for step in stored.steps],
                before_first=before_first,
                also=claim,
                begun=begun,
                timeout=timeout,
                progress=progress,
            )
            return
        changes = JournaledChanges(self._gateway, self._state, self._operator)
        StepApplier(self._gateway, changes, stored.members).apply(
            stored.action.value,
            stored.steps,
            undoes=stored.undoes,
            before_first=before_first,
            also=claim,
            begun=begun,
            timeout=timeout,
            progress=progress,
        )

    def _store(self) -> PlanStore:
        database = self._state.database
        from evergreen_groups.changes.store import PlanStore

        return PlanStore(database, self._gateway.url)


class _AppliedMeanwhile(Exception):  # noqa: N818 - nobody is told of it: the other's change is the answer
    """Another request has applied the plan, under the same key."""

    def __init__(self, change: str) -> None:
        self.change = change
