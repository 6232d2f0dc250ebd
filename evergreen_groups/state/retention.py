"""Delete old records in small batches, without trusting a clock that may have jumped.

The trusted time advances by at most a week per run. So a clock that shows 2099 for one night costs only the oldest
week of data. A machine that was off for two months catches up in nine nights.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Table, delete, exists, func, select, true, update

from evergreen_groups.errors import StateError
from evergreen_groups.state.schema import (
    changes,
    events,
    groups_to_keep,
    mails,
    plans,
    retention,
    run_groups,
    runs,
    series,
    steps,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from evergreen_groups.state.database import Transactions

log = logging.getLogger("evergreen_groups.state")

MAX_ADVANCE = timedelta(days=7)
"""How far the trusted time may advance at once."""
BATCH_SIZE = 500
"""The largest number of rows to delete in one transaction, to keep it short for others."""
LIFE_OF_PLANS = timedelta(days=7)
"""How long to keep a plan, and with it the idempotency key for repeats of the request."""
LIFE_OF_GROUPS_TO_KEEP = timedelta(days=3 * 365)
"""How long to keep the decision to leave a group as it is. Decisions about groups that are gone expire too."""
_TOLERANCE = timedelta(minutes=10)  # the clocks of several machines differ
_CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class StoredKind:
    """A kind of record: its table, the column with its time, and a condition for rows that may be deleted."""

    name: str
    table: Table
    timestamp: ColumnElement[datetime]
    deletable: ColumnElement[bool]


_open = exists().where(steps.c.change == changes.c.id, steps.c.state == "sending")
KINDS = (
    StoredKind("history", runs, runs.c.at, true()),
    # Keep open steps of any age: recovery needs them.
    StoredKind("journal", changes, changes.c.at, ~_open),
    StoredKind("events", events, events.c.at, true()),
)
"""The kinds with a configurable lifetime. Waiting mails aren't among them: they expire with an error instead."""


def trusted_now(connection: Connection, now: datetime) -> datetime:
    """Return the trusted time, given the clock's ``now``."""
    former = connection.execute(select(retention.c.believed_at).where(retention.c.name == _CLOCK)).scalar_one_or_none()
    if former is None:
        former = _latest(connection, now)
    return now if former is None else min(now, former + MAX_ADVANCE)


def prune(transactions: Transactions, days: Mapping[str, int], now: datetime) -> dict[str, int]:
    """Delete what is older than its kind's ``days``. Return the number of deleted rows by kind.

    ``now`` is the clock's time. Records from the current run are never too old.

    Raises:
        StateError: the database can't be used.
    """
    trusted = _advance_trusted_time(transactions, now)
    gone = {kind.name: _prune(transactions, kind, trusted - timedelta(days=days[kind.name])) for kind in KINDS}
    with transactions.writing() as connection:
        connection.execute(delete(plans).where(plans.c.at < trusted - LIFE_OF_PLANS))
        connection.execute(delete(groups_to_keep).where(groups_to_keep.c.at < trusted - LIFE_OF_GROUPS_TO_KEEP))
        connection.execute(delete(series).where(~exists().where(runs.c.series == series.c.id)))
    return gone


@dataclass(frozen=True, slots=True)
class StoredAmount:
    """How many records of a kind there are, and the time of the oldest; None without any."""

    name: str
    rows: int
    since: datetime | None


def stored_amounts(connection: Connection) -> list[StoredAmount]:
    """Return the amount of each kind, waiting mails included."""
    kinds: list[tuple[str, Table, Any]] = [(kind.name, kind.table, kind.timestamp) for kind in KINDS]
    found = []
    for name, table, timestamp in [*kinds, ("mails", mails, mails.c.written_at)]:
        rows, since = connection.execute(select(func.count(), func.min(timestamp)).select_from(table)).one()
        found.append(StoredAmount(name, rows, since))
    return found


def _advance_trusted_time(transactions: Transactions, now: datetime) -> datetime:
    """Store the new trusted time, and log an error if the clock has jumped."""
    with transactions.writing() as connection:
        trusted = trusted_now(connection, now)
        former = connection.execute(select(retention.c.believed_at)).scalar_one_or_none()
        connection.execute(delete(retention).where(retention.c.name == _CLOCK))
        connection.execute(retention.insert().values(name=_CLOCK, believed_at=trusted))
    if trusted < now - _TOLERANCE:
        log.error(
            "the clock says %s, more than a week after the last run: what is kept is looked at as on %s; "
            "where no run was missing, set the clock",
            f"{now:%Y-%m-%d}",
            f"{trusted:%Y-%m-%d}",
        )
    elif former is not None and now < former - _TOLERANCE:
        log.error("the clock says %s, before the last run of %s: set it", f"{now:%Y-%m-%d}", f"{former:%Y-%m-%d}")
    return trusted


