"""Taking over what release 0.1 kept in files of its own: journal, history, audit trail, status, and mails that wait.

Once, whole and checked, in the transaction that makes the database; the files stay where they are.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email import message_from_bytes
from email.policy import SMTP
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select

from evergreen_groups.errors import StateError
from evergreen_groups.state import schema
from evergreen_groups.state.counters import set_counters
from evergreen_groups.state.engine import refuse_another_users_database
from evergreen_groups.state.own_files import directory_of, listed_directory, names_in, open_own

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

log = logging.getLogger("evergreen_groups.state")

_AT_ONCE = 1000
_SUPERSEDED = "another change of the same patron was sent before it was known what became of this one"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FormerFiles:
    """The files of release 0.1 in a state directory; ``spool`` is where mails waited, if not there."""

    directory: Path
    spool: Path | None = None

    def take_over(self, connection: Connection) -> None:
        """Take over what is there and hasn't been taken over before.

        Raises:
            StateError: a file is damaged, or somebody else's; nothing is taken over then.
        """
        for path, copy in self._there():
            place = f"{socket.gethostname()}:{path}"
            taken = schema.former_files
            if connection.execute(select(taken.c.place).where(taken.c.place == place)).first():
                continue
            with _damage_named(path):
                count = copy(connection, path)
            connection.execute(insert(taken).values(place=place, taken_over_at=datetime.now(UTC), row_count=count))
            log.info("%s of release 0.1 was taken over: %d rows", path, count)

    @property
    def are_there(self) -> bool:
        """Whether there are any."""
        return next(self._there(), None) is not None

    def _there(self) -> Iterator[tuple[Path, Callable[[Connection, Path], int]]]:
        copies = {
            self.directory / "journal.sqlite3": _journal,
            self.directory / "history.sqlite3": _history,
            self.directory / "events.sqlite3": _events,
            self.directory / "status.json": _status,
            self.spool or self.directory / "mail": _mails,
        }
        return ((path, copy) for path, copy in copies.items() if os.path.lexists(path))


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise StateError(
            "{path} of release 0.1 can't be taken over ({reason})",
            advice="repair it, or move it away to begin without it",
            code="former-file-broken",
            values={"path": path, "reason": getattr(error, "strerror", None) or _kind(error)},
        ) from error


def _kind(error: BaseException) -> str:
    """What went wrong, without anything that stands in the file."""
    return str(error) if isinstance(error, sqlite3.Error) else "it holds something it never wrote"


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """An SQLite file that is whole and this user's own."""
    if not refuse_another_users_database(path).st_size:
        raise sqlite3.DatabaseError("it is empty, which it never was")
    # Not "ro": that would leave SQLite's two files beside it behind.
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=10)) as database:
        database.row_factory = sqlite3.Row
        ((verdict,),) = database.execute("PRAGMA quick_check(1)").fetchall()
        if verdict != "ok":
            raise sqlite3.DatabaseError("it is damaged")
        yield database


def _insert(connection: Connection, table: Table, rows: Iterator[Row]) -> int:
    """Write rows, some at a time; gives how many, after a look at whether they are all there."""
    before = connection.execute(select(func.count()).select_from(table)).scalar_one()
    count, portion = 0, []
    for row in rows:
        portion.append(dict(row))
        if len(portion) == _AT_ONCE:
            connection.execute(insert(table), portion)
            count, portion = count + len(portion), []
    if portion:
        connection.execute(insert(table), portion)
    count += len(portion)
    if connection.execute(select(func.count()).select_from(table)).scalar_one() != before + count:
        raise ValueError("not all of it is there")
    return count


def _first_id(connection: Connection, table: Table) -> int:
    """What is added to ids, so that those of another machine's file stay free; nought where there is none yet."""
    return int(connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one())


def _moment(text: object) -> datetime:
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment


def _journal(connection: Connection, path: Path) -> int:
    changes, steps = schema.changes, schema.steps
    base = _first_id(connection, changes), _first_id(connection, steps)
    with _opened(path) as file:
        entries = file.execute("SELECT id, gateway, account, at, action, undoes,"
            " (SELECT count(*) FROM steps WHERE entry = entries.id) AS step_count FROM entries ORDER BY id")
        count = _insert(
            connection,
            changes,
            (
                {
                    **dict(row),
                    "id": row["id"] + base[0],
                    "at": _moment(row["at"]),
                    "undoes": None if row["undoes"] is None else row["undoes"] + base[0],
                }
                for row in entries
            ),
        )
        count += _insert(connection, steps, _steps(file, base, _open(connection)))
    set_counters(connection, changes, steps)
    return count


_STEPS = """
SELECT steps.id, entry, gateway, patron, field, before, after, coalesce(state, 'planned') AS state, value,
       coalesce(reason, '') AS reason, coalesce(events.at, entries.at) AS touched_at, {sending},
       state = 'sending' AND EXISTS (
           SELECT 1 FROM steps AS later JOIN entries AS its ON its.id = later.entry JOIN events AS last
               ON last.id = (SELECT max(id) FROM events AS one WHERE one.step = later.id)
           WHERE later.id > steps.id AND later.patron = steps.patron AND later.field = steps.field
               AND its.gateway = entries.gateway AND last.state = 'sending') AS superseded
FROM steps JOIN entries ON entries.id = entry
    LEFT JOIN events ON events.id = (SELECT max(latest.id) FROM events AS latest WHERE latest.step = steps.id)
    {sendings}
ORDER BY steps.id
"""
_OLDEST = {
    "sending": "NULL AS sent_at, NULL AS sent_until, NULL AS last_xact_id, NULL AS other_fields",
    "sendings": "",
}
_WITH_SENDINGS = {
    "sending": "sendings.at AS sent_at, sendings.until AS sent_until, last_xact_id, other_fields",
    "sendings": "LEFT JOIN sendings ON sendings.id = (SELECT max(id) FROM sendings AS one WHERE one.step = steps.id)",
}


