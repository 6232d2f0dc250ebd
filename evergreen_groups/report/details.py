"""What members of groups owe it for, since when, and what is still out; each summed by group as well.

What an account may not see is not known, which is never the same as nothing: kinds that don't add up to the own fines
are not known either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from evergreen_groups.money import NOTHING

if TYPE_CHECKING:
    from evergreen_groups.groups import Group, Member, PatronState
    from evergreen_groups.ils import Bill, BillKind, Profiles, UnreturnedItems


@dataclass(frozen=True, slots=True)
class KindSum:
    """What is owed on the bills of one kind, credits counted, and how many bills that are."""

    kind: BillKind
    balance: Decimal
    bill_count: int


@dataclass(frozen=True, slots=True)
class MemberDetails:
    """What is known of a member beside the own fines.

    ``bills`` add up to the own fines, and are None where they aren't known; ``items`` are None where some are hidden.
    ``profile`` is the name of the permission profile. Without its parts (``kinds``, dates) nothing is owed.
    """

    bills: tuple[Bill, ...] | None
    items: UnreturnedItems | None
    state: PatronState
    profile: str

    @property
    def kinds(self) -> tuple[KindSum, ...] | None:
        """What is owed by kind, which adds up to the own fines exactly; None where it isn't known."""
        return None if self.bills is None else sums_by_kind(self.bills)

    @property
    def owing_since(self) -> datetime | None:
        """When the oldest open transaction began on which something is owed; a credit isn't."""
        return oldest(self.bills or ())

    @property
    def last_payment(self) -> datetime | None:
        """When something was last paid on one of the bills; what was paid off isn't among them."""
        return latest_payment(self.bills or ())


@dataclass(frozen=True, slots=True)
class SummedDetails:
    """The same summed over the members of a group.

    ``kinds`` and ``not_known`` add up to the combined fines: the latter is what members owe of whom it isn't known what
    for, hidden ones as far as their fines are known. ``certain`` says that it is known of everybody, so that nobody
    owes anything since before ``owing_since``. ``owed_kinds`` are those of bills on which something is owed, whatever
    credits make of it. ``items`` are those that are known of, all where ``items_certain``.
    """

    kinds: tuple[KindSum, ...]
    owed_kinds: frozenset[BillKind]
    not_known: Decimal
    certain: bool
    owing_since: datetime | None
    last_payment: datetime | None
    items: UnreturnedItems
    items_certain: bool

    @property
    def returnable(self) -> bool | None:
        """Whether anything can still be returned (an overdue item is out) or only paid; None where it isn't known."""
        if self.items.overdue:
            return True
        return False if self.items_certain else None


@dataclass(frozen=True, slots=True)
class ReportDetails:
    """The details of the members of a report's groups, by patron's id; ``profiles`` are all that the ILS has."""

    members: Mapping[int, MemberDetails]
    profiles: Profiles
    _groups: dict[int, SummedDetails] = field(default_factory=dict, repr=False, compare=False)

    def of(self, member: Member) -> MemberDetails:
        """The details of a member of the report."""
        return self.members[member.id]

    def of_group(self, group: Group) -> SummedDetails:
        """The details of a group of the report."""
        found = self._groups.get(group.number)
        if found is None:
            found = self._groups[group.number] = self._summed(group)
        return found

    def _summed(self, group: Group) -> SummedDetails:
        from evergreen_groups.ils import UnreturnedItems  # with it comes the gateway, which --help needn't load

        found = [self.members[member.id] for member in group.members]
        bills = [bill for details in found for bill in details.bills or ()]
        kinds = sums_by_kind(bills)
        return SummedDetails(
            kinds=kinds,
            owed_kinds=frozenset(bill.kind for bill in bills if bill.balance > 0),
            not_known=group.combined_fines - sum((one.balance for one in kinds), NOTHING),
            certain=group.complete and all(details.bills is not None for details in found),
            owing_since=oldest(bills),
            last_payment=latest_payment(bills),
            items=UnreturnedItems.sum_of(details.items for details in found if details.items is not None),
            items_certain=group.complete and all(details.items is not None for details in found),
        )


def sums_by_kind(bills: Iterable[Bill]) -> tuple[KindSum, ...]:
    """What is owed by kind, the most first; kinds on which debts and credits even out are there as well."""
    balances: dict[BillKind, Decimal] = {}
    counts: dict[BillKind, int] = {}
    for bill in bills:
        balances[bill.kind] = balances.get(bill.kind, NOTHING) + bill.balance
        counts[bill.kind] = counts.get(bill.kind, 0) + 1
    ordered = sorted(balances.items(), key=lambda item: (-item[1], item[0]))
    return tuple(KindSum(kind, balance, counts[kind]) for kind, balance in ordered)


def oldest(bills: Iterable[Bill]) -> datetime | None:
    """When the oldest of the bills began on which something is owed."""
    return min((bill.since for bill in bills if bill.balance > 0), default=None)


def latest_payment(bills: Iterable[Bill]) -> datetime | None:
    """When something was last paid on any of the bills."""
    return max(_payments(bills), default=None)


def _payments(bills: Iterable[Bill]) -> Iterator[datetime]:
    return (bill.last_payment for bill in bills if bill.last_payment is not None)
