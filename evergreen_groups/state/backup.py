"""Backups of the state database, as one SQLite file whatever the engine.

A backup can be made while others read and write, and can fill either engine. So it is also the way to move from SQLite
to PostgreSQL or back.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TextIO

from sqlalchemy import func, insert, select, text, tuple_, union, update

from evergreen_groups.errors import ConfigurationError, StateError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.state.engine import damaged, database_errors, transaction, unlocked_uri, unshared_engine
from evergreen_groups.state.files import CHOOSE_ANOTHER, atomic_write, cannot_write, make_own_directory, write_advice
from evergreen_groups.state.retention import StoredAmount, stored_amounts
from evergreen_groups.state.schema import changes, events, leases, mails, metadata, plans, runs, series, steps
from evergreen_groups.state.upgrade import NEW_DATABASE, make_tables, upgrade_schema, version_of

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

    from evergreen_groups.state.database import Database, Transactions

BACKUPS = "backups"
"""The directory of daily backups, in the state directory."""
_BATCH_SIZE = 100  # rows per batch: few, because mails may be large
_WAIT = 10.0
_MAGIC = b"SQLite format 3\0"  # how each database file begins
_EARLIER = Message("restore an earlier one")
_NAME_A_BACKUP = Message("name a file that `evergreen-groups state backup` wrote")


_DAILY = "state-????-??-??.sqlite3"


def daily_backups(state_directory: Path) -> list[Path]:
    """Return the daily backups, oldest first."""
    return sorted((state_directory / BACKUPS).glob(_DAILY))


def back_up_today(database: Database, state_directory: Path, number: int) -> tuple[Path, int]:
    """Write today's backup, also if there is one, and delete all but the latest ``number``.

    Return the file and its number of rows.
    """
    directory = make_own_directory(state_directory / BACKUPS)
    target = directory / f"state-{date.today()}.sqlite3"  # noqa: DTZ011 - for readers on this machine
    rows = back_up(database, target, new=False)
    for old in daily_backups(state_directory)[:-number]:
        old.unlink()
    return target, rows


def back_up(database: Database, target: Path, *, new: bool = True) -> int:
    """Write all data to a file with mode 0600, by default a new one, and return the number of rows."""
    try:
        with atomic_write(target, new=new) as stream, database_errors(str(database.path or target)):
            unfinished = Path(stream.name)
            with database.reading() as source:  # checks the schema version before pages are copied
                if database.path is None:
                    with unshared_engine(unfinished) as engine, engine.connect() as copy, transaction(copy):
                        make_tables(copy)
                        return _copy_rows(source, copy)
                rows = _count(source)
            _copy_file(database.path, unfinished)
            return rows
    except FileExistsError:
        raise ConfigurationError(
            "{path} already exists", advice=CHOOSE_ANOTHER, code="backup-there", values={"path": target}
        ) from None
    except OSError as error:
        raise cannot_write(target, system_reason(error), write_advice(error), code="backup-not-written") from error


def restore(database: Database, source: Path) -> int:
    """Fill an empty database from a backup, all or nothing, and return the number of rows.

    Upgrade the backup of an earlier release in a copy. Hold queued mails: some may have been sent after the backup.
    Raises ConfigurationError if the backup can't be read, StateError if it isn't whole or the database isn't empty.
    """
    if not source.is_file():
        values = {"path": source}
        raise ConfigurationError(
            "{path} doesn't exist, or isn't a file", advice=_NAME_A_BACKUP, code="backup-not-read", values=values
        )
    with TemporaryDirectory(prefix="evergreen-groups-") as directory, database_errors(str(source)):
        copy = Path(directory) / "copy"
        copy.touch(mode=0o600)
        with source.open("rb") as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                raise _not_a_backup(source)
        _copy_file(source, copy, verify=True)
        with unshared_engine(copy) as engine:
            with engine.connect() as connection, transaction(connection, reads=True):
                if version_of(connection) is None:  # the upgrade would turn it into an empty database
                    raise _not_a_backup(source)
            upgrade_schema(engine, str(source))
            with engine.connect() as backup, transaction(backup, reads=True), database.writing() as connection:
                if _count(connection):
                    to = {"where": database.where}
                    raise StateError(
                        "the database {where} isn't empty", advice=NEW_DATABASE, code="restore-not-empty", values=to
                    )
                rows = _copy_rows(backup, connection)
                _set_counters(connection)
                to_send = mails.c.held_since.is_(None)
                connection.execute(update(mails).where(to_send).values(held_since=database.now()))
                return rows


def _set_counters(connection: Connection) -> None:
    """Continue numbering after the highest number, for PostgreSQL. SQLite does this automatically."""
    for table in _tables() if connection.dialect.name == "postgresql" else ():
        column = table.autoincrement_column  # None if the application sets the key
        if column is not None:
            highest = select(func.max(column)).scalar_subquery()
            sequence = func.pg_get_serial_sequence(table.name, column.name)
            # In an empty table the next number is 1.
            connection.execute(select(func.setval(sequence, func.coalesce(highest, 1), highest.is_not(None))))


def _not_a_backup(source: Path) -> StateError:
    return StateError("{path} isn't a backup", advice=_NAME_A_BACKUP, code="not-a-backup", values={"path": source})


def _tables() -> list[Table]:
    """Return the tables to back up: all but that of who holds which lease now."""
    return [table for table in metadata.sorted_tables if table is not leases]


def _count(connection: Connection) -> int:
    return sum(connection.execute(select(func.count()).select_from(table)).scalar_one() for table in _tables())


def _batches(connection: Connection) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    """Read all tables in order of their keys, because a change refers to the earlier change that it undoes.

    Each batch is a query of its own, so that the time limit for a server's answer applies to each.
    """
    for table in _tables():
        key = table.primary_key.columns
        first = query = select(table).order_by(*key).limit(_BATCH_SIZE)
        while batch := [dict(row) for row in connection.execute(query).mappings()]:
            yield table, batch
            query = first.where(tuple_(*key) > tuple(batch[-1][column.name] for column in key))


def _copy_rows(source: Connection, target: Connection) -> int:
    copied = 0
    for table, batch in _batches(source):
        target.execute(insert(table), batch)
        copied += len(batch)
    return copied


def _copy_file(source: Path, target: Path, *, verify: bool = False) -> None:
    """Copy a SQLite file, in a consistent state even while others write. ``target`` may exist if it is empty.

    ``verify`` refuses a file with any damage.
    """
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=_WAIT, isolation_level=None)) as database:
        if verify and database.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            values = {"path": source}
            raise StateError("the backup {path} is damaged", advice=_EARLIER, code="backup-damaged", values=values)
        # Unlike SQLite's backup API, this leaves a single file, without a write-ahead log.
        database.execute("VACUUM INTO ?", (unlocked_uri(target),))


_USED_WITHIN = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Examination:
    """An intact database. ``size`` is in bytes, ``addresses`` are the gateways it was used for in the last 30 days."""

    where: str
    amounts: tuple[StoredAmount, ...]
    open_steps: int
    size: int
    addresses: frozenset[str] = frozenset()

    @property
    def since(self) -> datetime | None:
        """The time of the oldest record, None in an empty database."""
        return min((amount.since for amount in self.amounts if amount.since is not None), default=None)


def examine(database: Database, *, thoroughly: bool = False) -> Examination:
    """Check a database for damage without changing it. ``thoroughly`` checks every index too."""
    since = datetime.now(UTC) - _USED_WITHIN
    used = [select(table.c.gateway).where(table.c.at >= since) for table in (changes, plans, events)]
    used.append(select(series.c.gateway).join(runs, runs.c.series == series.c.id).where(runs.c.at >= since))
    are_open = select(func.count()).select_from(steps).where(steps.c.state == "sending")
    with database.reading() as connection:
        if connection.dialect.name == "sqlite":
            checks = ("integrity_check" if thoroughly else "quick_check", "foreign_key_check")
            first, broken = (connection.execute(text(f"PRAGMA {check}")).scalar() for check in checks)
            if first != "ok" or broken is not None:
                raise damaged(database.where, code="database-not-whole")
            pages = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
            size = int(connection.execute(text(pages)).scalar_one())
        else:
            for _batch in _batches(connection):
                pass  # reading a damaged page fails
            sizes = [func.pg_total_relation_size(func.to_regclass(table.name)) for table in metadata.sorted_tables]
            size = sum(int(one or 0) for one in connection.execute(select(*sizes)).one())
        return Examination(
            database.where,
            tuple(stored_amounts(connection)),
            int(connection.execute(are_open).scalar_one()),
            size,
            frozenset(connection.execute(union(*used)).scalars()),
        )


VERSION = 1
"""The version of the export format."""


def export(transactions: Transactions, stream: TextIO) -> int:
    """Write one consistent state as a line of JSON per row, ``{"table": …, …}``, and return the number of rows.

    The first line is ``{"version": 1}``. Times are ISO 8601 in UTC, amounts are strings, and mails are in base64.
    Raises StateError, or the stream's OSError.
    """

    def documents() -> Generator[dict[str, Any]]:
        with transactions.reading() as connection:
            if connection.dialect.name == "postgresql":  # the stream's reader sets the pace
                connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            for table, batch in _batches(connection):
                yield from ({"table": table.name, **row} for row in batch)

    count = 0
    print(json.dumps({"version": VERSION}), file=stream)
    # Print outside the reading block, so that an error of the stream isn't reported as the database's.
    with closing(documents()) as rows:
        for row in rows:
            print(json.dumps(row, default=_plain), file=stream)
            count += 1
    return count


def _plain(value: Any) -> str:
    if isinstance(value, date):  # or a datetime
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else base64.b64encode(bytes(value)).decode("ascii")
