"""Records of the report: criteria, totals, the groups, and what changed since the previous run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

from evergreen_groups import arguments
from evergreen_groups.formats import OF_REPORT, SORT_ORDERS, Tabular
from evergreen_groups.groups import ItemCondition, Standing, StandingDifference
from evergreen_groups.policy import Limit
from evergreen_groups.settings import require_conditions
from evergreen_groups.values import ZERO, Total, sum_of_counts

if TYPE_CHECKING:
    from evergreen_groups.groups import Group, Member
    from evergreen_groups.ils import OrgUnit, Penalty, PenaltyKinds
    from evergreen_groups.report.contact import Contact
    from evergreen_groups.report.details import AgeBand, ReportDetails
    from evergreen_groups.report.items import GroupItems, ReportItems

Verdict = bool | None
"""Whether a group matches. None if hidden data decides."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What else a group must match to be listed. The default matches every group.

    ``owing_since`` is how many days ago the oldest debt must have begun. ``kinds`` are names of bill kinds
    (:meth:`BillKind.is_called <evergreen_groups.ils.BillKind.is_called>`); a member must owe for any of them.
    ``with_items_out`` requires overdue items that can still be returned, ``with_juvenile`` a member flagged as a
    juvenile, and ``profiles`` (names) a member with one of these profiles or a profile below. ``over_limit`` requires a
    member over their own limit (True) or none (False). ``blocked`` requires a member who is blocked for fines in
    Evergreen.
    """

    __repr__ = arguments.brief

    owing_since: int | None = None
    kinds: tuple[str, ...] = ()
    with_items_out: bool = False
    with_juvenile: bool = False
    over_limit: bool | None = None
    blocked: bool = False
    profiles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        arguments.integer_or_none("owing_since", self.owing_since, least=1)
        arguments.texts("kinds", self.kinds)
        arguments.texts("profiles", self.profiles)
        for name in ("with_items_out", "with_juvenile", "blocked"):
            arguments.boolean(name, getattr(self, name))
        if self.over_limit is not None:
            arguments.boolean("over_limit", self.over_limit)

    @property
    def of_fines(self) -> Choice:
        """The requirements for what is owed, which narrow only the condition on fines."""
        return Choice(owing_since=self.owing_since, kinds=self.kinds)

    @property
    def of_groups(self) -> Choice:
        """The other requirements, which narrow everything."""
        return replace(self, owing_since=None, kinds=())

    @property
    def needs_details(self) -> bool:
        """Whether matching needs the members' details."""
        asked = (self.kinds, self.with_items_out, self.with_juvenile, self.profiles)
        return self.owing_since is not None or any(asked)

    def document(self) -> dict[str, Any]:
        """Return the requirements by name, for programs and the history. Empty if there are none."""
        # Leave out defaults, so that new options don't change the document and with it the series in the history.
        nothing = Choice()
        asked = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: sorted(map(str.casefold, value)) if isinstance(value, tuple) else value
            for name, value in asked.items()
            if value != getattr(nothing, name)
        }


def matches(choice: Choice, group: Group, blocks: FinesBlocks, details: ReportDetails | None, now: datetime) -> Verdict:
    """Return whether a group matches. None if no requirement fails but some can't be decided.

    ``now`` is aware. ``details`` may be None if the choice needs none.
    """
    verdicts: list[Verdict] = []
    if choice.over_limit is not None:
        found = _any_member(group.over_limit_count.at_least > 0, group.complete)
        # "No member over the limit" is the negation of "any member", and an unknown answer stays unknown.
        verdicts.append(found if choice.over_limit or found is None else not found)
    if choice.blocked:
        blocked = any(blocks.standing(member).blocked_for_fines for member in group.members)
        verdicts.append(_any_member(blocked, group.complete))
    if details is not None and choice.needs_details:
        verdicts += _verdicts_by_details(choice, group, details, now)
    # One failed requirement excludes the group, even if others are unknown.
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _verdicts_by_details(choice: Choice, group: Group, details: ReportDetails, now: datetime) -> Iterator[Verdict]:
    found = details.of_group(group)
    if choice.owing_since is not None:
        since = found.owing_since
        yield _any_member(since is not None and since <= now - timedelta(choice.owing_since), found.certain)
    if choice.kinds:
        owed = any(kind.matches_name(name) for kind in found.owed_kinds for name in choice.kinds)
        yield _any_member(owed, found.certain)
    if choice.with_items_out:
        yield found.returnable
    if choice.with_juvenile:
        juvenile = any(details.of(member).state.juvenile for member in group.members)
        yield _any_member(juvenile, group.complete)
    if choice.profiles:
        wanted = details.profiles.named(choice.profiles)
        yield _any_member(any(member.patron.profile in wanted for member in group.members), group.complete)


