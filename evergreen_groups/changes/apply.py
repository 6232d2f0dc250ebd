"""Apply the steps of a plan one at a time, with the journal and under a lease on its patrons and groups."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from evergreen_groups.changes.journal import PENALTIES, StepState
from evergreen_groups.changes.patron_change import PatronChange
from evergreen_groups.changes.plans import GROUP, LEAD, PlannedStep, StepOutcome, StepT
from evergreen_groups.changes.reasons import NO_REASON, WAITS_FOR_OTHERS, StepReason
from evergreen_groups.changes.recovery import FATAL_ERRORS, recover, sent_change
from evergreen_groups.errors import BusyError, PlanError
from evergreen_groups.groups import read_members, read_patron, require_visible
from evergreen_groups.message import Message
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from evergreen_groups.changes.journal import FieldChange, Journal, JournalStep, Operator, Refusal, Sending
    from evergreen_groups.changes.outcome_check import SentChange
    from evergreen_groups.changes.plans import StoredPlan
    from evergreen_groups.errors import EvergreenGroupsError, GatewayError
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.state import State, Transactions


class StepApplier:
    """Apply plan steps at one gateway through the journal of ``changes``.

    ``group_members`` has the ids of patrons who are already in the groups that the plan joins.
    """

    def __init__(self, gateway: Gateway, changes: JournaledChanges, group_members: Collection[int] = ()) -> None:
        self._gateway = gateway
        self._changes = changes
        self._group_members = group_members

    def apply(
        self,
        action: str,
        steps: Sequence[StepT],
        *,
        undoes: str | None = None,
        precheck: Callable[[], None] | None = None,
        in_transaction: Callable[[Connection, str], None] | None = None,
        on_start: Callable[[], None] | None = None,
        timeout: float = 0.0,
        progress: Progress = silent,
    ) -> tuple[list[StepOutcome[StepT]], GatewayError | None]:
        """Apply the steps. Return the outcome of each step that started, and the error that stopped the run, if any.

        ``precheck`` runs once the lease is held, before anything is written. It may raise to refuse the plan.
        ``in_transaction`` runs in the transaction that adds the journal entry. ``on_start`` runs after that commit,
        before the first step. ``timeout`` is how many seconds to wait for another run that holds the lease.

        Raises:
            BusyError: another run still holds the lease.
            TransportError: the outcome of an interrupted run can't be looked up. Nothing was sent.
        """
        run = _Run(self._gateway)

        def apply_step(position: int, journaled: JournaledStep) -> StepOutcome[StepT]:
            if position == 0 and on_start is not None:
                on_start()
            return run.apply(steps[position], journaled)

        patrons = {step.patron_id for step in steps}
        # Lease the groups' current members too. An open request for a new group is confirmed by finding its patron
        # alone in a group, so recover those requests before this plan adds anyone.
        with self._changes.begin(patrons.union(self._group_members), groups_of(steps), timeout) as journal:
            if precheck is not None:
                precheck()
            open_ones = self._changes.open_changes(journal, patrons)
            run.under_way = [change for change in open_ones if change.field != PENALTIES]
            return self._changes.apply(
                journal, action, steps, apply_step, undoes=undoes, in_transaction=in_transaction, progress=progress
            )


def groups_of(steps: Sequence[PlannedStep]) -> set[int]:
    """Return the numbers of existing groups that the steps take patrons from or move them to."""
    moves = [step for step in steps if step.field == GROUP]
    return {step.before for step in moves} | {step.after for step in moves if step.after is not None}


class _Run:
    """The state of one run: which steps have to wait for others.

    ``under_way`` lists the requests that may still reach Evergreen.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.under_way: list[SentChange] = []
        self._not_moved: set[tuple[int, int | None]] = set()

    def apply(self, step: StepT, journaled: JournaledStep) -> StepOutcome[StepT]:
        """Apply one step unless it has to wait."""
        way = (step.before, step.after)
        if step.last and way in self._not_moved:
            # Another patron's move failed. Keep this one behind, so that the same command still finds the group.
            journaled.record(StepState.NOT_DONE, reason=WAITS_FOR_OTHERS)
            return StepOutcome(step, StepState.NOT_DONE, reason=WAITS_FOR_OTHERS)
        change = PatronChange(
            self._gateway,
            step,
            journaled,
            waits_for=self._waits_for(step, journaled.now()),
            earlier=self._repeated(step),
        )
        outcome = change.apply()
        if outcome.sent is not None:
            self.under_way.append(outcome.sent)
        if step.field == GROUP and not outcome.state.is_as_planned:
            self._not_moved.add(way)
        return outcome

    def _waits_for(self, step: PlannedStep, now: datetime) -> SentChange | None:
        """Return the patron's latest open request that rules out sending this step now, or None.

        ``usergroup.new`` can run at any time and would overwrite this step. Once this step has changed the record, the
        result of an open request for another field would look like another user's edit. A repeat of the same request
        is safe.
        """
        waits = [
            change
            for change in self.under_way
            if change.patron == step.patron_id
            and (change.may_still_arrive(now) if change.field != step.field else not self._is_same(change, step))
        ]
        return max(waits, key=lambda change: change.sending.until, default=None)

    def _repeated(self, step: PlannedStep) -> SentChange | None:
        """Return an earlier run's open request for the same change. This step records the outcome of both."""
        same = (it for it in self.under_way if it.patron == step.patron_id and self._is_same(it, step))
        return next(same, None)

    @staticmethod
    def _is_same(change: SentChange, step: PlannedStep) -> bool:
        return change.means(step.field, step.before, step.after)


