"""Holding a report against the run before it, whatever happened to the groups' numbers meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from evergreen_groups.ils import OrgUnit, shortnames_upwards
from evergreen_groups.money import NOTHING
from evergreen_groups.report.models import ChangeKind, Changes, GroupChange, Report, RunTotals

if TYPE_CHECKING:
    from evergreen_groups.groups import Group


@dataclass(frozen=True, slots=True)
class Listing:
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
            combined_fines=group.combined_fines,
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


@dataclass(frozen=True, slots=True)
class Run:
    """One run: when its data was read (aware), and the groups that met its criteria.

    ``hidden_libraries`` are the short names of the libraries whose patrons the account couldn't see. The first
    ``listed_count`` are in the report, ``top`` left out the others.
    """

    at: datetime
    listings: tuple[Listing, ...]
    hidden_libraries: frozenset[str] = frozenset()
    listed_count: int = field(default=0, compare=False)

    @classmethod
    def of(cls, report: Report) -> Run:
        """What is remembered of ``report``: groups that ``top`` left out met its criteria as well."""
        listings = tuple(map(Listing.of, (*report.groups, *report.left_out)))
        return cls(report.generated_at, listings, report.hidden_libraries, len(report.groups))

    @property
    def totals(self) -> RunTotals:
        """Sums over all groups."""
        return self._sums(self.listings)

    def totals_by_org_unit(self, org_units: Collection[OrgUnit]) -> dict[str, RunTotals]:
        """Sums for each org unit by short name, over the groups with a member whose home library is there or below."""
        above = shortnames_upwards(org_units)
        found: dict[str, list[Listing]] = {}
        for listing in self.listings:
            for shortname in {name for library in listing.libraries for name in above.get(library, (library,))}:
                found.setdefault(shortname, []).append(listing)
        return {shortname: self._sums(listings) for shortname, listings in found.items()}

    def _sums(self, listings: Sequence[Listing]) -> RunTotals:
        return RunTotals(
            at=self.at,
            group_count=len(listings),
            member_count=sum(listing.member_count for listing in listings),
            combined_fines=sum((listing.combined_fines for listing in listings), NOTHING),
        )


def compare(previous: Run | None, present: Run) -> Changes:
    """Say of each listed group what it was in ``previous``, and which groups of that run are cleared.

    A group is the one that had its number, as long as they share a member. One that lost its number, because its
    members were moved together or merged into another group, is the group that has more than half of them now; so no
    fines seem to come or go only because somebody changed membership. Neither a group that ``top`` leaves out is
    cleared, nor one at libraries that the account can't see any more.
    """
    if previous is None:
        return Changes(None, {})
    numbers_now = successors(previous.listings, present.listings)
    predecessors: dict[int, list[Listing]] = {}
    gone = []
    for listing in previous.listings:
        if listing.group in numbers_now:
            predecessors.setdefault(numbers_now[listing.group], []).append(listing)
        else:
            gone.append(_gone(listing, present.hidden_libraries))
    gone.sort(key=lambda change: (-(change.before or NOTHING), change.group))
    groups_before = _groups_of_patrons(previous.listings)
    by_group = {
        listing.group: _changed(listing, predecessors[listing.group])
        if listing.group in predecessors
        else _new(listing, groups_before, previous.hidden_libraries)
        for listing in present.listings[: present.listed_count]
    }
    return Changes(
        since=previous.at,
        by_group=by_group,
        cleared=tuple(change for change in gone if change.kind is ChangeKind.CLEARED),
        hidden=tuple(change for change in gone if change.kind is ChangeKind.HIDDEN),
    )


def successors(before: Iterable[Listing], present: Sequence[Listing]) -> dict[int, int]:
    """The number now of each group of before that is still there, under whatever number.

    >>> before = Listing(7, Decimal(9), True, 2, frozenset({1, 2}), "BR1", frozenset({"BR1"}))
    >>> successors([before], [Listing(8, Decimal(9), True, 2, frozenset({1, 2}), "BR1", frozenset({"BR1"}))])
    {7: 8}
    """
    by_number = {listing.group: listing for listing in present}
    groups_now = _groups_of_patrons(present)
    found = {}
    for listing in before:
        number = _successor(listing, by_number.get(listing.group), groups_now)
        if number is not None:
            found[listing.group] = number
    return found


def _successor(listing: Listing, same_number: Listing | None, groups_now: Mapping[int, int]) -> int | None:
    """The number that a group has now; of hidden members it can't be said that they are others."""
    if same_number is not None and listing.members & same_number.members:
        return same_number.group
    number = _most(listing.members, groups_now)
    if number is None and same_number is not None and not (listing.complete and same_number.complete):
        return same_number.group
    return number


def _groups_of_patrons(listings: Iterable[Listing]) -> dict[int, int]:
    return {patron: listing.group for listing in listings for patron in listing.members}


def _most(members: frozenset[int], groups: Mapping[int, int]) -> int | None:
    """The group that has more than half of ``members``."""
    counts = Counter(groups[member] for member in members if member in groups)
    number, count = counts.most_common(1)[0] if counts else (None, 0)
    return number if count * 2 > len(members) else None


def _changed(listing: Listing, before: Sequence[Listing]) -> GroupChange:
    fines = sum((one.combined_fines for one in before), NOTHING)
    members = frozenset[int]().union(*(one.members for one in before))
    numbers = sorted(one.group for one in before)
    all_visible = listing.complete and all(one.complete for one in before)
    if listing.combined_fines == fines:
        kind = ChangeKind.UNCHANGED
    else:
        kind = ChangeKind.WORSE if listing.combined_fines > fines else ChangeKind.BETTER
    return GroupChange(
        group=listing.group,
        kind=kind,
        before=fines,
        after=listing.combined_fines,
        library=listing.library,
        libraries=listing.libraries,
        formerly=() if numbers == [listing.group] else tuple(numbers),
        joined_count=len(listing.members - members) if all_visible else 0,
        left_count=len(members - listing.members) if all_visible else 0,
        certain=listing.certain and all(one.certain for one in before),
    )


def _new(listing: Listing, groups_before: Mapping[int, int], hidden: frozenset[str]) -> GroupChange:
    origin = _most(listing.members, groups_before)
    return GroupChange(
        group=listing.group,
        kind=ChangeKind.NEW,
        before=None,
        after=listing.combined_fines,
        library=listing.library,
        libraries=listing.libraries,
        formerly=() if origin in (None, listing.group) else (origin,),
        certain=listing.certain and not listing.libraries <= hidden,
    )


def _gone(listing: Listing, hidden: frozenset[str]) -> GroupChange:
    """A group that isn't listed any more; nothing is said of one that would be hidden if it were."""
    return GroupChange(
        group=listing.group,
        kind=ChangeKind.HIDDEN if listing.libraries <= hidden else ChangeKind.CLEARED,
        before=listing.combined_fines,
        after=None,
        library=listing.library,
        libraries=listing.libraries,
        certain=listing.certain,
        members=listing.members,
    )
