"""What members of groups owe it for, since when, and what is still out; each summed by group as well.

What an account may not see is not known, which is never the same as nothing: kinds that don't add up to the own fines
are not known either.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from evergreen_groups.ils import (
    VIEW_CIRCULATIONS,
    VIEW_USER_TRANSACTIONS,
    Bill,
    OrgUnits,
    Profiles,
    UnreturnedResult,
    account_of_session,
    orgs_with_permission,
    read_bills,
    read_unreturned_items,
    verify_bills,
    with_item_kinds,
)
from evergreen_groups.message import Message
from evergreen_groups.money import ZERO
from evergreen_groups.odd_dates import plausible as known_date
from evergreen_groups.total import Total

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Group, Member, PatronRow, PatronState
    from evergreen_groups.ils import BillKind, UnreturnedItems


@dataclass(frozen=True, slots=True)
class KindSum:
    """What is owed on the bills of one kind, credits counted, and how many bills that are."""

    kind: BillKind
    balance: Decimal
    bill_count: int


@dataclass(frozen=True, slots=True)
class SummedBills:
    """What bills come to: a report has them by the 100,000, and says no more of each.

    ``kinds`` add up to what is owed on all of them. ``owed_kinds`` are those of bills on which something is owed,
    whatever credits make of it. ``owing_since`` is when the oldest of these began, ``last_payment`` when something was
    last paid on any of the bills (both aware, None where there is none).
    """

    kinds: tuple[KindSum, ...] = ()
    owed_kinds: frozenset[BillKind] = frozenset()
    owing_since: datetime | None = None
    last_payment: datetime | None = None

    @classmethod
    def of(
        cls, bills: Collection[Bill], known: dict[tuple[KindSum, ...], tuple[KindSum, ...]] | None = None
    ) -> SummedBills:
        """Sum up these bills. Equal sums by kind are taken from those that are ``known``, and put there."""
        if not bills:
            return _NO_BILLS
        since = min((bill.since for bill in bills if bill.balance > 0 and known_date(bill.since)), default=None)
        paid = max((bill.last_payment for bill in bills if bill.last_payment is not None), default=None)
        owed = frozenset(bill.kind for bill in bills if bill.balance > 0)
        kinds = _sums_by_kind(bills)
        if known is not None:
            kinds = known.setdefault(kinds, kinds)
        return cls(kinds, _KINDS.setdefault(owed, owed), since, paid)

    @classmethod
    def together(cls, sums: Iterable[SummedBills]) -> SummedBills:
        """What the bills of several patrons come to."""
        found = [one for one in sums if one is not _NO_BILLS]
        if len(found) < 2:
            return found[0] if found else _NO_BILLS
        return cls(
            _joined(kind for one in found for kind in one.kinds),
            frozenset().union(*(one.owed_kinds for one in found)),
            min((one.owing_since for one in found if one.owing_since is not None), default=None),
            max((one.last_payment for one in found if one.last_payment is not None), default=None),
        )


_NO_BILLS = SummedBills()
_KINDS: dict[frozenset[BillKind], frozenset[BillKind]] = {}
"""One for all who owe for the same: an ILS has a dozen kinds of bills."""


@dataclass(frozen=True, slots=True)
class MemberDetails:
    """What is known of a member beside the own fines.

    ``owed`` are the bills that add up to the own fines, None where they aren't known; ``items`` are None where some are
    hidden. ``profile`` is the name of the permission profile. Without its parts (``kinds``, dates) nothing is owed.
    """

    owed: SummedBills | None
    items: UnreturnedItems | None
    state: PatronState
    profile: str

    @property
    def kinds(self) -> tuple[KindSum, ...] | None:
        """What is owed by kind, which adds up to the own fines exactly; None where it isn't known."""
        return None if self.owed is None else self.owed.kinds

    @property
    def owing_since(self) -> datetime | None:
        """When the oldest open transaction began on which something is owed; a credit isn't."""
        return None if self.owed is None else self.owed.owing_since

    @property
    def last_payment(self) -> datetime | None:
        """When something was last paid on one of the bills; what was paid off isn't among them."""
        return None if self.owed is None else self.owed.last_payment