_CHANGING = Message("changing")


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step as recorded before sending. See :class:`JournalStep` for the fields."""

    patron_id: int
    field: str
    before: int
    after: int | None


class StepResult(Protocol):
    """The outcome of a step. ``error`` is the exception that ended the step, if any."""

    @property
    def error(self) -> EvergreenGroupsError | None: ...


Result = TypeVar("Result", bound=StepResult)


class JournaledStep:
    """A step that is already in the journal, passed to the code that applies the step."""

    def __init__(self, journal: Journal, id: int) -> None:
        self._journal = journal
        self._id = id

    def now(self) -> datetime:
        """Return the current time by the state database's clock. See :meth:`Transactions.now`."""
        return self._journal.now()

    def record_sending(self, sending: Sending) -> None:
        """Record that a request is about to go out."""
        self._journal.record_sending(self._id, sending)

    def record(
        self,
        state: StepState,
        *,
        value: int | None = None,
        reason: StepReason = NO_REASON,
        refusal: Refusal | None = None,
    ) -> None:
        """Record the state of the step. Durable once this returns."""
        self._journal.record(self._id, state, value=value, reason=reason, refusal=refusal)


class JournaledChanges:
    """Changes sent to one gateway, journaled in ``state`` under the name of ``operator``."""

    def __init__(self, gateway: Gateway, state: State, operator: Operator) -> None:
        self._gateway = gateway
        self._state = state
        self._operator = operator

    def recover(self, patrons: Collection[int] | None = None) -> list[JournalStep]:
        """Resolve steps that an earlier run left open, and return the resolved steps.

        Covers the given patrons (ids), or all patrons. Skip patrons whom another run is changing: that run resolves its
        steps itself.
        """
        open_steps = _journal(self._state.database).open_steps(self._gateway.url, patrons)
        ended: list[JournalStep] = []
        for patron in sorted({step.patron for step in open_steps}):
            # One lease per patron, so that a busy patron doesn't hold up the others.
            with suppress(BusyError), self._lease([patron], (), 0.0) as journal:
                ended += recover(self._gateway, journal, [patron])
        return ended

    def is_under_way(self, patrons: Collection[int]) -> bool:
        """Return whether a run is changing any of these patrons (ids) now."""
        return self._state.is_being_changed(self._gateway.url, patrons)

    def wait(self, patrons: Collection[int], timeout: float) -> None:
        """Wait up to ``timeout`` seconds until no run is changing these patrons (ids)."""
        with suppress(BusyError), self._lease(patrons, (), timeout):
            pass

    def open_changes(self, journal: Journal, patrons: Collection[int]) -> list[SentChange]:
        """Return the patrons' requests that may still reach Evergreen or whose outcome is unknown."""
        return [sent_change(journal, step) for step in journal.open_steps(self._gateway.url, patrons)]

    @contextmanager
    def begin(self, patrons: Collection[int], groups: Collection[int] = (), timeout: float = 0.0) -> Iterator[Journal]:
        """Hold the lease on these patrons and groups, after resolving whatever earlier runs left open.

        Wait up to ``timeout`` seconds for the lease.

        Raises:
            BusyError: another run is changing one of them.
            TransportError: the outcome of an interrupted run can't be looked up.
        """
        with self._lease(patrons, groups, timeout) as journal:
            recover(self._gateway, journal, set(patrons))
            yield journal

    def apply(
        self,
        journal: Journal,
        action: str,
        steps: Sequence[FieldChange],
        apply_step: Callable[[int, JournaledStep], Result],
        *,
        undoes: str | None = None,
        in_transaction: Callable[[Connection, str], None] | None = None,
        doing: str = _CHANGING,
        progress: Progress = silent,
    ) -> tuple[list[Result], GatewayError | None]:
        """Journal the steps, apply them in order, and return the results and the error that stopped the run, if any.

        ``apply_step`` receives a step's position in ``steps`` and records the outcome itself. Steps after a stopping
        error don't start and have no result. ``in_transaction`` is passed on to :meth:`Journal.begin`.
        """
        ids = journal.begin(self._gateway.url, self._operator, action, steps, undoes, in_transaction)
        results: list[Result] = []
        for position, step_id in enumerate(ids):
            results.append(apply_step(position, JournaledStep(journal, step_id)))
            progress(doing, len(results), len(ids))
            error = results[-1].error
            if isinstance(error, FATAL_ERRORS):
                return results, error
        return results, None

    @contextmanager
    def _lease(self, patrons: Collection[int], groups: Collection[int], timeout: float) -> Iterator[Journal]:
        with self._state.change_lease(self._gateway.url, patrons, groups, timeout) as lease:
            yield _journal(lease)


