"""What changed since the run before: records of groups that are new, worse, better, unchanged or cleared."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

from evergreen_groups import arguments
from evergreen_groups.formats import SORT_ORDERS
from evergreen_groups.money import ZERO
from evergreen_groups.policy import Limit
from evergreen_groups.report.blocks import BlockTotals
from evergreen_groups.total import Total, sum_of_counts

if TYPE_CHECKING:
    from evergreen_groups.groups import Group, Member, Standing
    from evergreen_groups.ils import OrgUnit
    from evergreen_groups.report.blocks import FinesBlocks
    from evergreen_groups.report.details import ReportDetails

Verdict = bool | None
"""Whether a group fits; None where what the account sees doesn't tell."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a group must be besides owing enough; nothing of it: every group is listed.

    ``owing_since`` is a number of days: something has been owed for that long. ``kinds`` are names of kinds of bills
    (:meth:`BillKind.matches_name <evergreen_groups.ils.BillKind.matches_name>`), one of which somebody owes for.
    ``with_items_out`` asks for overdue items that can still be returned, ``with_juvenile`` for a member whose record
    says so, ``profiles`` (names) for a member with one of these profiles or one below them. ``over_limit`` True asks
    for somebody over their own limit, False for nobody. ``blocked`` asks for somebody who is blocked for fines in
    Evergreen.
    """

    owing_since: int | None = None
    kinds: tuple[str, ...] = ()
    with_items_out: bool = False
    with_juvenile: bool = False
    over_limit: bool | None = None
    blocked: bool = False
    profiles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values of other types. Raises ArgumentError."""
        arguments.integer_or_none("owing_since", self.owing_since)
        arguments.texts("kinds", self.kinds)
        arguments.texts("profiles", self.profiles)
        for name in ("with_items_out", "with_juvenile", "blocked"):
            arguments.boolean(name, getattr(self, name))
        if self.over_limit is not None:
            arguments.boolean("over_limit", self.over_limit)

    @property
    def needs_details(self) -> bool:
        """Whether it's about something that is read with the details alone."""
        asked = (self.kinds, self.with_items_out, self.with_juvenile, self.profiles)
        return self.owing_since is not None or any(asked)

    def document(self) -> dict[str, Any]:
        """What is asked for, by name, for programs and for the history; empty where nothing is."""
        nothing = Choice()
        asked = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: sorted(map(str.casefold, value)) if isinstance(value, tuple) else value
            for name, value in asked.items()
            if value != getattr(nothing, name)
        }


@dataclass(frozen=True, slots=True)
class Chooser:
    """Judges groups by a choice; ``now`` is aware. ``details`` may be None where the choice needs none."""

    choice: Choice
    details: ReportDetails | None
    blocks: FinesBlocks
    now: datetime

    def fits(self, group: Group) -> Verdict:
        """Whether a group is one of those asked for; it isn't known as long as nothing speaks against it."""
        verdicts = list(self._verdicts(group))
        if False in verdicts:
            return False
        return None if None in verdicts else True

    def _verdicts(self, group: Group) -> Iterator[Verdict]:
        choice = self.choice
        if choice.over_limit is not None:
            somebody = _somebody(group.over_limit_count.at_least > 0, group.complete)
            yield somebody if choice.over_limit or somebody is None else not somebody
        if choice.blocked:
            blocked = any(self.blocks.standing(member).blocked_for_fines for member in group.members)
            yield _somebody(blocked, group.complete)
        if self.details is not None and choice.needs_details:
            yield from self._verdicts_by_details(group, self.details)

    def _verdicts_by_details(self, group: Group, details: ReportDetails) -> Iterator[Verdict]:
        choice, found = self.choice, details.of_group(group)
        if choice.owing_since is not None:
            since = found.owing_since
            yield _somebody(since is not None and since <= self.now - timedelta(choice.owing_since), found.certain)
        if choice.kinds:
            owed = any(kind.matches_name(name) for kind in found.owed_kinds for name in choice.kinds)
            yield _somebody(owed, found.certain)
        if choice.with_items_out:
            yield found.returnable
        if choice.with_juvenile:
            juvenile = any(details.of(member).state.juvenile for member in group.members)
            yield _somebody(juvenile, group.complete)
        if choice.profiles:
            wanted = details.profiles.named(choice.profiles)
            yield _somebody(any(member.patron.profile in wanted for member in group.members), group.complete)


