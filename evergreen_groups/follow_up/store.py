"""The stored follow-ups, and how they stay with their families.

A follow-up belongs to the group of its contact person. If that person is in no listed group (deleted, hidden, or moved
to a group that isn't listed), it belongs to the group that its members are in, matched as in the comparison of nights.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import insert, or_, select, true, update

from evergreen_groups.errors import NotFoundError, PlanError
from evergreen_groups.follow_up.entries import DraftEntry, Entry, FollowUp, What
from evergreen_groups.report import GroupMatching, Listing, group_by_patron, history
from evergreen_groups.state import schema
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection, Row

    from evergreen_groups.report import Listings, Run
    from evergreen_groups.state import Transactions

_FOLLOW_UPS, _ENTRIES = schema.follow_ups.c, schema.follow_up_entries.c
_BATCH = 500
_MOST_NAMED = 50


@dataclass(frozen=True, slots=True)
class ReportFollowUps:
    """The follow-ups of the groups that the last run of a report shows, by group number; ``at`` is its time."""

    report: str
    at: datetime
    by_group: Mapping[int, FollowUp]

    def group(self, number: int) -> FollowUp:
        """Return a group's follow-up. Raises NotFoundError if the report doesn't list the group."""
        if number not in self.by_group:
            raise NotFoundError(
                "the report doesn't list group {group}",
                advice="open the latest report",
                code="group-not-listed",
                values={"group": number},
            )
        return self.by_group[number]


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of a request to save entries: the saved ``entries``, or nothing but the ``newer`` ones.

    ``newer`` are the entries that were saved after those that the writer has seen.
    """

    entries: tuple[Entry, ...]
    newer: tuple[Entry, ...] = ()


