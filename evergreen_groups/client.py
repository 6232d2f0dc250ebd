"""The main class of the Python API: everything this package can do with one Evergreen gateway.

Example::

    with Gateway("https://ils.example.org", credentials=credentials) as gateway:
        client = Client(gateway, account="groups_report")
        plan = client.moves.plan_move(["20000000005002"], to="20000000005011")
        if not plan.draft.warnings:
            plan.apply()

Nothing is written to Evergreen before ``apply``.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Self

from evergreen_groups import arguments
from evergreen_groups.audit import Audit, AuditCriteria, BlockExplainer, build_audit
from evergreen_groups.changes import (
    DeskChanges,
    Moves,
    Operator,
    Recalculator,
    RecentlyChanged,
    recently_changed,
    recently_changed_or_unknown,
)
from evergreen_groups.desk import (
    BillsReader,
    Checker,
    DetailsReader,
    EventHandler,
    PatronLookup,
    SummaryReader,
)
from evergreen_groups.errors import not_visible
from evergreen_groups.groups import AdultRule, FamilyReader
from evergreen_groups.ils import ReferenceData
from evergreen_groups.progress import Progress, silent
from evergreen_groups.report import Criteria, Report, build_report
from evergreen_groups.settings import AuditSettings, PolicySettings
from evergreen_groups.state import State, find_state_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import TracebackType

    from evergreen_groups.audit import GroupsToKeep
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.report import GroupNights


def adult_rule(settings: AuditSettings) -> AdultRule:
    """Return the rule of ``[audit]`` that says how many adults are too many in one group."""
    return AdultRule(settings.adults_from_age, settings.max_adults)


class Client:
    """A client for one gateway. Close it, or use it in a ``with`` statement.

    Args:
        gateway: The connection to Evergreen. The client doesn't close it.
        account: Who makes changes, for the journal: the name of the Evergreen account, or an :class:`Operator`.
        policy: The limits for a person's own fines. By default the limit is 5.00.
        state: Holds the journal. By default the client opens, and closes, the one that the command uses.
        progress: Called during long jobs.
        reference: A cache of reference data that several clients with the same policy share.
        may_undo_others: Tells whether the operator may undo, by :attr:`plans`, what other people changed.
        adults: When to warn that a plan puts too many adults in one group. By default there is no warning.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        account: str | Operator,
        policy: PolicySettings | None = None,
        state: State | None = None,
        progress: Progress = silent,
        reference: ReferenceData | None = None,
        may_undo_others: Callable[[], bool] = lambda: False,
        adults: AdultRule | None = None,
    ) -> None:
        from evergreen_groups.gateway import Gateway as GatewayClass

        self.gateway = arguments.instance("gateway", gateway, GatewayClass).refusing_old_releases()
        self._operator = Operator(arguments.text("account", account)) if not isinstance(account, Operator) else account
        self._policy = PolicySettings() if policy is None else arguments.instance("policy", policy, PolicySettings)
        self._own_state = State(find_state_directory(os.environ)) if state is None else None
        self._state = self._own_state or arguments.instance("state", state, State)
        self._progress = progress
        self._may_undo_others = may_undo_others
        self._adults = adults
        self._reference = reference or ReferenceData(self._policy)

    def __repr__(self) -> str:
        return f"Client({self.gateway!r}, account={self._operator.account!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database if this client opened it. Raises nothing.

        The gateway, and a state passed to the constructor, belong to the caller and stay open.
        """
        if self._own_state is not None:
            self._own_state.close()

    @property
    def state(self) -> State:
        """The stored journal, history and events."""
        return self._state

    @cached_property
    def moves(self) -> Moves:
        """Plans and applies membership changes. Each change is recorded in the journal before it is sent."""
        return Moves(self.gateway, self._state, self._operator, adults=self._adults)

    @cached_property
    def plans(self) -> DeskChanges:
        """Plans changes for the desk, stores the plans, and applies each at most once."""
        return DeskChanges(
            self.gateway,
            self._state,
            self._operator,
            self._reference,
            may_undo_others=self._may_undo_others,
            adults=self._adults,
        )

    @cached_property
    def groups(self) -> DetailsReader:
        """Reads groups with the details that the desk shows, by barcode, patron id or group number."""
        return DetailsReader(self.gateway, self._policy, self._reference, self._recently_changed)

    @cached_property
    def bills(self) -> BillsReader:
        """Reads the open bills and checked-out items of group members."""
        return BillsReader(self.gateway, self._reference, self._recently_changed)

    @cached_property
    def checks(self) -> Checker:
        """Decides whether patrons are over the limit, and reads the penalties that Evergreen has recorded."""
        return Checker(self.gateway, self._policy, self._recently_changed)

    @cached_property
    def patrons(self) -> PatronLookup:
        """Finds visible patrons by barcode, by a barcode as the library shortens it, or by name."""
        return PatronLookup(self.gateway)

    @cached_property
    def summaries(self) -> SummaryReader:
        """Reads patrons with their groups, as the desk's panel shows them."""
        return SummaryReader(
            self.gateway, self._reference, lambda: recently_changed_or_unknown(self.gateway, self._state)
        )

    @cached_property
    def events(self) -> EventHandler:
        """Handles the events that Evergreen sends when patrons or their fines change."""
        return EventHandler(self.gateway, self.summaries, self.recalculator, self._state)

    @cached_property
    def nights(self) -> GroupNights:
        """The groups' totals in previous nightly reports."""
        database = self._state.database  # first, because it imports SQLAlchemy under a lock
        from evergreen_groups.report import GroupNights

        return GroupNights(database, self.gateway.url)

    def report(self, criteria: Criteria) -> Report:
        """Build a report on the groups that ``criteria`` selects, usually those whose members together owe a lot.

        Raises:
            ConfigurationError: ``criteria`` or a limit names an org unit or profile that doesn't exist.
            PermissionDeniedError: the account sees no patrons.
            GatewayError: Evergreen can't be reached, or gives no usable answer.
        """
        arguments.instance("criteria", criteria, Criteria)
        return build_report(self.gateway, criteria, self._progress, policy=self._policy)

    def audit(self, criteria: AuditCriteria, progress: Progress | None = None) -> Audit:
        """Find records that contradict the rule, and groups to review.

        Groups marked by :meth:`keep_groups` are left out. If a marked group's members have changed, the mark is removed
        and the group is listed again.

        Raises:
            ConfigurationError: ``criteria`` or a limit names an org unit or profile that doesn't exist.
            PermissionDeniedError: the account sees no patrons.
            GatewayError: Evergreen can't be reached, or gives no usable answer.
            StateError: the state can't be read.
        """
        arguments.instance("criteria", criteria, AuditCriteria)
        stored = self._groups_to_keep()
        to_keep = stored.read()
        audit = build_audit(self.gateway, criteria, progress or self._progress, policy=self._policy, to_keep=to_keep)
        stored.remove(audit.changed)
        return audit

    def keep_groups(self, numbers: Collection[int]) -> None:
        """Mark groups (by number) as intended, so that audits don't list them as accidental or for review.

        A mark lasts as long as the group's members stay the same.

        Raises:
            NotFoundError: a group has no visible member. No group is marked then.
            GatewayError: Evergreen can't be reached or refuses.
            StateError: the marks can't be written.
        """
        groups = FamilyReader(self.gateway).by_groups(arguments.integers("numbers", numbers)).groups
        for number, group in groups.items():
            if not group.members:
                raise not_visible(
                    "group {group} has no visible member", code="group-to-keep-not-found", values={"group": number}
                )
        self._groups_to_keep().add({number: group.ids for number, group in groups.items()})

    def list_groups_again(self, numbers: Collection[int]) -> int:
        """Remove the marks of :meth:`keep_groups` from groups (by number), and return how many of them had one.

        Raises:
            StateError: the marks can't be read or written.
        """
        return self._groups_to_keep().remove(arguments.integers("numbers", numbers))

    def _groups_to_keep(self) -> GroupsToKeep:
        database = self._state.database  # first, because it imports SQLAlchemy under a lock
        from evergreen_groups.audit import GroupsToKeep

        return GroupsToKeep(database, self.gateway.url)

    def _recently_changed(self) -> RecentlyChanged:
        return recently_changed(self.gateway, self._state)

    @cached_property
    def explanations(self) -> BlockExplainer:
        """Explains step by step why a patron is or isn't blocked for fines."""
        return BlockExplainer(self.gateway, self._policy)

    @cached_property
    def recalculator(self) -> Recalculator:
        """Has Evergreen recalculate the penalties of patrons whom an audit found, and records this in the journal."""
        return Recalculator(self.gateway, self._state, self._operator)
