"""Changes at one gateway: planned, applied once, journaled, looked up and undone.

The command line, programs, the desk and the API all come through :class:`Changer`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import KW_ONLY, dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from evergreen_groups import arguments
from evergreen_groups.audit import RECALCULABLE, Audit, FindingKind
from evergreen_groups.changes.apply import Applier, refuse_hidden_patrons, refuse_outdated, visible_patrons
from evergreen_groups.changes.journal import (
    PENALTIES,
    Journal,
    JournalEntry,
    JournalStep,
    Operator,
    StepState,
    StoredStep,
)
from evergreen_groups.changes.planner import Planner
from evergreen_groups.changes.plans import (
    Action,
    PlanOutcome,
    PlanRequest,
    PlanStore,
    ProposedPlan,
    Step,
    StoredPlan,
    already_applied,
    key_conflict,
    refuse_too_many,
)
from evergreen_groups.errors import BusyError, NotFoundError, PlanError
from evergreen_groups.message import Progress, silent

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen_groups.audit import PatronFinding
    from evergreen_groups.changes.apply import PlanRun
    from evergreen_groups.changes.plans import Draft
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import AdultRule
    from evergreen_groups.ils import ReferenceData
    from evergreen_groups.state import State

RECENT = timedelta(days=7)
"""How far back the list of a user's own changes goes."""

MAX_GROUP_CHANGES = 50
"""How many changes the history of a group lists."""

