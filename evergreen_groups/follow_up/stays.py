"""From when to when reports list families, why they leave, and what their members pay: what the results are made from.

A stay follows its family as reports follow groups: by the number, or by most members (``GroupMatching``). If families
merge, the stay of one goes on, and the others end.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select, update

from evergreen_groups.batches import batched
from evergreen_groups.follow_up.promises import visible_payers
from evergreen_groups.ils import Booking, OrgUnits, booked, read_paid
from evergreen_groups.report import GroupMatching, Listing
from evergreen_groups.state import schema
from evergreen_groups.values import ZERO

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Row

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.report import GroupChange, Report, Run
    from evergreen_groups.state import Transactions

_STAYS, _PAYMENTS = schema.stays.c, schema.payments.c
_BATCH = 500
WATCHED_DAYS = 100
"""For how many days after a family's last night its payments are read: the longest window, and some lost nights."""


class Left(Enum):
    """Why a family left a report."""

    PAID = "paid"
    """It owes nothing any more, and has paid since the run before."""
    BELOW_MINIMUM = "below-minimum"
    """It owes less than the report asks for: it paid a part, or bills were forgiven or voided, or items returned."""
    MOVED = "moved"
    """Members, or all of them, are in another group."""
    CLOSED = "closed"
    """Staff had closed its follow-up. Isn't stored: the entries say it."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Stay:
    """A family's stay on a report's list, from the run at ``first_at`` to that at ``last_at`` (aware).

    ``number`` and ``library`` (short name, of the person to contact) are those of ``last_at``, ``libraries`` those of
    the visible members. ``persons`` are the ids of all visible members of any night; ``complete`` unless there were
    hidden ones. ``left_at`` is the run that no longer listed it. The persons' payments are known until ``paid_until``
    (None: not).
    """

    number: int
    library: str
    libraries: frozenset[str]
    persons: frozenset[int]
    complete: bool
    first_at: datetime
    last_at: datetime
    left_at: datetime | None = None
    reason: Left | None = None
    paid_until: datetime | None = None

    def covers(self, at: datetime) -> bool:
        """Return whether the family was on the list at a time."""
        return self.first_at <= at and (self.left_at is None or at < self.left_at)

    def payments_known(self, until: datetime) -> bool:
        """Return whether all that its members have paid until a time is known."""
        return self.complete and self.paid_until is not None and self.paid_until >= until


@dataclass(frozen=True, slots=True)
class PaymentsRead:
    """What the ``patrons`` (ids) paid from ``since`` until ``at`` (aware), by patron id."""

    since: datetime
    at: datetime
    patrons: frozenset[int]
    paid: Mapping[int, Sequence[Booking]]


class Stays:
    """The stays on the reports' lists at the gateway ``url``."""

    def __init__(self, transactions: Transactions, url: str) -> None:
        self._transactions = transactions
        self._url = url

    def of_report(self, name: str) -> list[Stay]:
        """Return the stays on the list of the report ``name`` ('': that of ``[report]``)."""
        if not self._transactions.is_there:
            return []
        with self._transactions.reading() as connection:
            mine = select(schema.stays).where(_STAYS.gateway == self._url, _STAYS.report == name)
            return [_stay(row) for row in connection.execute(mine.order_by(_STAYS.id))]

    def payments(self) -> dict[int, list[Booking]]:
        """Return what persons have paid, by patron id."""
        found = defaultdict[int, list[Booking]](list)
        if self._transactions.is_there:
            with self._transactions.reading() as connection:
                rows = select(_PAYMENTS.patron, _PAYMENTS.at, _PAYMENTS.amount).where(_PAYMENTS.gateway == self._url)
                for patron, at, amount in connection.execute(rows):
                    found[patron].append(Booking(at, amount))
        return dict(found)

    def watched(self, now: datetime) -> frozenset[int]:
        """Return the persons whose payments the results still need."""
        if not self._transactions.is_there:
            return frozenset()
        with self._transactions.reading() as connection:
            rows = connection.execute(_watched(self._url, now)).all()
            return frozenset(id for row in rows for id in _persons(row))


def read_payments(gateway: Gateway, org_units: OrgUnits, persons: Collection[int], now: datetime) -> PaymentsRead:
    """Read what watched ``persons`` have paid until ``now`` (aware).

    Earlier payments are read again: they may have been voided since.
    Takes a call per 3,000 persons, another per 3,000 transactions that they paid, and up to 2 for the account's rights.
    """
    since = now - timedelta(WATCHED_DAYS)
    patrons = visible_payers(gateway, org_units, persons) if persons else frozenset()
    return PaymentsRead(since, now, patrons, read_paid(gateway, patrons, since) if patrons else {})


