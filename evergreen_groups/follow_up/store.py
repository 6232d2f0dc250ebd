"""The stored follow-ups, and how they stay with the persons whom they are about.

Entries about the same persons share a row of ``follow_ups``. They belong to the group that the contact person of that
time is in now. If that person is in no listed group (deleted, hidden, or moved to a group that isn't listed), they
belong to the group that the other persons are in, matched as in the comparison of nights. So after a merge a group has
the entries of both families, and each family takes its own along if the merge is undone.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import insert, or_, select, true, update

from evergreen_groups.batches import batched
from evergreen_groups.errors import NotFoundError, PlanError
from evergreen_groups.follow_up.entries import (
    ENDED,
    DraftEntry,
    Entry,
    FollowUp,
    How,
    What,
    current_entries,
    has_grown,
    saved_after,
    standing_promises,
)
from evergreen_groups.follow_up.promises import Comparison, DuePromise
from evergreen_groups.report import Listing, continued_as, group_by_patron, history
from evergreen_groups.state import record_ids, schema
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection, Row

    from evergreen_groups.follow_up.entries import Today
    from evergreen_groups.report import Listings, Run
    from evergreen_groups.state import Transactions

_original = schema.follow_up_entries.alias("original")
_FOLLOW_UPS, _ENTRIES = schema.follow_ups.c, schema.follow_up_entries.c
_BATCH = 500
_MOST_NAMED = 50
RECHECK_DAYS = 30
"""For how many days after its day a promise that was paid is compared again."""


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

    def of_run(
        self, run: Callable[[], Run], outcomes: Mapping[str, Comparison] = MappingProxyType({})
    ) -> dict[int, FollowUp]:
        """Return the follow-ups of the groups of a run that isn't recorded yet, by group number, without empty ones.

        ``outcomes`` are what the run found of promises, see :func:`record_outcomes`.
        ``run`` is called only if anything is stored: many libraries have thousands of groups and no follow-up.
        """
        if not self._transactions.is_there:
            return {}
        with self._transactions.reading() as connection:
            stored = _stored(connection, self._url)
            found = _follow_ups(connection, stored, run().listings) if stored else {}
        return {number: one.with_outcomes(outcomes) for number, one in found.items() if one.entries}

    def entries(self) -> tuple[Entry, ...]:
        """Return all entries, of listed groups and others, in the order in which they were first saved."""
        if not self._transactions.is_there:
            return ()
        with self._transactions.reading() as connection:
            rows = _rows(connection, _FOLLOW_UPS.gateway == self._url)
            return current_entries(list(rows))

    def due_promises(self, today: Today) -> list[DuePromise]:
        """Return the promises to pay whose day is over, of all groups, listed or not.

        ``today`` is asked for each library. A promise that was paid is compared for another :data:`RECHECK_DAYS`: a
        payment may be voided later.
        """
        if not self._transactions.is_there:
            return []
        found = []
        with self._transactions.reading() as connection:
            stored = {row.id: row for row in _stored(connection, self._url)}
            by_group = defaultdict[int, list[Entry]](list)  # a merged family has several follow-ups
            for version in _rows_of(connection, stored):
                by_group[stored[version.follow_up].number].append(version)
            for versions in by_group.values():
                for entry, day in standing_promises(current_entries(saved_after(None, versions))):
                    row = stored[entry.follow_up]
                    days = (today(row.library) - day).days
                    if days > 0 and not entry.promised_items and (entry.outcome not in ENDED or days <= RECHECK_DAYS):
                        found.append(DuePromise(entry, row.member_count == len(json.loads(row.members))))
        return found

    def of_group(self, number: int, members: Collection[int]) -> tuple[tuple[Entry, ...], dict[str, str]]:
        """Return the entries of a group, whether or not a report lists it, and the reports that do.

        The reports are those of :func:`history.reports_with <evergreen_groups.report.history.reports_with>`.
        ``number`` is the group's. Only entries about ``members`` are returned, the ids of those that the reader sees.
        """
        if not self._transactions.is_there:
            return (), {}
        ids = tuple(sorted(members))
        # Only candidates; in a large group, any may be one.
        named = map(_FOLLOW_UPS.persons.contains, map(str, ids)) if len(ids) <= _MOST_NAMED else [true()]
        with self._transactions.reading() as connection:
            stored = _stored(connection, self._url, or_(_FOLLOW_UPS.number == number, *named))
            listing = Listing(number, ZERO, True, len(ids), ids, "", frozenset())
            found = _follow_ups(connection, stored, {number: listing})[number]
            return found.about(ids).entries, history.reports_with(connection, self._url, number, ids)

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

        ``drafts`` are :meth:`checked <DraftEntry.checked>` against ``found``, which was just read and has only what the
        writer may read. Nothing is saved if a group has a newer such entry than its draft names as seen. Repeating the
        request returns the same entries. Raises PlanError if the key belongs to another request or a group is named
        twice, or NotFoundError if the report doesn't list a group.
        """
        follow_ups = {draft.group: found.group(draft.group) for draft in drafts}
        if len(follow_ups) < len(drafts):
            raise PlanError("a group is listed twice", advice="save one entry for each group", code="group-named-twice")
        with self._transactions.writing() as connection:
            _lock(connection)
            if before := self._saved(connection, staff, key, request):
                return Written(before)
            same = {number: self._same_persons(connection, one.group) for number, one in follow_ups.items()}
            newer: list[Entry] = []
            for draft in drafts:  # a colleague's first entry about the same persons may not be in ``found``
                known = [entry.follow_up for entry in follow_ups[draft.group].entries]
                ids = {id for id in (*known, same[draft.group]) if id is not None}
                newer += saved_after(draft.seen, _rows_of(connection, ids))
            if newer:
                return Written((), tuple(newer))
            new = insert(schema.follow_up_entries).returning(_ENTRIES.id)
            new = new.values(staff=staff, workstation=workstation, org_unit=org_unit)
            new = new.values(at=self._transactions.now(), idempotency_key=key, request=request, reopened=False)
            saved = []
            for draft in drafts:
                follow_up = follow_ups[draft.group]
                group = follow_up.group
                if draft.corrects is None:
                    corrects, id = None, same[draft.group] or self._add(connection, group, found.at)
                else:
                    corrects, id = record_ids.number_of(draft.corrects), follow_up.entry(draft.corrects).follow_up
                    # Who and when stays on record. The text goes: it may be a wrong remark about a family.
                    versions = or_(_ENTRIES.id == corrects, _ENTRIES.corrects == corrects)
                    connection.execute(update(schema.follow_up_entries).where(versions).values(note=""))
                values = {
                    "follow_up": id,
                    "number": group.group,
                    "contact": group.contact,
                    "what": draft.what.value,
                    "how": None if draft.how is None else draft.how.value,
                    "day": draft.day,
                    "saved_on": draft.saved_on,
                    "remind_on": draft.remind_on,
                    "pay_by": draft.pay_by,
                    "cancels": None if draft.cancels is None else draft.cancels.value,
                    "detail": None if draft.detail is None else draft.detail.value,
                    "amount": draft.amount,
                    "note": draft.note,
                    "combined_fines": group.group_fines,
                    "unreturned": group.unreturned,
                    "corrects": corrects,
                    "deleted": draft.deletes,
                }
                saved.append(connection.execute(new.values(values)).scalar_one())
            return Written(tuple(_rows(connection, _ENTRIES.id.in_(saved))))

    def _saved(self, connection: Connection, staff: int, key: str, request: str) -> tuple[Entry, ...]:
        mine = (_FOLLOW_UPS.gateway == self._url, _ENTRIES.staff == staff, _ENTRIES.idempotency_key == key)
        requests = select(_ENTRIES.request).join(schema.follow_ups).where(*mine)
        if any(other != request for other in connection.scalars(requests)):
            raise PlanError(
                "this idempotency key belongs to another change",
                advice="use a new key for each change",
                code="key-of-other-entries",
            )
        return tuple(_rows(connection, *mine))

    def _same_persons(self, connection: Connection, group: Listing) -> int | None:
        """Return the id of the follow-up about the persons who are in a group now, None if there is none yet."""
        same = select(_FOLLOW_UPS.id).filter_by(gateway=self._url, **_persons(group))
        return connection.scalars(same).first()

    def _add(self, connection: Connection, group: Listing, at: datetime) -> int:
        values = {"gateway": self._url, "listed_at": at, **_persons(group), **_place(group.members, group)}
        return int(connection.execute(insert(schema.follow_ups).values(values).returning(_FOLLOW_UPS.id)).scalar_one())


