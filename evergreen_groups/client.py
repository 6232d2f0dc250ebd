"""The main class of the Python API: everything this package can do with one Evergreen gateway.

Example::

    with connect("https://evergreen.example.org", username="groups_report", password="…") as client:
        plan = client.move(["20000000005002"], to="20000000005011")
        print(plan)
        if not plan.warnings:
            plan.apply()

Nothing is written to Evergreen before ``apply``.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import cache, cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from evergreen_groups import arguments, audit, changes, desk, report
from evergreen_groups.changes import Action, Operator, PlanOutcome, PlanRequest, Step
from evergreen_groups.errors import PlanError, UnreachableError, not_visible
from evergreen_groups.groups import AdultRule, family_reader, find_owner
from evergreen_groups.ils import ReferenceData
from evergreen_groups.message import Progress, silent
from evergreen_groups.settings import (
    AuditSettings,
    GatewaySettings,
    PolicySettings,
    Settings,
    all_conditions,
    passwords,
    reading,
)
from evergreen_groups.state import State, find_state_directory

# Other classes are reached by their package, so that a command loads no more than it uses.
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import TracebackType

    from evergreen_groups.arguments import Amount, Several
    from evergreen_groups.audit import Audit, AuditCriteria, BlockExplainer, GroupsToKeep
    from evergreen_groups.changes import Changer, Draft, PlannedGroup, PlanWarning, RecentlyChanged
    from evergreen_groups.desk import (
        BillsReader,
        Checker,
        DetailsReader,
        EventHandler,
        FamilyItems,
        GroupSummary,
        PatronDecision,
        PatronLookup,
        SummaryReader,
        Titles,
    )
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import PatronReference
    from evergreen_groups.policy import Limit
    from evergreen_groups.report import Choice, Criteria, GroupNights, Report


def adult_rule(settings: AuditSettings) -> AdultRule:
    """Return the rule in ``[audit]`` for the number of adults in a group."""
    return AdultRule(settings.adults_from_age, settings.max_adults)


def connect(
    url: str | None = None,
    *,
    username: str | None = None,
    password: str | None = None,
    workstation: str | None = None,
    limit: Amount | None = None,
    state: Path | str | None = None,
    config: Path | str | None = None,
) -> Client:
    """Open a client. Use it in a ``with`` statement, or close it; closing logs out.

    Args:
        url: The server's address, such as ``https://evergreen.example.org``.
        username: The Evergreen account, which the journal names for changes.
        password: Its password.
        workstation: A registered workstation to log in with.
        limit: The limit of a person's own fines, 5.00 unless given.
        state: The directory of the journal. By default the one that the command uses.
        config: A configuration file.

    Without ``url``, everything except ``state`` comes from the configuration and the environment, as for the command
    ``evergreen-groups``. Without ``config``, the file is where the command looks for it.

    Raises:
        ConfigurationError: the configuration is missing or wrong, or the address can't be used.
        ArgumentError: an argument has the wrong type, or doesn't go with the others.
    """
    from evergreen_groups import configured

    environ = dict(os.environ)
    account = {"username": username, "password": password}
    if url is None:
        others = {**account, "workstation": workstation, "limit": limit}
        wrong, given = [name for name, value in others.items() if value is not None], "{} without a URL"
    elif config is not None:
        wrong, given = ["config"], "a URL with {}"
    else:
        wrong, given = [name for name, value in account.items() if value is None], "a URL without {}"
    if wrong:
        expected = "a URL with username and password, or nothing but config and state"
        raise arguments.wrong("connect", url, expected, given.format(" and ".join(wrong)))
    if url is None:
        settings = reading.load(None if config is None else arguments.path("config", config), environ)
    else:
        environ[passwords.PASSWORD_VARIABLE] = arguments.text("password", password)
        own = GatewaySettings(url=url, username=arguments.text("username", username), workstation=workstation)
        settings = Settings(
            gateway=own, policy=PolicySettings(limit=arguments.amount("limit", "5.00" if limit is None else limit))
        )
    name = configured.gateway_account(settings)
    gateway = configured.connect(settings, environ)
    directory = None if state is None else arguments.path("state", state)
    opened = configured.configured_state(settings, environ, directory)
    adults = adult_rule(settings.audit)
    return Client(gateway, account=name, policy=settings.policy, state=opened, adults=adults, owned=(gateway, opened))


class Outcome(PlanOutcome[Step]):
    """The outcome of applying a plan: ``steps`` with their states, ``entry`` (the journal's id), and ``done``."""

    _client: Client  # no field, so that outcomes compare as data

    def __init__(self, outcome: PlanOutcome[Step], client: Client) -> None:
        super().__init__(outcome.steps, outcome.stopped, outcome.entry)
        object.__setattr__(self, "_client", client)

    def __str__(self) -> str:
        from evergreen_groups.render import write_outcome

        write_outcome(self, text := StringIO())
        return text.getvalue().rstrip()

    def undo(self, *, timeout: float = 0.0) -> Outcome:
        """Undo the change now: move back every patron who is still where it put them. Return the outcome of that.

        ``timeout`` is how many seconds to wait for another run that is changing the same patrons.

        Raises:
            PlanError: nothing was changed, nothing is left to undo, or the change can't be undone.
        """
        if self.entry is None:
            raise PlanError("there is nothing to do", code="plan-empty")
        return self._client.undo(self.entry).apply(timeout=timeout)


class Plan:
    """A plan that is ready to apply. Inspect it first, by :func:`print` or its attributes: nothing has been sent yet.

    ``draft`` has the plan in full.
    """

    def __init__(self, draft: Draft, client: Client) -> None:
        self.draft = draft
        self._client = client

    def __repr__(self) -> str:
        return f"<Plan to {self.draft.action.value}: {len(self.steps)} steps, {len(self.warnings)} warnings>"

    def __str__(self) -> str:
        from evergreen_groups.render import write_draft

        write_draft(self.draft, text := StringIO())
        return text.getvalue().rstrip()

    @property
    def steps(self) -> tuple[Step, ...]:
        """The changes, one for each patron and field."""
        return self.draft.steps

    @property
    def groups(self) -> tuple[PlannedGroup, ...]:
        """The groups before and after."""
        return self.draft.groups

    @property
    def warnings(self) -> tuple[PlanWarning, ...]:
        """What to check before applying the plan, by ``code``."""
        return self.draft.warnings

    def apply(self, progress: Progress | None = None, *, timeout: float = 0.0) -> Outcome:
        """Apply the plan step by step. Journal each step before it is sent, and read it back.

        ``progress`` is called after each step. ``timeout`` is how many seconds to wait for another run on the same
        patrons or groups. Apply the same plan again to continue after an interruption: steps already made aren't
        repeated, and count as unchanged.

        Raises:
            BusyError: another run is changing one of the patrons or groups.
            TransportError: the client is closed, or an interrupted run's outcome can't be looked up. Nothing is sent.
        """
        return Outcome(self._client.changes.apply_draft(self.draft, progress or silent, timeout=timeout), self._client)


class Client:
    """A client for one gateway, as :func:`connect` opens it. Close it, or use it in a ``with`` statement.

    Args:
        gateway: The connection to Evergreen. The client doesn't close it.
        account: Who makes changes, for the journal: the name of the Evergreen account, or an :class:`Operator`.
        policy: The limits for a person's own fines. By default the limit is 5.00.
        state: Holds the journal. By default the client opens, and closes, the one that the command uses.
        progress: Called during long jobs.
        reference: A cache of reference data that several clients with the same policy share.
        may_undo_others: Tells whether the operator may undo what other people changed, in a stored plan. Asked once.
        adults: When to warn that a plan puts too many adults in one group. By default there is no warning.
        owned: What the client closes in addition.
    """

    def __init__(  # noqa: PLR0913 - options, passed by name
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
        owned: Collection[Gateway | State] = (),
    ) -> None:
        from evergreen_groups.gateway import Gateway as GatewayClass

        self.gateway = arguments.instance("gateway", gateway, GatewayClass).refusing_old_releases()
        self._operator = Operator(arguments.text("account", account)) if not isinstance(account, Operator) else account
        self._policy = PolicySettings() if policy is None else arguments.instance("policy", policy, PolicySettings)
        self._owned = ExitStack()
        self._is_closed = False
        for each in owned:
            self._owned.callback(each.close)
        if state is None:
            state = State(find_state_directory(os.environ))
            self._owned.callback(state.close)
        self.state = arguments.instance("state", state, State)
        self._progress = progress
        self._reference = reference or ReferenceData(self._policy)
        self._may_undo_others, self._adults = may_undo_others, adults

    # Most requests of a service only read.
    @cached_property
    def _changes(self) -> Changer:
        return changes.Changer(
            self.gateway,
            self.state,
            self._operator,
            self._reference,
            may_undo_others=cache(self._may_undo_others),  # a page lists many changes
            adults=self._adults,
        )

    def __repr__(self) -> str:
        return f"Client({self.gateway!r}, account={self._operator.account!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Log out, and close the database, if this client opened them."""
        self._is_closed = True
        self._owned.close()

    def group(self, patron: PatronReference | None = None, *, number: int | None = None) -> GroupSummary:
        """Read the group of a patron, by barcode (``str``) or id (``int``), or the group with this ``number``.

        The combined fines are for information only. Blanks in a barcode are ignored.

        Raises:
            NotFoundError: the patron or group doesn't exist, or the account may not see it.
            PermissionDeniedError: the account lacks VIEW_USER at its own library, so hidden members can't be counted.
        """
        if (patron is None) == (number is None):
            raise arguments.wrong("group", patron, "a patron or a number", "both" if patron is not None else "neither")
        if patron is None:
            return self.summaries.of_group(number or 0)
        if isinstance(patron, str):
            return self.summaries.of_barcode(patron).group
        return self.summaries.of_patron(arguments.reference("patron", patron)).group  # type: ignore[arg-type]  # not text

    def check(self, patron: PatronReference) -> PatronDecision:
        """Decide whether the own fines of a patron, by barcode (``str``) or id (``int``), exceed the limit.

        Read nothing about other members of the group.

        Raises:
            NotFoundError: the patron doesn't exist, or the account may not see them.
        """
        if isinstance(patron, str):
            return self.summaries.decision_by_barcode(patron)
        return self.summaries.decision(arguments.reference("patron", patron))  # type: ignore[arg-type]  # not text

    def slip(self, patron: PatronReference, *, titles: Titles | None = None, adults: bool = False) -> FamilyItems:
        """Read what a patron, by barcode (``str``) or id (``int``), and the children of the group have out.

        With the holds that they can pick up, and what they owe. ``titles`` selects the members whose titles are
        included, none by default; reading titles is logged. ``adults`` includes the other adults of the group.

        Raises:
            NotFoundError: the patron doesn't exist, or the account may not see them.
        """
        titles = desk.Titles.NONE if titles is None else titles
        if not isinstance(patron, str):
            return self.bills.slip(arguments.reference("patron", patron), titles=titles, adults=adults)  # type: ignore[arg-type]  # not text
        owner = find_owner(self.gateway, patron)
        if owner is None:
            raise not_visible("no visible patron has this barcode", code="no-patron-with-barcode")
        return self.bills.slip(owner[0], titles=titles, adults=adults)

    def report(  # noqa: PLR0913 - options, passed by name
        self,
        criteria: Criteria | None = None,
        *,
        min_total: Amount | None = None,
        min_overdue: int = 0,
        min_lost: int = 0,
        overdue_days: int = 0,
        libraries: Several[str] = (),
        min_members: int = 2,
        choice: Choice | None = None,
        sort: str = "total",
        top: int | None = None,
        details: bool = True,
    ) -> Report:
        """Build a report on groups with combined fines of ``min_total`` or more, or overdue or lost items.

        A group is listed if it meets one of the conditions: the members together owe ``min_total`` (default: 25 unless
        items are asked for; 0: don't list by fines), have ``min_overdue`` items overdue, each for ``overdue_days`` or
        longer, or have ``min_lost`` items lost.

        A group is listed if a member's home library is one of ``libraries`` (short names) or below; without any, all
        are. ``choice`` narrows the list. ``sort`` is ``total``, ``age``, ``members``, ``name`` or ``library``. ``top``
        limits the number of groups. ``details`` reads what the members owe for. ``criteria`` has all of these and more,
        and takes their place.

        Raises:
            ConfigurationError: a library, or a profile or library of a limit, doesn't exist.
            PermissionDeniedError: the account sees no patrons.
            GatewayError: Evergreen can't be reached, or gives no usable answer.
        """
        if criteria is None:
            asked: dict[str, Any] = {"min_overdue": min_overdue, "min_lost": min_lost, "overdue_days": overdue_days}
            if min_total is not None:
                asked["min_total"] = arguments.amount("min_total", min_total)
            criteria = report.Criteria(
                **all_conditions(asked),
                min_members=min_members,
                orgs=arguments.texts("libraries", libraries),
                top=top,
                sort=sort,
                limit=self._limit,
                choice=choice or report.Choice(),
                details=details,
            )
        arguments.instance("criteria", criteria, report.Criteria)
        return report.build_report(self.gateway, criteria, self._progress, policy=self._policy)

    def audit(
        self, criteria: AuditCriteria | None = None, progress: Progress | None = None, *, libraries: Several[str] = ()
    ) -> Audit:
        """Find records that contradict the rule, and groups to review.

        ``libraries`` are short names of home libraries, each with all below it; without any, all are audited.
        ``criteria`` has more to choose, and takes its place.

        Groups marked by :meth:`keep_groups` are left out. If a marked group's members have changed, the mark is removed
        and the group is listed again.

        Raises:
            ConfigurationError: a library, or a profile or library of a limit, doesn't exist.
            PermissionDeniedError: the account sees no patrons.
            GatewayError: Evergreen can't be reached, or gives no usable answer.
            StateError: the state can't be read.
        """
        if criteria is None:
            criteria = audit.AuditCriteria(orgs=arguments.texts("libraries", libraries), limit=self._limit)
        arguments.instance("criteria", criteria, audit.AuditCriteria)
        stored = self._groups_to_keep()
        to_keep = stored.read()
        found = audit.build_audit(
            self.gateway, criteria, progress or self._progress, policy=self._policy, to_keep=to_keep
        )
        stored.remove(found.changed)
        return found

    def move(self, patrons: Several[PatronReference], *, to: PatronReference, active_cards: bool = False) -> Plan:
        """Plan to move patrons into the group of the patron ``to``. Nothing is changed before ``Plan.apply``.

        Patrons are barcodes (``str``, any card of theirs, blanks are ignored) or ids (``int``); name each once.
        ``active_cards`` refuses barcodes of inactive cards, which otherwise only cause a warning.

        Raises:
            PlanError: a patron is unknown, hidden, deleted, or named twice.
            ArgumentError: ``patrons`` is a single barcode or contains something else.
            GatewayError: Evergreen can't be reached or refuses.
        """
        moving, target = arguments.references("patrons", patrons), arguments.reference("to", to)
        return self._plan(PlanRequest(Action.MOVE, moving, target, active_cards=active_cards))

    def remove(self, patrons: Several[PatronReference], *, lead: bool = False) -> Plan:
        """Plan to give each patron a new group of their own, as its lead if ``lead`` is true.

        Raises the errors of :meth:`move`.
        """
        return self._plan(PlanRequest(Action.REMOVE, arguments.references("patrons", patrons), lead=lead))

    def merge(self, source: PatronReference, *, to: PatronReference) -> Plan:
        """Plan to move the whole group of the patron ``source`` into the group of the patron ``to``.

        Raises the errors of :meth:`move`, and PlanError if the group has members whom the account can't see.
        """
        moving, target = arguments.reference("source", source), arguments.reference("to", to)
        return self._plan(PlanRequest(Action.MERGE, (moving,), target))

    def set_lead(self, patron: PatronReference, *, lead: bool = True) -> Plan:
        """Plan to make a patron a group lead or, with ``lead`` false, no longer one.

        Raises the errors of :meth:`move`.
        """
        named = (arguments.reference("patron", patron),)
        return self._plan(PlanRequest(Action.LEAD, named, off=not arguments.boolean("lead", lead)))

    def recalculate(self, patrons: Several[PatronReference]) -> Plan:
        """Plan to have Evergreen recalculate the penalties of patrons at their home libraries.

        Blocks that staff set are never removed. A recalculation can't be undone. Raises the errors of :meth:`move`.
        """
        return self._plan(PlanRequest(Action.RECALCULATE, arguments.references("patrons", patrons)))

    def undo(self, entry: str) -> Plan:
        """Plan to undo a journal entry, moving back every patron who is still where the entry put them.

        Raises:
            NotFoundError: this gateway has no entry with this id.
            PlanError: the entry is already undone, has nothing to undo, or can't be undone. The error says why.
            GatewayError: Evergreen can't be reached or refuses.
        """
        return self._plan(PlanRequest(Action.UNDO, change=arguments.text("entry", entry)))

    def batch(self, file: Path | str) -> Plan:
        """Plan the changes in a CSV file with the columns ``action,barcode,target``.

        Raises:
            PlanError: lines are wrong or contradict each other. The error lists them all.
            ConfigurationError: the file can't be read.
        """
        return Plan(changes.plan_batch(self._changes.planner, arguments.path("file", file)), self)

    @property
    def changes(self) -> Changer:
        """The journal: earlier changes, and those whose outcome isn't known. For services, plans stored under an id.

        Raises:
            UnreachableError: the client is closed. Otherwise, it would open the journal again.
        """
        if self._is_closed:
            raise UnreachableError("the gateway is closed", code="gateway-closed")
        return self._changes

    @property
    def details(self) -> DetailsReader:
        """Reads groups with the details that the desk shows, by barcode, patron id or group number."""
        return desk.DetailsReader(self.gateway, self._policy, self._reference, self._recently_changed)

    @property
    def bills(self) -> BillsReader:
        """Reads the open bills and checked-out items of group members."""
        return desk.BillsReader(self.gateway, self._reference, self._recently_changed)

    @property
    def checks(self) -> Checker:
        """Decides whether patrons are over the limit, and reads the penalties that Evergreen has recorded."""
        return desk.Checker(self.gateway, self._policy, self._recently_changed)

    @property
    def patrons(self) -> PatronLookup:
        """Finds visible patrons by barcode, by the shortened barcode that a library uses, or by name."""
        return desk.PatronLookup(self.gateway)

    @property
    def summaries(self) -> SummaryReader:
        """Reads patrons with their groups, as the desk's panel shows them."""
        return desk.SummaryReader(
            self.gateway, self._reference, lambda: changes.recently_changed_or_unknown(self.gateway, self.state)
        )

    @property
    def events(self) -> EventHandler:
        """Handles the events that Evergreen sends when patrons or their fines change."""
        return desk.EventHandler(self.gateway, self.summaries, self._changes, self.state)

    @property
    def nights(self) -> GroupNights:
        """The groups' totals in previous nightly reports."""
        database = self.state.database  # first, because it imports SQLAlchemy under a lock
        from evergreen_groups.report import GroupNights

        return GroupNights(database, self.gateway.url)

    def keep_groups(self, numbers: Collection[int]) -> None:
        """Mark groups (by number) as correct, so that audits no longer list them as accidental or for review.

        A mark lasts as long as the group's members stay the same.

        Raises:
            NotFoundError: a group has no visible member. No group is marked then.
            GatewayError: Evergreen can't be reached or refuses.
            StateError: the marks can't be written.
        """
        wanted = arguments.integers("numbers", numbers)
        groups = family_reader(self.gateway).named((), wanted, with_fines=False).groups
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
        database = self.state.database  # first, because it imports SQLAlchemy under a lock
        from evergreen_groups.audit import GroupsToKeep

        return GroupsToKeep(database, self.gateway.url)

    def _recently_changed(self) -> RecentlyChanged:
        return changes.recently_changed(self.gateway, self.state)

    @property
    def explanations(self) -> BlockExplainer:
        """Explains step by step why a patron is or isn't blocked for fines."""
        return audit.BlockExplainer(self.gateway, self._policy)

    def _plan(self, request: PlanRequest) -> Plan:
        return Plan(self._changes.plan(request), self)

    @property
    def _limit(self) -> Limit | None:
        """The limit that applies to everyone, None if limits differ."""
        return self._policy.as_limit() if self._policy.uniform else None