def record_payments(connection: Connection, url: str, read: PaymentsRead) -> None:
    """Store what was read, in place of what was known of that time. Do this after :func:`record_stays`."""
    for some in batched(sorted(read.patrons), _BATCH):
        again = (_PAYMENTS.gateway == url, _PAYMENTS.patron.in_(some), _PAYMENTS.at >= read.since)
        connection.execute(delete(schema.payments).where(*again))
    rows = [
        {"gateway": url, "patron": patron, "at": one.at, "amount": one.amount}
        for patron, bookings in read.paid.items()
        for one in bookings
        if one.at >= read.since
    ]
    for batch in batched(rows, _BATCH):
        connection.execute(insert(schema.payments), batch)
    # After a longer time without a run, payments are missing for good.
    without_gap = func.coalesce(_STAYS.paid_until, _STAYS.first_at) >= read.since
    watched = connection.execute(_watched(url, read.at).where(without_gap)).all()
    known = [row.id for row in watched if read.patrons.issuperset(_persons(row))]
    for some in batched(known, _BATCH):
        connection.execute(update(schema.stays).where(_STAYS.id.in_(some)).values(paid_until=read.at))


def record_stays(connection: Connection, url: str, report: Report, run: Run, read: PaymentsRead | None) -> None:
    """Record which families a new run lists, and why others left, in the transaction that records the run.

    ``read`` are the payments, None if they couldn't be read. A family whose libraries are hidden now hasn't left.
    """
    mine = select(schema.stays).where(_STAYS.gateway == url, _STAYS.report == report.name, _STAYS.left_at.is_(None))
    rows = connection.execute(mine.order_by(_STAYS.id)).all()
    before = {row.number: _listing(row) for row in rows}
    matching = GroupMatching(before, run.listings)
    # Of merged families, the stay of the one that kept its number goes on.
    rows = sorted(rows, key=lambda row: matching.current_number(row.number) != row.number)
    cleared = {change.group: change for change in report.changes.cleared} if report.changes else {}
    going_on: dict[int, Row[Any]] = {}
    for row in rows:
        number = matching.current_number(row.number)
        if number is not None and number not in going_on:
            going_on[number] = row
        elif number is None and before[row.number].libraries <= run.hidden_libraries and row.number not in run.listings:
            continue
        else:
            reason = Left.MOVED if number is not None else _reason(row, cleared.get(row.number), read)
            ended = update(schema.stays).where(_STAYS.id == row.id)
            connection.execute(ended.values(left_at=run.at, reason=reason.value))
    unchanged = []
    for number, row in going_on.items():
        listing = run.listings[number]
        values = _place(listing)
        if all(getattr(row, name) == value for name, value in values.items()) and row.complete <= listing.complete:
            unchanged.append(row.id)
            continue
        former = {*json.loads(row.members), *json.loads(row.former_members)} - {*listing.members}
        values |= {"former_members": json.dumps(sorted(former)), "complete": row.complete and listing.complete}
        connection.execute(update(schema.stays).where(_STAYS.id == row.id).values(last_at=run.at, **values))
    for some in batched(unchanged, _BATCH):
        connection.execute(update(schema.stays).where(_STAYS.id.in_(some)).values(last_at=run.at))
    begun = {"gateway": url, "report": report.name, "former_members": "[]", "first_at": run.at, "last_at": run.at}
    new = [
        {**begun, **_place(one), "complete": one.complete} for one in run.listings.values() if one.group not in going_on
    ]
    for batch in batched(new, _BATCH):
        connection.execute(insert(schema.stays), batch)


def _reason(row: Row[Any], change: GroupChange | None, read: PaymentsRead | None) -> Left:
    """Return why a family left, from what it owes now.

    That isn't known if it couldn't be looked up, or if the report's settings changed.
    """
    now = None if change is None else change.present
    if now is None:
        return Left.UNKNOWN
    if now.is_listed or now.group != row.number or now.member_count < row.member_count:
        return Left.MOVED
    if now.group_fines is not None and now.group_fines > 0:
        return Left.BELOW_MINIMUM
    if now.group_fines is None or read is None:
        return Left.UNKNOWN
    persons = _persons(row)
    if sum((booked(read.paid.get(id, ()), row.last_at) for id in persons), ZERO) > 0:
        return Left.PAID
    return Left.BELOW_MINIMUM if read.patrons.issuperset(persons) else Left.UNKNOWN


def _watched(url: str, now: datetime) -> Any:
    return select(schema.stays).where(_STAYS.gateway == url, _STAYS.last_at >= now - timedelta(WATCHED_DAYS))


def _persons(row: Row[Any]) -> frozenset[int]:
    return frozenset([*json.loads(row.members), *json.loads(row.former_members)])


def _listing(row: Row[Any]) -> Listing:
    members, libraries = tuple(json.loads(row.members)), frozenset(json.loads(row.libraries))
    return Listing(row.number, ZERO, True, row.member_count, members, row.library, libraries)


def _place(listing: Listing) -> dict[str, Any]:
    return {
        "number": listing.group,
        "members": json.dumps(listing.members),
        "member_count": listing.member_count,
        "library": listing.contact_library,
        "libraries": json.dumps(sorted(listing.libraries)),
    }


def _stay(row: Row[Any]) -> Stay:
    reason = None if row.reason is None else Left(row.reason)
    libraries = frozenset(json.loads(row.libraries))
    return Stay(
        row.number,
        row.library,
        libraries,
        _persons(row),
        row.complete,
        row.first_at,
        row.last_at,
        row.left_at,
        reason,
        row.paid_until,
    )
