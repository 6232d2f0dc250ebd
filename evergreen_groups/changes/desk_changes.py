"""Changes as a desk makes them: a plan that is stored and shown, applied once under a key, and looked at afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from evergreen_groups import arguments
from evergreen_groups.changes.change_reader import Change, ChangeReader
from evergreen_groups.changes.drafter import Drafter
from evergreen_groups.changes.journaled import JournaledChanges
from evergreen_groups.changes.plan_check import refuse_hidden_patrons, refuse_what_no_longer_fits
from evergreen_groups.changes.plan_request import PlanRequest
from evergreen_groups.changes.planner import Planner
from evergreen_groups.changes.recalculation import Recalculator
from evergreen_groups.changes.step_applier import StepApplier
from evergreen_groups.changes.stored_plan import ProposedPlan, StoredPlan
from evergreen_groups.errors import BusyError, NotFoundError, PlanError
from evergreen_groups.progress import Progress, silent

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from evergreen_groups.changes.journal_step import JournalEntry, Operator
    from evergreen_groups.changes.plan_store import PlanStore
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import AdultRule
    from evergreen_groups.limits import ReferenceData
    from evergreen_groups.state import State

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
        from evergreen_groups.changes.plan_store import applied_before, expired, key_of_another

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
        from evergreen_groups.changes.plan_store import applied_before, key_of_another

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
        from evergreen_groups.changes.plan_store import PlanStore

        return PlanStore(database, self._gateway.url)


class _AppliedMeanwhile(Exception):  # noqa: N818 - nobody is told of it: the other's change is the answer
    """Another request has applied the plan, under the same key."""

    def __init__(self, change: str) -> None:
        self.change = change
