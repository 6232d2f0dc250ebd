"""The journal of changes to membership and penalties: written before anything is sent, settled after.

An append-only SQLite file (WAL, readable by its owner alone). Nothing in it is ever changed or deleted, so what a
crash leaves open can be seen and settled by the next run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from evergreen_groups.errors import NotFoundError
from evergreen_groups.state import opened

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, account TEXT NOT NULL, at TEXT NOT NULL, action TEXT NOT NULL,
    undoes INTEGER REFERENCES entries(id)
);
CREATE TABLE IF NOT EXISTS steps (
    id INTEGER PRIMARY KEY, entry INTEGER NOT NULL REFERENCES entries(id), patron INTEGER NOT NULL,
    field TEXT NOT NULL, before INTEGER NOT NULL, after INTEGER
);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL REFERENCES steps(id), at TEXT NOT NULL, state TEXT NOT NULL,
    value INTEGER, reason TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS settled (
    id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, entry INTEGER NOT NULL REFERENCES entries(id)
);
CREATE INDEX IF NOT EXISTS entries_gateway ON entries(gateway);
CREATE INDEX IF NOT EXISTS settled_gateway ON settled(gateway, entry);
CREATE INDEX IF NOT EXISTS steps_entry ON steps(entry);
CREATE INDEX IF NOT EXISTS events_step ON events(step);
"""
_TABLES = ("entries", "steps", "events", "settled")
_SETTLED = "(SELECT coalesce(max(entry), 0) FROM settled WHERE settled.gateway = :gateway)"

SETTLED_AT_ONCE = 500
"""After so many entries it is written down that they are settled."""


PENALTIES = "penalties"
"""The field of a step that recalculates somebody's penalties."""


class StepState(Enum):
    """How far a step is."""

    PLANNED = "planned"
    SENDING = "sending"
    DONE = "done"
    NOT_DONE = "not done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JournalStep:
    """One change of one field of one patron.

    ``field`` is ``usrgroup``, ``master_account`` (0 or 1), or ``penalties`` for a recalculation: how many penalties
    in force the ILS has set itself. ``after`` is None for what the ILS decides: the number of a new group, and the
    penalties. ``value`` is what the field had when the step was done, ``reason`` says why it wasn't.
    """

    id: int
    patron: int
    field: str
    before: int
    after: int | None
    state: StepState
    value: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One plan that was carried out, or begun. ``undoes`` is the entry that it took back, where it did."""

    id: int
    gateway: str
    account: str
    at: datetime
    action: str
    undoes: int | None
    steps: tuple[JournalStep, ...]


class Journal:
    """The journal file. One writer at a time: the lock of :mod:`evergreen_groups.state.directory` sees to that."""

    def __init__(self, directory: Path) -> None:
        self._database = opened(directory, "journal", "journal", _SCHEMA, _TABLES, version=_VERSION)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def begin(
        self,
        gateway: str,
        account: str,
        action: str,
        steps: Sequence[tuple[int, str, int, int | None]],
        undoes: int | None = None,
    ) -> list[int]:
        """Write a plan down before anything of it is sent; gives the steps' ids, in their order.

        A step is the patron's id, the field, its value now, and the value it is to get (None: the ILS decides).
        """
        with closing(self._database.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute(
                "INSERT INTO entries (gateway, account, at, action, undoes) VALUES (?, ?, ?, ?, ?)",
                (gateway, account, _now(), action, undoes),
            )
            entry, ids = cursor.lastrowid, []
            for step in steps:
                cursor.execute(
                    "INSERT INTO steps (entry, patron, field, before, after) VALUES (?, ?, ?, ?, ?)", (entry, *step)
                )
                ids.append(int(cursor.lastrowid or 0))
            cursor.execute("COMMIT")
        return ids

    def note(self, step: int, state: StepState, *, value: int | None = None, reason: str = "") -> None:
        """Write down what became of a step; it is on disk when this returns."""
        self._database.execute(
            "INSERT INTO events (step, at, state, value, reason) VALUES (?, ?, ?, ?, ?)",
            (step, _now(), state.value, value, reason),
        )

    def entries(self, gateway: str | None = None) -> list[JournalEntry]:
        """All entries, the latest first; of one gateway where it is given."""
        condition, values = ("WHERE gateway = ?", (gateway,)) if gateway else ("", ())
        rows = self._database.execute(f"SELECT id FROM entries {condition} ORDER BY id DESC", values)  # noqa: S608 - fixed
        return [self.entry(id) for (id,) in rows.fetchall()]

    def entry(self, id: int) -> JournalEntry:
        """One entry with its steps as they stand.

        Raises:
            NotFoundError: there is no such entry.
        """
        row = self._database.execute(
            "SELECT id, gateway, account, at, action, undoes FROM entries WHERE id = ?", (id,)
        ).fetchone()
        if row is None:
            raise NotFoundError(
                "the journal has no entry {entry}",
                advice="`journal` lists them",
                code="no-such-entry",
                values={"entry": id},
                textcode="ENTRY_NOT_FOUND",
            )
        number, gateway, account, at, action, undoes = row
        return JournalEntry(
            number, gateway, account, datetime.fromisoformat(at), action, undoes, tuple(self._steps(id))
        )

    def _steps(self, entry: int) -> list[JournalStep]:
        rows = self._database.execute(
            """
            SELECT steps.id, patron, field, before, after, coalesce(state, 'planned'), value, coalesce(reason, '')
            FROM steps LEFT JOIN events
                ON events.id = (SELECT max(latest.id) FROM events AS latest WHERE latest.step = steps.id)
            WHERE entry = ? ORDER BY steps.id
            """,
            (entry,),
        )
        return [
            JournalStep(id, patron, field, before, after, StepState(state), value, reason)
            for id, patron, field, before, after, state, value, reason in rows
        ]

    def open_steps(self, gateway: str) -> list[JournalStep]:
        """The steps that were being sent when their run ended."""
        rows = self._database.execute(
            f"""
            SELECT entry FROM entries CROSS JOIN steps ON entries.id = entry JOIN events
                ON events.id = (SELECT max(latest.id) FROM events AS latest WHERE latest.step = steps.id)
            WHERE gateway = :gateway AND entries.id > {_SETTLED} AND state = 'sending' GROUP BY entry ORDER BY entry
            """,  # noqa: S608 - fixed
            {"gateway": gateway},
        )
        return [step for (entry,) in rows.fetchall() for step in self._steps(entry) if step.state is StepState.SENDING]

    def none_is_open(self, gateway: str) -> None:
        """Write down, now and then, that all entries so far are settled, so that nobody looks at them again.

        Only for whoever holds the gateway's lock and has begun nothing yet. Without this each event of the ILS would
        take longer than the one before.
        """
        self._database.execute(
            f"""
            INSERT INTO settled (gateway, entry) SELECT :gateway, max(id) FROM entries WHERE gateway = :gateway
            HAVING max(id) >= {_SETTLED} + {SETTLED_AT_ONCE}
            """,  # noqa: S608 - fixed
            {"gateway": gateway},
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
