"""What single groups owed in the recorded runs: amounts alone, followed through the numbers that a group has had."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, func, or_, select

from evergreen_groups.money import ZERO
from evergreen_groups.report.listings import Lineage, Listing, PackedListings
from evergreen_groups.state import schema

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy.engine import Connection, Row

    from evergreen_groups.state import Transactions

NIGHTS = 30
"""Of how many runs of a report it is kept what each group owed."""

_NIGHTS = schema.group_nights.c
AT_ONCE = 1_000
"""How many groups are written or read at a time: of a hundred thousand, rows would take more room than the groups."""
_AT_ONCE = 500
"""How many numbers or patrons go into one question."""


@dataclass(frozen=True, slots=True)
class GroupNight:
    """What a group owed when a run read it ``at`` that moment (aware).

    ``combined_fines`` is None where that run's report didn't list it. Without ``certain`` it leaves out hidden members
    and isn't to be shown.
    """

    at: datetime
    combined_fines: Decimal | None
    certain: bool = True


class GroupNights:
    """Looks up what groups at the gateway with the address ``url`` owed in the recorded runs; the ILS isn't asked."""

    def __init__(self, transactions: Transactions, url: str) -> None:
        self._transactions = transactions
        self._url = url

    def of_group(self, number: int, members: Collection[int]) -> tuple[GroupNight, ...]:
        """The last runs of the report that lists it most often, the earliest first; nothing where none ever did.

        ``number`` is the group's, ``members`` are the ids of those who are in it now. It is followed as reports are
        compared: a group whose number has changed since is known by its members, and one that others were merged into
        owed what they owed together.

        Raises:
            StateError: the database is damaged, can't be read, or another process holds it for too long.
        """
        if not self._transactions.is_there:
            return ()
        with self._transactions.reading() as connection:
            numbers = _former_numbers(connection, self._url, number, frozenset(members))
            series = _series_of(connection, self._url, numbers)
            if series is None:
                return ()
            return _followed(_runs_of(connection, series), _rows_of(connection, series, numbers), numbers)


def record_nights(
    connection: Connection, series: int, run: int, present: Sequence[Listing], lineage: Lineage | None
) -> None:
    """Keep what each group owed in a new run, and forget what it owed more than :data:`NIGHTS` runs ago.

    ``lineage`` is that of the run before it in the series (None: it is the first).
    """
    for some in in_batches(present):
        connection.execute(
            schema.group_nights.insert(),
            [
                {
                    "run": run,
                    "number": listing.group,
                    "combined_fines": listing.combined_fines,
                    "certain": listing.certain,
                    "formerly": None if lineage is None else _formerly(lineage, listing.group),
                }
                for listing in some
            ],
        )
    of_the_series = select(schema.runs.c.id).where(schema.runs.c.series == series).order_by(schema.runs.c.id.desc())
    oldest = connection.execute(of_the_series.offset(NIGHTS).limit(1)).scalar_one_or_none()
    if oldest is not None:
        older = select(schema.runs.c.id).where(schema.runs.c.series == series, schema.runs.c.id <= oldest)
        connection.execute(delete(schema.group_nights).where(_NIGHTS.run.in_(older)))


def in_batches(listings: Sequence[Listing]) -> Iterator[Sequence[Listing]]:
    """The groups of a run in lists of at most :data:`AT_ONCE`."""
    return (listings[at : at + AT_ONCE] for at in range(0, len(listings), AT_ONCE))


def _formerly(lineage: Lineage, number: int) -> str | None:
    """The numbers that a group had in the run before, as a JSON list; None where that is just its own.

    An empty list says that the number was another group's then.
    """
    former = lineage.formerly(number)
    if former == [number] or not (former or lineage.was_listed(number)):
        return None
    return json.dumps(former)


def _former_numbers(connection: Connection, url: str, number: int, members: frozenset[int]) -> frozenset[int]:
    """The numbers under which the last runs listed the group that has ``number`` now, or its own."""
    groups = schema.run_groups.c
    # Of the last run of each series alone the members are kept. A part of a longer number is found as well, and then
    # isn't the same.
    named = [groups.members.contains(str(id)) for id in sorted(members)[:_AT_ONCE]]
    rows = connection.execute(
        select(groups.number, groups.member_count, groups.members)
        .join(schema.runs, schema.runs.c.id == groups.run)
        .join(schema.series, schema.series.c.id == schema.runs.c.series)
        .where(schema.series.c.gateway == url, or_(groups.number == number, *named))
    ).all()
    now = _listing(number, len(members), members)
    found: set[int] = set()
    for row in rows:
        before = _listing(row.number, row.member_count, frozenset(json.loads(row.members)))
        if Lineage(PackedListings([before]), PackedListings([now])).number_now(before.group) is not None:
            found.add(before.group)
    other = {row.number for row in rows} - found
    return frozenset(found or ({number} - other))


def _listing(number: int, count: int, members: frozenset[int]) -> Listing:
    return Listing(number, ZERO, True, count, members, "", frozenset())


def _series_of(connection: Connection, url: str, numbers: Collection[int]) -> int | None:
    """The series that has listed most nights of these groups, the one with the latest run where several have."""
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
    """The last runs of a series, the latest first."""
    runs = schema.runs.c
    last = select(runs.id, runs.at).where(runs.series == series).order_by(runs.id.desc()).limit(NIGHTS)
    return list(connection.execute(last))


def _rows_of(connection: Connection, series: int, numbers: Iterable[int]) -> dict[tuple[int, int], Row[Any]]:
    """All that is kept of groups with these numbers and with those that they had before, by run and number."""
    found: dict[tuple[int, int], Row[Any]] = {}
    asked: set[int] = set()
    wanted = set(numbers)
    while wanted:
        rows = connection.execute(
            select(schema.group_nights)
            .join(schema.runs, and_(schema.runs.c.id == _NIGHTS.run, schema.runs.c.series == series))
            .where(_NIGHTS.number.in_(sorted(wanted)[:_AT_ONCE]))
        ).all()
        asked |= wanted
        found |= {(row.run, row.number): row for row in rows}
        wanted = {number for row in rows if row.formerly for number in json.loads(row.formerly)} - asked
    return found


def _followed(
    runs: Iterable[Any], rows: Mapping[tuple[int, int], Row[Any]], numbers: Iterable[int]
) -> tuple[GroupNight, ...]:
    """The nights of a group, followed back from the numbers that it had in the latest of the runs."""
    nights = []
    current = set(numbers)
    for run in runs:
        there = [rows[run.id, number] for number in current if (run.id, number) in rows]
        fines = sum((row.combined_fines for row in there), ZERO) if there else None
        nights.append(GroupNight(run.at, fines, all(row.certain for row in there)))
        for row in there:
            if row.formerly is not None:
                current = (current - {row.number}) | set(json.loads(row.formerly))
        if not current:
            break
    while nights and nights[-1].combined_fines is None:
        nights.pop()
    return tuple(reversed(nights))