class FollowUps:
    """The follow-ups of groups at the gateway ``url``."""

    def __init__(self, transactions: Transactions, url: str) -> None:
        self._transactions = transactions
        self._url = url

    def of_report(self, name: str) -> ReportFollowUps | None:
        """Return the follow-ups of the report ``name`` ('': that of ``[report]``), None without a recorded run."""
        if not self._transactions.is_there:
            return None
        with self._transactions.reading() as connection:
            run = history.listed_by(connection, self._url, name)
            if run is None:
                return None
            found = _follow_ups(connection, _stored(connection, self._url), run.listings)
        return ReportFollowUps(name, run.at, found)

    def of_run(self, run: Callable[[], Run]) -> dict[int, FollowUp]:
        """Return the follow-ups of the groups of a run that isn't recorded yet, by group number, without empty ones.

        ``run`` is called only if anything is stored: many libraries have thousands of groups and no follow-up.
        """
        if not self._transactions.is_there:
            return {}
        with self._transactions.reading() as connection:
            stored = _stored(connection, self._url)
            found = _follow_ups(connection, stored, run().listings) if stored else {}
        return {number: one for number, one in found.items() if one.entries}

    def of_group(self, number: int, members: Collection[int]) -> tuple[tuple[Entry, ...], list[str]]:
        """Return the entries of a group, whether or not a report lists it, and the names of the reports that do.

        ``number`` is the group's, and ``members`` are the ids of its visible members.
        """
        if not self._transactions.is_there:
            return (), []
        ids = tuple(sorted(members))
        # Only candidates; in a large group, any may be one.
        named = map(_FOLLOW_UPS.members.contains, map(str, ids)) if len(ids) <= _MOST_NAMED else [true()]
        with self._transactions.reading() as connection:
            stored = _stored(connection, self._url, or_(_FOLLOW_UPS.number == number, *named))
            listing = Listing(number, ZERO, True, len(ids), ids, "", frozenset())
            found = _follow_ups(connection, stored, {number: listing})[number]
            return found.entries, history.reports_with(connection, self._url, number, ids)

    def saved(self, staff: int, key: str, request: str) -> tuple[Entry, ...]:
        """Return what a staff user (``au.id``) has saved under an idempotency key, nothing if the key is new.

        ``request`` is the digest of the request. Raises PlanError if the key belongs to another request.
        """
        if not self._transactions.is_there:
            return ()
        with self._transactions.reading() as connection:
            return self._saved(connection, staff, key, request)

    def write(
        self,
        found: ReportFollowUps,
        drafts: Sequence[DraftEntry],
        *,
        staff: int,
        workstation: int | None,
        org_unit: int | None,
        key: str,
        request: str,
    ) -> Written:
        """Save all entries or none. Durable once this returns.

        ``drafts`` are :meth:`checked <DraftEntry.checked>` against ``found``, which was just read. Nothing is saved if
        a group has a newer entry than the one that its draft names as seen. Repeating the request returns the same
        entries. Raises PlanError if the key belongs to another request or a group is named twice, or NotFoundError if
        the report doesn't list a group.
        """
        follow_ups = {draft.group: found.group(draft.group) for draft in drafts}
        if len(follow_ups) < len(drafts):
            raise PlanError("a group is listed twice", advice="save one entry for each group", code="group-named-twice")
        with self._transactions.writing() as connection:
            _lock(connection)
            if before := self._saved(connection, staff, key, request):
                return Written(before)
            ids = {number: self._ids(connection, one) for number, one in follow_ups.items()}
            seen = {draft.group: draft.seen or 0 for draft in drafts}
            stored = {number: _rows_of(connection, some).values() for number, some in ids.items()}
            newer = [row for number, some in stored.items() for rows in some for row in rows if row.id > seen[number]]
            if newer:
                return Written((), tuple(sorted(newer, key=lambda row: row.id)))
            new = insert(schema.follow_up_entries).returning(schema.follow_up_entries)
            new = new.values(staff=staff, workstation=workstation, org_unit=org_unit)
            new = new.values(at=self._transactions.now(), idempotency_key=key, request=request, reopened=False)
            rows = []
            for draft in drafts:
                group = follow_ups[draft.group].group
                id = next(iter(ids[draft.group]), None) or self._add(connection, group, found.at)
                values = {
                    "follow_up": id,
                    "number": group.group,
                    "contact": group.contact,
                    "what": draft.what.value,
                    "how": None if draft.how is None else draft.how.value,
                    "day": draft.day,
                    "remind_on": draft.remind_on,
                    "note": draft.note,
                    "combined_fines": group.combined_fines,
                    "corrects": draft.corrects,
                    "deleted": draft.deletes,
                }
                rows.append(_entry(connection.execute(new.values(values)).one()))
        return Written(tuple(rows))

    def _saved(self, connection: Connection, staff: int, key: str, request: str) -> tuple[Entry, ...]:
        rows = connection.execute(
            select(schema.follow_up_entries)
            .join(schema.follow_ups)
            .where(_FOLLOW_UPS.gateway == self._url, _ENTRIES.staff == staff, _ENTRIES.idempotency_key == key)
            .order_by(_ENTRIES.id)
        ).all()
        if any(row.request != request for row in rows):
            raise PlanError(
                "this idempotency key belongs to another change",
                advice="use a new key for each change",
                code="key-of-other-entries",
            )
        return tuple(map(_entry, rows))

    def _ids(self, connection: Connection, follow_up: FollowUp) -> list[int]:
        """Return the ids of a group's follow-ups, those of its contact person first, including any added since."""
        contact = follow_up.group.contact
        mine = or_(_FOLLOW_UPS.id.in_(follow_up.ids), (_FOLLOW_UPS.contact == contact) & (_FOLLOW_UPS.contact != 0))
        rows = connection.execute(
            select(_FOLLOW_UPS.id, _FOLLOW_UPS.contact).where(_FOLLOW_UPS.gateway == self._url, mine)
        )
        return [row.id for row in sorted(rows, key=lambda row: (row.contact != contact, row.id))]

    def _add(self, connection: Connection, group: Listing, at: datetime) -> int:
        values = {"gateway": self._url, "listed_at": at, **_place(group)}
        return int(connection.execute(insert(schema.follow_ups).values(values).returning(_FOLLOW_UPS.id)).scalar_one())


def _follow_ups(connection: Connection, stored: Sequence[Row[Any]], listings: Listings) -> dict[int, FollowUp]:
    """Return the follow-up of each group, by its number."""
    ids = defaultdict[int, list[int]](list)
    for id, number in _current_numbers(stored, listings).items():
        ids[number].append(id)
    rows = _rows_of(connection, [id for some in ids.values() for id in some])
    found = {}
    for number, listing in listings.items():
        mine = sorted((row for id in ids[number] for row in rows[id]), key=lambda row: row.id)
        found[number] = FollowUp.of(listing, ids[number], mine)
    return found