@dataclass(frozen=True, slots=True)
class SummedDetails:
    """The same summed over the members of a group.

    ``kinds`` and ``not_known`` add up to the combined fines: the latter is what members owe of whom it isn't known what
    for, hidden ones included; None if the combined fines are unknown. ``certain`` says that it is known of everybody,
    so that nobody owes anything since before ``owing_since``. ``owed_kinds`` are those of bills on which something is
    owed, whatever credits make of it. ``items`` are those that are known of, all where ``items_certain``.
    """

    kinds: tuple[KindSum, ...]
    owed_kinds: frozenset[BillKind]
    not_known: Decimal | None
    certain: bool
    owing_since: datetime | None
    last_payment: datetime | None
    items: UnreturnedItems
    items_certain: bool

    @property
    def overdue(self) -> Total[int]:
        """How many items all members have overdue."""
        return Total(self.items.overdue, self.items_certain)

    @property
    def lost(self) -> Total[int]:
        """How many items all members have lost."""
        return Total(self.items.lost, self.items_certain)

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
    # The last one alone: whoever writes a group asks several times, and all of them would be as much as the members'.
    _latest: list[tuple[Group, SummedDetails]] = field(default_factory=list, repr=False, compare=False)

    def of(self, member: Member) -> MemberDetails:
        """The details of a member of the report."""
        return self.members[member.id]

    def of_group(self, group: Group) -> SummedDetails:
        """The details of a group of the report."""
        for latest, summed in self._latest:
            if latest is group:
                return summed
        summed = self._summed(group)
        self._latest[:] = [(group, summed)]
        return summed

    def _summed(self, group: Group) -> SummedDetails:
        from evergreen_groups.ils import UnreturnedItems  # with it comes the gateway, which --help needn't load

        fines = group.combined_fines
        found = [self.members[member.id] for member in group.members]
        bills = SummedBills.together(details.owed for details in found if details.owed is not None)
        return SummedDetails(
            kinds=bills.kinds,
            owed_kinds=bills.owed_kinds,
            not_known=None if fines is None else fines - sum((one.balance for one in bills.kinds), ZERO),
            certain=group.complete and all(details.owed is not None for details in found),
            owing_since=bills.owing_since,
            last_payment=bills.last_payment,
            items=UnreturnedItems.sum_of(details.items for details in found if details.items is not None),
            items_certain=group.complete and all(details.items is not None for details in found),
        )


def _sums_by_kind(bills: Iterable[Bill]) -> tuple[KindSum, ...]:
    return _joined(KindSum(bill.kind, bill.balance, 1) for bill in bills)


def _joined(sums: Iterable[KindSum]) -> tuple[KindSum, ...]:
    """One for each kind, the most first; kinds on which debts and credits even out are there as well."""
    found: dict[BillKind, KindSum] = {}
    for one in sums:
        before = found.get(one.kind)
        if before is not None:
            one = KindSum(one.kind, before.balance + one.balance, before.bill_count + one.bill_count)  # noqa: PLW2901
        found[one.kind] = one
    if len(found) < 2:
        return tuple(found.values())
    return tuple(sorted(found.values(), key=lambda one: (-one.balance, one.kind)))


Bills = Mapping[int, tuple[Bill, ...]]


@dataclass(frozen=True, slots=True)
class DetailRows:
    """What was read of the members of some groups beside what they owe."""

    bills: Bills
    items: UnreturnedResult