def _latest(connection: Connection, now: datetime) -> datetime | None:
    """Return the time of the latest record that isn't in the future."""
    found = [
        connection.execute(select(func.max(kind.timestamp)).where(kind.timestamp <= now)).scalar_one_or_none()
        for kind in KINDS
    ]
    return max((timestamp for timestamp in found if timestamp is not None), default=None)


def _prune(transactions: Transactions, kind: StoredKind, before: datetime) -> int:
    gone = 0
    while True:
        old = (
            select(kind.table.c.id)
            .where(kind.timestamp < before, kind.deletable)
            .order_by(kind.timestamp)
            .limit(BATCH_SIZE)
        )
        with transactions.writing() as connection:
            removed = connection.execute(delete(kind.table).where(kind.table.c.id.in_(old))).rowcount
        gone += removed
        if removed < BATCH_SIZE:
            return gone


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The number of deleted steps and events, and of report groups from which the patron's id was removed."""

    steps: int
    events: int
    groups: int


def forget(transactions: Transactions, patron: int) -> Forgotten:
    """Delete all records of a patron (id). Delete a change as a whole if it has no other patrons.

    Raises:
        StateError: a change of this patron is open, so its outcome isn't known. Nothing was deleted.
    """
    with transactions.writing() as connection:
        mine = steps.c.patron == patron
        if connection.execute(select(steps.c.id).where(mine, steps.c.state == "sending")).first():
            raise StateError(
                "a change of this patron is open: it isn't known yet what became of it",
                advice="let the next change or report find out, then ask again",
                code="forget-open",
            )
        concerned = list(connection.execute(select(steps.c.change).where(mine).distinct()).scalars())
        gone = connection.execute(delete(steps).where(mine)).rowcount
        # Keep other patrons' steps. Delete changes that have no steps left.
        is_empty = ~exists().where(steps.c.change == changes.c.id)
        connection.execute(delete(changes).where(changes.c.id.in_(concerned), is_empty))
        of_events = connection.execute(delete(events).where(events.c.patron == patron)).rowcount
        _remove_plans(connection, patron)
        _remove_groups_to_keep(connection, patron)
        return Forgotten(gone, of_events, _remove_from_run_groups(connection, patron))


def _remove_plans(connection: Connection, patron: int) -> None:
    """Delete the plans that mention the patron, even if only as a member of a group."""
    # Select candidates by substring, and parse only those: SQLite and PostgreSQL share no JSON operators.
    found = connection.execute(select(plans.c.id, plans.c.content).where(plans.c.content.contains(str(patron)))).all()
    named = [row.id for row in found if patron in set(_integers(json.loads(row.content)))]
    connection.execute(delete(plans).where(plans.c.id.in_(named)))


def _remove_groups_to_keep(connection: Connection, patron: int) -> None:
    """Delete decisions about groups with the patron. Without the id they couldn't match their group any more."""
    stored = groups_to_keep.c
    found = connection.execute(select(groups_to_keep).where(stored.members.contains(str(patron)))).all()
    for row in found:
        if patron in json.loads(row.members):
            mine = (stored.gateway == row.gateway, stored.number == row.number)
            connection.execute(delete(groups_to_keep).where(*mine))


def _integers(value: object) -> Iterator[int]:
    """Yield all integers in a JSON value. A group with the patron's number matches too, which deletes too much."""
    if isinstance(value, int) and not isinstance(value, bool):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _integers(part)


def _remove_from_run_groups(connection: Connection, patron: int) -> int:
    """Remove the id from the member lists that the next report is compared with."""
    key = (run_groups.c.run, run_groups.c.number)
    found = connection.execute(
        select(*key, run_groups.c.members).where(run_groups.c.members.contains(str(patron)))
    ).all()
    count = 0
    for row in found:
        members = json.loads(row.members)
        if patron not in members:  # matched as part of another number
            continue
        left = json.dumps([member for member in members if member != patron])
        connection.execute(update(run_groups).where(key[0] == row.run, key[1] == row.number).values(members=left))
        count += 1
    return count