def note_listed(connection: Connection, url: str, runs: Iterable[Run], *, all_reports: bool) -> None:
    """Let follow-ups follow their groups into new runs of the reports, in the transaction that records the runs.

    Closings of groups that owe more now, or left the reports, are marked as reopened.

    Unless ``all_reports`` were made, a group that isn't listed may be in another one, so it doesn't count as gone. The
    same is true of a group whose library is hidden now.
    """
    _lock(connection)
    stored = _stored(connection, url)
    if not stored:
        return
    runs = list(runs)  # only now: many libraries have thousands of groups and no follow-up
    listings = {number: listing for run in runs for number, listing in run.listings.items()}
    hidden = frozenset[str]().union(*(run.hidden_libraries for run in runs))
    current = _current_numbers(stored, listings)
    for row in stored:
        if row.id in current and (place := _place(listings[current[row.id]])) != {
            name: row._mapping[name] for name in place
        }:
            connection.execute(update(schema.follow_ups).where(_FOLLOW_UPS.id == row.id).values(place))
    for some in _batches(current):
        connection.execute(update(schema.follow_ups).where(_FOLLOW_UPS.id.in_(some)).values(listed_at=runs[0].at))
    gone = {row.id for row in stored if all_reports and row.id not in current and row.library not in hidden}
    closings = select(schema.follow_up_entries).join(schema.follow_ups)
    closings = closings.where(_FOLLOW_UPS.gateway == url, _ENTRIES.what == What.CLOSED.value, ~_ENTRIES.reopened)
    reopened = [
        row.id
        for row in connection.execute(closings)
        if row.follow_up in gone
        or (row.follow_up in current and listings[current[row.follow_up]].combined_fines > row.combined_fines)
    ]
    for some in _batches(reopened):
        marked = update(schema.follow_up_entries).where(_ENTRIES.id.in_(some))
        connection.execute(marked.values(reopened=True))


def _lock(connection: Connection) -> None:
    """Keep other servers from writing follow-ups until the transaction ends. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("LOCK TABLE follow_ups IN SHARE ROW EXCLUSIVE MODE")


def _stored(connection: Connection, url: str, *where: ColumnElement[bool]) -> Sequence[Row[Any]]:
    return connection.execute(
        select(schema.follow_ups).where(_FOLLOW_UPS.gateway == url, *where).order_by(_FOLLOW_UPS.id)
    ).all()


def _current_numbers(stored: Iterable[Row[Any]], listings: Listings) -> dict[int, int]:
    """Return the number of the listed group that each stored follow-up (id) belongs to, if there is one."""
    by_contact = group_by_patron(listings, {row.contact for row in stored})
    found = {row.id: by_contact[row.contact] for row in stored if row.contact in by_contact}
    waiting = [row for row in stored if row.id not in found]
    while waiting:
        # Merged groups leave several follow-ups with one number: match one of them at a time.
        rows = {row.number: row for row in reversed(waiting)}
        before = {
            number: Listing(number, ZERO, True, row.member_count, tuple(json.loads(row.members)), "", frozenset())
            for number, row in rows.items()
        }
        matching = GroupMatching(before, listings)
        for number, row in rows.items():
            if (now := matching.current_number(number)) is not None:
                found[row.id] = now
        waiting = [row for row in waiting if rows[row.number] is not row]
    return found


def _place(group: Listing) -> dict[str, Any]:
    return {
        "number": group.group,
        "contact": group.contact,
        "member_count": group.member_count,
        "members": json.dumps(group.members),
        "library": group.contact_library,
    }


def _rows_of(connection: Connection, ids: Collection[int]) -> dict[int, list[Entry]]:
    """Return the stored versions of entries by the id of their follow-up."""
    found: dict[int, list[Entry]] = {id: [] for id in ids}
    for some in _batches(ids):
        rows = select(schema.follow_up_entries).where(_ENTRIES.follow_up.in_(some)).order_by(_ENTRIES.id)
        for row in connection.execute(rows):
            found[row.follow_up].append(_entry(row))
    return found


def _batches(ids: Iterable[int]) -> Iterator[list[int]]:
    waiting = iter(ids)
    while some := list(islice(waiting, _BATCH)):
        yield some


def _entry(row: Row[Any]) -> Entry:
    values = {str(name): value for name, value in row._mapping.items()}
    return msgspec.convert({**values, "group": row.number}, Entry)
