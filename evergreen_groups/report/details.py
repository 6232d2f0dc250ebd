"""What members owe for, since when, and which items are still out, per member and per group.

What the account may not see is unknown, which is never the same as nothing. If the bills of a member don't add up to
the own fines, what the member owes for is unknown, too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.ils import Bill, OrgUnits, PatronItems, Profiles, UnreturnedItems, permissions
from evergreen_groups.message import Message
from evergreen_groups.report.items import ItemTotals, items_not_known, missing_permission, not_known
from evergreen_groups.values import ZERO
from evergreen_groups.values import plausible as known_date

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Group, Member, PatronRow, PatronState
    from evergreen_groups.ils import BillKind


@dataclass(frozen=True, slots=True)
class KindSum:
    """The balance of the bills of one kind, minus credits, and the number of bills."""

    kind: BillKind
    balance: Decimal
    bill_count: int


@dataclass(frozen=True, slots=True)
class SummedBills:
    """Totals of bills. A report has bills by the 100,000 and doesn't list them individually.

    ``kinds`` add up to the balance of all bills. ``owed_kinds`` are the kinds of bills with a positive balance, even
    where credits cancel it out. ``owing_since`` is when the oldest of these began, ``last_payment`` the last payment on
    any of the bills (both aware, None if there is none).
    """

    kinds: tuple[KindSum, ...] = ()
    owed_kinds: frozenset[BillKind] = frozenset()
    owing_since: datetime | None = None
    last_payment: datetime | None = None

    @classmethod
    def of(
        cls, bills: Collection[Bill], known: dict[tuple[KindSum, ...], tuple[KindSum, ...]] | None = None
    ) -> SummedBills:
        """Sum up bills. ``known`` is a cache that makes equal sums share one object."""
        if not bills:
            return _NO_BILLS
        since = min((bill.since for bill in bills if bill.balance > 0 and known_date(bill.since)), default=None)
        paid = max((bill.last_payment for bill in bills if bill.last_payment is not None), default=None)
        owed = frozenset(bill.kind for bill in bills if bill.balance > 0)
        kinds = _merge_sums(KindSum(bill.kind, bill.balance, 1) for bill in bills)
        if known is not None:
            kinds = known.setdefault(kinds, kinds)
        return cls(kinds, _SHARED_KINDS.setdefault(owed, owed), since, paid)

    @classmethod
    def combine(cls, sums: Iterable[SummedBills]) -> SummedBills:
        found = [bills for bills in sums if bills is not _NO_BILLS]
        if len(found) < 2:
            return found[0] if found else _NO_BILLS
        return cls(
            _merge_sums(kind for bills in found for kind in bills.kinds),
            frozenset().union(*(bills.owed_kinds for bills in found)),
            min((bills.owing_since for bills in found if bills.owing_since is not None), default=None),
            max((bills.last_payment for bills in found if bills.last_payment is not None), default=None),
        )


_NO_BILLS = SummedBills()
_SHARED_KINDS: dict[frozenset[BillKind], frozenset[BillKind]] = {}
"""Shares equal sets: the ILS has only a dozen kinds of bills."""


@dataclass(frozen=True, slots=True)
class MemberDetails:
    """What is known about a member in addition to the own fines.

    ``owed`` sums up the bills, which add up to the own fines, None if they are unknown. ``items`` is None if some are
    hidden. ``profile`` is the name of the permission profile.
    """

    owed: SummedBills | None
    items: UnreturnedItems | None
    state: PatronState
    profile: str

    @property
    def kinds(self) -> tuple[KindSum, ...] | None:
        """What the member owes by kind. Adds up to the own fines exactly. None if unknown."""
        return None if self.owed is None else self.owed.kinds

    @property
    def owing_since(self) -> datetime | None:
        """When the oldest open transaction with a positive balance began."""
        return None if self.owed is None else self.owed.owing_since

    @property
    def last_payment(self) -> datetime | None:
        """The last payment on any open bill. Paid bills aren't included."""
        return None if self.owed is None else self.owed.last_payment


