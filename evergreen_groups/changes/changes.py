"""Changes at one gateway: planned, applied once, journaled, looked up and undone.

The command line, programs, the desk and the API all come through :class:`Changer`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import KW_ONLY, dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evergreen_groups import arguments
from evergreen_groups.audit import RECALCULABLE, Audit, FindingKind
from evergreen_groups.changes import apply, outcome_check, plans
from evergreen_groups.changes.apply import PlanRun
from evergreen_groups.changes.journal import GROUP, PENALTIES, Journal, StepState, StoredStep
from evergreen_groups.changes.penalties import PenaltyReader
from evergreen_groups.changes.planner import Planner, plan_undo
from evergreen_groups.changes.plans import Action, PlanByIds, PlanOutcome, PlanRequest, PlanStore, ProposedPlan, StepT
from evergreen_groups.errors import BusyError, NotFoundError, PlanError
from evergreen_groups.groups import families
from evergreen_groups.message import Progress, silent

if TYPE_CHECKING:
    from evergreen_groups.audit import PatronFinding
    from evergreen_groups.changes.journal import JournalEntry, JournalStep, Operator
    from evergreen_groups.changes.plans import Draft, Step
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import AdultRule
    from evergreen_groups.ils import ReferenceData
    from evergreen_groups.state import State

WAIT = 5.0
"""How many seconds to wait for another desk that is changing the same patrons or groups."""
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
    and a step in state ``SENDING`` has an unknown outcome.
    """

    __repr__ = arguments.brief

    entry: JournalEntry
    is_under_way: bool
    is_own: bool  # whether the caller made it
    hidden_step_count: int = 0  # of patrons whom the caller can't see

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: every step is done or had nothing to change."""
        return not self.hidden_step_count and all(step.state.is_as_planned for step in self.entry.steps)


def _no_such_change(id: str) -> NotFoundError:
    return NotFoundError("there is no change {change}", code="no-such-change", values={"change": id})


@dataclass
class Changer:
    """Plans changes at one gateway, applies them, and looks up and undoes earlier ones, with a journal in ``state``.

    :meth:`apply_draft` applies a plan of :meth:`plan` at once. A service stores it with :meth:`propose`, and applies it
    with :meth:`apply` under an idempotency key, in another request.
    """

    gateway: Gateway
    state: State
    operator: Operator  # who is responsible for the changes
    reference: ReferenceData  # has the limits that recalculations need
    _: KW_ONLY
    may_undo_others: Callable[[], bool] = lambda: False  # whether the operator may undo other users' changes
    adults: AdultRule | None = None  # how many adults a group may have before a plan warns

    @property
    def planner(self) -> Planner:
        return Planner(self.gateway, self.reference, self.adults)

    @property
    def _journal(self) -> Journal:
        return Journal(self.state.database)

    @property
    def _store(self) -> PlanStore:
        return PlanStore(self.state.database, self.gateway.url, self._known_operator.staff or 0)

    @cached_property
    def _known_operator(self) -> Operator:
        """The operator with the id of their staff account, which a program may not have given."""
        if self.operator.staff is not None:
            return self.operator
        return replace(self.operator, staff=self.reference.user(self.gateway))

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
            return self.planner.plan(checked)
        found = self._journal.entry(checked.change)
        if found.gateway != self.gateway.url:
            raise NotFoundError(
                "change {entry} was made at another gateway, {gateway}",
                advice="if the address has changed, run `evergreen-groups state move-address OLD NEW`",
                code="entry-of-another-gateway",
                values={"entry": found.id, "gateway": found.gateway},
            )
        return plan_undo(self.planner, self._journal, found)

    def propose(self, request: PlanRequest) -> ProposedPlan:
        """Make a plan and store it for the operator. Changes nothing in Evergreen.

        Raises the errors of :meth:`plan`, and PlanError if the change to undo is another user's.
        """
        arguments.instance("request", request, PlanRequest).checked(plans.MOST_PATRONS)
        draft = self.plan(request) if request.change is None else self._plan_undo(request.change)
        with self.state.database.writing() as connection:
            return ProposedPlan(self._store.add(connection, draft.by_ids), draft)

    def find(self, plan: str) -> PlanByIds[StoredStep]:
        """Return one of the caller's plans, or raise NotFoundError."""
        return self._store.find(plan)

    def _plan_undo(self, id: str, *, shown: bool = True) -> Draft:
        """Plan to undo a change that the operator may undo."""
        # Don't filter the operator's own change by visibility: they know its patrons already, and the undo itself skips
        # patrons who are hidden by now.
        change = self.change(id, (lambda patrons: patrons) if self._is_own(self.entry(id)) else None)
        if not self._may_undo(change):
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
        return plan_undo(self.planner, self._journal, self.entry(id), shown=shown)

    def apply_draft(self, draft: Draft, progress: Progress, *, timeout: float) -> PlanOutcome[Step]:
        """Apply a plan that isn't stored. A step that no longer fits its patron isn't made.

        Raises BusyError if another run is still changing one of the patrons or groups after ``timeout`` seconds, and
        TransportError if the outcome of an interrupted run can't be looked up. In both cases nothing was sent.
        """
        if arguments.seconds("timeout", timeout) < 0:
            raise arguments.wrong("timeout", timeout, "a number of seconds", "a negative one")
        if not draft.steps:
            return PlanOutcome(())
        with self._run(draft.by_ids, timeout) as run:
            return run.apply(progress)

    def recalculate(
        self, over_limit: Mapping[int, bool], progress: Progress = silent, *, timeout: float = 0.0
    ) -> PlanOutcome[StoredStep]:
        """Recalculate the penalties of patrons at their home libraries, in order.

        ``over_limit`` is by patron id whether the rule has them over the limit. Raises the errors of
        :meth:`apply_draft`, and GatewayError if the penalties can't be read.
        """
        if not over_limit:
            return PlanOutcome(())
        steps = (StoredStep(patron, PENALTIES, 0, None, due=is_over) for patron, is_over in over_limit.items())
        with self._run(PlanByIds(Action.RECALCULATE, tuple(steps)), timeout) as run:
            return run.apply(progress)

    def apply(self, plan: str, key: str, *, timeout: float = WAIT) -> str:
        """Apply a plan under an idempotency key and return the id of the journal entry, the same for each repeat.

        Waits ``timeout`` seconds for another desk, or an earlier request with this key. Raises the errors of
        :meth:`begin`.
        """
        return self._finish(self.begin(plan, key, timeout=timeout), timeout)

    def undo(self, change: str, key: str, *, timeout: float = WAIT) -> str:
        """Undo a change without showing the plan first. Works like :meth:`apply`, under a separate key."""
        return self._finish(self.begin_undo(change, key, timeout=timeout), timeout)

    def _finish(self, begun: AbstractContextManager[PlanRun[StoredStep]], timeout: float) -> str:
        with begun as run:
            if not run.steps:
                self.wait(run.id, timeout)
            run.apply()
            return run.id

    def begin(self, plan: str, key: str, *, timeout: float = WAIT) -> AbstractContextManager[PlanRun[StoredStep]]:
        """Hold a plan's lease for the block, which gets the run once nothing can refuse the plan any more.

        Raises NotFoundError if the caller has no plan with this id, PlanError if the key belongs to another change, or
        the plan was applied under another key, has expired, has nothing to do, or is outdated, and also the errors of
        :meth:`apply_draft`.
        """
        arguments.text("key", key)
        return self._begin(self.find(arguments.text("plan", plan)), key, timeout)

    def begin_undo(
        self, change: str, key: str, *, timeout: float = WAIT
    ) -> AbstractContextManager[PlanRun[StoredStep]]:
        """Begin to undo a change without showing the plan first. Works like :meth:`begin`, under a separate key."""
        undo: PlanByIds[StoredStep] = PlanByIds(Action.UNDO, (), undoes=arguments.text("change", change))
        return self._begin(undo, arguments.text("key", key), timeout)

    @contextmanager
    def _begin(self, plan: PlanByIds[Any], key: str, timeout: float) -> Iterator[PlanRun[Any]]:
        """Return to the earlier run of a plan under the key. If there is none, begin one.

        An undo without an id hasn't been planned yet. The database applies each plan once, and has each key once.
        """
        with ExitStack() as lease:
            run = self._earlier_run(plan, key)
            if run is None:
                try:
                    made = plan
                    if not plan.id and plan.undoes is not None:
                        self.wait(plan.undoes, timeout)  # an identical request may hold the lease to resolve open steps
                        made = self._plan_undo(plan.undoes, shown=False).by_ids
                    run = lease.enter_context(self._run(made, timeout, key))
                except (PlanError, BusyError):
                    # The first of two clicks may have applied the plan in the meantime, or be applying it.
                    run = self._earlier_run(plan, key)
                    if run is None:
                        raise
            yield run

    def _earlier_run(self, plan: PlanByIds[Any], key: str) -> PlanRun[Any] | None:
        change = self._store.change_of(plan, key)
        return None if change is None else PlanRun(self._journal, PenaltyReader(self.gateway), change)

    @contextmanager
    def _run(self, plan: PlanByIds[StepT], timeout: float, key: str = "") -> Iterator[PlanRun[StepT]]:
        """Hold the lease on a plan's patrons and groups for the block, and journal the plan. Nothing is sent yet.

        Before that, resolve what earlier runs left open, and refuse a stored plan that has expired or no longer fits.
        """
        if plan.id and self._journal.now() >= plan.expires:
            raise PlanError("the plan has expired", advice="make the plan again", code="plan-expired")
        if not plan.steps:
            raise PlanError("there is nothing to do", code="plan-empty")
        url, operator = self.gateway.url, self._known_operator if key else self.operator
        # Lease the groups' current members too. An open request for a new group is confirmed by finding its patron
        # alone in a group, so recover those requests before this plan adds anyone.
        patrons = plan.patrons.union(*(group.members for group in plan.groups))
        moves = [step for step in plan.steps if step.field == GROUP]
        numbers = {step.before for step in moves} | {step.after for step in moves if step.after is not None}
        with self.state.change_lease(url, patrons, numbers, timeout) as lease:
            journal = Journal(lease)
            outcome_check.recover(self.gateway, journal, patrons)
            if plan.id and operator.approved_by is not None:  # the supervisor's session must see all patrons
                for patron in sorted(plan.patrons - apply.visible_patrons(self.gateway, plan.patrons)):
                    families.require_visible(self.gateway, patron)
            if plan.id:
                apply.refuse_outdated(self.gateway, plan)
            open_steps = journal.open_steps(url, plan.patrons)
            penalties = PenaltyReader(self.gateway)
            planned = apply.with_penalty_counts(penalties, plan.steps)
            with journal.transactions.writing() as connection:
                entry = journal.begin(connection, url, operator, plan.action.value, planned, plan.undoes)
                if key:
                    plans.claim(connection, plan.id or self._store.add(connection, plan).id, key, entry.id)
            yield (run := PlanRun(journal, penalties, entry.id, plan.steps, entry.steps, open_steps))
        if run.outcome is not None:  # after the lease, so that no other desk waits for a plug-in
            self.state.plugins.notify("change_applied", run.outcome)

    def recover(self) -> list[JournalStep]:
        """Resolve steps that earlier runs left open, by reading only, and return them. See :meth:`open_steps`."""
        return outcome_check.recover_left_open(self.gateway, self.state)

    def open_steps(self) -> list[JournalStep]:
        """Return steps with an unknown outcome: they may still reach Evergreen, or the patron was hidden so far."""
        return self._journal.open_steps(self.gateway.url)

    def entries(self) -> list[JournalEntry]:
        """Return this gateway's journal entries, latest first."""
        return self._journal.entries(self.gateway.url)

    def entry(self, id: str) -> JournalEntry:
        """Return a journal entry of this gateway with all its steps."""
        # Same error as for a change with hidden patrons, so a caller can't find out which change ids exist.
        with suppress(NotFoundError):
            entry = self._journal.entry(id)
            if entry.gateway == self.gateway.url:
                return entry
        raise _no_such_change(id)

    def change(self, id: str, visible: Visible | None = None) -> Change:
        """Return a change, after resolving open steps where possible.

        ``visible``, here and below, maps patron ids to those the session may see. Pass it if they are known already;
        the default makes one call. Raises NotFoundError if the id is unknown, or the caller can see none of its
        patrons.
        """
        entry = self.entry(arguments.text("id", id))
        open_ones = {step.patron for step in entry.steps if step.state is StepState.SENDING}
        if open_ones:
            outcome_check.recover_left_open(self.gateway, self.state, open_ones)
            entry = self.entry(id)
        for seen in self._visible_changes([entry], visible):
            return seen
        raise _no_such_change(id)

    def own(self, id: str) -> Change:
        """Return one of the caller's own changes as the journal has it, without any call to Evergreen."""
        entry = self.entry(arguments.text("id", id))
        if not self._is_own(entry):
            raise _no_such_change(id)
        return self._change(entry)

    def recent(self, visible: Visible | None = None) -> list[Change]:
        """Return the caller's own changes of the last days, latest first."""
        since = self._journal.now() - RECENT
        entries = self._journal.entries_of(self.gateway.url, self._known_operator.staff or 0, since)
        return self._visible_changes(entries, visible)

    def of_group(self, group: int, members: Collection[int] = (), visible: Visible | None = None) -> list[Change]:
        """Return the latest changes to a group and its ``members`` (ids), latest first."""
        entries = self._journal.entries_about(self.gateway.url, group, members, MAX_GROUP_CHANGES)
        return self._visible_changes(entries, visible)

    def is_latest(self, entry: JournalEntry) -> bool:
        """Return whether no later change has changed, or may have changed, the same fields of the same patrons."""
        return self._journal.changed_since(entry).isdisjoint((step.patron, step.field) for step in entry.steps)

    def may_undo(self, change: Change) -> bool:
        """Return whether the operator may undo a change now. Asks Evergreen if others made and approved the change."""
        return not change.is_under_way and self._may_undo(change)

    def _may_undo(self, change: Change) -> bool:
        """Return whether the operator made or approved a change, or may undo those of others."""
        approved = change.entry.operator.approved_by == self._known_operator.staff
        return change.is_own or approved or self.may_undo_others()

    def wait(self, id: str, timeout: float) -> None:
        """Wait up to ``timeout`` seconds until a change is no longer being applied."""
        undecided = self.entry(id).undecided
        if undecided:
            with suppress(BusyError), self.state.change_lease(self.gateway.url, undecided, timeout=timeout):
                pass

    def _is_own(self, entry: JournalEntry) -> bool:
        return entry.operator.staff == self._known_operator.staff

    def _visible_changes(self, entries: Sequence[JournalEntry], visible_of: Visible | None) -> list[Change]:
        """Return the entries as changes, without hidden patrons' steps and without entries that have no other steps."""
        patrons = {step.patron for entry in entries for step in entry.steps}
        visible = apply.visible_patrons(self.gateway, patrons) if visible_of is None else visible_of(patrons)
        shown = [entry for entry in entries if any(step.patron in visible for step in entry.steps)]
        return [self._change(entry, visible) for entry in shown]

    def _change(self, entry: JournalEntry, visible: Collection[int] | None = None) -> Change:
        """Return an entry as a change, with all steps or only those of ``visible`` patrons (ids)."""
        undecided = entry.undecided
        is_under_way = bool(undecided) and self.state.is_being_changed(self.gateway.url, undecided)
        if undecided and not is_under_way:
            # The run may have ended after the entry was read. Read again to get all outcomes.
            entry = self.entry(entry.id)
        steps = tuple(step for step in entry.steps if visible is None or step.patron in visible)
        hidden = len(entry.steps) - len(steps)
        return Change(replace(entry, steps=steps), is_under_way, self._is_own(entry), hidden)


def recalculable(audit: Audit) -> list[PatronFinding]:
    """Return the findings that a recalculation may resolve, one per patron."""
    return list({finding.member.id: finding for kind in RECALCULABLE for finding in audit.of_kind(kind)}.values())


def over_limit_of(findings: Sequence[PatronFinding]) -> dict[int, bool]:
    """Return for :meth:`Changer.recalculate` whether the rule has the findings' patrons over the limit, by id."""
    return {finding.member.id: finding.kind is FindingKind.NOT_BLOCKED for finding in findings}
