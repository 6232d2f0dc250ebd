"""Apply the steps of a plan one at a time, with the journal and under a lease on its patrons and groups."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Generic

from evergreen_groups.changes.journal import GROUP, LEAD, PENALTIES, Journal, Operator, StepState
from evergreen_groups.changes.outcome_check import FATAL_ERRORS, recover
from evergreen_groups.changes.penalties import PenaltyReader
from evergreen_groups.changes.plans import Action, PlanOutcome, StepOutcome, StepT, claim
from evergreen_groups.changes.reasons import NOT_STARTED, WAITS_FOR_OTHERS
from evergreen_groups.changes.steps import PatronChange, PatronRecalculation
from evergreen_groups.errors import BusyError, PlanError
from evergreen_groups.groups import read_members, read_patron, require_visible
from evergreen_groups.ils import PenaltyKinds, rows_in_force
from evergreen_groups.message import Message
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from evergreen_groups.changes.journal import JournalStep, StoredStep
    from evergreen_groups.changes.plans import ExpectedGroup, StoredPlan
    from evergreen_groups.errors import GatewayError
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State


class Applier:
    """Applies plans at one gateway, journaled in ``state`` under the name of ``operator``."""

    def __init__(self, gateway: Gateway, state: State, operator: Operator) -> None:
        self._gateway = gateway
        self._state = state
        self._operator = operator

    @contextmanager
    def begin(
        self,
        action: Action,
        steps: Sequence[StepT],
        groups: Collection[ExpectedGroup] = (),
        *,
        undoes: str | None = None,
        timeout: float = 0.0,
    ) -> Iterator[PlanRun[StepT]]:
        """Hold the lease on a plan's patrons and groups for the block. Yields the plan, of which nothing is done yet.

        Before that, resolve whatever earlier runs left open for these patrons and for the members of ``groups``.
        ``timeout`` is how many seconds to wait for another run that holds the lease.

        Raises:
            BusyError: another run still holds the lease.
            TransportError: the outcome of an interrupted run can't be looked up.
        """
        # Lease the groups' current members too. An open request for a new group is confirmed by finding its patron
        # alone in a group, so recover those requests before this plan adds anyone.
        patrons = {step.patron_id for step in steps}.union(*(group.members for group in groups))
        moves = [step for step in steps if step.field == GROUP]
        numbers = {step.before for step in moves} | {step.after for step in moves if step.after is not None}
        with self._state.change_lease(self._gateway.url, patrons, numbers, timeout) as lease:
            journal = Journal(lease)
            recover(self._gateway, journal, patrons)
            yield PlanRun(self._gateway, journal, self._operator, action, steps, undoes)

    def recover(self, patrons: Collection[int] | None = None) -> list[JournalStep]:
        """Resolve steps that an earlier run left open, and return the resolved steps.

        Covers the given patrons (ids), or all patrons. Skip patrons whom another run is changing: that run resolves its
        steps itself.
        """
        ended: list[JournalStep] = []
        open_steps = Journal(self._state.database).open_steps(self._gateway.url, patrons)
        for patron in sorted({step.patron for step in open_steps}):
            # One lease per patron, so that a busy patron doesn't hold up the others.
            with suppress(BusyError), self._state.change_lease(self._gateway.url, [patron]) as lease:
                ended += recover(self._gateway, Journal(lease), [patron])
        return ended

    def is_under_way(self, patrons: Collection[int]) -> bool:
        """Return whether a run is changing any of these patrons (ids) now."""
        return self._state.is_being_changed(self._gateway.url, patrons)

    def wait(self, patrons: Collection[int], timeout: float) -> None:
        """Wait up to ``timeout`` seconds until no run is changing these patrons (ids)."""
        with suppress(BusyError), self._state.change_lease(self._gateway.url, patrons, timeout=timeout):
            pass


class PlanRun(Generic[StepT]):
    """A plan that is being applied under the lease: call :meth:`record` once, then :meth:`apply`."""

    def __init__(
        self,
        gateway: Gateway,
        journal: Journal,
        operator: Operator,
        action: Action,
        steps: Sequence[StepT],
        undoes: str | None,
    ) -> None:
        self._gateway = gateway
        self._journal = journal
        self._operator = operator
        self._action = action
        self._steps = steps
        self._undoes = undoes
        self._open: list[JournalStep] = []  # the patrons' steps whose requests may still reach Evergreen
        self._not_moved: set[tuple[int, int | None]] = set()

    def record(self, plan: str | None = None, key: str = "") -> str:
        """Write the plan into the journal, and return the id of its entry. Nothing has been sent yet.

        ``plan`` is the id of the stored plan, which the same transaction marks as applied under ``key``.

        Raises:
            PlanError: the stored plan has been applied before, or the key belongs to another plan.
            GatewayError: the penalties can't be read.
        """
        self._open = self._journal.open_steps(self._gateway.url, {step.patron_id for step in self._steps})
        recalculated = [step.patron_id for step in self._steps if step.field == PENALTIES]
        counted = dict.fromkeys(recalculated, 0)
        if recalculated:
            self._penalties = PenaltyReader(self._gateway)
            self._kinds = PenaltyKinds.read(self._gateway, self._penalties.org_units)
            # The journal stores how many penalties Evergreen had set as the value before.
            for row in rows_in_force(self._gateway, counted):
                counted[row.patron] += row.staff is None
        planned = [
            replace(step, before=counted[step.patron_id]) if step.field == PENALTIES else step for step in self._steps
        ]
        url, action = self._gateway.url, self._action.value
        with self._journal.writing() as connection:
            entry = self._journal.begin(connection, url, self._operator, action, planned, self._undoes)
            if plan is not None:
                claim(connection, plan, key, entry.id)
        self._entry = entry
        return entry.id

    def apply(self, progress: Progress = silent) -> PlanOutcome[StepT]:
        """Apply the steps in order. Stop at an error that would also hit every later step."""
        doing = Message("recalculating") if self._action is Action.RECALCULATE else Message("changing")
        outcomes: list[StepOutcome[StepT]] = []
        stopped: GatewayError | None = None
        for step, journaled in zip(self._steps, self._entry.steps, strict=True):
            outcome = self._apply(step, journaled)
            outcomes.append(outcome)
            progress(doing, len(outcomes), len(self._steps))
            if isinstance(outcome.error, FATAL_ERRORS):
                stopped = outcome.error
                break
        left = (StepOutcome(step, StepState.PLANNED, reason=NOT_STARTED) for step in self._steps[len(outcomes) :])
        return PlanOutcome((*outcomes, *left), stopped, self._entry.id)

    def _apply(self, step: StepT, journaled: JournalStep) -> StepOutcome[StepT]:
        of_patron = [it for it in self._open if it.patron == step.patron_id]
        if step.field == PENALTIES:
            is_open = any(it.field == PENALTIES for it in of_patron)
            return PatronRecalculation(
                self._gateway,
                self._journal,
                step,
                journaled,
                reader=self._penalties,
                kinds=self._kinds,
                is_open=is_open,
            ).apply()
        way = (step.before, step.after)
        if step.last and way in self._not_moved:
            # Another patron's move failed. Keep this one behind, so that the same command still finds the group.
            self._journal.record(journaled.id, StepState.NOT_DONE, reason=WAITS_FOR_OTHERS)
            return StepOutcome(step, StepState.NOT_DONE, reason=WAITS_FOR_OTHERS)
        open_changes = [it for it in of_patron if it.field != PENALTIES]
        outcome = PatronChange(
            self._gateway,
            self._journal,
            step,
            journaled,
            waits_for=_to_wait_for(open_changes, step, self._journal.now()),
            # This step records the outcome of both requests.
            earlier=next((it for it in open_changes if it.is_safe_repeat(step)), None),
        ).apply()
        if outcome.sent is not None:
            self._open.append(outcome.sent)
        if step.field == GROUP and not outcome.state.is_as_planned:
            self._not_moved.add(way)
        return outcome


def _to_wait_for(open_changes: Sequence[JournalStep], step: StoredStep, now: datetime) -> JournalStep | None:
    """Return the patron's latest open step that rules out sending this one now, or None.

    ``usergroup.new`` can run at any time and would overwrite this step. Once this step has changed the record, the
    result of an open request for another field would look like another user's edit. A repeat of the same request is
    safe.
    """
    waits = [
        it
        for it in open_changes
        if (it.may_still_arrive(now) if it.field != step.field else not it.is_safe_repeat(step))
    ]
    return max(waits, key=lambda it: it.request.until, default=None)


_MOST_NAMED = 10
_LEAD_NOW = Message("patron {patron} is a group lead now")
_NO_LEAD_NOW = Message("patron {patron} is no group lead now")


def refuse_outdated(gateway: Gateway, plan: StoredPlan) -> None:
    """Refuse a plan if its patrons' groups or lead flags, or the members of its groups, have changed.

    Make one call for all patrons (one per patron where plain reads come from a replica) and one per group. Fines are
    not read: they change all the time and don't affect membership.

    Raises:
        PlanError: the plan is outdated. The error lists the differences by id.
        GatewayError: Evergreen can't be reached or refuses.
    """
    steps = [step for step in plan.steps if step.field != PENALTIES]
    if not steps:
        return
    # A patron with several steps causes the same difference more than once.
    found = dict.fromkeys(_patron_differences(gateway, plan.patrons, steps))
    now = read_members(gateway, [group.number for group in plan.groups])
    found |= dict.fromkeys(
        Message("other patrons are in group {group} now", values={"group": group.number})
        for group in plan.groups
        if now[group.number] != frozenset(group.members)
    )
    if found:
        raise PlanError(
            "the plan no longer fits: {differences}",
            advice="make it again, and look at it",
            code="plan-outdated",
            values={"differences": tuple(found)[:_MOST_NAMED]},
        )


def _patron_differences(gateway: Gateway, patrons: Collection[int], steps: Sequence[StoredStep]) -> Iterator[Message]:
    if gateway.reads_replicas:
        records = [found for found in gateway.map(partial(read_patron, gateway), sorted(patrons)) if found is not None]
        now = {it.id: (int(it.usrgroup), bool(it.master_account), bool(it.deleted)) for it in records}
    else:
        batches = gateway.pcrud.columns_by_values("au", ("id", GROUP, LEAD, "deleted"), "id", sorted(patrons))
        now = {id: (group, bool(lead), bool(deleted)) for batch in batches for id, group, lead, deleted in batch}
    for step in steps:
        values: dict[str, object] = {"patron": step.patron_id}
        if step.patron_id not in now:
            yield Message("patron {patron} can't be seen any more", values=values)
            continue
        group, lead, deleted = now[step.patron_id]
        if step.field == GROUP and group != step.before:
            yield Message("patron {patron} is in group {group} now", values={**values, "group": group})
        if lead != step.lead:
            yield Message(_LEAD_NOW if lead else _NO_LEAD_NOW, values=values)
        if deleted:
            yield Message("patron {patron} has been deleted", values=values)


def refuse_hidden_patrons(gateway: Gateway, plan: StoredPlan) -> None:
    """Refuse a plan if the approving supervisor's session can't see all of its patrons.

    Make one call, plus one for the first hidden patron.

    Raises:
        PermissionDeniedError: a permission is missing. The error says which and where.
    """
    for patron in sorted(plan.patrons - visible_patrons(gateway, plan.patrons)):
        require_visible(gateway, patron)


def visible_patrons(gateway: Gateway, patrons: Collection[int]) -> set[int]:
    """Return the patrons (ids) whom the session may see."""
    return {id for batch in gateway.pcrud.columns_by_values("au", ("id",), "id", sorted(patrons)) for (id,) in batch}


def recover_by_reading(gateway: Gateway, state: State) -> list[JournalStep]:
    """Resolve what earlier runs left open, for jobs that only read. Return the resolved steps.

    Make no call if nothing is open. Skip patrons whom another run is changing: that run resolves its steps itself.

    Raises:
        StateError: the journal can't be used.
        GatewayError: the ILS can't be reached, or the session has ended.
    """
    return Applier(gateway, state, Operator("")).recover() if state.database.is_there else []