class AgeBand(NamedTuple):
    """How long a group has owed something: from ``least`` days on, and less than ``below`` days (None: or more)."""

    least: int
    below: int | None

    @property
    def text(self) -> str:
        """The days, for programs: ``30 to 59``. Spreadsheets take ``5-9`` for a date."""
        return f"{self.least} or more" if self.below is None else f"{self.least} to {self.below - 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SummedDetails(SummedBills, ItemTotals):
    """The details of all members of a group.

    ``kinds`` and ``not_known`` add up to the combined fines. ``not_known`` is the part whose kind is unknown, including
    hidden members; None if the combined fines are. ``certain`` means that all members' bills are known, so
    ``owing_since`` is the oldest. ``items`` are the known items, which are all of them if ``items_certain``.
    ``age_band`` is that of ``owing_since``.
    """

    not_known: Decimal | None
    certain: bool
    items: UnreturnedItems
    items_certain: bool
    age_band: AgeBand | None = None


@dataclass(frozen=True, slots=True)
class ReportDetails:
    """The details of a report's members, by patron id. ``profiles`` are all of the ILS's profiles.

    ``age_bands`` are the days after which bands begin, counted up to ``at`` (aware; None: there are no bands).
    """

    members: Mapping[int, MemberDetails]
    profiles: Profiles
    age_bands: tuple[int, ...] = ()
    at: datetime | None = None
    # Cache only the last group: writers ask several times for one group, and all groups would double the memory.
    _latest: list[tuple[Group, SummedDetails]] = field(default_factory=list, init=False, repr=False, compare=False)

    def of(self, member: Member) -> MemberDetails:
        return self.members[member.id]

    def of_group(self, group: Group) -> SummedDetails:
        for latest, summed in self._latest:
            if latest is group:
                return summed
        fines = group.group_fines
        found = [self.members[member.id] for member in group.members]
        bills = SummedBills.combine(details.owed for details in found if details.owed is not None)
        summed = SummedDetails(
            kinds=bills.kinds,
            owed_kinds=bills.owed_kinds,
            not_known=None if fines is None else fines - sum((sums.balance for sums in bills.kinds), ZERO),
            certain=group.complete and all(details.owed is not None for details in found),
            owing_since=bills.owing_since,
            last_payment=bills.last_payment,
            items=sum((details.items for details in found if details.items is not None), UnreturnedItems()),
            items_certain=group.complete and all(details.items is not None for details in found),
            age_band=self.age_band(group),
        )
        self._latest[:] = [(group, summed)]
        return summed

    def age_band(self, group: Group) -> AgeBand | None:
        """Return for how long a group of the report has owed something, None if not known."""
        known = (self.members[member.id].owing_since for member in group.members)
        return self.age_band_since(min((one for one in known if one is not None), default=None))

    def age_band_since(self, since: datetime | None) -> AgeBand | None:
        """Return the band of a debt that began then, None if not known."""
        if since is None or self.at is None or not self.age_bands:
            return None
        begins = (0, *self.age_bands)
        place = bisect_right(begins, max((self.at - since).days, 0))
        return AgeBand(begins[place - 1], begins[place] if place < len(begins) else None)


def _merge_sums(sums: Iterable[KindSum]) -> tuple[KindSum, ...]:
    """Merge sums of the same kind, the highest first. Keep kinds on which debts and credits cancel out."""
    found: dict[BillKind, KindSum] = {}
    for item in sums:
        before = found.get(item.kind)
        if before is not None:
            item = KindSum(item.kind, before.balance + item.balance, before.bill_count + item.bill_count)  # noqa: PLW2901
        found[item.kind] = item
    if len(found) < 2:
        return tuple(found.values())
    return tuple(sorted(found.values(), key=lambda item: (-item.balance, item.kind)))


Bills = Mapping[int, tuple[Bill, ...]]
Items = Mapping[int, PatronItems]