class DetailReader:
    """Reads what the account may see of it; ``granted`` is what :func:`highest_granted` gave for both permissions."""

    def __init__(self, gateway: Gateway, org_units: OrgUnits, granted: Mapping[str, Collection[int]]) -> None:
        self._gateway = gateway
        self._org_units = org_units
        self._bills_at = self._visible_at(VIEW_USER_TRANSACTIONS, granted)
        self._items_at = self._visible_at(VIEW_CIRCULATIONS, granted)
        self.profiles = Profiles.read(gateway)
        """All that the ILS has."""
        self._members: dict[int, MemberDetails] = {}
        # One record for all of whom the same is known: of most there is nothing to say. And one for all who owe as much
        # for the same.
        self._alike: dict[MemberDetails, MemberDetails] = {}
        self._kinds: dict[tuple[KindSum, ...], tuple[KindSum, ...]] = {}
        self._by_billing_type: set[int] = set()

    def _visible_at(self, permission: str, granted: Mapping[str, Collection[int]]) -> frozenset[int]:
        highest = granted[permission]
        if self._org_units.root.id in highest:
            return frozenset(unit.id for unit in self._org_units)
        user = account_of_session(self._gateway).id
        return orgs_with_permission(self._gateway, self._org_units, permission, highest, user)

    def read(self, rows: Collection[PatronRow]) -> DetailRows:
        """The bills and unreturned items of these patrons, three calls for up to 3,000 of them."""
        visible = [row.id for row in rows if row.home_library in self._bills_at]
        readers: tuple[Callable[[], Any], ...] = (
            lambda: read_bills(self._gateway, visible) if visible else {},
            lambda: read_unreturned_items(self._gateway, self._org_units, self._items_at, [row.id for row in rows]),
        )
        bills, items = self._gateway.map(lambda read: read(), readers)
        return DetailRows(bills, items)

    def add(self, members: Collection[Member], read: DetailRows, states: dict[int, PatronState]) -> None:
        """Take in the details of these members, whose ``states`` are taken out of there; the latest of a member count.

        Bills that don't add up to the own fines are read once more.
        """
        hidden = {member.id for member in members if member.patron.home_library.id not in self._bills_at}
        own_fines = {member.id: member.own_fines for member in members}
        adding_up = verify_bills(self._gateway, own_fines, read.bills, hidden)
        for member in members:
            id, profile = member.id, self.profiles.name(member.patron.profile)
            bills = adding_up[id]
            if bills:
                bills = with_item_kinds(bills, read.items.stop_fines, self._items_at)
                if any(one.kind.transaction == "circulation" and one.library not in self._items_at for one in bills):
                    self._by_billing_type.add(id)
            owed = None if bills is None else SummedBills.of(bills, self._kinds)
            theirs = MemberDetails(owed, read.items.items.get(id), states.pop(id), profile)
            self._members[id] = theirs if bills else self._alike.setdefault(theirs, theirs)

    def details(self) -> ReportDetails:
        """The details of all members that were taken in."""
        return ReportDetails(self._members, self.profiles)

    def notes(self, groups: Collection[Group], details: ReportDetails) -> Iterator[Message]:
        """Say of how many members it isn't known what they owe for or have out, and what the account lacks."""
        found = [details.of(member) for group in groups for member in group.members]
        without_bills = sum(one.owed is None for one in found)
        if without_bills:
            reason = self._reason(VIEW_USER_TRANSACTIONS, self._bills_at)
            yield Message(
                "What {count} of {all:,} members owes for isn't known: {reason}.",
                plural="What {count} of {all:,} members owe for isn't known: {reason}.",
                values={"count": without_bills, "all": len(found), "reason": reason},
            )
        by_type = sum(member.id in self._by_billing_type for group in groups for member in group.members)
        if by_type:
            yield Message(
                "For {count} of {all:,} members, bills for items are listed by billing type and not by what happened "
                "to the item: {reason}.",
                values={"count": by_type, "all": len(found), "reason": self._reason(VIEW_CIRCULATIONS, self._items_at)},
            )
        without_items = sum(one.items is None for one in found)
        if without_items:
            reason = self._reason(VIEW_CIRCULATIONS, self._items_at)
            yield Message(
                "How many items {count} of {all:,} members has overdue or lost isn't known: {reason}.",
                plural="How many items {count} of {all:,} members have overdue or lost isn't known: {reason}.",
                values={"count": without_items, "all": len(found), "reason": reason},
            )

    def _reason(self, permission: str, held: Collection[int]) -> Message:
        if not held:
            return Message(
                'the account lacks {permission}; grant it, or have details = "sums"', values={"permission": permission}
            )
        missing = {unit.id for unit in self._org_units} - set(held)
        if not missing:
            return Message("something was paid or billed while the report was made")
        named = self._org_units.subtree_roots(missing) or [unit for unit in self._org_units if unit.id in missing]
        libraries = ", ".join(unit.shortname for unit in named)
        return Message(
            "the account lacks {permission} at {libraries}",
            values={"permission": permission, "libraries": libraries},
        )