def _somebody(found: bool, everybody_known: bool) -> Verdict:
    """Whether there is somebody, of whom it's known where they are visible; nobody is, where everybody is."""
    return True if found else False if everybody_known else None


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a report lists: groups of ``min_members`` or more that together owe ``min_total`` or more.

    ``orgs`` are short names (none: everywhere); a group is listed when a member's home library is there or below.
    ``top`` is the greatest number of groups (None: all); ``sort`` is one of
    :data:`~evergreen_groups.formats.SORT_ORDERS`; ``limit`` is the
    individual limit, None where it isn't the same for everybody. ``choice`` narrows the list. With ``details`` what
    members owe for is read as well, since when, and what they have out; ``choice`` and ``sort`` by age may need that.
    """

    min_total: Decimal = Decimal("25.00")
    min_members: int = 2
    orgs: tuple[str, ...] = ()
    top: int | None = None
    sort: str = "total"
    limit: Limit | None = field(default_factory=Limit)
    choice: Choice = field(default_factory=Choice)
    details: bool = True

    def __post_init__(self) -> None:
        """Refuse values of other types. Raises ArgumentError."""
        arguments.money("min_total", self.min_total)
        arguments.integer("min_members", self.min_members)
        arguments.texts("orgs", self.orgs)
        arguments.integer_or_none("top", self.top)
        if self.sort not in SORT_ORDERS:
            raise arguments.not_among("sort", self.sort, SORT_ORDERS)
        if self.limit is not None:
            arguments.instance("limit", self.limit, Limit)
        arguments.instance("choice", self.choice, Choice)
        arguments.boolean("details", self.details)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the groups listed, hidden members included.

    ``combined_fines`` is None if what the hidden members of one group owe is unknown.
    """

    group_count: int
    member_count: int
    owing_count: Total[int]
    over_limit_count: Total[int]
    combined_fines: Decimal | None
    groups_without_member_over_limit: Total[int]
    incomplete_group_count: int

    @classmethod
    def of(cls, groups: Sequence[Group]) -> Totals:
        """Add up these groups, each counted once."""
        return cls(
            group_count=len(groups),
            member_count=sum(group.member_count for group in groups),
            owing_count=sum_of_counts(group.owing_count for group in groups),
            over_limit_count=sum_of_counts(group.over_limit_count for group in groups),
            combined_fines=_sum_of([group.combined_fines for group in groups]),
            groups_without_member_over_limit=_count_of([group.no_member_over_limit for group in groups]),
            incomplete_group_count=sum(not group.complete for group in groups),
        )


def _sum_of(amounts: Collection[Decimal | None]) -> Decimal | None:
    """The sum of some amounts, None if one of them is."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known, ZERO) if len(known) == len(amounts) else None


def _count_of(truths: Collection[bool | None]) -> Total[int]:
    """How many are true; None is unknown."""
    return Total(sum(truth is True for truth in truths), None not in truths)


@dataclass(frozen=True, slots=True)
class Report:
    """Tonight's groups with high combined fines.

    ``generated_at`` is when reading began (aware); ``gateway`` is the address the data came from; ``notes`` are
    sentences the reader must know: what is missing, and that groups were left out by ``top`` (``left_out_count``).
    ``left_out`` are those groups, highest fines first; ``changes`` is what changed since the run before (None: not
    compared). ``org_units`` are all that the ILS has (none: not known), which say what is below what;
    ``hidden_libraries`` are the short names of those whose patrons the account can't see. ``blocks`` are the penalties
    for fines that the listed members have in the ILS (None: not read). ``details`` say what the listed members owe for
    (None: not read). ``name`` is what a report among several of one night is called.
    """

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
    name: str = ""

    def standing(self, member: Member) -> Standing | None:
        """A listed member's own fines against the rule, and the blocks for fines; None where these weren't read."""
        return None if self.blocks is None else self.blocks.standing(member)

    @property
    def block_totals(self) -> BlockTotals | None:
        """How many of the listed members are blocked, counted anew each time; None where blocks weren't read."""
        return None if self.blocks is None else BlockTotals.of(self.groups, self.blocks)


class ChangeKind(Enum):
    """What became of a group since the run before, by its combined fines."""

    NEW = "new"
    """Listed now; it wasn't, so it owed less than the report asks for, or did not exist."""
    WORSE = "worse"
    BETTER = "better"
    UNCHANGED = "unchanged"
    CLEARED = "cleared"
    """Was listed, and no longer fits the report: mostly because it paid enough, not necessarily everything."""
    HIDDEN = "hidden"
    """Was listed, and the account can't see patrons of its libraries any more: nothing can be said of it."""


