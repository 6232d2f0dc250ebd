"""The journal of changes to membership and penalties: written before anything is sent, and the outcome after.

An append-only SQLite file (WAL, readable by its owner alone). Nothing in it is ever changed or deleted, so what a
crash leaves open can be seen and recovered by the next run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from sqlite3 import Cursor, Error

from evergreen_groups.changes import clock
from evergreen_groups.changes.journal_step import JournalEntry, JournalStep, Sending, StepState
from evergreen_groups.errors import NotFoundError, StateError
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
CREATE TABLE IF NOT EXISTS left_open (
    id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, step INTEGER NOT NULL REFERENCES steps(id)
);
CREATE TABLE IF NOT EXISTS sendings (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL REFERENCES steps(id), at TEXT NOT NULL, until TEXT NOT NULL,
    last_xact_id TEXT, other_fields TEXT
);
CREATE INDEX IF NOT EXISTS entries_gateway ON entries(gateway);
CREATE INDEX IF NOT EXISTS settled_gateway ON settled(gateway, entry);
CREATE INDEX IF NOT EXISTS steps_entry ON steps(entry);
CREATE INDEX IF NOT EXISTS events_step ON events(step);
CREATE INDEX IF NOT EXISTS left_open_gateway ON left_open(gateway);
CREATE INDEX IF NOT EXISTS sendings_step ON sendings(step);
CREATE INDEX IF NOT EXISTS steps_patron ON steps(patron);
"""
_NAME = "journal"
_TABLES = ("entries", "steps", "events", "settled", "left_open", "sendings")
_LAST_CLOSED = "(SELECT coalesce(max(entry), 0) FROM settled WHERE settled.gateway = :gateway)"

# So many are looked through at once; a mark after each would make the table as long as the journal.
CLOSED_AT_ONCE = 500
"""After so many entries it is written down that they are closed."""


def journal_path(directory: Path) -> Path:
    """Where the journal lies in a state directory."""
    return directory / f"{_NAME}.sqlite3"


class Journal:
    """The journal file. One writer at a time: the lock of :mod:`evergreen_groups.state.directory` sees to that."""

    def __init__(self, directory: Path) -> None:
        self._database = opened(directory, _NAME, "journal", _SCHEMA, _TABLES, version=_VERSION)

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
        with self._transaction() as cursor:
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
        return ids

    def record_sending(self, step: int, sending: Sending) -> None:
        """Write down that a request of a step goes out now; it is on disk when this returns."""
        at = sending.at.isoformat(timespec="milliseconds")
        with self._transaction() as cursor:
            cursor.execute(
                "INSERT INTO sendings (step, at, until, last_xact_id, other_fields) VALUES (?, ?, ?, ?, ?)",
                (step, at, sending.until.isoformat(), sending.last_xact_id, sending.other_fields),
            )
            cursor.execute("INSERT INTO events (step, at, state) VALUES (?, ?, ?)", (step, at, StepState.SENDING.value))

    @contextmanager
    def _transaction(self) -> Iterator[Cursor]:
        """Write what the block writes as a whole, or nothing of it."""
        with closing(self._database.cursor()) as cursor:
            # A plan is down as a whole or not at all: of half a plan nobody could say later what the rest had been.
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                with suppress(Error, StateError):  # some errors have rolled it back already
                    cursor.execute("ROLLBACK")
                raise

    def record(self, step: int, state: StepState, *, value: int | None = None, reason: str = "") -> None:
        """Write down what became of a step; it is on disk when this returns."""
        self._database.execute(
            # Added, never changed: what was believed before a crash is what recovery has to go by.
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
        with self._database.errors_named():
            moment = _moment(at)
        return JournalEntry(number, gateway, account, moment, action, undoes, tuple(self._steps(id)))

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
        with self._database.errors_named():
            return [
                JournalStep(id, int(patron), field, int(old), _number(new), StepState(state), _number(value), reason)
                for id, patron, field, old, new, state, value, reason in rows
            ]

    def open_steps(self, gateway: str) -> list[JournalStep]:
        """The steps that were being sent and whose outcome isn't known yet, with their latest sendings."""
        rows = self._database.execute(
            f"""
            SELECT steps.id, entry FROM entries CROSS JOIN steps ON entries.id = entry JOIN events
                ON events.id = (SELECT max(latest.id) FROM events AS latest WHERE latest.step = steps.id)
            WHERE gateway = :gateway AND entries.id > {_LAST_CLOSED} AND state = 'sending'
            UNION
            SELECT steps.id, entry FROM left_open JOIN steps ON steps.id = left_open.step JOIN events
                ON events.id = (SELECT max(latest.id) FROM events AS latest WHERE latest.step = steps.id)
            WHERE left_open.gateway = :gateway AND state = 'sending'
            """,  # noqa: S608 - fixed
            {"gateway": gateway},
        ).fetchall()
        ids = {id for id, _entry in rows}
        steps = [step for entry in sorted({entry for _id, entry in rows}) for step in self._steps(entry)]
        return [replace(step, sending=self._sending(step.id)) for step in steps if step.id in ids]

    def _sending(self, step: int) -> Sending | None:
        row = self._database.execute(
            "SELECT at, until, last_xact_id, other_fields FROM sendings WHERE step = ? ORDER BY id DESC LIMIT 1",
            (step,),
        ).fetchone()
        if row is None:  # it was written by a release that didn't keep these
            return None
        at, until, last_xact_id, other_fields = row
        with self._database.errors_named():
            return Sending(_moment(at), _moment(until), last_xact_id, other_fields)

    def sent_since(self, step: JournalStep) -> bool:
        """Whether a later step has sent the same change of the same patron, and it was done."""
        (found,) = self._database.execute(
            """
            SELECT EXISTS (
                SELECT 1 FROM steps JOIN events
                    ON events.id = (SELECT max(latest.id) FROM events AS latest WHERE latest.step = steps.id)
                WHERE patron = ? AND field = ? AND after IS ? AND steps.id > ? AND state = 'done'
                    AND steps.id IN (SELECT step FROM sendings))
            """,
            (step.patron, step.field, step.after, step.id),
        ).fetchone()
        return bool(found)

    def last_touched(self, step: int) -> datetime:
        """When the latest event of a step was written down."""
        (at,) = self._database.execute("SELECT max(at) FROM events WHERE step = ?", (step,)).fetchone()
        with self._database.errors_named():
            return _moment(at)

    def none_is_open(self, gateway: str, but: Sequence[JournalStep] = ()) -> None:
        """Write down, now and then, that all entries so far are closed, so that nobody looks at them again.

        ``but`` are the steps that are open all the same; they are kept in a list of their own. Only for whoever holds
        the gateway's lock and has begun nothing yet. Without this each event of the ILS would take longer than the one
        before.
        """
        with self._transaction() as cursor:
            cursor.execute(
                f"""
                INSERT INTO settled (gateway, entry) SELECT :gateway, max(id) FROM entries WHERE gateway = :gateway
                HAVING max(id) >= {_LAST_CLOSED} + {CLOSED_AT_ONCE}
                """,  # noqa: S608 - fixed
                {"gateway": gateway},
            )
            if cursor.rowcount > 0:
                listed = {
                    step for (step,) in cursor.execute("SELECT step FROM left_open WHERE gateway = ?", (gateway,))
                }
                new = [(gateway, step.id) for step in but if step.id not in listed]
                cursor.executemany("INSERT INTO left_open (gateway, step) VALUES (?, ?)", new)


def _now() -> str:
    return clock.now().isoformat(timespec="milliseconds")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment


def _number(value: object) -> int | None:
    return None if value is None else int(str(value))