def _follow_ups(connection: Connection, stored: Sequence[Row[Any]], listings: Listings) -> dict[int, FollowUp]:
    """Return the follow-up of each group, by its number."""
    numbers = _current_numbers(stored, listings)
    rows = defaultdict[int, list[Entry]](list)
    for row in _rows_of(connection, numbers):
        rows[numbers[row.follow_up]].append(row)
    return {
        number: FollowUp(listing, current_entries(saved_after(None, rows[number])))
        for number, listing in listings.items()
    }


def note_listed(connection: Connection, url: str, runs: Iterable[Run], *, all_reports: bool) -> None:
    """Note in which groups new runs of the reports list follow-ups, in the transaction that records the runs.

    Closings of groups that have grown since, or left the reports, are marked as reopened; so are letters to groups that
    left.

    Unless ``all_reports`` were made, a group that isn't listed may be in another one, so it doesn't count as gone. The
    same is true of a group whose library is hidden now.
    """
    _lock(connection)
    stored = _stored(connection, url)
    if not stored:
        return
    runs = list(runs)  # only now: many libraries have thousands of groups and no follow-up
    listings: dict[int, Listing] = {}
    for run in runs:
        for number, listing in run.listings.items():
            # Only reports by items count items.
            counted = listing.unreturned is None and number in listings
            listings[number] = listing._replace(unreturned=listings[number].unreturned) if counted else listing
    hidden = frozenset[str]().union(*(run.hidden_libraries for run in runs))
    current = _current_numbers(stored, listings)
    for row in stored:
        if row.id in current and (place := _place(json.loads(row.persons), listings[current[row.id]])) != {
            name: row._mapping[name] for name in place
        }:
            connection.execute(update(schema.follow_ups).where(_FOLLOW_UPS.id == row.id).values(place))
    for some in batched(current, _BATCH):
        connection.execute(update(schema.follow_ups).where(_FOLLOW_UPS.id.in_(some)).values(listed_at=runs[0].at))
    gone = {row.id for row in stored if all_reports and row.id not in current and row.library not in hidden}
    entries = select(schema.follow_up_entries).join(schema.follow_ups).where(_FOLLOW_UPS.gateway == url)
    is_either = or_(_ENTRIES.what == What.CLOSED.value, _ENTRIES.how == How.LETTER.value)
    entries = entries.where(is_either, ~_ENTRIES.reopened)

    def is_reopened(row: Row[Any]) -> bool:
        if row.follow_up not in current:
            return row.follow_up in gone
        group = listings[current[row.follow_up]]
        return row.what == What.CLOSED.value and has_grown(
            (row.combined_fines, row.unreturned), (group.group_fines, group.unreturned)
        )

    reopened = [row.id for row in connection.execute(entries) if is_reopened(row)]
    for some in batched(reopened, _BATCH):
        marked = update(schema.follow_up_entries).where(_ENTRIES.id.in_(some))
        connection.execute(marked.values(reopened=True))