class DetailReader:
    """Reads the details that the account may see. ``granted`` is :func:`highest_granted`'s result for both permissions.

    With ``copies``, items are read with their ids. Raises ConfigurationError if one of the profiles ``named`` in the
    settings doesn't exist.
    """

    def __init__(
        self,
        gateway: Gateway,
        org_units: OrgUnits,
        granted: Mapping[str, Collection[int]],
        named: Sequence[str] = (),
        *,
        copies: bool = False,
    ) -> None:
        self._gateway = gateway
        self._org_units, self._copies = org_units, copies
        self._bills_at, self._items_at = (
            permissions.orgs_with_permission(gateway, org_units, permission, granted[permission])
            for permission in (permissions.VIEW_USER_TRANSACTIONS, permissions.VIEW_CIRCULATIONS)
        )
        self.profiles = Profiles.read(gateway)
        """All of the ILS's profiles."""
        self.profiles.named(named)
        # Members with equal details share one record, because for most there is nothing to say. Equal sums by kind are
        # shared, too.
        self._shared: dict[MemberDetails, MemberDetails] = {}
        self._kinds: dict[tuple[KindSum, ...], tuple[KindSum, ...]] = {}
        self._by_billing_type: set[int] = set()

    def read(self, rows: Collection[PatronRow]) -> tuple[Bills, Items]:
        """Read the bills and unreturned items of patrons, in three calls for up to 3,000."""
        # Bills of other patrons would come back empty, which looks like owing nothing.
        visible = [row.id for row in rows if row.home_library in self._bills_at]
        ids = [row.id for row in rows]
        bills, items = self._gateway.in_parallel(
            lambda: Bill.read(self._gateway, visible) if visible else {},
            lambda: PatronItems.read(
                self._gateway, self._org_units, self._items_at, ids, late_only=True, copies=self._copies
            ),
        )
        return bills, items

    def of_members(
        self, members: Collection[Member], bills: Bills, items: Items, states: dict[int, PatronState]
    ) -> dict[int, MemberDetails]:
        """Return the members' details, and remove their ``states``. Reread bills that don't add up to own fines."""
        hidden = {member.id for member in members if member.patron.home_library.id not in self._bills_at}
        own_fines = {member.id: member.own_fines for member in members}
        verified = Bill.verify(self._gateway, own_fines, bills, hidden)
        of_members = {}
        for member in members:
            id, profile = member.id, self.profiles.name(member.patron.profile)
            found = verified[id]
            if found:
                # A bill for an item counts as overdue, lost and so on by the circulation's state.
                found = Bill.with_item_kinds(found, items[id].stop_fines, self._items_at)
                if any(bill.kind.transaction == "circulation" and bill.library not in self._items_at for bill in found):
                    self._by_billing_type.add(id)
            owed = None if found is None else SummedBills.of(found, self._kinds)
            details = MemberDetails(owed, items[id].unreturned, states.pop(id), profile)
            of_members[id] = details if found else self._shared.setdefault(details, details)
        return of_members

    def notes(self, members: Mapping[int, MemberDetails]) -> Iterator[Message]:
        """Yield notes: for how many members bills or items are unknown, and which permissions the account lacks."""
        found = members.values()
        without_bills = [member.owed for member in found].count(None)
        if without_bills:
            reason = missing_permission(self._org_units, permissions.VIEW_USER_TRANSACTIONS, self._bills_at)
            yield not_known(Message("Owed for"), without_bills, len(found), reason)
        by_type = len(members.keys() & self._by_billing_type)
        if by_type:
            yield Message(
                "For {count:,} of {all:,} members, bills for items are listed by billing type only ({reason}).",
                values={
                    "count": by_type,
                    "all": len(found),
                    "reason": missing_permission(self._org_units, permissions.VIEW_CIRCULATIONS, self._items_at),
                },
            )
        without_items = [member.items for member in found].count(None)
        if without_items:
            yield items_not_known(self._org_units, self._items_at, without_items, len(found))
