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

from sqlalchemy import Column, ColumnElement, and_, delete, exists, func, select, update

from evergreen_groups.errors import StateError
from evergreen_groups.state import schema
from evergreen_groups.state.schema import changes, events, follow_ups, plans, run_groups, runs, steps

if TYPE_CHECKING:
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


TIMES = {
    "history": runs.c.at,
    "journal": changes.c.at,
    "events": events.c.at,
    "follow-ups": follow_ups.c.listed_at,
}
"""The kinds of records with a configurable lifetime, with the column of their time. Waiting mails expire themselves."""


def _former(connection: Connection) -> datetime | None:
    stored = schema.retention.c
    return connection.execute(select(stored.believed_at).where(stored.name == _CLOCK)).scalar_one_or_none()


def trusted_now(connection: Connection, now: datetime) -> datetime:
    """Return the trusted time, given the clock's ``now``."""
    former = _former(connection)
    if former is None:  # then it's the time of the latest record that isn't in the future
        found = [connection.execute(select(func.max(at)).where(at <= now)).scalar() for at in TIMES.values()]
        former = max((timestamp for timestamp in found if timestamp is not None), default=now)
    return min(now, former + MAX_ADVANCE)


def prune(transactions: Transactions, days: Mapping[str, int], now: datetime) -> dict[str, int]:
    """Delete what is older than its kind's ``days``, by a clock that says ``now``. Return the deleted rows by kind."""
    trusted = _advance_trusted_time(transactions, now)
    gone = dict.fromkeys(TIMES, 0)
    # Recovery needs open steps of any age.
    is_open = exists().where(steps.c.change == changes.c.id, steps.c.state == "sending")
    for kind, at in TIMES.items():
        old = select(at.table.c.id).where(at < trusted - timedelta(days=days[kind])).order_by(at).limit(BATCH_SIZE)
        if at.table is changes:
            old = old.where(~is_open)
        removed = BATCH_SIZE
        while removed == BATCH_SIZE:
            with transactions.writing() as connection:
                removed = connection.execute(delete(at.table).where(at.table.c.id.in_(old))).rowcount
            gone[kind] += removed
    with transactions.writing() as connection:
        of_history = timedelta(days=days["history"])
        for at, life in (
            (plans.c.at, LIFE_OF_PLANS),
            (schema.groups_to_keep.c.at, LIFE_OF_GROUPS_TO_KEEP),
            (schema.stays.c.last_at, of_history),
            (schema.payments.c.at, of_history),
        ):
            connection.execute(delete(at.table).where(at < trusted - life))
        connection.execute(delete(schema.series).where(~exists().where(runs.c.series == schema.series.c.id)))
    return gone


@dataclass(frozen=True, slots=True)
class StoredAmount:
    """How many records of a kind there are, and the time of the oldest; None without any."""

    name: str
    rows: int
    since: datetime | None


def stored_amounts(connection: Connection) -> list[StoredAmount]:
    """Return the amount of each kind, waiting mails included."""
    return [
        StoredAmount(kind, *connection.execute(select(func.count(), func.min(at)).select_from(at.table)).one())
        for kind, at in [*TIMES.items(), ("mails", schema.mails.c.written_at)]
    ]


def _advance_trusted_time(transactions: Transactions, now: datetime) -> datetime:
    """Store the new trusted time, and log an error if the clock has jumped."""
    with transactions.writing() as connection:
        trusted = trusted_now(connection, now)
        former = _former(connection)
        connection.execute(delete(schema.retention).where(schema.retention.c.name == _CLOCK))
        connection.execute(schema.retention.insert().values(name=_CLOCK, believed_at=trusted))
    if trusted < now - _TOLERANCE:
        jumped = "the clock says %s, more than a week after the last run: deleting old records as of %s; "
        log.error(jumped + "if no runs were missed, set the clock", now.date(), trusted.date())
    elif former is not None and now < former - _TOLERANCE:
        log.error("the clock says %s, before the last run on %s: set the clock", now.date(), former.date())
    return trusted


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The number of deleted steps, events and entries of follow-ups, and of report groups that lost the id."""

    steps: int
    events: int
    groups: int
    entries: int


_WITHOUT_ID: tuple[tuple[Column[int], dict[str, Any]], ...] = (
    (run_groups.c.contact, {"contact": 0}),
    (follow_ups.c.contact, {"contact": 0}),
    (schema.follow_up_entries.c.staff, {"staff": None, "workstation": None, "idempotency_key": ""}),
    (changes.c.staff, {"staff": None, "workstation": None, "account": ""}),  # the account's name has the id
    (changes.c.approved_by, {"approved_by": None}),
)
"""The columns of rows that stay without a forgotten patron's id, and what else to change in them."""


