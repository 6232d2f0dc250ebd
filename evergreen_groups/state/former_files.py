"""Taking over what release 0.1 kept in files of its own: journal, history, audit trail, status, and mails that wait.

Once, whole and checked, in the transaction that makes the database; the files stay where they are.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select

from evergreen_groups.state import schema
from evergreen_groups.state.counters import set_counters
from evergreen_groups.state.former_file import Row, damage_named, first_id, insert_rows, moment_of, opened
from evergreen_groups.state.former_journal import take_over_journal
from evergreen_groups.state.own_files import directory_of, listed_directory, names_in, open_own
from evergreen_groups.state.run_status import RunOutcome

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

log = logging.getLogger("evergreen_groups.state")

_LARGEST = 2**31


@dataclass(frozen=True, slots=True)
class FormerFiles:
    """The files of release 0.1 in a state directory (None: there are none); ``spool`` is where mails waited, if not
    there."""

    directory: Path | None
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
            with damage_named(path):
                count = copy(connection, path)
            connection.execute(insert(taken).values(place=place, taken_over_at=datetime.now(UTC), row_count=count))
            log.info("%s of release 0.1 was taken over: %d rows", path, count)

    @property
    def are_there(self) -> bool:
        """Whether there are any."""
        return next(self._there(), None) is not None

    @property
    def with_patrons(self) -> list[Path]:
        """Those that may have something about patrons in them."""
        return [path for path, copy in self._there() if copy is not _status]

    def _there(self) -> Iterator[tuple[Path, Callable[[Connection, Path], int]]]:
        if self.directory is None:
            return iter(())
        copies = {
            self.directory / "journal.sqlite3": take_over_journal,
            self.directory / "history.sqlite3": _history,
            self.directory / "events.sqlite3": _events,
            self.directory / "status.json": _status,
            self.spool or self.directory / "mail": _mails,
        }
        return ((path, copy) for path, copy in copies.items() if os.path.lexists(path))


NO_FORMER_FILES = FormerFiles(None)


def _history(connection: Connection, path: Path) -> int:
    runs = schema.runs
    base = first_id(connection, runs)
    with opened(path) as file:
        numbers = {row["id"]: _series(connection, row) for row in file.execute("SELECT * FROM series")}
        count = insert_rows(
            connection,
            runs,
            (
                {
                    "id": row["id"] + base,
                    "series": numbers[row["series"]],
                    "at": moment_of(row["at"]),
                    "hidden_libraries": json.dumps(json.loads(row["unseen"])),
                }
                for row in file.execute("SELECT * FROM runs ORDER BY id")
            ),
        )
        for table, former in ((schema.run_totals, "totals"), (schema.run_groups, "listings")):
            count += insert_rows(
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
    base = first_id(connection, table)
    there = {
        (row.gateway, row.event, row.hook, row.patron)
        for row in connection.execute(
            select(table.c.gateway, table.c.event, table.c.hook, table.c.patron).where(table.c.done)
        )
    }
    with opened(path) as file:
        rows = (
            {
                **dict(row),
                "id": row["id"] + base,
                "at": moment_of(row["at"]),
                "done": bool(row["done"]),
                "blocked": None if row["blocked"] is None else bool(row["blocked"]),
                "recalculated": bool(row["recalculated"]),
            }
            for row in file.execute("SELECT * FROM events ORDER BY id")
            # Another machine may have worked on the same.
            if not row["done"] or (row["gateway"], row["event"], row["hook"], row["patron"]) not in there
        )
        count = insert_rows(connection, table, rows)
    set_counters(connection, table)
    return count


def _status(connection: Connection, path: Path) -> int:
    """How the last run ended; where the file is damaged nothing is lost, for the next run writes that anew."""
    table = schema.run_status
    with directory_of(path) as parent, os.fdopen(open_own(path.name, os.O_RDONLY, parent), "rb") as file:
        content = file.read()
    try:
        row = _status_row(json.loads(content))
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        log.warning("%s of release 0.1 is damaged and is left out", path)
        return 0
    former = connection.execute(select(table.c.finished).where(table.c.job == row["job"])).scalar_one_or_none()
    if former is not None and former >= row["finished"]:
        return 0
    connection.execute(delete(table).where(table.c.job == row["job"]))
    return insert_rows(connection, table, iter([row]))


def _status_row(content: Any) -> Row:
    """The row for a status file's content; raises what anything else in it leads to."""
    row = {
        "job": "report",
        "outcome": RunOutcome(content["outcome"]).value,
        "started": moment_of(content["started"]).astimezone(UTC),
        "finished": moment_of(content["finished"]).astimezone(UTC),
        "exit_code": content["exit_code"],
        "error": None if content["error"] is None else str(content["error"]),
        "groups": content["groups"],
        "members": content["members"],
    }
    numbers = [row["exit_code"], *(row[name] for name in ("groups", "members") if row[name] is not None)]
    if not all(type(number) is int and 0 <= number < _LARGEST for number in numbers):
        raise TypeError("not a whole number")
    return row


def _mails(connection: Connection, path: Path) -> int:
    from email import message_from_bytes  # takes long to import, for once in an installation's life
    from email.policy import SMTP

    def rows() -> Iterator[Row]:
        there = set(connection.execute(select(schema.mails.c.message_id)).scalars())
        with listed_directory(path) as opened:
            for name in sorted(name for name in names_in(opened) if name.endswith(".eml")):
                with os.fdopen(open_own(name, os.O_RDONLY, opened), "rb") as file:
                    message = message_from_bytes(file.read(), policy=SMTP)
                if message["Message-ID"] is None or message["Date"] is None:
                    raise ValueError("not one of our mails")
                if str(message["Message-ID"]) not in there:
                    yield {
                        "message_id": str(message["Message-ID"]),
                        "written_at": message["Date"].datetime,
                        "content": message.as_bytes(policy=SMTP),  # it is sent as it stands there
                    }

    return insert_rows(connection, schema.mails, rows())
