"""Holding a report against the run before it, whatever happened to the groups' numbers meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import chain, islice

from evergreen_groups.ils import OrgUnit, shortnames_upwards
from evergreen_groups.money import NOTHING
from evergreen_groups.report.lineage import Lineage, group_of_most, groups_of
from evergreen_groups.report.models import ChangeKind, Changes, GroupChange, Report, RunTotals
from evergreen_groups.report.packed_listings import Listing, PackedListings


@dataclass(frozen=True, slots=True)
class Run:
    """One run: when its data was read (aware), and the groups that met its criteria.

    ``hidden_libraries`` are the short names of the libraries whose patrons the account couldn't see. The first
    ``listed_count`` are in the report, ``top`` left out the others.
    """

    at: datetime
    listings: PackedListings
    hidden_libraries: frozenset[str] = frozenset()
    listed_count: int = field(default=0, compare=False)

    @classmethod
    def of(cls, report: Report) -> Run:
        """What is remembered of ``report``: groups that ``top`` left out met its criteria as well."""
        listings = PackedListings(map(Listing.of, chain(report.groups, report.left_out)))
        return cls(report.generated_at, listings, report.hidden_libraries, len(report.groups))

    @property
    def totals(self) -> RunTotals:
        """Sums over all groups."""
        sums = _Sums()
        for listing in self.listings:
            sums.add(listing)
        return sums.at(self.at)

    def totals_by_org_unit(self, org_units: Collection[OrgUnit]) -> dict[str, RunTotals]:
        """Sums for each org unit by short name, over the groups with a member whose home library is there or below."""
        above = shortnames_upwards(org_units)

        @cache
        def concerned(libraries: frozenset[str]) -> frozenset[str]:
            return frozenset(name for library in libraries for name in above.get(library, (library,)))

        found: defaultdict[str, _Sums] = defaultdict(_Sums)
        for listing in self.listings:
            for shortname in concerned(listing.libraries):
                found[shortname].add(listing)
        return {shortname: sums.at(self.at) for shortname, sums in found.items()}


class _Sums:
    """Sums over some groups."""

    def __init__(self) -> None:
        self._group_count = self._member_count = 0
        self._combined_fines = NOTHING
        self._certain = True

    def add(self, listing: Listing) -> None:
        """Count one more."""
        self._group_count += 1
        self._member_count += listing.member_count
        self._combined_fines += listing.combined_fines
        self._certain = self._certain and listing.certain

    def at(self, moment: datetime) -> RunTotals:
        """What they are, as the totals of a run."""
        fines = self._combined_fines if self._certain else None
        return RunTotals(moment, self._group_count, self._member_count, fines)


def compare(previous: Run | None, present: Run, lineage: Lineage | None = None) -> Changes:
    """Say of each listed group what it was in ``previous``, and which groups of that run are cleared.

    Groups are followed through their numbers (:class:`Lineage`; ``lineage`` is that of the two runs, where it is at
    hand), so that no fines seem to come or go only because somebody changed membership. Neither a group that ``top``
    leaves out is cleared, nor one at libraries that the account can't see any more.
    """
    if previous is None:
        return Changes(None, {})
    lineage = lineage or Lineage(previous.listings, present.listings)
    gone = [
        _gone(listing, present.hidden_libraries)
        for listing in previous.listings
        if lineage.number_now(listing.group) is None
    ]
    gone.sort(key=lambda change: (-(change.before or NOTHING), change.group))
    newcomers = {
        patron
        for listing in islice(present.listings, present.listed_count)
        if not lineage.formerly(listing.group)
        for patron in listing.members
    }
    groups_before = groups_of(previous.listings, newcomers)
    by_group = {}
    for listing in islice(present.listings, present.listed_count):
        before = lineage.before(listing.group)
        by_group[listing.group] = (
            _changed(listing, before) if before else _new(listing, groups_before, previous.hidden_libraries)
        )
    return Changes(
        since=previous.at,
        by_group=by_group,
        cleared=tuple(change for change in gone if change.kind is ChangeKind.CLEARED),
        hidden=tuple(change for change in gone if change.kind is ChangeKind.HIDDEN),
    )


def _changed(listing: Listing, before: Sequence[Listing]) -> GroupChange:
    first, *others = before
    fines = sum((one.combined_fines for one in others), first.combined_fines)  # mostly one amount, and not another
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
        joined_count=len(listing.members - members) if all_visible else None,
        left_count=len(members - listing.members) if all_visible else None,
        certain=listing.certain and all(one.certain for one in before),
    )


def _new(listing: Listing, groups_before: Mapping[int, int], hidden: frozenset[str]) -> GroupChange:
    origin = group_of_most(listing.members, groups_before)
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