def _journal(transactions: Transactions) -> Journal:
    from evergreen_groups.changes.journal import Journal  # imports SQLAlchemy, which is slow

    return Journal(transactions)


_PatronState = tuple[int, bool, bool]
"""A patron's group number, whether they are a group lead, and whether their record is deleted."""

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
    if plan.is_recalculation:
        return
    # A patron with several steps causes the same difference more than once.
    differences = list(dict.fromkeys([*_patron_differences(gateway, plan), *_group_differences(gateway, plan)]))
    if differences:
        raise PlanError(
            "the plan no longer fits: {differences}",
            advice="make it again, and look at it",
            code="plan-outdated",
            values={"differences": tuple(differences[:_MOST_NAMED])},
        )


def refuse_hidden_patrons(gateway: Gateway, plan: StoredPlan) -> None:
    """Refuse a plan if the approving supervisor's session can't see all of its patrons.

    Make one call, plus one for the first hidden patron.

    Raises:
        PermissionDeniedError: a permission is missing. The error says which and where.
    """
    for patron in sorted(plan.patrons - _read_states(gateway, plan.patrons).keys()):
        require_visible(gateway, patron)


def _patron_differences(gateway: Gateway, plan: StoredPlan) -> Iterator[Message]:
    now = _read_primary_states(gateway, plan.patrons) if gateway.reads_replicas else _read_states(gateway, plan.patrons)
    for step in plan.steps:
        if step.patron_id not in now:
            yield Message("patron {patron} can't be seen any more", values={"patron": step.patron_id})
            continue
        group, lead, deleted = now[step.patron_id]
        if step.field == GROUP and group != step.before:
            yield Message("patron {patron} is in group {group} now", values={"patron": step.patron_id, "group": group})
        if lead != step.lead:
            yield Message(_LEAD_NOW if lead else _NO_LEAD_NOW, values={"patron": step.patron_id})
        if deleted:
            yield Message("patron {patron} has been deleted", values={"patron": step.patron_id})


def _read_states(gateway: Gateway, patrons: Collection[int]) -> dict[int, _PatronState]:
    found = gateway.pcrud.columns_by_values("au", ("id", GROUP, LEAD, "deleted"), "id", sorted(patrons))
    return {id: (group, bool(lead), bool(deleted)) for batch in found for id, group, lead, deleted in batch}


def _read_primary_states(gateway: Gateway, patrons: Collection[int]) -> dict[int, _PatronState]:
    records = gateway.map(partial(read_patron, gateway), sorted(patrons))
    found = (record for record in records if record is not None)
    return {it.id: (int(it.usrgroup), bool(it.master_account), bool(it.deleted)) for it in found}


def _group_differences(gateway: Gateway, plan: StoredPlan) -> Iterator[Message]:
    now = read_members(gateway, [group.number for group in plan.groups])
    for group in plan.groups:
        if now[group.number] != frozenset(group.members):
            yield Message("other patrons are in group {group} now", values={"group": group.number})


def recover_by_reading(gateway: Gateway, state: State) -> list[JournalStep]:
    """Resolve what earlier runs left open, for jobs that only read. Return the resolved steps.

    Make no call if nothing is open. Skip patrons whom another run is changing: that run resolves its steps itself.

    Raises:
        StateError: the journal can't be used.
        GatewayError: the ILS can't be reached, or the session has ended.
    """
    from evergreen_groups.changes.journal import Journal  # imports SQLAlchemy, which is slow

    if not state.database.is_there or not Journal(state.database).open_steps(gateway.url):
        return []
    from evergreen_groups.changes.journal import Operator

    return JournaledChanges(gateway, state, Operator("")).recover()