def _open(connection: Connection) -> set[tuple[str, int, str]]:
    """What is open already: another machine's."""
    table = schema.steps
    found = select(table.c.gateway, table.c.patron, table.c.field).where(table.c.state == "sending")
    return {(row.gateway, row.patron, row.field) for row in connection.execute(found)}


def _steps(file: sqlite3.Connection, base: tuple[int, int], are_open: set[tuple[str, int, str]]) -> Iterator[Row]:
    kept = file.execute("SELECT 1 FROM sqlite_master WHERE name = 'sendings'").fetchone()
    for row in file.execute(_STEPS.format(**(_WITH_SENDINGS if kept else _OLDEST))):
        step = dict(row)
        superseded = step.pop("superseded") or (
            step["state"] == "sending" and (step["gateway"], step["patron"], step["field"]) in are_open
        )
        yield {
            **step,
            "id": step["id"] + base[1],
            "change": step.pop("entry") + base[0],
            "state": "failed" if superseded else step["state"],
            "reason": _SUPERSEDED if superseded else step["reason"],
            "touched_at": _moment(step["touched_at"]),
            "sent_at": None if step["sent_at"] is None else _moment(step["sent_at"]),
            "sent_until": None if step["sent_until"] is None else _moment(step["sent_until"]),
        }


def _history(connection: Connection, path: Path) -> int:
    runs = schema.runs
    base = _first_id(connection, runs)
    with _opened(path) as file:
        numbers = {row["id"]: _series(connection, row) for row in file.execute("SELECT * FROM series")}
        count = _insert(
            connection,
            runs,
            (
                {
                    "id": row["id"] + base,
                    "series": numbers[row["series"]],
                    "at": _moment(row["at"]),
                    "hidden_libraries": json.dumps(json.loads(row["unseen"])),
                }
                for row in file.execute("SELECT * FROM runs ORDER BY id")
            ),
        )
        for table, former in ((schema.run_totals, "totals"), (schema.run_groups, "listings")):
            count += _insert(
                connection,
                table,
                (
                    {
                        **dict(row),
                        "run": row["run"] + base,
                        "combined_fines": Decimal(row["combined_fines"]),
                        **({"certain": bool(row["certain"])} if former == "listings" else {}),
                    }
                    for row in file.execute(f"SELECT * FROM {former}")  # noqa: S608 - fixed
                ),
            )
    set_counters(connection, runs, schema.series)
    return count


def _series(connection: Connection, row: sqlite3.Row) -> int:
    mine = {"gateway": row["gateway"], "settings": row["settings"]}
    found = connection.execute(select(schema.series.c.id).filter_by(**mine)).scalar_one_or_none()
    if found is None:
        key = connection.execute(insert(schema.series).values(**mine)).inserted_primary_key
        found = None if key is None else key[0]
    return int(found or 0)


def _events(connection: Connection, path: Path) -> int:
    table = schema.events
    base = _first_id(connection, table)
    there = {
        (row.gateway, row.event, row.hook, row.patron)
        for row in connection.execute(
            select(table.c.gateway, table.c.event, table.c.hook, table.c.patron).where(table.c.done)
        )
    }
    with _opened(path) as file:
        rows = (
            {
                **dict(row),
                "id": row["id"] + base,
                "at": _moment(row["at"]),
                "done": bool(row["done"]),
                "blocked": None if row["blocked"] is None else bool(row["blocked"]),
                "recalculated": bool(row["recalculated"]),
            }
            for row in file.execute("SELECT * FROM events ORDER BY id")
            # Another machine may have worked on the same.
            if not row["done"] or (row["gateway"], row["event"], row["hook"], row["patron"]) not in there
        )
        count = _insert(connection, table, rows)
    set_counters(connection, table)
    return count


def _status(connection: Connection, path: Path) -> int:
    table = schema.run_status
    with directory_of(path) as parent, os.fdopen(open_own(path.name, os.O_RDONLY, parent), encoding="utf-8") as file:
        content = json.load(file)
    finished = _moment(content["finished"])
    former = connection.execute(select(table.c.finished).where(table.c.job == "report")).scalar_one_or_none()
    if former is not None and former >= finished:
        return 0
    connection.execute(delete(table).where(table.c.job == "report"))
    return _insert(
        connection,
        table,
        iter(
            [
                {
                    "job": "report",
                    "outcome": content["outcome"],
                    "started": _moment(content["started"]),
                    "finished": finished,
                    **{name: content[name] for name in ("exit_code", "error", "groups", "members")},
                }
            ]
        ),
    )


def _mails(connection: Connection, path: Path) -> int:
    def rows() -> Iterator[Row]:
        there = set(connection.execute(select(schema.mails.c.message_id)).scalars())
        with listed_directory(path) as opened:
            for name in sorted(name for name in names_in(opened) if name.endswith(".eml")):
                with os.fdopen(open_own(name, os.O_RDONLY, opened), "rb") as file:
                    content = file.read()
                message = message_from_bytes(content, policy=SMTP)
                if message["Message-ID"] is None or message["Date"] is None:
                    raise ValueError("not one of our mails")
                if str(message["Message-ID"]) not in there:
                    yield {
                        "message_id": str(message["Message-ID"]),
                        "written_at": message["Date"].datetime,
                        "content": content,
                    }

    return _insert(connection, schema.mails, rows())