def record_outcomes(connection: Connection, outcomes: Mapping[str, Comparison]) -> None:
    """Store what a run found of promises, by the id of their latest version, in the transaction that records it."""
    for id, found in outcomes.items():
        promise = update(schema.follow_up_entries).where(_ENTRIES.id == record_ids.number_of(id))
        connection.execute(promise.values(outcome=found.outcome.value, paid=found.paid, forgiven=found.forgiven))


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
    before = {
        row.id: Listing(row.number, ZERO, True, row.member_count, tuple(json.loads(row.members)), "", frozenset())
        for row in stored
    }
    groups_now = group_by_patron(
        listings, {row.contact for row in stored}.union(*(one.members for one in before.values()))
    )
    numbers = {
        row.id: groups_now.get(row.contact) or continued_as(before[row.id], listings, groups_now) for row in stored
    }
    return {id: number for id, number in numbers.items() if number is not None}


def _persons(group: Listing) -> dict[str, Any]:
    """Return the columns that say whom new entries of a group are about."""
    return {"contact": group.contact, "persons": json.dumps(group.members)}


def _place(persons: Collection[int], group: Listing) -> dict[str, Any]:
    """Return the columns that say where the persons of a follow-up are now."""
    members = [id for id in group.members if id in persons]
    return {
        "number": group.group,
        "member_count": len(members) + group.member_count - len(group.members),
        "members": json.dumps(members),
        "library": group.contact_library,
    }


def _rows_of(connection: Connection, ids: Iterable[int]) -> Iterator[Entry]:
    """Yield the stored versions of the entries of follow-ups (ids)."""
    for some in batched(ids, _BATCH):
        yield from _rows(connection, _ENTRIES.follow_up.in_(some))


def _rows(connection: Connection, *where: ColumnElement[bool]) -> Iterator[Entry]:
    """Yield stored versions of entries, in the order in which they were saved."""
    named = _ENTRIES.combined_fines.label("group_fines"), _original.c.suffix.label("original_suffix")
    rows = select(schema.follow_up_entries, _FOLLOW_UPS.persons, *named)
    rows = rows.join_from(schema.follow_up_entries, schema.follow_ups)
    rows = rows.outerjoin(_original, _ENTRIES.corrects == _original.c.id)
    for row in connection.execute(rows.where(*where).order_by(_ENTRIES.id)):
        values = {str(name): value for name, value in row._mapping.items()}
        values |= {"id": record_ids.of(row.id, row.suffix), "group": row.number, "persons": json.loads(row.persons)}
        if row.corrects is not None:
            values["corrects"] = record_ids.of(row.corrects, row.original_suffix)
        yield msgspec.convert(values, Entry)
