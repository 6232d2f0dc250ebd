"""What is remembered of groups, packed: a report of a hundred thousand members has it of two nights at once."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, overload

from evergreen_groups.report.blocks import NumberIndex

if TYPE_CHECKING:
    from evergreen_groups.groups import Group


class Listing(NamedTuple):
    """What is remembered of a group that met a report's criteria: amounts and ids, no names.

    ``members`` are the ids of the visible ones, ``libraries`` the short names of their home libraries; ``certain`` says
    whether ``combined_fines`` counts everybody.
    """

    group: int
    combined_fines: Decimal
    certain: bool
    member_count: int
    members: frozenset[int]
    library: str
    libraries: frozenset[str]

    @classmethod
    def of(cls, group: Group) -> Listing:
        """What is remembered of ``group``."""
        return cls(
            group=group.number,
            combined_fines=group.known_fines,
            certain=group.hidden_fines is not None,
            member_count=group.member_count,
            members=frozenset(member.id for member in group.members),
            library=group.library,
            libraries=_alike(frozenset(member.library for member in group.members)),
        )

    @property
    def complete(self) -> bool:
        """Whether every member was visible."""
        return len(self.members) == self.member_count


# Of thousands of groups most have members of the same few libraries.
@lru_cache(1000)
def _alike(libraries: frozenset[str]) -> frozenset[str]:
    return libraries


class PackedListings(Sequence[Listing]):
    """Listings in their order, each made anew when it is looked at; they take an eighth of the room."""

    def __init__(self, listings: Iterable[Listing] = ()) -> None:
        amounts: dict[Decimal, Decimal] = {}  # one for all groups that owe as much
        self._groups: list[int] = []
        self._fines: list[Decimal] = []
        self._certain = bytearray()
        self._counts = array("q")
        self._members = array("q")
        self._ends = array("q", [0])  # where each one's members end, and the next one's begin
        self._library: list[str] = []
        self._libraries: list[frozenset[str]] = []
        for group, fines, certain, count, members, library, libraries in listings:
            self._groups.append(group)
            self._fines.append(amounts.setdefault(fines, fines))
            self._certain.append(certain)
            self._counts.append(count)
            self._members.extend(members)
            self._ends.append(len(self._members))
            self._library.append(library)
            self._libraries.append(libraries)
        self._index = NumberIndex(self._groups)

    def of_group(self, number: int) -> Listing | None:
        """The listing of the group with this number, None where there is none."""
        place = self._index.position(number)
        return None if place is None else self[place]

    def has_group(self, number: int) -> bool:
        """Whether there is one of a group with this number."""
        return self._index.position(number) is not None

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[Listing]:
        members = self._members
        ids = (frozenset(members[start:end]) for start, end in pairwise(self._ends))
        certain = map(bool, self._certain)
        columns = (self._groups, self._fines, certain, self._counts, ids, self._library, self._libraries)
        return map(Listing._make, zip(*columns, strict=True))

    @overload
    def __getitem__(self, place: int) -> Listing: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Listing]: ...

    def __getitem__(self, place: int | slice) -> Listing | Sequence[Listing]:
        """The listing at a place, or a tuple of those of a slice."""
        if isinstance(place, slice):
            return tuple(self[at] for at in range(*place.indices(len(self))))
        at = range(len(self))[place]
        return Listing(
            self._groups[at],
            self._fines[at],
            bool(self._certain[at]),
            self._counts[at],
            frozenset(self._members[self._ends[at] : self._ends[at + 1]]),
            self._library[at],
            self._libraries[at],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedListings):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as of a list


class GroupMatching:
    """Follows the groups that were listed ``before`` to the ``present`` ones.

    A group is the one that had its number, as long as they share a member. One that lost its number, because its
    members were moved together or merged into another group, is the group that has more than half of them now.

    >>> from decimal import Decimal
    >>> from evergreen_groups.report.listings import Listing, PackedListings
    >>> one = Listing(7, Decimal(9), True, 2, frozenset({1, 2}), "BR1", frozenset({"BR1"}))
    >>> GroupMatching(PackedListings([one]), PackedListings([one._replace(group=8)])).current_number(7)
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

    def current_number(self, number: int) -> int | None:
        """The number that one of the groups of before has now, None where it isn't there any more."""
        return self._moved.get(number, number)

    def previous_numbers(self, number: int) -> list[int]:
        """The numbers that the present group with this one was listed under, in their order."""
        own = [number] if number not in self._moved and self.was_listed(number) else []
        merged = self._merged.get(number)
        return own if merged is None else sorted(own + merged)

    def was_listed(self, number: int) -> bool:
        """Whether a group with this number was listed before, be it the same or another one."""
        return self._before.has_group(number)

    def previous_listings(self, number: int) -> list[Listing]:
        """What the present group with this number was listed as."""
        listings = map(self._before.of_group, self.previous_numbers(number))
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