@dataclass(frozen=True, slots=True)
class Present:
    """How a cleared group stands now, looked up: its lead's name, how many belong to it, what they owe together.

    ``group`` is its number now; ``combined_fines`` is None where hidden members owe an amount that isn't known.
    """

    group: int
    lead_name: str
    member_count: int
    combined_fines: Decimal | None


@dataclass(frozen=True, slots=True)
class GroupChange:
    """What became of one group.

    ``group`` is its number, for a cleared one the number it had. ``before`` and ``after`` are the combined fines it
    was and is listed with: None before for a new group, None after for a cleared one. ``library`` is the short name of
    the lead's home library and ``libraries`` are those of all visible members, for a cleared group as they were.

    ``formerly`` are the numbers that its members were listed under where these are others than its own alone: it got
    another number, or groups were merged into it, and ``before`` is what they all owed. A new group has the number of
    the one that it was split from.

    ``joined_count`` and ``left_count`` say how many members are not those of before (None where some are hidden).
    ``certain`` is False where hidden members owe, or owed, an amount that isn't known; a new group may have owed
    as much before where it was hidden then.

    A cleared group has the ids of its visible former members as well (``members``), and where that was looked up, how
    it stands now (``present``).
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
    present: Present | None = None

    @property
    def known_before(self) -> Decimal | None:
        """What it was listed with, where that is ``certain``."""
        return self.before if self.certain else None

    @property
    def difference(self) -> Decimal | None:
        """By how much the sum of the list is higher for it: a new group counts whole, and so does a cleared one.

        None where that isn't ``certain``.
        """
        return (self.after or ZERO) - (self.before or ZERO) if self.certain else None


@dataclass(frozen=True, slots=True)
class RunTotals:
    """Sums of one run, over all groups that met its criteria, those left out by ``top`` included.

    ``combined_fines`` is None if what the hidden members of one group owed is unknown.
    """

    at: datetime
    group_count: int
    member_count: int
    combined_fines: Decimal | None


@dataclass(frozen=True, slots=True)
class Changes:
    """A report beside the one before it.

    ``since`` is when the data of the run before was read; None: there is none, and nothing to compare with.
    ``by_group`` has the listed groups by number, ``cleared`` those no longer listed, the highest former fines first.
    ``trend`` are the last runs' totals, the oldest first and this one last; ``library_trends`` the same for each org
    unit by short name, over the groups with a member whose home library is there or below. ``hidden`` are former groups
    that may be as they were, only that the account doesn't see them any more.
    """

    since: datetime | None
    by_group: Mapping[int, GroupChange]
    cleared: tuple[GroupChange, ...] = ()
    trend: tuple[RunTotals, ...] = ()
    library_trends: Mapping[str, tuple[RunTotals, ...]] = field(default_factory=dict)
    hidden: tuple[GroupChange, ...] = ()

    @property
    def compared(self) -> bool:
        """Whether there was a run before to compare with."""
        return self.since is not None

    @property
    def listed_difference(self) -> Decimal | None:
        """The same of the groups that are listed now alone: the sum of what stands beside them."""
        return _sum_of([change.difference for change in self.by_group.values()])

    @property
    def difference(self) -> Decimal | None:
        """By how much the listed groups owe more together than those listed before; None if one isn't certain.

        Groups that are hidden now are left out.
        """
        return _sum_of([change.difference for change in (*self.by_group.values(), *self.cleared)])

    def count(self, kind: ChangeKind) -> int:
        """How many groups are of that kind."""
        every = (*self.by_group.values(), *self.cleared, *self.hidden)
        return sum(change.kind is kind for change in every)

    def restricted(self, groups: Iterable[int], libraries: Collection[str], trend_of: str | None = None) -> Changes:
        """The changes of ``groups``, and of cleared groups that had a member of one of ``libraries``.

        The trend is that of the org unit ``trend_of``. There is none for several of them, because groups with members
        in two would count twice.
        """
        wanted = set(libraries)
        return replace(
            self,
            by_group={group: self.by_group[group] for group in groups if group in self.by_group},
            cleared=tuple(change for change in self.cleared if change.libraries & wanted),
            hidden=tuple(change for change in self.hidden if change.libraries & wanted),
            trend=self.library_trends.get(trend_of, ()) if trend_of is not None else (),
            library_trends={name: trend for name, trend in self.library_trends.items() if name in wanted},
        )
