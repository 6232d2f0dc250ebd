"""The trail of events that the ILS has sent: what was decided about whom, and what came of it.

Patron ids only: no name, barcode or amount is in it. One row an event, written when the work is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, literal_column, select

from evergreen_groups.state import schema

if TYPE_CHECKING:
    from sqlalchemy import Row

    from evergreen_groups.state import Transactions

events = schema.events


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """What came of one event. ``event`` is its id in the ILS, ``patron`` an ``au.id``.

    ``blocked`` is the rule's decision, None where there was none to make; ``reason`` says why nothing was decided or
    recalculated, or what failed where the event isn't ``done``. ``at`` is when the row was written.
    """

    event: int
    hook: str
    patron: int
    done: bool
    blocked: bool | None
    recalculated: bool
    reason: str
    at: datetime


class AuditTrail:
    """The trail of one gateway's events in a database."""

    def __init__(self, transactions: Transactions, gateway: str) -> None:
        self._transactions = transactions
        self._gateway = gateway

    def done(self, event: int, hook: str, patron: int) -> TrailEntry | None:
        """What came of an event that was worked on to its end, None where none was.

        Its id alone isn't enough: an ILS that is restored from a backup gives out ids again.
        """
        found = select(events).where(
            events.c.gateway == self._gateway,
            events.c.event == event,
            events.c.hook == hook,
            events.c.patron == patron,
            literal_column("done"),  # as it stands in the index of those
        )
        with self._transactions.reading() as connection:
            row = connection.execute(found).one_or_none()
            return None if row is None else _entry(row)

    def entries(self) -> list[TrailEntry]:
        """All rows, the latest first."""
        found = select(events).where(events.c.gateway == self._gateway).order_by(events.c.id.desc())
        with self._transactions.reading() as connection:
            return [_entry(row) for row in connection.execute(found)]

    def write(
        self,
        *,
        event: int,
        hook: str,
        patron: int,
        done: bool,
        blocked: bool | None = None,
        recalculated: bool = False,
        reason: str = "",
    ) -> None:
        """Write a row; it is on disk when this returns.

        Raises:
            StateError: it can't be written, or says that an event was done that is done already.
        """
        row = {"event": event, "hook": hook, "patron": patron, "done": done, "blocked": blocked}
        with self._transactions.writing() as connection:
            connection.execute(
                insert(events).values(
                    gateway=self._gateway, at=self._transactions.now(), recalculated=recalculated, reason=reason, **row
                )
            )


def _entry(row: Row[Any]) -> TrailEntry:
    return TrailEntry(
        event=int(row.event),
        hook=row.hook,
        patron=int(row.patron),
        done=row.done,
        blocked=row.blocked,
        recalculated=row.recalculated,
        reason=row.reason,
        at=row.at,
    )
