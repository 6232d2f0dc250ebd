"""Members and groups: who belongs together, and what they owe. Money is ``Decimal`` with two places."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from evergreen_groups.language import name_key
from evergreen_groups.money import NOTHING
from evergreen_groups.total import Total

if TYPE_CHECKING:
    from evergreen_groups.groups.hidden_members import HiddenMembers
    from evergreen_groups.groups.patrons import Patron
    from evergreen_groups.policy import Decision, Limit


@dataclass(frozen=True, slots=True)
class Member:
    """A patron as a member of their group.

    ``own_fines`` is what the patron owes in open transactions anywhere, credits counted; ``decision`` is the policy's,
    on what they owe themselves alone. It is None where no limit was asked for: of a plan's groups, and of those that
    look accidental, nothing is decided. At a desk it is None as well where the account may not see the limit.
    """

    patron: Patron
    own_fines: Decimal
    decision: Decision | None = None

    @property
    def id(self) -> int:
        """The patron's id."""
        return self.patron.id

    @property
    def name(self) -> str:
        """The patron's name, family name first."""
        return self.patron.name

    @property
    def barcode(self) -> str | None:
        """The barcode of the primary card."""
        return self.patron.barcode

    @property
    def library(self) -> str:
        """The short name of the home library."""
        return self.patron.home_library.shortname

    @property
    def group_lead(self) -> bool:
        """Whether the patron leads the group."""
        return self.patron.group_lead

    @property
    def decided(self) -> Decision:
        """The decision about a member about whom one was made.

        Raises:
            ValueError: none was made. To say "not over the limit" then would be an answer to a question nobody asked.
        """
        if self.decision is None:
            raise ValueError("nothing was decided about this member")
        return self.decision

    @property
    def over_limit(self) -> bool:
        """Whether the own fines are over the limit; raises what :attr:`decided` does."""
        return self.decided.over_limit

    @property
    def limit(self) -> Limit:
        """The limit of own fines that counts for this member; raises what :attr:`decided` does."""
        return self.decided.limit

    @property
    def over_limit_if_known(self) -> bool | None:
        """Whether the own fines are over the limit, None where nothing was decided."""
        return None if self.decision is None else self.decision.over_limit

    @property
    def limit_if_known(self) -> Limit | None:
        """The limit of own fines that counts for this member, None where nothing was decided."""
        return None if self.decision is None else self.decision.limit

    def with_barcode(self, barcode: str | None) -> Member:
        """The same member with this barcode."""
        return replace(self, patron=replace(self.patron, barcode=barcode))


@dataclass(frozen=True, slots=True)
class Group:
    """A patron group (``usrgroup``) with what its members owe together, which is for information only.

    ``members`` are the visible ones. Where the account can't see them all, ``hidden_member_count`` says how many are
    hidden, and ``hidden_fines`` what they owe, None if that is unknown. ``hidden_ids`` are theirs, None where they were
    counted alone.

    Totals include the hidden members or say that they don't: ``combined_fines`` is None if ``hidden_fines`` is, and a
    count of visible members is a :class:`~evergreen_groups.total.Total` (:meth:`counted`).
    """

    number: int
    members: tuple[Member, ...]
    hidden_member_count: int = 0
    hidden_fines: Decimal | None = NOTHING
    hidden_ids: frozenset[int] | None = frozenset()
    known_fines: Decimal = field(init=False, repr=False, compare=False)
    """What the visible members owe together, credits counted, and the hidden ones if that is known: to sort by."""

    def __post_init__(self) -> None:
        """Add up what they owe, which everything asks for. Nothing else is kept: a report has groups by the 50,000."""
        owed = [member.own_fines for member in self.members if member.own_fines]
        if self.hidden_fines:
            owed.append(self.hidden_fines)
        # Where one member owes all of it, as mostly, that is one amount, and not another as large.
        together = sum(owed[1:], owed[0]) if owed else NOTHING
        object.__setattr__(self, "known_fines", together)

    @classmethod
    def by_fines(cls, number: int, members: Iterable[Member], hidden: HiddenMembers | None) -> Group:
        """A group whose members stand in the order of what they owe, the highest own fines first."""
        ordered = sorted(members, key=lambda member: (-member.own_fines, member.patron.id))
        return cls._with_hidden(number, ordered, hidden)

    @classmethod
    def by_name(cls, number: int, members: Iterable[Member], hidden: HiddenMembers | None) -> Group:
        """A group whose members stand in the order of their names, the group lead first."""
        ordered = sorted(members, key=lambda member: (not member.group_lead, name_key(member.name), member.id))
        return cls._with_hidden(number, ordered, hidden)

    @classmethod
    def _with_hidden(cls, number: int, members: Iterable[Member], hidden: HiddenMembers | None) -> Group:
        if hidden is None:
            return cls(number, tuple(members))
        return cls(number, tuple(members), hidden.count, hidden.fines, hidden.ids)

    @property
    def ids(self) -> frozenset[int]:
        """The ids of all members, the hidden ones too.

        Raises:
            ValueError: the hidden ones were counted alone.
        """
        if self.hidden_ids is None:
            raise ValueError("nobody has asked who the hidden members are")
        return self.hidden_ids.union(member.id for member in self.members)

    @property
    def complete(self) -> bool:
        """Whether every member is visible."""
        return self.hidden_member_count == 0

    @property
    def lead(self) -> Member:
        """The group lead (the one with the lowest id where there are several), or who stands for it.

        In a group without a lead that is the member with the oldest record, the one with the lowest id.
        """
        # Nothing in Evergreen keeps a group from having two leads, or none.
        found: Member | None = None
        for member in self.members:
            patron = member.patron
            if found is None or (not patron.group_lead, patron.id) < (not found.patron.group_lead, found.patron.id):
                found = member
        if found is None:
            raise ValueError("a group without a visible member has no lead")
        return found

    @property
    def library(self) -> str:
        """The short name of the lead's home library."""
        return self.lead.library

    @property
    def member_count(self) -> int:
        """How many belong to the group, hidden ones counted."""
        return len(self.members) + self.hidden_member_count

    @property
    def combined_fines(self) -> Decimal | None:
        """What all members owe together, credits counted; None if what hidden members owe is unknown."""
        return None if self.hidden_fines is None else self.known_fines

    def counted(self, number: int, *, known: bool = True) -> Total[int]:
        """Make a total of all members from a number of visible ones.

        It is a lower bound if members are hidden, or if not every visible one's answer is ``known``.
        """
        return Total(number, known and not self.hidden_member_count)

    @property
    def owing_count(self) -> Total[int]:
        """How many members owe more than nothing."""
        return self.counted(sum(member.own_fines > 0 for member in self.members))

    @property
    def highest_own_fines(self) -> Total[Decimal]:
        """The largest own fines of a member."""
        return Total(max(member.own_fines for member in self.members), self.complete)

    @property
    def over_limit_count(self) -> Total[int]:
        """How many members are over the limit by their own fines."""
        decisions = [member.decision for member in self.members]
        over = sum(decision.over_limit for decision in decisions if decision is not None)
        return self.counted(over, known=None not in decisions)

    @property
    def no_member_over_limit(self) -> bool | None:
        """Whether the group owes more than one of its members may, although none of them is over the limit.

        This is the case the rule is about: a library that blocked by group would block people who owe little. None if
        hidden members, or limits that the account may not see, would decide it.
        """
        over = self.over_limit_count
        if over.at_least:
            return False
        if not over.exact:
            return None
        return any(
            member.limit.amount is not None and self.known_fines > member.limit.amount for member in self.members
        )
