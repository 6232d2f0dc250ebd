"""What runs record of single groups, how groups of two runs are matched, and what a group owed night by night."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, delete, func, or_, select

from evergreen_groups.batches import batched
from evergreen_groups.report.contact import contact_person
from evergreen_groups.state import schema
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Row

    from evergreen_groups.groups import Group
    from evergreen_groups.report.contact import Contact
    from evergreen_groups.report.details import ReportDetails
    from evergreen_groups.report.items import ReportItems
    from evergreen_groups.state import Transactions


class Listing(NamedTuple):
    """What a run records of a group: amounts and ids, no names.

    ``members`` are the sorted ids of the visible members, ``libraries`` the short names of their home libraries.
    ``certain`` means that ``group_fines`` includes all members. ``contact`` is the id of the person to contact, 0
    once forgotten, and ``contact_library`` the short name of their home library. ``in_collections`` means that a member
    is; it is known only where contact data was read. ``unreturned`` are the overdue and lost items, at least (None: the
    report doesn't list groups by items).
    """

    group: int
    group_fines: Decimal
    certain: bool
    member_count: int
    # A tuple takes a fifth of a set's memory, and two runs may have 40,000 groups each.
    members: tuple[int, ...]
    library: str
    libraries: frozenset[str]
    contact: int = 0
    contact_library: str = ""
    in_collections: bool = False
    unreturned: int | None = None

    @classmethod
    def of(
        cls,
        group: Group,
        contact: Contact | None = None,
        details: ReportDetails | None = None,
        items: ReportItems | None = None,
    ) -> Listing:
        """Make the record of ``group``, whose ``contact`` is None if contact data wasn't read."""
        person = contact_person(group, contact, details)
        unreturned = None if items is None else items.of_group(group).items
        return cls(
            group=group.number,
            group_fines=group.known_fines,
            certain=group.hidden_fines is not None,
            member_count=group.member_count,
            members=tuple(sorted([member.id for member in group.members])),
            library=group.library,
            libraries=_share(frozenset([member.library for member in group.members])),
            contact=person.id,
            contact_library=person.library,
            in_collections=contact is not None and contact.in_collections,
            unreturned=None if unreturned is None else unreturned.overdue + unreturned.lost,
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
            number = continued_as(listing, current, groups_now)
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


def continued_as(before: Listing, current: Listings, groups_now: Mapping[int, int]) -> int | None:
    """Return the number of the group that an earlier group is now. See :class:`GroupMatching`; None if it is gone.

    ``groups_now`` are the numbers of its members' groups, by patron id.
    """
    same_number = current.get(before.group)
    if same_number is not None and not set(before.members).isdisjoint(same_number.members):
        return before.group
    number = majority_group(before.members, groups_now)
    # Without visible members in common, hidden members may connect the two.
    if number is None and same_number is not None and not (before.complete and same_number.complete):
        return before.group
    return number


def majority_group(members: Collection[int], groups: Mapping[int, int]) -> int | None:
    """Return the group that has more than half of ``members``, None if there is none."""
    counts = Counter(groups[member] for member in members if member in groups)
    number, count = counts.most_common(1)[0] if counts else (None, 0)
    return number if count * 2 > len(members) else None


NIGHTS = 30
"""How many runs of a report keep what each group owed."""

_NIGHTS, _RUNS = schema.group_nights.c, schema.runs.c
BATCH_SIZE = 1_000
"""How many groups to write or read at a time: the rows of 100,000 groups would take more memory than the groups."""
_MAX_VALUES = 500
"""How many numbers or patrons go into one query."""


@dataclass(frozen=True, slots=True)
class GroupNight:
    """What a group owed ``at`` the time of a run (aware).

    ``group_fines`` is None if the report didn't list the group. Unless ``certain``, the amount leaves out hidden
    members and must not be shown.
    """

    at: datetime
    group_fines: Decimal | None
    certain: bool = True


class GroupNights:
    """Looks up what groups at the gateway ``url`` owed in the recorded runs. Doesn't call the ILS."""

    def __init__(self, transactions: Transactions, url: str) -> None:
        self._transactions = transactions
        self._url = url

    def of_group(self, number: int, members: Collection[int]) -> tuple[GroupNight, ...]:
        """Return the last runs of the report that lists the group most often, the earliest first.

        Return nothing if no report listed it. ``number`` and ``members`` (ids) are the group's current ones. Groups are
        followed as in a comparison of reports: a renumbered group is recognized by its members, and a merged group owed
        what its parts owed together.
        """
        if not self._transactions.is_there:
            return ()
        with self._transactions.reading() as connection:
            numbers = _former_numbers(connection, self._url, number, frozenset(members))
            series = _series_of(connection, self._url, numbers)
            if series is None:
                return ()
            # The latest first.
            last = select(_RUNS.id, _RUNS.at).where(_RUNS.series == series).order_by(_RUNS.id.desc()).limit(NIGHTS)
            return _nights_of(connection.execute(last).all(), _rows_of(connection, series, numbers), numbers)


def record_nights(
    connection: Connection, series: int, run: int, current: Listings, matching: GroupMatching | None
) -> None:
    """Record what each group owed in a new run, and delete what it owed more than :data:`NIGHTS` runs ago."""
    for batch in batched(current.values(), BATCH_SIZE):
        connection.execute(
            schema.group_nights.insert(),
            [
                {
                    "run": run,
                    "number": listing.group,
                    "combined_fines": listing.group_fines,
                    "certain": listing.certain,
                    "formerly": None if matching is None else _previous_numbers(matching, listing.group),
                }
                for listing in batch
            ],
        )
    of_the_series = select(_RUNS.id).where(_RUNS.series == series)
    oldest = connection.execute(of_the_series.order_by(_RUNS.id.desc()).offset(NIGHTS).limit(1)).scalar_one_or_none()
    if oldest is not None:
        older = of_the_series.where(_RUNS.id <= oldest)
        connection.execute(delete(schema.group_nights).where(_NIGHTS.run.in_(older)))


def _previous_numbers(matching: GroupMatching, number: int) -> str | None:
    """Return the group's numbers in the previous run as a JSON list. Empty if its number was another group's.

    None if there is only its own.
    """
    former = matching.previous_numbers(number)
    if former == [number] or not (former or matching.was_listed(number)):
        return None
    return json.dumps(former)


def _former_numbers(connection: Connection, url: str, number: int, members: Collection[int]) -> frozenset[int]:
    """Return the numbers under which the last runs listed this group, or its current number."""
    groups = schema.run_groups.c
    # Only the last run of each series has members. The pattern also matches parts of longer ids; the matching rejects
    # those.
    named = [groups.members.contains(str(id)) for id in sorted(members)[:_MAX_VALUES]]
    rows = connection.execute(
        select(groups.number, groups.member_count, groups.members)
        .join(schema.runs, _RUNS.id == groups.run)
        .join(schema.series, schema.series.c.id == _RUNS.series)
        .where(schema.series.c.gateway == url, or_(groups.number == number, *named))
    ).all()
    now = {number: _listing(number, len(members), members)}
    found: set[int] = set()
    for row in rows:
        before = {row.number: _listing(row.number, row.member_count, json.loads(row.members))}
        if GroupMatching(before, now).current_number(row.number) is not None:
            found.add(row.number)
    # A number that belonged to other patrons then isn't this group's.
    other = {row.number for row in rows} - found
    return frozenset(found or ({number} - other))


def _listing(number: int, count: int, members: Collection[int]) -> Listing:
    return Listing(number, ZERO, True, count, tuple(members), "", frozenset())


def _series_of(connection: Connection, url: str, numbers: Collection[int]) -> int | None:
    """Return the series that lists these groups in the most nights. Prefer the latest run if several do."""
    if not numbers:
        return None
    count, latest = func.count(), func.max(_RUNS.id)
    found = connection.execute(
        select(schema.series.c.id)
        .join(schema.runs, _RUNS.series == schema.series.c.id)
        .join(schema.group_nights, schema.group_nights.c.run == _RUNS.id)
        .where(schema.series.c.gateway == url, _NIGHTS.number.in_(sorted(numbers)))
        .group_by(schema.series.c.id)
        .order_by(count.desc(), latest.desc())
        .limit(1)
    ).scalar_one_or_none()
    return None if found is None else int(found)


def _rows_of(connection: Connection, series: int, numbers: Iterable[int]) -> dict[tuple[int, int], Row[Any]]:
    """Read the rows of groups with these numbers and all their earlier numbers, by run and number."""
    found: dict[tuple[int, int], Row[Any]] = {}
    asked: set[int] = set()
    wanted = set(numbers)
    while wanted:
        rows = connection.execute(
            select(schema.group_nights)
            .join(schema.runs, and_(_RUNS.id == _NIGHTS.run, _RUNS.series == series))
            .where(_NIGHTS.number.in_(sorted(wanted)[:_MAX_VALUES]))
        ).all()
        asked |= wanted
        found |= {(row.run, row.number): row for row in rows}
        # Earlier numbers may have earlier numbers themselves.
        wanted = {number for row in rows if row.formerly for number in json.loads(row.formerly)} - asked
    return found


def _nights_of(
    runs: Iterable[Any], rows: Mapping[tuple[int, int], Row[Any]], numbers: Iterable[int]
) -> tuple[GroupNight, ...]:
    """Follow a group back in time, starting with its numbers in the latest run."""
    nights = []
    current = set(numbers)
    for run in runs:
        there = [rows[run.id, number] for number in current if (run.id, number) in rows]
        fines = sum((row.combined_fines for row in there), ZERO) if there else None
        nights.append(GroupNight(run.at, fines, all(row.certain for row in there)))
        for row in there:
            if row.formerly is not None:
                # Continue with the numbers that the group had the night before.
                current = (current - {row.number}) | set(json.loads(row.formerly))
        if not current:
            break
    # Drop nights before the group was first listed.
    while nights and nights[-1].group_fines is None:
        nights.pop()
    return tuple(reversed(nights))
