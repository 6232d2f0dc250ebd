"""How long what is kept is kept: pruned in small pieces, and never on the word of a clock that has jumped.

The time that is believed moves on by a week at most from one pruning to the next. A clock that is in 2099 for one night
so costs a week of what is oldest; a machine that was off for two months catches up in nine nights.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Table, delete, exists, func, select, true

from evergreen_groups.state.schema import changes, events, groups_to_keep, mails, plans, retention, runs, series, steps

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from evergreen_groups.state.database import Transactions

log = logging.getLogger("evergreen_groups.state")

LONGEST_STEP = timedelta(days=7)
"""How far the time that is believed moves on at once."""
AT_ONCE = 500
"""How many rows go in one transaction, so that nobody waits for long."""
LIFE_OF_PLANS = timedelta(days=7)
"""How long a plan is kept, and with it the key under which its answer can be asked for again."""
LIFE_OF_GROUPS_TO_KEEP = timedelta(days=3 * 365)
"""How long a group is kept as it is without anybody looking at it again; what is left of vanished ones goes as well."""
_TOLERANCE = timedelta(minutes=10)  # clocks of several machines differ
_CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class StoredKind:
    """One kind of what is kept: its rows, when each came, and which of them may go at all."""

    name: str
    table: Table
    moment: ColumnElement[datetime]
    may_go: ColumnElement[bool]


_open = exists().where(steps.c.change == changes.c.id, steps.c.state == "sending")
KINDS = (
    StoredKind("history", runs, runs.c.at, true()),
    # An open step is what recovery goes by, however old it is.
    StoredKind("journal", changes, changes.c.at, ~_open),
    StoredKind("events", events, events.c.at, true()),
)
"""What has a life of its own; mails that wait have another: they are given up, and that is told."""


def believed_now(connection: Connection, now: datetime) -> datetime:
    """The time as far as it is believed; ``now`` is what the clock says."""
    former = connection.execute(select(retention.c.believed_at).where(retention.c.name == _CLOCK)).scalar_one_or_none()
    if former is None:
        former = _latest(connection, now)
    return now if former is None else min(now, former + LONGEST_STEP)


def prune(transactions: Transactions, days: Mapping[str, int], now: datetime) -> dict[str, int]:
    """Remove what is older than its ``days``, by the name of its kind; says how many rows of each went.

    ``now`` is what the clock says. What was made by the run that asks is never too old.

    Raises:
        StateError: the database can't be used.
    """
    believed = _move_on(transactions, now)
    gone = {kind.name: _prune(transactions, kind, believed - timedelta(days=days[kind.name])) for kind in KINDS}
    with transactions.writing() as connection:
        connection.execute(delete(plans).where(plans.c.at < believed - LIFE_OF_PLANS))
        connection.execute(delete(groups_to_keep).where(groups_to_keep.c.at < believed - LIFE_OF_GROUPS_TO_KEEP))
        connection.execute(delete(series).where(~exists().where(runs.c.series == series.c.id)))
    return gone


@dataclass(frozen=True, slots=True)
class StoredAmount:
    """How much of a kind is kept, and since when (None: nothing is)."""

    name: str
    rows: int
    since: datetime | None


def stored_amounts(connection: Connection) -> list[StoredAmount]:
    """How much of each kind is kept, and since when; mails that wait are one of them."""
    kinds: list[tuple[str, Table, Any]] = [(kind.name, kind.table, kind.moment) for kind in KINDS]
    found = []
    for name, table, moment in [*kinds, ("mails", mails, mails.c.written_at)]:
        rows, since = connection.execute(select(func.count(), func.min(moment)).select_from(table)).one()
        found.append(StoredAmount(name, rows, since))
    return found


def _move_on(transactions: Transactions, now: datetime) -> datetime:
    """Write down the time that is believed from now on, and say so where the clock has jumped."""
    with transactions.writing() as connection:
        believed = believed_now(connection, now)
        former = connection.execute(select(retention.c.believed_at)).scalar_one_or_none()
        connection.execute(delete(retention).where(retention.c.name == _CLOCK))
        connection.execute(retention.insert().values(name=_CLOCK, believed_at=believed))
    if believed < now - _TOLERANCE:
        log.error(
            "the clock says %s, more than a week after the last run: what is kept is looked at as on %s; "
            "where no run was missing, set the clock",
            f"{now:%Y-%m-%d}",
            f"{believed:%Y-%m-%d}",
        )
    elif former is not None and now < former - _TOLERANCE:
        log.error("the clock says %s, before the last run of %s: set it", f"{now:%Y-%m-%d}", f"{former:%Y-%m-%d}")
    return believed


def _latest(connection: Connection, now: datetime) -> datetime | None:
    """When the latest of what is kept was written, as far as that isn't to come."""
    found = [
        connection.execute(select(func.max(kind.moment)).where(kind.moment <= now)).scalar_one_or_none()
        for kind in KINDS
    ]
    return max((moment for moment in found if moment is not None), default=None)


def _prune(transactions: Transactions, kind: StoredKind, before: datetime) -> int:
    gone = 0
    while True:
        old = select(kind.table.c.id).where(kind.moment < before, kind.may_go).order_by(kind.moment).limit(AT_ONCE)
        with transactions.writing() as connection:
            removed = connection.execute(delete(kind.table).where(kind.table.c.id.in_(old))).rowcount
        gone += removed
        if removed < AT_ONCE:
            return gone
