"""The trail of events that the ILS has sent: what was decided about whom, and what came of it.

Patron ids only: no name, barcode or amount is in it. One line an event, written when the work is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from evergreen_groups.state import opened

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, at TEXT NOT NULL, event INTEGER NOT NULL, hook TEXT NOT NULL,
    patron INTEGER NOT NULL, done INTEGER NOT NULL, blocked INTEGER, recalculated INTEGER NOT NULL,
    reason TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS events_done ON events(gateway, event, hook, patron) WHERE done;
"""
_COLUMNS = "event, hook, patron, done, blocked, recalculated, reason, at"


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """What came of one event. ``event`` is its id in the ILS, ``patron`` an ``au.id``.

    ``blocked`` is the rule's decision, None where there was none to make; ``reason`` says why nothing was decided or
    recalculated, or what failed where the event isn't ``done``. ``at`` is when the line was written.
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
    """The trail of one gateway's events, in a state directory. Close it after use.

    Raises:
        StateError: the file can't be used.
    """

    def __init__(self, directory: Path, gateway: str) -> None:
        self._gateway = gateway
        self._database = opened(directory, "events", "audit trail", _SCHEMA, ["events"], version=_VERSION)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def done(self, event: int, hook: str, patron: int) -> TrailEntry | None:
        """What came of an event that was worked on to its end, None where none was.

        Its id alone isn't enough: an ILS that is restored from a backup gives out ids again.
        """
        condition = "gateway = ? AND event = ? AND hook = ? AND patron = ? AND done"
        return next(iter(self._read(condition, self._gateway, event, hook, patron)), None)

    def entries(self) -> list[TrailEntry]:
        """All lines, the latest first."""
        return self._read("gateway = ? ORDER BY id DESC", self._gateway)

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
    ) -> bool:
        """Write a line; it is on disk when this returns. False: another run had worked on the same event by now.

        Raises:
            StateError: it can't be written.
        """
        values = (self._gateway, _now(), event, hook, patron, done, blocked, recalculated, reason)
        cursor = self._database.execute(
            "INSERT INTO events (gateway, at, event, hook, patron, done, blocked, recalculated, reason) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            values,
        )
        return cursor.rowcount > 0

    def _read(self, condition: str, *values: object) -> list[TrailEntry]:
        with self._database.errors_named():
            rows = self._database.execute(f"SELECT {_COLUMNS} FROM events WHERE {condition}", values)  # noqa: S608 - fixed
            return [_entry(*row) for row in rows]


def _entry(event: int, hook: str, patron: int, done: int, *rest: object) -> TrailEntry:
    blocked, recalculated, reason, at = rest
    return TrailEntry(
        event=event,
        hook=hook,
        patron=patron,
        done=bool(done),
        blocked=None if blocked is None else bool(blocked),
        recalculated=bool(recalculated),
        reason=str(reason),
        at=datetime.fromisoformat(str(at)),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
