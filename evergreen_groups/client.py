"""Everything this package does at one gateway, for programs::

    with Gateway("https://ils.example.org", credentials=credentials) as gateway:
        client = Client(gateway, account="groups_report")
        plan = client.moves.plan_move(["20000000005002"], to="20000000005011")
        if not plan.draft.warnings:
            plan.apply()

Nothing changes before ``apply``.
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
from evergreen_groups.groups import AdultRule, MembershipReader
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
    """How many adults are too many in one group, as ``[audit]`` says."""
    return AdultRule(settings.adults_from_age, settings.max_adults)


class Client:
    """The jobs at one gateway; close it, or use it in a ``with`` statement.

    ``account`` is the ILS account's name, for the journal, or all that is known of who has
    something done; ``policy`` says which limits one person's own fines have (5.00 unless given).

    ``reference``, of the same policy, is what several clients of one program have read once for all of them.
    ``state`` has the journal (a file in ``$STATE_DIRECTORY`` or the user's own directory unless given).
    ``may_undo_others`` says whether the operator may take back, by :attr:`plans`, what others have changed; ``adults``
    how many of them may come together in a group before a plan warns of it (any number unless given).
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
        """Close what this client has opened itself: the database of a state that it wasn't given. Raises nothing.

        The gateway belongs to whoever made it, and so does a state that was given.
        """
        if self._own_state is not None:
            self._own_state.close()

    @property
    def state(self) -> State:
        """What is kept: the journal, the history, events."""
        return self._state

    @cached_property
    def moves(self) -> Moves:
        """Changes to membership: planned first, and in the journal before they are sent."""
        return Moves(self.gateway, self._state, self._operator, adults=self._adults)

    @cached_property
    def plans(self) -> DeskChanges:
        """Changes as a desk makes them: planned, stored, applied once."""
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
        """Groups with all that a desk sees of their members, by barcode, patron's id or group number."""
        return DetailsReader(self.gateway, self._policy, self._reference, self._recently_changed)

    @cached_property
    def bills(self) -> BillsReader:
        """What the members of groups owe for, and have out."""
        return BillsReader(self.gateway, self._reference, self._recently_changed)

    @cached_property
    def checks(self) -> Checker:
        """Who is blocked by their own fines, and what the ILS has recorded."""
        return Checker(self.gateway, self._policy, self._recently_changed)

    @cached_property
    def patrons(self) -> PatronLookup:
        """Patrons by card, a shortened barcode, or name, as far as the account sees them."""
        return PatronLookup(self.gateway)

    @cached_property
    def summaries(self) -> SummaryReader:
        """Patrons with their groups, as the desk sees them."""
        return SummaryReader(
            self.gateway, self._reference, lambda: recently_changed_or_unknown(self.gateway, self._state)
        )

    @cached_property
    def events(self) -> EventHandler:
        """Works on events that the ILS sends."""
        return EventHandler(self.gateway, self.summaries, self.recalculator, self._state)

    @cached_property
    def nights(self) -> GroupNights:
        """What groups owed in the recorded runs of the report."""
        database = self._state.database  # it imports what the next line needs
        from evergreen_groups.report import GroupNights

        return GroupNights(database, self.gateway.url)

    def report(self, criteria: Criteria) -> Report:
        """The groups whose members together owe a lot.

        Raises:
            ConfigurationError: ``criteria`` names an org unit that isn't there, or a limit a profile or library.
            PermissionDeniedError: the account sees no patrons.
            GatewayError: the ILS can't be reached, or gives no usable answer.
        """
        arguments.instance("criteria", criteria, Criteria)
        return build_report(self.gateway, criteria, self._progress, policy=self._policy)

    def audit(self, criteria: AuditCriteria, progress: Progress | None = None) -> Audit:
        """What stands in the ILS and doesn't fit the rule, without the groups that are to be kept as they are.

        Of those whose members have changed since, that is forgotten.

        Raises:
            ConfigurationError: ``criteria`` names an org unit or profile that isn't there, or a limit does.
            PermissionDeniedError: the account sees no patrons.
            GatewayError: the ILS can't be reached, or gives no usable answer.
            StateError: what is kept can't be read.
        """
        arguments.instance("criteria", criteria, AuditCriteria)
        stored = self._groups_to_keep()
        to_keep = stored.read()
        audit = build_audit(self.gateway, criteria, progress or self._progress, policy=self._policy, to_keep=to_keep)
        stored.remove(audit.changed)
        return audit

    def keep_groups(self, numbers: Collection[int]) -> None:
        """Keep groups as they are, as long as their members are the same.

        An audit doesn't list them as accidental or for review then.

        Raises:
            NotFoundError: one of them has no visible member; nothing is kept then.
            GatewayError: the ILS can't be reached or refuses.
            StateError: what is kept can't be written.
        """
        groups = MembershipReader(self.gateway).by_groups(arguments.wholes("numbers", numbers)).groups
        for number, group in groups.items():
            if not group.members:
                raise not_visible(
                    "group {group} has no visible member", code="group-to-keep-not-found", values={"group": number}
                )
        self._groups_to_keep().add({number: group.ids for number, group in groups.items()})

    def list_groups_again(self, numbers: Collection[int]) -> int:
        """Let an audit list groups (numbers) again that were to be kept; says how many of them were.

        Raises:
            StateError: what is kept can't be read or written.
        """
        return self._groups_to_keep().remove(arguments.wholes("numbers", numbers))

    def _groups_to_keep(self) -> GroupsToKeep:
        database = self._state.database  # before what comes with it: see State
        from evergreen_groups.audit import GroupsToKeep

        return GroupsToKeep(database, self.gateway.url)

    def _recently_changed(self) -> RecentlyChanged:
        return recently_changed(self.gateway, self._state)

    @cached_property
    def explanations(self) -> BlockExplainer:
        """Why a patron is blocked for fines or not, step by step."""
        return BlockExplainer(self.gateway, self._policy)

    @cached_property
    def recalculator(self) -> Recalculator:
        """Has the ILS recalculate the penalties of those whom an audit found; in the journal, as other changes are."""
        return Recalculator(self.gateway, self._state, self._operator)