Visible = Callable[[Collection[int]], Collection[int]]
"""A function from patron ids to the subset that the session may see."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change, reduced to what the caller may see.

    ``is_under_way`` means that the change is being applied now. In a change that isn't, a planned step never started,
    and a step in state ``SENDING`` has an unknown outcome. ``hidden_step_count`` counts the steps for patrons whom the
    caller can't see. ``is_own`` says whether the caller made the change.
    """

    __repr__ = arguments.brief

    entry: JournalEntry
    is_under_way: bool
    is_own: bool
    hidden_step_count: int = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: every step is done or had nothing to change."""
        return not self.hidden_step_count and all(step.state.is_as_planned for step in self.entry.steps)


def _no_such_change(id: str) -> NotFoundError:
    return NotFoundError("there is no change {change}", code="no-such-change", values={"change": id})


WAIT = 5.0
"""How many seconds to wait for another desk that is changing the same patrons or groups."""


@dataclass
class Changer:
    """Plans changes at one gateway, applies them, and looks up and undoes earlier ones, with a journal in ``state``.

    ``operator`` is responsible for the changes. ``reference`` has the limits that recalculations need. ``adults`` sets
    how many adults a group may have before a plan warns.

    A plan of :meth:`plan` is applied at once by :meth:`apply_draft`. A service stores it with :meth:`propose`, and
    :meth:`apply` applies it under an idempotency key, in another request. These check whose change is to be undone:
    ``may_undo_others`` returns whether the operator may undo other users' changes.
    """

    gateway: Gateway
    state: State
    operator: Operator
    reference: ReferenceData
    _: KW_ONLY
    may_undo_others: Callable[[], bool] = lambda: False
    adults: AdultRule | None = None

    @cached_property
    def planner(self) -> Planner:
        """The planner for this gateway."""
        return Planner(self.gateway, lambda: self.reference.org_units(self.gateway), self.adults)

    def plan(self, request: PlanRequest) -> Draft:
        """Make a plan. Changes nothing in Evergreen, and stores nothing.

        An undo moves back every patron who is still where the entry put them, no matter who made the change.

        Raises:
            PlanError: the request is unclear or impossible, for example a barcode is unknown, hidden, or given twice.
            NotFoundError: the journal has no such entry, or it is of another gateway.
            GatewayError: Evergreen can't be reached or refuses.
        """
        checked = arguments.instance("request", request, PlanRequest).checked()
        if checked.change is None:
            return self.planner.plan(checked, self.reference)
        found = self._journal.entry(checked.change)
        if found.gateway != self.gateway.url:
            raise NotFoundError(
                "change {entry} was made at another gateway, {gateway}",
                code="entry-of-another-gateway",
                values={"entry": found.id, "gateway": found.gateway},
            )
        return self.planner.undo(found, self._journal.now(), self._journal.moved_since(found))

    def apply_draft(self, draft: Draft, progress: Progress, *, timeout: float) -> PlanOutcome[Step]:
        """Apply a plan that isn't stored. A step that no longer fits its patron isn't made.

        ``timeout`` is how many seconds to wait for another run on the same patrons or groups.

        Raises:
            BusyError: another run is changing one of the patrons or groups.
            TransportError: the outcome of an interrupted run can't be looked up. Nothing was sent.
        """
        if arguments.seconds("timeout", timeout) < 0:
            raise arguments.wrong("timeout", timeout, "a number of seconds", "a negative one")
        return self._applier(self.operator).apply(
            draft.action, draft.steps, draft.expected_groups, undoes=draft.undoes, progress=progress, timeout=timeout
        )

    def recalculate(
        self, over_limit: Mapping[int, bool], progress: Progress = silent, *, timeout: float = 0.0
    ) -> PlanOutcome[StoredStep]:
        """Recalculate the penalties of patrons at their home libraries, in order.

        ``over_limit`` is by patron id whether the rule has them over the limit. Raises the errors of
        :meth:`apply_draft`, and GatewayError if the penalties can't be read.
        """
        steps = [StoredStep(patron, PENALTIES, 0, None, due=is_over) for patron, is_over in over_limit.items()]
        return self._applier(self.operator).apply(Action.RECALCULATE, steps, progress=progress, timeout=timeout)

    def recover(self) -> list[JournalStep]:
        """Resolve steps that earlier runs left open, by reading only, and return the resolved steps.

        Steps that may still reach Evergreen, or whose patrons are hidden, stay open. See :meth:`open_steps`.
        """
        return self._applier(self.operator).recover()

    def open_steps(self) -> list[JournalStep]:
        """Return steps with an unknown outcome: they may still reach Evergreen, or the patron was hidden so far."""
        return self._journal.open_steps(self.gateway.url)

    def entries(self) -> list[JournalEntry]:
        """Return this gateway's journal entries, latest first."""
        return self._journal.entries(self.gateway.url)

    def propose(self, request: PlanRequest) -> ProposedPlan:
        """Make a plan and store it for the operator. Changes nothing in Evergreen.

        Raises:
            PlanError: the request is unclear or impossible, for example a barcode is unknown, hidden, or given twice,
                or the change to undo is another user's.
            NotFoundError: the change to undo doesn't exist.
        """
        refuse_too_many(arguments.instance("request", request, PlanRequest).checked())
        change = request.change
        draft = self.plan(request) if change is None else self.planner.undo(*self._to_undo(change))
        return ProposedPlan(self._store.add(draft), draft)

    def apply(self, plan: str, key: str, *, timeout: float = WAIT, progress: Progress = silent) -> str:
        """Apply a plan under an idempotency key and return the id of the journal entry, the same for each repeat.

        ``timeout`` is how many seconds to wait for another desk, or for an earlier request with the same key that is
        still running. Raises the errors of :meth:`begin`.
        """
        with self.begin(plan, key, timeout=timeout) as begun:
            return self._finish(begun, timeout, progress)

    def undo(self, change: str, key: str, *, timeout: float = WAIT, progress: Progress = silent) -> str:
        """Undo a change without showing the plan first. Works like :meth:`apply`, under a separate key."""
        with self.begin_undo(change, key, timeout=timeout) as begun:
            return self._finish(begun, timeout, progress)

    def _finish(self, begun: BegunChange, timeout: float, progress: Progress) -> str:
        if begun.run is None:
            self.wait(begun.id, timeout)
        begun.apply(progress)
        return begun.id

    @contextmanager
    def begin(self, plan: str, key: str, *, timeout: float = WAIT) -> Iterator[BegunChange]:
        """Begin to apply a plan under an idempotency key: for the block, hold its lease.

        Yields the change as soon as nothing can refuse the plan any more, before its first step.

        Raises:
            NotFoundError: the caller has no plan with this id.
            PlanError: the key belongs to another change, or the plan was applied under another key, has expired, has
                nothing to do, or is outdated.
            BusyError: another run is changing the same patrons or groups.
            GatewayError: Evergreen can't be reached. Nothing was sent.
        """
        arguments.text("key", key)
        stored = self.find(arguments.text("plan", plan))
        change = self._applied_change(stored, key)
        if change is not None:
            yield BegunChange(change, None)
            return
        under_lease = self._applier(self._known_operator).begin(
            stored.action, stored.steps, stored.groups, undoes=stored.undoes, timeout=timeout
        )
        with ExitStack() as lease:
            try:
                run = lease.enter_context(under_lease)
            except BusyError:
                # The first of two clicks may be applying this very plan. If so, return its change.
                change = self._applied_change(self.find(plan), key)
                if change is None:
                    raise
            else:
                # Another request may have applied the plan while this one waited for the lease.
                change = self._applied_change(self.find(plan), key)
                if change is None:
                    if self.operator.approved_by is not None:
                        refuse_hidden_patrons(self.gateway, stored)
                    refuse_outdated(self.gateway, stored)
                    yield BegunChange(run.record(stored.id, key), run)
                    return
            yield BegunChange(change, None)

    def find(self, plan: str) -> StoredPlan:
        """Return one of the caller's plans."""
        stored = self._store.find(plan)
        if stored is None:
            raise NotFoundError("there is no such plan", advice="make the plan again", code="no-such-plan")
        return stored

    @contextmanager
    def begin_undo(self, change: str, key: str, *, timeout: float = WAIT) -> Iterator[BegunChange]:
        """Begin to undo a change without showing the plan first. Works like :meth:`begin`, under a separate key."""
        arguments.text("change", change)
        arguments.text("key", key)
        with ExitStack() as lease:
            try:
                plan = self._applied_undo(change, key) or self._plan_undo(change, timeout)
                begun = lease.enter_context(self.begin(plan.id, key, timeout=timeout))
            except (PlanError, BusyError):
                # Two identical requests may run at once. Each makes a plan, and only one of them can apply its plan.
                applied = self._applied_undo(change, key)
                if applied is None:
                    raise
                begun = lease.enter_context(self.begin(applied.id, key, timeout=timeout))
            yield begun

    def _plan_undo(self, change: str, timeout: float) -> StoredPlan:
        try:
            to_undo = self._to_undo(change)
        except BusyError:
            # An identical request may hold the lease to resolve open steps, so wait.
            self.wait(change, timeout)
            to_undo = self._to_undo(change)
        return self._store.add(self.planner.undo(*to_undo, shown=False))

    def _applied_undo(self, change: str, key: str) -> StoredPlan | None:
        """Return the plan of an undo that was applied under this key, or None."""
        applied = self._store.under_key(key)
        if applied is not None and applied.undoes != change:
            raise key_conflict()
        return applied

    def may_undo(self, change: Change) -> bool:
        """Return whether the operator may undo a change now. Asks Evergreen if another user made the change."""
        return not change.is_under_way and (change.is_own or self.may_undo_others())

    def change(self, id: str, visible: Visible | None = None) -> Change:
        """Return a change, after resolving open steps where possible.

        ``visible``, here and below, maps patron ids to those the session may see. Pass it if they are known already;
        the default makes one call.

        Raises:
            NotFoundError: the id is unknown, or the caller can see none of its patrons.
        """
        entry = self.entry(arguments.text("id", id))
        open_ones = {step.patron for step in entry.steps if step.state is StepState.SENDING}
        if open_ones:
            self._applier(self.operator).recover(open_ones)
            entry = self.entry(id)
        (seen,) = self._visible_changes([entry], visible) or (None,)
        if seen is None:
            raise _no_such_change(id)
        return seen

    def own(self, id: str) -> Change:
        """Return one of the caller's own changes as the journal has it, without any call to Evergreen."""
        entry = self.entry(arguments.text("id", id))
        if entry.operator.staff != self._known_operator.staff:
            raise _no_such_change(id)
        entry, is_under_way = self._current(entry)
        return Change(entry, is_under_way=is_under_way, is_own=True)

    def wait(self, id: str, timeout: float) -> None:
        """Wait up to ``timeout`` seconds until a change is no longer being applied."""
        undecided = self.entry(id).undecided
        if undecided:
            with suppress(BusyError), self.state.change_lease(self.gateway.url, undecided, timeout=timeout):
                pass

    def recent(self, visible: Visible | None = None) -> list[Change]:
        """Return the caller's own changes of the last days, latest first."""
        entries = self._journal.entries_of(
            self.gateway.url, self._known_operator.staff or 0, self._journal.now() - RECENT
        )
        return self._visible_changes(entries, visible)

    def of_group(self, group: int, members: Collection[int] = (), visible: Visible | None = None) -> list[Change]:
        """Return the latest changes to a group and its ``members`` (ids), latest first."""
        entries = self._journal.entries_about(self.gateway.url, group, members, MAX_GROUP_CHANGES)
        return self._visible_changes(entries, visible)

    def entry(self, id: str) -> JournalEntry:
        """Return a journal entry of this gateway with all its steps."""
        try:
            entry = self._journal.entry(id)
        except NotFoundError:
            # Same error as for a change with hidden patrons, so a caller can't find out which change ids exist.
            raise _no_such_change(id) from None
        if entry.gateway != self.gateway.url:
            raise _no_such_change(id)
        return entry

    def is_latest(self, entry: JournalEntry) -> bool:
        """Return whether no later change has changed, or may have changed, the same fields of the same patrons."""
        later = self._journal.changed_since(entry)
        return not any((step.patron, step.field) in later for step in entry.steps)

    def _visible_changes(self, entries: Sequence[JournalEntry], visible_of: Visible | None) -> list[Change]:
        """Return the entries as changes, without hidden patrons' steps and without entries that have no other steps."""
        patrons = {step.patron for entry in entries for step in entry.steps}
        visible = visible_patrons(self.gateway, patrons) if visible_of is None else visible_of(patrons)
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
                    is_own=entry.operator.staff == self._known_operator.staff,
                    hidden_step_count=len(entry.steps) - len(steps),
                )
            )
        return found

    def _current(self, entry: JournalEntry) -> tuple[JournalEntry, bool]:
        """Return an entry and whether it is being applied now. If it isn't, read the entry again."""
        if not entry.undecided:
            return entry, False
        if self.state.is_being_changed(self.gateway.url, entry.undecided):
            return entry, True
        # The run may have ended after the entry was read. Read again to get all outcomes.
        return self.entry(entry.id), False

    @cached_property
    def _known_operator(self) -> Operator:
        """The operator with the id of their staff account, which a program may not have given."""
        if self.operator.staff is not None:
            return self.operator
        return replace(self.operator, staff=self.reference.user(self.gateway))

    def _applier(self, operator: Operator) -> Applier:
        return Applier(self.gateway, self.state, operator)

    @property
    def _journal(self) -> Journal:
        return Journal(self.state.database)

    @property
    def _store(self) -> PlanStore:
        return PlanStore(self.state.database, self.gateway.url, self._known_operator.staff or 0)

    def _to_undo(self, id: str) -> tuple[JournalEntry, datetime, frozenset[int]]:
        """Return a change that the operator may undo, the current time, and the patron ids that later changes move."""
        # Don't filter the operator's own change by visibility: they know its patrons already, and the undo itself skips
        # patrons who are hidden by now.
        is_own = self.entry(id).operator.staff == self._known_operator.staff
        change = self.change(id, (lambda patrons: patrons) if is_own else None)
        if not (change.is_own or self.may_undo_others()):
            raise PlanError(
                "change {change} was made by another user",
                advice="ask them, or someone who may undo other users' changes",
                code="undo-of-another",
                values={"change": id},
            )
        if change.is_under_way:
            raise BusyError(
                "change {change} is still in progress",
                advice="try again later",
                code="undo-too-early",
                values={"change": id},
            )
        return self.entry(id), self._journal.now(), self._journal.moved_since(change.entry)

    def _applied_change(self, stored: StoredPlan, key: str) -> str | None:
        """Return the entry that applied a plan under this key, or None if the plan can still be applied."""
        if stored.key is not None:
            if stored.key != key or stored.change is None:  # without an id: retention has deleted the entry since
                raise already_applied()
            return stored.change
        under_key = self._store.under_key(key)
        if under_key is not None and under_key.id != stored.id:
            raise key_conflict()
        if under_key is not None:  # applied after ``stored`` was read
            return self._applied_change(under_key, key)
        if self.state.database.now() >= stored.expires:
            raise PlanError("the plan has expired", advice="make the plan again", code="plan-expired")
        if not stored.steps:
            raise PlanError("there is nothing to do", code="plan-empty")
        return None


@dataclass(frozen=True, slots=True)
class BegunChange:
    """A change that nothing can refuse any more: its ``id`` (of a journal entry), and the ``run`` that applies it.

    Without ``run``, an earlier request has applied the plan, or is applying it.
    """

    id: str
    run: PlanRun[StoredStep] | None

    def apply(self, progress: Progress = silent) -> None:
        """Make the change, if that is left to do."""
        if self.run is not None:
            self.run.apply(progress)


def recalculable(audit: Audit) -> list[PatronFinding]:
    """Return the findings that a recalculation may resolve, one per patron."""
    found = {finding.member.id: finding for kind in RECALCULABLE for finding in audit.of_kind(kind)}
    return list(found.values())


def over_limit_of(findings: Sequence[PatronFinding]) -> dict[int, bool]:
    """Return for :meth:`Changer.recalculate` whether the rule has the findings' patrons over the limit, by id."""
    return {finding.member.id: finding.kind is FindingKind.NOT_BLOCKED for finding in findings}
