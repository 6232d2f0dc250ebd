"""Changes at one gateway: planned, applied once, journaled and undone.

The command line, programs, the desk and the API all come through :class:`Changer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from evergreen_groups import arguments
from evergreen_groups.audit import RECALCULABLE, Audit, FindingKind
from evergreen_groups.changes import outcome_check
from evergreen_groups.changes.apply import PlanRun, refuse_hidden_patrons, refuse_outdated, with_penalty_counts
from evergreen_groups.changes.journal import GROUP, PENALTIES, Journal, StoredStep
from evergreen_groups.changes.penalties import PenaltyReader
from evergreen_groups.changes.planner import Planner
from evergreen_groups.changes.plans import (
    Action,
    PlanOutcome,
    PlanRequest,
    PlanStore,
    ProposedPlan,
    Step,
    StepT,
    StoredPlan,
    already_applied,
    claim,
    refuse_too_many,
)
from evergreen_groups.changes.reader import ChangeReader
from evergreen_groups.changes.undo import plan_undo
from evergreen_groups.errors import BusyError, NotFoundError, PlanError
from evergreen_groups.message import Progress, silent

if TYPE_CHECKING:
    from evergreen_groups.audit import PatronFinding
    from evergreen_groups.changes.plans import Draft, ExpectedGroup
    from evergreen_groups.groups import AdultRule

WAIT = 5.0
"""How many seconds to wait for another desk that is changing the same patrons or groups."""


@dataclass
class Changer(ChangeReader):
    """Plans changes at one gateway, applies them, and looks up and undoes earlier ones, with a journal in ``state``.

    ``operator`` is responsible for the changes. ``reference`` has the limits that recalculations need. ``adults`` sets
    how many adults a group may have before a plan warns. ``may_undo_others`` returns whether the operator may undo
    other users' changes.

    A plan of :meth:`plan` is applied at once by :meth:`apply_draft`. A service stores it with :meth:`propose`, and
    :meth:`apply` applies it under an idempotency key, in another request.
    """

    _: KW_ONLY
    adults: AdultRule | None = None

    @cached_property
    def planner(self) -> Planner:
        """The planner for this gateway."""
        return Planner(self.gateway, self.reference, self.adults)

    @property
    def _store(self) -> PlanStore:
        return PlanStore(self.state.database, self.gateway.url, self._known_operator.staff or 0)

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
                code="entry-of-another-gateway",
                values={"entry": found.id, "gateway": found.gateway},
            )
        return plan_undo(self.planner, self._journal, found)

    def propose(self, request: PlanRequest) -> ProposedPlan:
        """Make a plan and store it for the operator. Changes nothing in Evergreen.

        Raises the errors of :meth:`plan`, and PlanError if the change to undo is another user's.
        """
        refuse_too_many(arguments.instance("request", request, PlanRequest).checked())
        draft = self.plan(request) if request.change is None else self._plan_undo(request.change)
        return ProposedPlan(self._store.add(draft), draft)

    def _plan_undo(self, id: str, *, shown: bool = True) -> Draft:
        """Plan to undo a change that the operator may undo."""
        # Don't filter the operator's own change by visibility: they know its patrons already, and the undo itself skips
        # patrons who are hidden by now.
        change = self.change(id, (lambda patrons: patrons) if self._is_own(self.entry(id)) else None)
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
        return plan_undo(self.planner, self._journal, self.entry(id), shown=shown)

    def apply_draft(self, draft: Draft, progress: Progress, *, timeout: float) -> PlanOutcome[Step]:
        """Apply a plan that isn't stored. A step that no longer fits its patron isn't made.

        ``timeout`` is how many seconds to wait for another run on the same patrons or groups.

        Raises:
            BusyError: another run is changing one of the patrons or groups.
            TransportError: the outcome of an interrupted run can't be looked up. Nothing was sent.
        """
        if arguments.seconds("timeout", timeout) < 0:
            raise arguments.wrong("timeout", timeout, "a number of seconds", "a negative one")
        if not draft.steps:
            return PlanOutcome(())
        with self._run(draft.action, draft.steps, draft.expected_groups, draft.undoes, timeout) as run:
            return run.apply(progress)

    def recalculate(
        self, over_limit: Mapping[int, bool], progress: Progress = silent, *, timeout: float = 0.0
    ) -> PlanOutcome[StoredStep]:
        """Recalculate the penalties of patrons at their home libraries, in order.

        ``over_limit`` is by patron id whether the rule has them over the limit. Raises the errors of
        :meth:`apply_draft`, and GatewayError if the penalties can't be read.
        """
        steps = [StoredStep(patron, PENALTIES, 0, None, due=is_over) for patron, is_over in over_limit.items()]
        if not steps:
            return PlanOutcome(())
        with self._run(Action.RECALCULATE, steps, timeout=timeout) as run:
            return run.apply(progress)

    def apply(self, plan: str, key: str, *, timeout: float = WAIT) -> str:
        """Apply a plan under an idempotency key and return the id of the journal entry, the same for each repeat.

        ``timeout`` is how many seconds to wait for another desk, or for an earlier request with the same key. Raises
        the errors of :meth:`begin`.
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

        Raises:
            NotFoundError: the caller has no plan with this id.
            PlanError: the key belongs to another change, or the plan was applied under another key, has expired, has
                nothing to do, or is outdated.
            BusyError: another run is changing the same patrons or groups.
            GatewayError: Evergreen can't be reached. Nothing was sent.
        """
        arguments.text("key", key)
        stored = self.find(arguments.text("plan", plan))
        return self._begin(lambda: stored, key, timeout, plan=plan)

    def begin_undo(
        self, change: str, key: str, *, timeout: float = WAIT
    ) -> AbstractContextManager[PlanRun[StoredStep]]:
        """Begin to undo a change without showing the plan first. Works like :meth:`begin`, under a separate key."""
        arguments.text("change", change)

        def plan() -> StoredPlan:
            self.wait(change, timeout)  # an identical request may hold the lease to resolve open steps
            return self._store.add(self._plan_undo(change, shown=False))

        return self._begin(plan, arguments.text("key", key), timeout, undoes=change)

    def find(self, plan: str) -> StoredPlan:
        """Return one of the caller's plans, or raise NotFoundError."""
        return self._store.find(plan)

    @contextmanager
    def _begin(
        self, make: Callable[[], StoredPlan], key: str, timeout: float, *, plan: str = "", undoes: str | None = None
    ) -> Iterator[PlanRun[StoredStep]]:
        """Return to the earlier run of this plan, or of this undo, under the key. If there is none, ``make`` the plan.

        The database applies each plan once, and has each key once.
        """
        with ExitStack() as lease:
            run = self._earlier_run(key, plan, undoes)
            if run is None:
                try:
                    made = make()
                    begun = self._run(made.action, made.steps, made.groups, made.undoes, timeout, stored=made, key=key)
                    run = lease.enter_context(begun)
                except (PlanError, BusyError):
                    # The first of two clicks may have applied the plan in the meantime, or be applying it.
                    run = self._earlier_run(key, plan, undoes)
                    if run is None:
                        raise
            yield run

    def _earlier_run(self, key: str, plan: str, undoes: str | None) -> PlanRun[StoredStep] | None:
        for applied in self._store.applied(key, plan):
            if applied.key != key or applied.change is None:  # without an id: retention has deleted the entry since
                raise already_applied()
            if applied.id != plan and (undoes is None or applied.undoes != undoes):
                raise PlanError(
                    "this idempotency key belongs to another change",
                    advice="use a new key for each change",
                    code="key-of-another-change",
                )
            return PlanRun(self._journal, PenaltyReader(self.gateway), applied.change)
        return None

    @contextmanager
    def _run(
        self,
        action: Action,
        steps: Sequence[StepT],
        groups: Sequence[ExpectedGroup] = (),
        undoes: str | None = None,
        timeout: float = 0.0,
        *,
        stored: StoredPlan | None = None,
        key: str = "",
    ) -> Iterator[PlanRun[StepT]]:
        """Hold the lease on a plan's patrons and groups for the block, and journal the plan. Nothing is sent yet.

        Before that, resolve what earlier runs left open, and refuse a ``stored`` plan that no longer fits.
        """
        if stored is not None and self._journal.now() >= stored.expires:
            raise PlanError("the plan has expired", advice="make the plan again", code="plan-expired")
        if not steps:
            raise PlanError("there is nothing to do", code="plan-empty")
        url, operator = self.gateway.url, self.operator
        # Lease the groups' current members too. An open request for a new group is confirmed by finding its patron
        # alone in a group, so recover those requests before this plan adds anyone.
        patrons = {step.patron_id for step in steps}.union(*(group.members for group in groups))
        moves = [step for step in steps if step.field == GROUP]
        numbers = {step.before for step in moves} | {step.after for step in moves if step.after is not None}
        with self.state.change_lease(url, patrons, numbers, timeout) as lease:
            journal = Journal(lease)
            outcome_check.recover(self.gateway, journal, patrons)
            if stored is not None:
                operator = self._known_operator
                if operator.approved_by is not None:
                    refuse_hidden_patrons(self.gateway, stored)
                refuse_outdated(self.gateway, stored)
            open_steps = journal.open_steps(url, {step.patron_id for step in steps})
            penalties = PenaltyReader(self.gateway)
            planned = with_penalty_counts(penalties, steps)
            with journal.writing() as connection:
                entry = journal.begin(connection, url, operator, action.value, planned, undoes)
                if stored is not None:
                    claim(connection, stored.id, key, entry.id)
            yield (run := PlanRun(journal, penalties, entry.id, steps, entry.steps, open_steps))
        if run.outcome is not None:  # after the lease, so that no other desk waits for a plug-in
            self.state.plugins.notify("change_applied", run.outcome)


def recalculable(audit: Audit) -> list[PatronFinding]:
    """Return the findings that a recalculation may resolve, one per patron."""
    return list({finding.member.id: finding for kind in RECALCULABLE for finding in audit.of_kind(kind)}.values())


def over_limit_of(findings: Sequence[PatronFinding]) -> dict[int, bool]:
    """Return for :meth:`Changer.recalculate` whether the rule has the findings' patrons over the limit, by id."""
    return {finding.member.id: finding.kind is FindingKind.NOT_BLOCKED for finding in findings}
