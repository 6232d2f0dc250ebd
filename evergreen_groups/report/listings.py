"""What the history remembers of listed groups, and how it matches the groups of two runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.report.contact import contact_person

if TYPE_CHECKING:
    from evergreen_groups.groups import Group
    from evergreen_groups.report.contact import Contact
    from evergreen_groups.report.details import ReportDetails


class Listing(NamedTuple):
    """What a run records of a group: amounts and ids, no names.

    ``members`` are the sorted ids of the visible members, ``libraries`` the short names of their home libraries.
    ``certain`` means that ``combined_fines`` includes all members. ``contact`` is the id of the person to contact, 0
    once forgotten, and ``contact_library`` the short name of their home library. ``in_collections`` means that a member
    is; it is known only where contact data was read.
    """

    group: int
    combined_fines: Decimal
    certain: bool
    member_count: int
    # A tuple takes a fifth of a set's memory, and two runs may have 40,000 groups each.
    members: tuple[int, ...]
    library: str
    libraries: frozenset[str]
    contact: int = 0
    contact_library: str = ""
    in_collections: bool = False

    @classmethod
    def of(cls, group: Group, contact: Contact | None = None, details: ReportDetails | None = None) -> Listing:
        """Make the record of ``group``, whose ``contact`` is None if contact data wasn't read."""
        person = contact_person(group, contact, details)
        return cls(
            group=group.number,
            combined_fines=group.known_fines,
            certain=group.hidden_fines is not None,
            member_count=group.member_count,
            members=tuple(sorted([member.id for member in group.members])),
            library=group.library,
            libraries=_share(frozenset([member.library for member in group.members])),
            contact=person.id,
            contact_library=person.library,
            in_collections=contact is not None and contact.in_collections,
        )

    @property
    def complete(self) -> bool:
        """Whether every member was visible."""
        return len(self.members) == self.member_count


# Most of the thousands of groups have members of the same few libraries, so share equal sets.
@lru_cache(1000)
def _share(libraries: frozenset[str]) -> frozenset[str]:
    return libraries


Listings = Mapping[int, Listing]
"""A run's listings by group number, in the order of the report."""


class GroupMatching:
    """Matches the groups of the ``previous`` run with the ``current`` ones.

    A group with the same number is the same group if the two share a member. If a number is gone because members were
    moved or merged into another group, the group continues as the one that has more than half of its members.

    >>> from decimal import Decimal
    >>> from evergreen_groups.report.listings import Listing
    >>> one = Listing(7, Decimal(9), True, 2, (1, 2), "BR1", frozenset({"BR1"}))
    >>> GroupMatching({7: one}, {8: one._replace(group=8)}).current_number(7)
    8
    """

    def __init__(self, previous: Listings, current: Listings) -> None:
        self._previous = previous
        # Nearly all groups keep their number. For the others, map the old number to the new one (None: gone), and back.
        self._moved: dict[int, int | None] = {}
        self._merged: dict[int, list[int]] = {}
        without_same = [
            listing
            for listing in previous.values()
            if listing.group not in current or set(listing.members).isdisjoint(current[listing.group].members)
        ]
        groups_now = group_by_patron(current, {patron for listing in without_same for patron in listing.members})
        for listing in without_same:
            number = majority_group(listing.members, groups_now)
            same_number = current.get(listing.group)
            # Without visible members in common, hidden members may connect the two.
            if number is None and same_number is not None and not (listing.complete and same_number.complete):
                number = listing.group
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
        own = [number] if number not in self._moved and number in self._previous else []
        return sorted([*own, *self._merged.get(number, ())])

    def was_listed(self, number: int) -> bool:
        """Return whether the previous run listed a group with this number, the same group or another."""
        return number in self._previous


def group_by_patron(listings: Listings, patrons: Collection[int]) -> dict[int, int]:
    """Return the group number of each patron, by patron id. Leave out patrons without a group."""
    if not patrons:
        return {}
    return {patron: listing.group for listing in listings.values() for patron in listing.members if patron in patrons}


def majority_group(members: Collection[int], groups: Mapping[int, int]) -> int | None:
    """Return the group that has more than half of ``members``, None if there is none."""
    counts = Counter(groups[member] for member in members if member in groups)
    number, count = counts.most_common(1)[0] if counts else (None, 0)
    return number if count * 2 > len(members) else None
