"""What is remembered of groups, packed: a report of a hundred thousand members has it of two nights at once."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, overload

from evergreen_groups.report.places import Places

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
        self._places = Places(self._groups)

    def of_group(self, number: int) -> Listing | None:
        """The listing of the group with this number, None where there is none."""
        place = self._places.of(number)
        return None if place is None else self[place]

    def has_group(self, number: int) -> bool:
        """Whether there is one of a group with this number."""
        return self._places.of(number) is not None

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
