"""Which groups of one night are those of another, whatever happened to their numbers meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evergreen_groups.report.packed_listings import Listing, PackedListings


class Lineage:
    """Follows the groups that were listed ``before`` to the ``present`` ones.

    A group is the one that had its number, as long as they share a member. One that lost its number, because its
    members were moved together or merged into another group, is the group that has more than half of them now.

    >>> from decimal import Decimal
    >>> from evergreen_groups.report.packed_listings import Listing, PackedListings
    >>> one = Listing(7, Decimal(9), True, 2, frozenset({1, 2}), "BR1", frozenset({"BR1"}))
    >>> Lineage(PackedListings([one]), PackedListings([one._replace(group=8)])).number_now(7)
    8
    """

    def __init__(self, before: PackedListings, present: PackedListings) -> None:
        self._before = before
        # Nearly all have the number that they had. Of the others: what it is now (None: they are gone), and from there
        # back.
        self._moved: dict[int, int | None] = {}
        self._merged: dict[int, list[int]] = {}
        moved: list[tuple[Listing, Listing | None]] = []
        for listing in before:
            same_number = present.of_group(listing.group)
            if same_number is None or listing.members.isdisjoint(same_number.members):
                moved.append((listing, same_number))
        groups_now = groups_of(present, {patron for listing, _same_number in moved for patron in listing.members})
        for listing, same_number in moved:
            number = _successor(listing, same_number, groups_now)
            if number == listing.group:
                continue
            self._moved[listing.group] = number
            if number is not None:
                self._merged.setdefault(number, []).append(listing.group)

    def number_now(self, number: int) -> int | None:
        """The number that one of the groups of before has now, None where it isn't there any more."""
        return self._moved.get(number, number)

    def formerly(self, number: int) -> list[int]:
        """The numbers that the present group with this one was listed under, in their order."""
        own = [number] if number not in self._moved and self.was_listed(number) else []
        merged = self._merged.get(number)
        return own if merged is None else sorted(own + merged)

    def was_listed(self, number: int) -> bool:
        """Whether a group with this number was listed before, be it the same or another one."""
        return self._before.has_group(number)

    def before(self, number: int) -> list[Listing]:
        """What the present group with this number was listed as."""
        listings = map(self._before.of_group, self.formerly(number))
        return [listing for listing in listings if listing is not None]


def groups_of(listings: Iterable[Listing], patrons: Collection[int]) -> dict[int, int]:
    """The number of the group of each of the patrons, by id, as far as they are in one."""
    if not patrons:
        return {}
    return {patron: listing.group for listing in listings for patron in listing.members if patron in patrons}


def group_of_most(members: Collection[int], groups: Mapping[int, int]) -> int | None:
    """The group that has more than half of ``members``."""
    counts = Counter(groups[member] for member in members if member in groups)
    number, count = counts.most_common(1)[0] if counts else (None, 0)
    return number if count * 2 > len(members) else None


def _successor(listing: Listing, same_number: Listing | None, groups_now: Mapping[int, int]) -> int | None:
    """The number now of a group that shares nobody with the one that has its number.

    Of hidden members it can't be said that they are others.
    """
    number = group_of_most(listing.members, groups_now)
    if number is None and same_number is not None and not (listing.complete and same_number.complete):
        return same_number.group
    return number
