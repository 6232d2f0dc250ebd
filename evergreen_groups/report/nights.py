"""What single groups owed in the recorded runs, followed through number changes. Amounts only."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, func, or_, select

from evergreen_groups.report.listings import GroupMatching, Listing, Listings
from evergreen_groups.state import schema
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy.engine import Connection, Row

    from evergreen_groups.state import Transactions

NIGHTS = 30
"""How many runs of a report keep what each group owed."""

_NIGHTS = schema.group_nights.c
BATCH_SIZE = 1_000
"""How many groups to write or read at a time: the rows of 100,000 groups would take more memory than the groups."""
_MAX_VALUES = 500
"""How many numbers or patrons go into one query."""


@dataclass(frozen=True, slots=True)
class GroupNight:
    """What a group owed ``at`` the time of a run (aware).

    ``combined_fines`` is None if the report didn't list the group. Unless ``certain``, the amount leaves out hidden
    members and must not be shown.
    """

    at: datetime
    combined_fines: Decimal | None
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
            return _nights_of(_runs_of(connection, series), _rows_of(connection, series, numbers), numbers)


def record_nights(
    connection: Connection, series: int, run: int, current: Listings, matching: GroupMatching | None
) -> None:
    """Record what each group owed in a new run, and delete what it owed more than :data:`NIGHTS` runs ago.

    ``matching`` is that with the previous run of the series (None: this is the first run).
    """
    for batch in in_batches(current):
        connection.execute(
            schema.group_nights.insert(),
            [
                {
                    "run": run,
                    "number": listing.group,
                    "combined_fines": listing.combined_fines,
                    "certain": listing.certain,
                    "formerly": None if matching is None else _previous_numbers(matching, listing.group),
                }
                for listing in batch
            ],
        )
    of_the_series = select(schema.runs.c.id).where(schema.runs.c.series == series).order_by(schema.runs.c.id.desc())
    oldest = connection.execute(of_the_series.offset(NIGHTS).limit(1)).scalar_one_or_none()
    if oldest is not None:
        older = select(schema.runs.c.id).where(schema.runs.c.series == series, schema.runs.c.id <= oldest)
        connection.execute(delete(schema.group_nights).where(_NIGHTS.run.in_(older)))


def in_batches(listings: Listings) -> Iterator[list[Listing]]:
    waiting = iter(listings.values())
    while batch := list(islice(waiting, BATCH_SIZE)):
        yield batch


def _previous_numbers(matching: GroupMatching, number: int) -> str | None:
    """Return the group's numbers in the previous run as a JSON list, None if there is only its own.

    An empty list means that the number belonged to another group then.
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
        .join(schema.runs, schema.runs.c.id == groups.run)
        .join(schema.series, schema.series.c.id == schema.runs.c.series)
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
    count, latest = func.count(), func.max(schema.runs.c.id)
    found = connection.execute(
        select(schema.series.c.id)
        .join(schema.runs, schema.runs.c.series == schema.series.c.id)
        .join(schema.group_nights, schema.group_nights.c.run == schema.runs.c.id)
        .where(schema.series.c.gateway == url, _NIGHTS.number.in_(sorted(numbers)))
        .group_by(schema.series.c.id)
        .order_by(count.desc(), latest.desc())
        .limit(1)
    ).scalar_one_or_none()
    return None if found is None else int(found)


def _runs_of(connection: Connection, series: int) -> list[Any]:
    runs = schema.runs.c
    last = select(runs.id, runs.at).where(runs.series == series).order_by(runs.id.desc()).limit(NIGHTS)
    return list(connection.execute(last))


def _rows_of(connection: Connection, series: int, numbers: Iterable[int]) -> dict[tuple[int, int], Row[Any]]:
    """Read the rows of groups with these numbers and all their earlier numbers, by run and number."""
    found: dict[tuple[int, int], Row[Any]] = {}
    asked: set[int] = set()
    wanted = set(numbers)
    while wanted:
        rows = connection.execute(
            select(schema.group_nights)
            .join(schema.runs, and_(schema.runs.c.id == _NIGHTS.run, schema.runs.c.series == series))
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
    while nights and nights[-1].combined_fines is None:
        nights.pop()
    return tuple(reversed(nights))