def forget(transactions: Transactions, patron: int) -> Forgotten:
    """Delete all records of a patron (id), changes without other patrons included. What they did as staff stays.

    Raises StateError, and deletes nothing, if a change of this patron is open, so that its outcome isn't known.
    """
    with transactions.writing() as connection:
        mine = steps.c.patron == patron
        if connection.execute(select(steps.c.id).where(mine, steps.c.state == "sending")).first():
            raise StateError(
                "we don't know yet whether a change of this patron went through",
                advice="try again after the next change or report; if the gateway's address has changed, first run "
                "`evergreen-groups state move-address OLD NEW`",
                code="forget-open",
            )
        concerned = list(connection.execute(select(steps.c.change).where(mine).distinct()).scalars())
        gone = connection.execute(delete(steps).where(mine)).rowcount
        # Keep other patrons' steps. Delete changes that have no steps left.
        is_empty = ~exists().where(steps.c.change == changes.c.id)
        connection.execute(delete(changes).where(changes.c.id.in_(concerned), is_empty))
        of_events = connection.execute(delete(events).where(events.c.patron == patron)).rowcount
        # A plan goes even if the patron is only a member of a group in it. A decision without the id couldn't match its
        # group any more.
        for column in (plans.c.content, schema.groups_to_keep.c.members):
            for is_row, _members in _naming(connection, column, patron):
                connection.execute(delete(column.table).where(is_row))
        of_runs = _naming(connection, run_groups.c.members, patron)
        connection.execute(delete(schema.payments).where(schema.payments.c.patron == patron))
        of_stays = (schema.stays.c.members, schema.stays.c.former_members)
        for column in (run_groups.c.members, follow_ups.c.members, follow_ups.c.persons, *of_stays):
            for is_row, members in _naming(connection, column, patron):  # the next report is compared with these lists
                left = json.dumps([member for member in json.loads(members) if member != patron])
                connection.execute(update(column.table).where(is_row).values({column: left}))
        # If the patron was the contact person of any version of an entry, all versions go: else a deleted or corrected
        # version would be back.
        entries = schema.follow_up_entries.c
        first_version = func.coalesce(entries.corrects, entries.id)
        wanted = list(connection.scalars(select(first_version).where(entries.contact == patron).distinct()))
        connection.execute(delete(schema.follow_up_entries).where(entries.id.in_(wanted)))  # later versions go with it
        connection.execute(delete(follow_ups).where(~exists().where(entries.follow_up == follow_ups.c.id)))
        connection.execute(delete(plans).where(plans.c.staff == patron))
        for column, values in _WITHOUT_ID:
            connection.execute(update(column.table).where(column == patron).values(values))
        return Forgotten(gone, of_events, len(of_runs), len(wanted))


def _naming(connection: Connection, column: Column[str], patron: int) -> list[tuple[ColumnElement[bool], str]]:
    """Return the conditions for the rows whose JSON in ``column`` has a patron's id, each with the JSON.

    A group with the patron's number matches too, which deletes too much.
    """
    key = column.table.primary_key.columns
    # Select candidates by substring, and parse only those: SQLite and PostgreSQL share no JSON operators.
    found = connection.execute(select(*key, column).where(column.contains(str(patron)))).all()
    return [
        (and_(*(part == value for part, value in zip(key, row, strict=False))), row[-1])
        for row in found
        if str(patron) in _integers(row[-1])
    ]


def _integers(document: str) -> set[str]:
    found: set[str] = set()
    json.loads(document, parse_int=found.add)
    return found
