"""The domain's records: members, groups and their fines. Money is ``Decimal`` with two places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property

from evergreen_groups.changes import Changes
from evergreen_groups.policy import Comparison, Limit

NOTHING = Decimal("0.00")
_USUAL_LIMIT = Limit()


@dataclass(frozen=True, slots=True)
class OrgUnit:
    """A consortium, system, branch or sub-library (``aou``)."""

    id: int
    shortname: str
    name: str
    parent: int | None


@dataclass(frozen=True, slots=True)
class LimitRule:
    """A limit for some patrons: those of a profile, at home at a library, or both (None: any).

    It holds for everything below that profile or library as well. ``amount`` is in the library's currency, None for
    no limit; ``comparison`` None is the one that is configured for everybody.
    """

    profile: str | None
    library: str | None
    amount: Decimal | None
    comparison: Comparison | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One patron of a group.

    ``name`` is written family name first; ``barcode`` is that of the primary card, None for a patron without one;
    ``library`` is the home library's short name; ``own_fines`` is what the patron owes in open transactions
    anywhere, credits counted; ``over_limit`` is the policy's decision by ``limit``, on what they owe themselves alone.
    """

    id: int
    name: str
    barcode: str | None
    library: str
    own_fines: Decimal
    over_limit: bool
    group_lead: bool
    limit: Limit = _USUAL_LIMIT


@dataclass(frozen=True)
class GroupFines:
    """A group (``usrgroup``) with what its members owe together, which is for information only.

    ``members`` are those the account may see. Where it can't see them all, ``hidden_member_count`` says how many are
    missing. ``combined_fines`` includes them as long as the ILS told what they owe (``hidden_fines`` is that part);
    where it didn't, ``hidden_fines`` is None and the true total may be higher or lower.
    """

    group: int
    members: tuple[Member, ...]
    hidden_member_count: int = 0
    hidden_fines: Decimal | None = NOTHING

    @property
    def complete(self) -> bool:
        """Whether the account sees every member."""
        return self.hidden_member_count == 0

    @cached_property
    def lead(self) -> Member:
        """The group lead (the one with the lowest id where there are several), or who stands for it.

        In a group without a lead that is the member with the oldest record, the one with the lowest id.
        """
        return min(self.members, key=lambda member: (not member.group_lead, member.id))

    @property
    def library(self) -> str:
        """The short name of the lead's home library."""
        return self.lead.library

    @property
    def member_count(self) -> int:
        """How many belong to the group, hidden ones counted."""
        return len(self.members) + self.hidden_member_count

    @cached_property
    def owing_count(self) -> int:
        """How many of the members in sight owe more than nothing."""
        return sum(member.own_fines > 0 for member in self.members)

    @cached_property
    def combined_fines(self) -> Decimal:
        """What all members owe together, credits counted."""
        return sum((member.own_fines for member in self.members), NOTHING) + (self.hidden_fines or NOTHING)

    @cached_property
    def highest_own_fines(self) -> Decimal:
        """The largest own fines of a member in sight."""
        return max(member.own_fines for member in self.members)

    @cached_property
    def over_limit_count(self) -> int:
        """How many of the members in sight are over the limit by their own fines."""
        return sum(member.over_limit for member in self.members)

    @cached_property
    def nobody_over_limit(self) -> bool:
        """Whether the group owes more than one of its members may, although none of them is over the limit.

        This is the case the rule is about: a library that blocked by group would block people who owe little. Of a
        group with members out of sight it can't be said.
        """
        if not self.complete or self.over_limit_count:
            return False
        return any(
            member.limit.amount is not None and self.combined_fines > member.limit.amount for member in self.members
        )


SORT_ORDERS = ("total", "members", "name", "library")


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a report lists: groups of ``min_members`` or more that together owe ``min_total`` or more.

    ``orgs`` are short names (none: everywhere); a group is listed when a member is at home there or below. ``top`` is
    the greatest number of groups (None: all); ``sort`` is one of ``SORT_ORDERS``; ``limit`` is the individual limit,
    None where it isn't the same for everybody.
    """

    min_total: Decimal = Decimal("25.00")
    min_members: int = 2
    orgs: tuple[str, ...] = ()
    top: int | None = None
    sort: str = "total"
    limit: Limit | None = field(default_factory=Limit)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the groups listed."""

    group_count: int
    member_count: int
    owing_count: int
    over_limit_count: int
    combined_fines: Decimal
    groups_nobody_over_limit: int
    incomplete_group_count: int

    @classmethod
    def of(cls, groups: Sequence[GroupFines]) -> Totals:
        """Add up these groups, each counted once."""
        return cls(
            group_count=len(groups),
            member_count=sum(group.member_count for group in groups),
            owing_count=sum(group.owing_count for group in groups),
            over_limit_count=sum(group.over_limit_count for group in groups),
            combined_fines=sum((group.combined_fines for group in groups), NOTHING),
            groups_nobody_over_limit=sum(group.nobody_over_limit for group in groups),
            incomplete_group_count=sum(not group.complete for group in groups),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """Tonight's groups with high combined fines.

    ``generated_at`` is when reading began (aware); ``gateway`` is the address the data came from; ``notes`` are
    sentences the reader must know: what is missing, and that groups were left out by ``top`` (``left_out_count``).
    ``left_out`` are those groups, worst first; ``changes`` is what changed since the run before (None: not compared).
    ``org_units`` are all that the ILS has (none: not known), which say what is below what; ``unseen`` are the short
    names of those whose patrons the account can't see.
    """

    generated_at: datetime
    gateway: str
    criteria: Criteria
    groups: tuple[GroupFines, ...]
    totals: Totals
    notes: tuple[str, ...] = ()
    left_out_count: int = 0
    left_out: tuple[GroupFines, ...] = ()
    changes: Changes | None = None
    org_units: tuple[OrgUnit, ...] = ()
    unseen: frozenset[str] = frozenset()
