"""The domain's records: members, groups and their fines. Money is ``Decimal`` with two places."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from evergreen_groups.money import NOTHING
from evergreen_groups.policy import Limit

_USUAL_LIMIT = Limit()


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
        # Nothing in Evergreen keeps a group from having two leads, or none.
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
