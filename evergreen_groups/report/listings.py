"""Compact records of listed groups. Comparing two nights keeps 100,000 members of each in memory."""

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
    """What a run records of a group: amounts and ids, no names.

    ``members`` are the ids of the visible members, ``libraries`` the short names of their home libraries. ``certain``
    means that ``combined_fines`` includes all members.
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
        """Make the record of ``group``."""
        return cls(
            group=group.number,
            combined_fines=group.known_fines,
            certain=group.hidden_fines is not None,
            member_count=group.member_count,
            members=frozenset(member.id for member in group.members),
            library=group.library,
            libraries=_share(frozenset(member.library for member in group.members)),
        )

    @property
    def complete(self) -> bool:
        """Whether every member was visible."""
        return len(self.members) == self.member_count


# Most of the thousands of groups have members of the same few libraries, so share equal sets.
@lru_cache(1000)
def _share(libraries: frozenset[str]) -> frozenset[str]:
    return libraries


class PackedListings(Sequence[Listing]):
    """A sequence of listings in an eighth of the memory. Each is created when it is accessed."""

    def __init__(self, listings: Iterable[Listing] = ()) -> None:
        amounts: dict[Decimal, Decimal] = {}  # shared by groups with the same fines
        self._groups: list[int] = []
        self._fines: list[Decimal] = []
        self._certain = bytearray()
        self._counts = array("q")
        self._members = array("q")
        self._ends = array("q", [0])  # where a group's members end and the next one's begin
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
        """Return the listing of the group with this number, None if there is none."""
        index = self._index.position(number)
        return None if index is None else self[index]

    def has_group(self, number: int) -> bool:
        """Return whether the group with this number is listed."""
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
    def __getitem__(self, index: int) -> Listing: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Listing]: ...

    def __getitem__(self, index: int | slice) -> Listing | Sequence[Listing]:
        """Return the listing at an index, or a tuple for a slice."""
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        at = range(len(self))[index]
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

    __hash__ = None  # type: ignore[assignment]  # not hashable, like a list


class GroupMatching:
    """Matches the groups of the ``previous`` run with the ``current`` ones.

    A group with the same number is the same group if the two share a member. If a number is gone because members were
    moved or merged into another group, the group continues as the one that has more than half of its members.

    >>> from decimal import Decimal
    >>> from evergreen_groups.report.listings import Listing, PackedListings
    >>> one = Listing(7, Decimal(9), True, 2, frozenset({1, 2}), "BR1", frozenset({"BR1"}))
    >>> GroupMatching(PackedListings([one]), PackedListings([one._replace(group=8)])).current_number(7)
    8
    """

    def __init__(self, previous: PackedListings, current: PackedListings) -> None:
        self._previous = previous
        # Nearly all groups keep their number. For the others, map the old number to the new one (None: gone), and back.
        self._moved: dict[int, int | None] = {}
        self._merged: dict[int, list[int]] = {}
        moved: list[tuple[Listing, Listing | None]] = []
        for listing in previous:
            # Most groups keep their number, so look up the majority only for the others.
            same_number = current.of_group(listing.group)
            if same_number is None or listing.members.isdisjoint(same_number.members):
                moved.append((listing, same_number))
        groups_now = group_by_patron(current, {patron for listing, _same_number in moved for patron in listing.members})
        for listing, same_number in moved:
            number = _successor(listing, same_number, groups_now)
            if number == listing.group:
                continue
            self._moved[listing.group] = number
            if number is not None:
                self._merged.setdefault(number, []).append(listing.group)

    def current_number(self, number: int) -> int | None:
        """Return the current number of a group of the previous run, None if the group is gone."""
        return self._moved.get(number, number)

    def previous_numbers(self, number: int) -> list[int]:
        """Return the sorted numbers under which the previous run listed the current group with this number."""
        # A number that went to another group isn't this group's own any more.
        own = [number] if number not in self._moved and self.was_listed(number) else []
        merged = self._merged.get(number)
        return own if merged is None else sorted(own + merged)

    def was_listed(self, number: int) -> bool:
        """Return whether the previous run listed a group with this number, the same group or another."""
        return self._previous.has_group(number)

    def previous_listings(self, number: int) -> list[Listing]:
        """Return the previous listings of the current group with this number."""
        listings = map(self._previous.of_group, self.previous_numbers(number))
        return [listing for listing in listings if listing is not None]


def group_by_patron(listings: Iterable[Listing], patrons: Collection[int]) -> dict[int, int]:
    """Return the group number of each patron, by patron id. Leave out patrons without a group."""
    if not patrons:
        return {}
    return {patron: listing.group for listing in listings for patron in listing.members if patron in patrons}


def majority_group(members: Collection[int], groups: Mapping[int, int]) -> int | None:
    """Return the group that has more than half of ``members``, None if there is none."""
    counts = Counter(groups[member] for member in members if member in groups)
    number, count = counts.most_common(1)[0] if counts else (None, 0)
    return number if count * 2 > len(members) else None


def _successor(listing: Listing, same_number: Listing | None, groups_now: Mapping[int, int]) -> int | None:
    """Return the current number of a group that has no visible member in common with the group of the same number.

    If members are hidden, the two may still be the same group.
    """
    number = majority_group(listing.members, groups_now)
    # Without visible members in common, hidden members may connect the two.
    if number is None and same_number is not None and not (listing.complete and same_number.complete):
        return same_number.group
    return number
