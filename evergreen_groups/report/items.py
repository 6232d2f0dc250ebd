"""Unreturned items of a report's members, read for reports that list groups by items."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.batches import batched
from evergreen_groups.gateway import columns
from evergreen_groups.groups import ItemCondition, search
from evergreen_groups.ils import ItemPrices, PatronItems, UnreturnedItems, permissions
from evergreen_groups.message import Message
from evergreen_groups.values import ZERO, Total, sum_of_prices

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.groups import Group, Member, PatronRow
    from evergreen_groups.ils import OrgUnits
    from evergreen_groups.report.models import Criteria

_GROUPS_AT_ONCE = 500
"""The query has each number three times, some 12 kB."""
_FIELDS = ("id", "usrgroup")


class ItemTotals:
    """How many items of a group are overdue and lost, of those that are known."""

    __slots__ = ()
    items: UnreturnedItems
    items_certain: bool

    @property
    def overdue(self) -> Total[int]:
        return Total(self.items.overdue, self.items_certain)

    @property
    def lost(self) -> Total[int]:
        return Total(self.items.lost, self.items_certain)

    @property
    def returnable(self) -> bool | None:
        """Whether an overdue item is out that can be returned, instead of only paid. None if unknown."""
        if self.items.overdue:
            return True
        return False if self.items_certain else None


class MemberItems(NamedTuple):
    """A member's visible unreturned items, which are all of them if ``certain``.

    ``due`` are the due dates of the overdue ones, the oldest first. None: a date isn't usable. ``price`` is what
    Evergreen would bill for them.
    """

    visible: UnreturnedItems = UnreturnedItems()
    due: tuple[datetime | None, ...] = ()
    price: Total[Decimal] = Total(ZERO)
    certain: bool = True

    @property
    def items(self) -> UnreturnedItems | None:
        """The numbers of all unreturned items, None if some may be hidden."""
        return self.visible if self.certain else None


@dataclass(frozen=True, slots=True)
class GroupItems(ItemTotals):
    """The unreturned items of a group's members. Those that are known are all of them if ``items_certain``.

    ``replacement_price`` is an estimate: what Evergreen would bill for all of them. It isn't part of what is owed.
    """

    items: UnreturnedItems
    items_certain: bool
    due: tuple[datetime | None, ...]
    replacement_price: Total[Decimal]

    @property
    def oldest_due(self) -> datetime | None:
        """The due date of the item that has been overdue the longest. None if none is known."""
        return min((due for due in self.due if due is not None), default=None)

    def count(self, condition: ItemCondition, now: datetime) -> int:
        """Return how many known items count for a condition."""
        if condition.lost:
            return self.items.lost
        if not condition.days:
            return self.items.overdue
        return sum(due is not None and due <= condition.cutoff(now) for due in self.due)


@dataclass(frozen=True, slots=True)
class ReportItems:
    """Unreturned items by patron id.

    ``found`` has, by condition, the numbers of groups with unknown items that meet it: Evergreen counts all items.
    ``now`` is the time (aware) at which the overdue items were overdue.
    """

    members: Mapping[int, MemberItems]
    found: Mapping[ItemCondition, frozenset[int]]
    now: datetime

    def of(self, member: Member) -> MemberItems:
        return self.members[member.id]

    def overdue_of(self, member: Member) -> int:
        """Return how many items of a member are overdue, as far as known."""
        return self.of(member).visible.overdue

    def of_group(self, group: Group) -> GroupItems:
        every = [self.of(member) for member in group.members]
        certain = group.complete and all(one.certain for one in every)
        price = sum_of_prices(one.price for one in every)
        return GroupItems(
            sum((one.visible for one in every), UnreturnedItems()),
            certain,
            tuple(chain.from_iterable(one.due for one in every)),
            price._replace(exact=price.exact and certain),
        )

    def totals(self, groups: Iterable[Group]) -> GroupItems:
        """Return the items of several groups together."""
        every = [self.of_group(group) for group in groups]
        return GroupItems(
            sum((one.items for one in every), UnreturnedItems()),
            all(one.items_certain for one in every),
            tuple(chain.from_iterable(one.due for one in every)),
            sum_of_prices(one.replacement_price for one in every),
        )

    def enough(self, group: Group, conditions: Iterable[ItemCondition]) -> bool:
        """Return whether a group meets any of the conditions."""
        items = self.of_group(group)
        return any(
            items.count(condition, self.now) >= condition.least or group.number in self.found.get(condition, ())
            for condition in conditions
        )

    def most_first(self, criteria: Criteria) -> Callable[[Group], tuple[int, int]]:
        """Return the sort key of groups by the items that the criteria ask for."""
        first, second = ("overdue", "lost") if criteria.min_overdue else ("lost", "overdue")

        def key(group: Group) -> tuple[int, int]:
            items = self.of_group(group).items
            return -getattr(items, first), -getattr(items, second)

        return key

    def of_groups(self, groups: Collection[Group]) -> ReportItems:
        """Return the items of these groups only."""
        numbers = frozenset([group.number for group in groups])
        members = {member.id: self.of(member) for group in groups for member in group.members}
        return ReportItems(members, {one: found & numbers for one, found in self.found.items()}, self.now)


class ItemReader:
    """Reads items for reports that list groups by any of ``conditions``.

    ``granted`` is :func:`highest_granted`'s result for VIEW_CIRCULATIONS. ``homes`` are the home libraries whose
    patrons the account sees (ids; empty: all). ``now`` is aware.
    """

    def __init__(
        self,
        gateway: Gateway,
        org_units: OrgUnits,
        granted: Mapping[str, Collection[int]],
        conditions: Collection[ItemCondition],
        homes: Collection[int],
        now: datetime,
    ) -> None:
        self._gateway = gateway
        self._org_units = org_units
        permission = permissions.VIEW_CIRCULATIONS
        self._visible_at = permissions.orgs_with_permission(gateway, org_units, permission, granted[permission])
        self._conditions = conditions
        self._homes = homes
        self._now = now
        self._prices = ItemPrices.begin(gateway)

    def read(self, rows: Collection[PatronRow]) -> Mapping[int, PatronItems]:
        """Read the unreturned items of patrons, in one call for up to 3,000, or two if some may be hidden."""
        ids = [row.id for row in rows]
        return PatronItems.read(self._gateway, self._org_units, self._visible_at, ids, late_only=True, copies=True)

    def of_groups(self, groups: Collection[Group], items: Mapping[int, PatronItems]) -> ReportItems:
        """Return the items of groups, with prices, which takes two calls for 3,000 items.

        Where some are hidden, ask Evergreen which groups meet the conditions.
        """
        theirs = {member.id: items[member.id] for group in groups for member in group.members}
        prices = self._prices.read({copy for one in theirs.values() for copy in one.copies})
        members = {id: _items_of(one, prices) for id, one in theirs.items()}
        known = ReportItems(members, {}, self._now)
        unknown = [group.number for group in groups if not known.of_group(group).items_certain]
        return replace(known, found={one: self._find(one, unknown) for one in self._conditions} if unknown else {})

    def combined(self, batches: Iterable[ReportItems | None]) -> ReportItems:
        """Return the items of several batches as one."""
        read = [batch for batch in batches if batch is not None]
        members = {patron: items for batch in read for patron, items in batch.members.items()}
        found = {
            one: frozenset(chain.from_iterable(batch.found.get(one, ()) for batch in read)) for one in self._conditions
        }
        return ReportItems(members, found, self._now)

    def notes(self, members: Collection[MemberItems]) -> Iterator[Message]:
        """Yield a note for how many members items are unknown."""
        unknown = sum(not member.certain for member in members)
        if unknown:
            yield items_not_known(self._org_units, self._visible_at, unknown, len(members))

    def _find(self, condition: ItemCondition, numbers: Collection[int]) -> frozenset[int]:
        query = search.UnreturnedInGroups(condition, self._now, visible_orgs=self._homes)
        found: set[int] = set()
        for batch in batched(sorted(numbers), _GROUPS_AT_ONCE):
            where = query.members(search.GroupList(tuple(batch)))
            pages = self._gateway.pcrud.pages("au", where, select=_FIELDS, concurrency=1, all_visible=True)
            found |= {group for page in pages for _id, group in columns(page, *_FIELDS)}
        return frozenset(found)


def _items_of(items: PatronItems, prices: Mapping[int, Decimal]) -> MemberItems:
    counts = items.visible_unreturned
    if not (counts.overdue or counts.lost):
        return _NO_ITEMS if items.complete else _UNKNOWN
    return MemberItems(counts, items.overdue_since, price_of(items.copies, prices), items.complete)


def price_of(copies: Iterable[int], prices: Mapping[int, Decimal]) -> Total[Decimal]:
    """Add up the prices of items (ids), a lower bound if some are unknown."""
    return sum_of_prices(Total(prices.get(copy, ZERO), copy in prices) for copy in copies)


# Shared by most members.
_NO_ITEMS, _UNKNOWN = MemberItems(), MemberItems(certain=False)


def items_not_known(org_units: OrgUnits, visible_at: Collection[int], count: int, of: int) -> Message:
    """Say for how many members items are unknown, because the account sees circulations at ``visible_at`` only."""
    reason = missing_permission(org_units, permissions.VIEW_CIRCULATIONS, visible_at)
    return not_known(Message("Items overdue"), count, of, reason)


def not_known(what: Message, count: int, of: int, reason: Message) -> Message:
    """Say for how many members something is unknown."""
    values = {"what": what, "count": count, "all": of, "reason": reason}
    return Message("{what}: not known for {count:,} of {all:,} members ({reason}).", values=values)


def missing_permission(org_units: OrgUnits, permission: str, held: Collection[int]) -> Message:
    """Say where the account lacks a permission that it has at ``held``."""
    missing = org_units.ids.difference(held)
    if not missing:
        return Message("fines changed while the report was made")
    libraries = ", ".join(unit.shortname for unit in org_units.subtree_roots(missing))
    return Message(
        "the account lacks {permission} at {libraries}", values={"permission": permission, "libraries": libraries}
    )