def _any_member(found: bool, all_known: bool) -> Verdict:
    """Return whether there is such a member. If none was found, the answer is unknown unless all members are known."""
    return True if found else False if all_known else None


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a report lists: groups of ``min_members`` or more that owe ``min_total`` or more together.

    Or they have ``min_overdue`` items overdue, each for ``overdue_days`` or longer, or ``min_lost`` items lost. Of
    these conditions, a group must meet one; 0 turns a condition off.

    A group is listed if a member's home library is at or below one of ``orgs`` (short names; empty: everywhere).
    ``top`` limits the number of groups (None: all). ``sort`` is one of :data:`~evergreen_groups.formats.SORT_ORDERS`.
    ``limit`` is the limit of own fines, None if it differs between patrons. ``choice`` narrows the list further. With
    ``details``, bills and unreturned items of members are read; some choices, and sorting by age, need them. Bands of
    how long groups have owed begin after 0 and ``age_bands`` days (ascending; empty: no bands). With ``contact``, the
    report says whom to contact about each group.
    """

    __repr__ = arguments.brief

    min_total: Decimal = Decimal("25.00")
    min_members: int = 2
    orgs: tuple[str, ...] = ()
    top: int | None = None
    sort: str = "total"
    limit: Limit | None = field(default_factory=Limit)
    choice: Choice = field(default_factory=Choice)
    details: bool = True
    age_bands: tuple[int, ...] = (30, 60, 90)
    contact: bool = False
    min_overdue: int = 0
    min_lost: int = 0
    overdue_days: int = 0

    def __post_init__(self) -> None:
        """Check the types, and that the conditions go together. Raises ArgumentError or ConfigurationError."""
        arguments.money("min_total", self.min_total)
        for name in ("min_overdue", "min_lost", "overdue_days"):
            arguments.integer(name, getattr(self, name), least=0)
        arguments.integer("min_members", self.min_members, least=1)
        arguments.texts("orgs", self.orgs)
        arguments.integer_or_none("top", self.top, least=1)
        if self.sort not in SORT_ORDERS:
            raise arguments.not_among("sort", self.sort, SORT_ORDERS)
        if self.limit is not None:
            arguments.instance("limit", self.limit, Limit)
        arguments.instance("choice", self.choice, Choice)
        arguments.boolean("details", self.details)
        for days in arguments.integers("age_bands", self.age_bands):
            arguments.integer("age_bands", days, least=1)
        if list(self.age_bands) != sorted(set(self.age_bands)):
            raise arguments.wrong("age_bands", self.age_bands, "ascending numbers of days", "others")
        arguments.boolean("contact", self.contact)
        require_conditions(self, self.choice)

    @property
    def asks_for_fines(self) -> bool:
        """Whether groups are listed by what they owe."""
        return self.min_total != 0

    @property
    def asks_for_items(self) -> bool:
        """Whether groups are listed by overdue or lost items."""
        return bool(self.min_overdue or self.min_lost)

    @property
    def item_conditions(self) -> tuple[ItemCondition, ...]:
        """The conditions on items, of which a group must meet one."""
        overdue = ItemCondition(self.min_overdue, days=self.overdue_days)
        return tuple(one for one in (overdue, ItemCondition(self.min_lost, lost=True)) if one.least)

    @property
    def by_items(self) -> Criteria | None:
        """These criteria if groups are listed by items, else None."""
        return self if self.asks_for_items else None

    def item_document(self) -> dict[str, int]:
        """Return the conditions on items by name, without those that are turned off."""
        return {name: value for name in ("min_overdue", "min_lost", "overdue_days") if (value := getattr(self, name))}


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of the listed groups, including hidden members.

    ``group_fines`` is None if what the hidden members of any group owe is unknown.
    """

    group_count: int
    member_count: int
    owing_count: Total[int]
    over_limit_count: Total[int]
    group_fines: Decimal | None
    groups_without_member_over_limit: Total[int]
    incomplete_group_count: int

    @classmethod
    def of(cls, groups: Sequence[Group]) -> Totals:
        return cls(
            group_count=len(groups),
            member_count=sum(group.member_count for group in groups),
            owing_count=sum_of_counts(group.owing_count for group in groups),
            over_limit_count=sum_of_counts(group.over_limit_count for group in groups),
            group_fines=_sum_of([group.group_fines for group in groups]),
            groups_without_member_over_limit=_count_of([group.no_member_over_limit for group in groups]),
            incomplete_group_count=sum(not group.complete for group in groups),
        )


def _sum_of(amounts: Collection[Decimal | None]) -> Decimal | None:
    """Return the sum of the amounts, None if any amount is None."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known, ZERO) if len(known) == len(amounts) else None


def _count_of(truths: Collection[bool | None]) -> Total[int]:
    """Count the true values. None means unknown."""
    return Total(sum(truth is True for truth in truths), None not in truths)


_WITHOUT_BLOCKS = {over_limit: Standing(over_limit, (), ()) for over_limit in (True, False, None)}


@dataclass(frozen=True, slots=True)
class FinesBlocks:
    """Penalties that block members for fines, by patron id. Patrons without such penalties are left out."""

    penalties: Mapping[int, Sequence[Penalty]]
    kinds: PenaltyKinds

    def standing(self, member: Member) -> Standing:
        """Return a member's status by rule, and the blocks for fines. Other blocks weren't read."""
        if member.id not in self.penalties:  # the usual case
            return _WITHOUT_BLOCKS[member.over_limit_if_known]
        return Standing.of(member, self.penalties[member.id], self.kinds)

    def of_members(self, groups: Iterable[Group]) -> FinesBlocks:
        members = (member.id for group in groups for member in group.members)
        return FinesBlocks({id: self.penalties[id] for id in members if id in self.penalties}, self.kinds)


@dataclass(frozen=True, slots=True)
class BlockTotals:
    """How many members are blocked for fines, and for how many that differs from the rule."""

    blocked: Total[int]
    not_yet_blocked: Total[int]
    now_within_limit: Total[int]

    @classmethod
    def of(cls, groups: Iterable[Group], blocks: FinesBlocks) -> BlockTotals:
        blocked = not_yet = within = 0
        complete = True
        for group in groups:
            complete = complete and group.complete
            for member in group.members:
                # Neither blocked nor over the limit: nothing to count.
                if member.id not in blocks.penalties and not member.over_limit:
                    continue  # the usual case, kept fast
                standing = blocks.standing(member)
                blocked += standing.blocked_for_fines
                not_yet += standing.difference is StandingDifference.NOT_YET_BLOCKED
                within += standing.difference is StandingDifference.NOW_WITHIN_LIMIT
        return cls(Total(blocked, complete), Total(not_yet, complete), Total(within, complete))


@dataclass(frozen=True, slots=True)
class Report(Tabular):
    """A night's groups with high combined fines, or with overdue or lost items.

    ``generated_at`` is when reading began (aware). ``gateway`` is the address that was read. ``notes`` are sentences
    that the reader must see, for instance about missing data. ``left_out`` are groups cut off by ``top``, the highest
    fines first, and ``left_out_count`` is their number. ``changes`` is the comparison with the previous run (None: not
    compared). ``org_units`` are all of the ILS's org units (empty: not read); ``hidden_libraries`` are short names of
    those whose patrons the account can't see. ``blocks`` are the listed members' penalties for fines in the ILS and
    ``details`` what they owe for (None: not read). ``items`` are read for reports that list groups by items.
    ``contacts`` are whom to contact, by group number (None: the report doesn't show it); ``known_contacts`` are all
    that were read, for any report of the night and for follow-ups only. ``name`` tells apart several reports of one
    night.
    """

    __repr__ = arguments.brief
    _forms = OF_REPORT

    generated_at: datetime
    gateway: str
    criteria: Criteria
    groups: tuple[Group, ...]
    totals: Totals
    notes: tuple[str, ...] = ()
    left_out_count: int = 0
    left_out: tuple[Group, ...] = ()
    changes: Changes | None = None
    org_units: tuple[OrgUnit, ...] = ()
    hidden_libraries: frozenset[str] = frozenset()
    blocks: FinesBlocks | None = None
    details: ReportDetails | None = None
    contacts: Mapping[int, Contact] | None = field(default=None, repr=False)
    known_contacts: Mapping[int, Contact] = field(default_factory=dict, repr=False)
    name: str = ""
    items: ReportItems | None = None

    def standing(self, member: Member) -> Standing | None:
        """Return a listed member's status by rule and blocks for fines. None if blocks weren't read."""
        return None if self.blocks is None else self.blocks.standing(member)

    @property
    def item_totals(self) -> GroupItems | None:
        """The listed groups' items together, None if they weren't read for this report. Recomputed on every access."""
        return None if self.items is None else self.items.totals(self.groups)

    @property
    def block_totals(self) -> BlockTotals | None:
        """How many listed members are blocked, None if blocks weren't read. Recomputed on every access."""
        return None if self.blocks is None else BlockTotals.of(self.groups, self.blocks)


@dataclass(frozen=True, slots=True)
class AgeSum:
    """The groups that have owed something for as long as ``band`` says. ``group_fines`` is None if not known."""

    band: AgeBand
    group_count: int
    group_fines: Decimal | None

    @classmethod
    def of(cls, report: Report) -> list[AgeSum]:
        """Return the sums of the bands that the report has groups of, the newest debts first."""
        found: dict[AgeBand, list[Decimal | None]] = {}
        if report.details is None:
            return []
        for group in report.groups:
            if (band := report.details.age_band(group)) is not None:
                found.setdefault(band, []).append(group.group_fines)
        return [cls(band, len(fines), _sum_of(fines)) for band, fines in sorted(found.items())]


class ChangeKind(Enum):
    """What happened to a group since the previous run, by its combined fines.

    In a report that lists groups by items, those whose fines are the same are compared by their items.
    """

    NEW = "new"
    """Listed now but not before: the group didn't meet the criteria, or didn't exist. What it owed isn't known."""
    WORSE = "worse"
    BETTER = "better"
    MORE_ITEMS = "more_items"
    """More items are overdue or lost."""
    FEWER_ITEMS = "fewer_items"
    UNCHANGED = "unchanged"
    CLEARED = "cleared"
    """Not listed any more, mostly because enough was paid, which isn't necessarily everything."""
    HIDDEN = "hidden"
    """Listed before, but the account can't see patrons of its libraries any more. Its state is unknown."""


@dataclass(frozen=True, slots=True)
class GroupNow:
    """The current state of a cleared group, by its current number. ``group_fines`` is None if unknown.

    ``lead`` is the id of the person with ``lead_name``, 0 if unknown.
    ``libraries`` are the short names of the visible members' home libraries. ``is_listed`` means that its members are
    in a group that the report lists, which was another one before.
    """

    group: int
    lead_name: str
    member_count: int
    group_fines: Decimal | None
    libraries: frozenset[str]
    is_listed: bool = False
    lead: int = 0


@dataclass(frozen=True, slots=True)
class GroupChange:
    """What happened to one group.

    ``group`` is the group's number, or the former number of a cleared group. ``before`` and ``after`` are the combined
    fines in the previous and this run: None before for a new group, None after for a cleared one. ``library`` is the
    short name of the lead's home library, ``libraries`` those of all visible members. For a cleared group, both are as
    of the previous run.

    ``formerly`` are the previous numbers of the group unless there is only its own: it was renumbered, or merged from
    several groups, which owed ``before`` together. For a new group, it's the group that it was split from.

    ``joined_count`` and ``left_count`` count members who joined and left (None if some are hidden, and for new groups).
    ``certain`` is False if hidden members owe, or owed, an unknown amount, or if a new group may have been hidden
    before.

    ``members`` are the ids of a cleared group's former visible members, and ``member_count`` is how many it had, hidden
    ones included. ``present`` is its current state, if looked up.
    """

    group: int
    kind: ChangeKind
    before: Decimal | None
    after: Decimal | None
    library: str
    libraries: frozenset[str] = frozenset()
    formerly: tuple[int, ...] = ()
    joined_count: int | None = 0
    left_count: int | None = 0
    certain: bool = True
    members: frozenset[int] = frozenset()
    member_count: int = 0
    present: GroupNow | None = None

    @property
    def known_before(self) -> Decimal | None:
        """The previous fines if ``certain``, else None."""
        return self.before if self.certain else None

    @property
    def difference(self) -> Decimal | None:
        """How much more the group owes than in the previous run. None if either amount isn't known, as for new groups.

        What a cleared group owes now is known if it was looked up.
        """
        after = self.after
        if self.present is not None and not self.present.is_listed:
            after = self.present.group_fines
        return after - self.before if self.certain and after is not None and self.before is not None else None

    def seen_from(self, libraries: Collection[str]) -> GroupChange:
        """Return the change without the group's current state if the group has no member at ``libraries`` now."""
        if self.present is None or not self.present.libraries.isdisjoint(libraries):
            return self
        return replace(self, present=None)


@dataclass(frozen=True, slots=True)
class RunTotals:
    """Totals of one run, over all groups that met its criteria. ``group_fines`` is None if not known for any."""

    at: datetime
    group_count: int
    member_count: int
    group_fines: Decimal | None


@dataclass(frozen=True, slots=True)
class Changes:
    """A report compared with the previous one.

    ``since`` is when reading for the previous run began (None: no previous run). ``by_group`` has the listed groups by
    number. ``cleared`` are the groups not listed any more, the highest former fines first; ``hidden`` are those that
    the account may just not see any more. ``trend`` has the last runs' totals, the oldest first and this run last.
    ``library_trends`` has the same by org unit (short name), over groups with a member whose home library is there or
    below.
    """

    since: datetime | None
    by_group: Mapping[int, GroupChange]
    cleared: tuple[GroupChange, ...] = ()
    trend: tuple[RunTotals, ...] = ()
    library_trends: Mapping[str, tuple[RunTotals, ...]] = field(default_factory=dict)
    hidden: tuple[GroupChange, ...] = ()

    @property
    def compared(self) -> bool:
        return self.since is not None

    @property
    def difference(self) -> Decimal | None:
        """How much more the groups that both runs list owe. None if any isn't certain.

        New and cleared groups are left out: joining or leaving the list isn't a change of what they owe.
        """
        return _sum_of([change.difference for change in self.by_group.values() if change.kind is not ChangeKind.NEW])

    @property
    def new_fines(self) -> Decimal | None:
        """What the new groups owe. None if any isn't certain."""
        new = [change for change in self.by_group.values() if change.kind is ChangeKind.NEW]
        return _sum_of([change.after if change.certain else None for change in new])

    @property
    def cleared_difference(self) -> Decimal | None:
        """How much more the groups no longer listed owe, less than zero if they paid. None if not known for any."""
        if any(change.difference is None for change in self.cleared):
            return None
        # Several of them may have become one.
        present = {change.present.group: change.present.group_fines for change in self.cleared if change.present}
        return sum(filter(None, present.values()), ZERO) - sum((change.before or ZERO for change in self.cleared), ZERO)

    @property
    def listed_difference(self) -> Decimal | None:
        """How much these changes add to the list's total: new and cleared groups count in full. None unless certain."""
        gone = _sum_of([change.known_before for change in self.cleared])
        return _sum_of([self.difference, self.new_fines, None if gone is None else -gone])

    @property
    def list_difference(self) -> Decimal | None:
        """How much more the groups of this run's list owe than those of the previous run's list. None if not known.

        In a library's part, this includes groups that another library's part listed before, or lists now.
        """
        fines = [run.group_fines for run in self.trend[-2:]]
        return None if len(fines) < 2 or None in fines else fines[1] - fines[0]  # type: ignore[operator]

    def count(self, kind: ChangeKind) -> int:
        every = (*self.by_group.values(), *self.cleared, *self.hidden)
        return sum(change.kind is kind for change in every)

    def restricted(self, groups: Iterable[int], libraries: Collection[str], trend_of: str | None = None) -> Changes:
        """Return the changes of ``groups``, and of cleared groups that had members at ``libraries``.

        The current state of a cleared group is left out if it no longer has members there.

        The trend is that of the org unit ``trend_of``. There is no trend for several org units, because groups with
        members at two of them would count twice.
        """
        wanted = set(libraries)
        return replace(
            self,
            by_group={group: self.by_group[group] for group in groups if group in self.by_group},
            cleared=tuple(change.seen_from(wanted) for change in self.cleared if change.libraries & wanted),
            hidden=tuple(change for change in self.hidden if change.libraries & wanted),
            trend=self.library_trends.get(trend_of, ()) if trend_of is not None else (),
            library_trends={name: trend for name, trend in self.library_trends.items() if name in wanted},
        )
