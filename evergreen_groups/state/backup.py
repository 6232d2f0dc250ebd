"""Backups of the state database, as one SQLite file whatever the engine.

A backup can be made while others read and write, and can fill either engine. So it is also the way to move from SQLite
to PostgreSQL or back.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING, Any, TextIO

from sqlalchemy import func, insert, select, text, union

from evergreen_groups.errors import ConfigurationError, StateError
from evergreen_groups.message import system_reason
from evergreen_groups.state.database import ensure_current_schema, make_tables, version_of
from evergreen_groups.state.engine import READS, RESTORE_ADVICE, database_errors, sqlite_engine
from evergreen_groups.state.files import open_parent, sync, unfinished_directory
from evergreen_groups.state.retention import StoredAmount, stored_amounts
from evergreen_groups.state.schema import (
    changes,
    events,
    leases,
    metadata,
    plans,
    runs,
    series,
    set_counters,
    steps,
)

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Connection, Engine

    from evergreen_groups.state.database import Database, Transactions

_BATCH_SIZE = 100  # rows per batch: few, because mails may be large
_WAIT = 10.0
_NOT_BACKED_UP = (leases,)
"""Tables to leave out of backups: who holds which lease now."""


def back_up(database: Database, target: Path) -> int:
    """Write all data to a new file with mode 0600, and return the number of rows.

    Raises:
        ConfigurationError: the file exists, or can't be written.
        StateError: the database can't be read.
    """
    with _new_file(target) as temporary:
        if database.path is not None:
            with database.reading() as connection:  # checks the schema version before its pages are copied
                rows = _count(connection)
            _copy_pages(database.path, temporary)
            return rows
        engine = sqlite_engine(temporary, _WAIT)
        try:
            with (
                database.reading() as source,
                database_errors(str(target)),
                engine.connect() as copy,
                copy.begin(),
            ):
                make_tables(copy)
                return _copy_rows(source, copy)
        finally:
            engine.dispose()
            _disable_wal(temporary)


def restore(database: Database, source: Path) -> int:
    """Fill an empty database from a backup, all or nothing, and return the number of rows.

    Upgrade the backup of an earlier release in a copy.

    Raises:
        ConfigurationError: the backup can't be read.
        StateError: the file isn't a backup, or is damaged, or the database isn't empty.
    """
    with _copy_of(source) as copy:
        engine = sqlite_engine(copy, _WAIT)
        try:
            with database_errors(str(source)):
                _require_schema(engine, source)
                ensure_current_schema(engine, str(source))
            with database_errors(str(source)), engine.connect() as backup, backup.begin():
                _refuse_damage(backup, source)
                with database.writing() as connection:
                    _require_empty(connection, database.where)
                    rows = _copy_rows(backup, connection)
                    set_counters(connection, *metadata.sorted_tables)
                    return rows
        finally:
            engine.dispose()


def _tables() -> list[Table]:
    return [table for table in metadata.sorted_tables if table not in _NOT_BACKED_UP]


def _count(connection: Connection) -> int:
    return sum(connection.execute(select(func.count()).select_from(table)).scalar_one() for table in _tables())


def _copy_rows(source: Connection, target: Connection) -> int:
    """Copy every row. Order by id, because a change refers to the earlier change that it undoes."""
    for table in _tables():
        rows = source.execution_options(yield_per=_BATCH_SIZE).execute(
            select(table).order_by(*table.primary_key.columns)
        )
        for batch in rows.mappings().partitions():
            target.execute(insert(table), [dict(row) for row in batch])
    copied = _count(target)
    if copied != _count(source):
        raise StateError("not everything was copied", advice="try again", code="copy-incomplete")
    return copied


def _copy_pages(source: Path, target: Path) -> None:
    """Copy a file with SQLite's backup API, which gets a consistent state even while others write."""
    with (
        database_errors(str(source)),
        closing(sqlite3.connect(source, timeout=_WAIT)) as database,
        closing(sqlite3.connect(target)) as copy,
    ):
        database.backup(copy)
    _disable_wal(target)


def _disable_wal(path: Path) -> None:
    """Turn off WAL, so that the backup is a single file wherever it is copied."""
    with database_errors(str(path)), closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=DELETE")


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """Yield a path to write to. Rename the file to ``target`` once it is complete and on disk."""
    try:
        with unfinished_directory(target) as directory:
            if os.path.lexists(target):
                raise _exists_already(target)
            temporary = directory / "backup.sqlite3"
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # 0600 from the start
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.link(temporary, target)
            with open_parent(target) as parent:
                sync(parent)
    except FileExistsError:
        raise _exists_already(target) from None
    except OSError as error:
        raise ConfigurationError(
            "cannot write {path}: {reason}",
            advice="name a directory that this user can write to, with room in it",
            code="backup-not-written",
            values={"path": target, "reason": system_reason(error)},
        ) from error


def _exists_already(target: Path) -> ConfigurationError:
    return ConfigurationError(
        "{path} is there already", advice="name another file", code="backup-there", values={"path": target}
    )


@contextmanager
def _copy_of(source: Path) -> Iterator[Path]:
    """Yield a temporary copy of a backup, so that an upgrade doesn't change the backup."""
    handle, name = mkstemp(prefix="evergreen-groups-")
    os.close(handle)
    try:
        if not source.is_file():
            raise ConfigurationError(
                "cannot read {path}: it isn't a file",
                advice="name a backup",
                code="backup-not-read",
                values={"path": source},
            )
        with (
            database_errors(str(source)),
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as backup,
            closing(sqlite3.connect(name)) as copy,
        ):
            try:
                backup.backup(copy)
            except sqlite3.DatabaseError as error:
                raise _not_a_backup(source) if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB else error from None
        yield Path(name)
    finally:
        for ending in ("", "-wal", "-shm", "-journal"):
            Path(name + ending).unlink(missing_ok=True)


def _require_schema(engine: Engine, source: Path) -> None:
    """Refuse a file without a schema version, which the upgrade would turn into an empty database."""
    with engine.connect() as connection:
        if version_of(connection.execution_options(**{READS: True})) is None:
            raise _not_a_backup(source)


def _not_a_backup(source: Path) -> StateError:
    return StateError("{path} isn't a backup", advice="name a backup", code="not-a-backup", values={"path": source})


def _refuse_damage(backup: Connection, source: Path) -> None:
    if backup.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one() != "ok":
        raise StateError(
            "the backup {path} is damaged", advice="take an earlier one", code="backup-damaged", values={"path": source}
        )


def _require_empty(connection: Connection, where: str) -> None:
    if _count(connection):
        raise StateError(
            "something is kept in {where} already",
            advice="restore into a database with nothing in it: move the file away, or make a new database",
            code="restore-not-empty",
            values={"where": where},
        )


_USED_WITHIN = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Examination:
    """The result of examining an intact database.

    ``size`` is in bytes. ``addresses`` are the gateways that it was used for in the last 30 days.
    """

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
    """Check a database for damage without changing it. ``thoroughly`` checks every index too.

    Raises:
        StateError: the database is damaged or inconsistent, or can't be used.
    """
    with database.reading() as connection:
        if connection.dialect.name == "sqlite":
            _check_file(connection, database.where, "integrity_check" if thoroughly else "quick_check")
        else:
            _read_everything(connection)
        open_steps = connection.execute(
            select(func.count()).select_from(steps).where(steps.c.state == "sending")
        ).scalar_one()
        amounts = tuple(stored_amounts(connection))
        return Examination(database.where, amounts, int(open_steps), _size(connection), _addresses(connection))


def _addresses(connection: Connection) -> frozenset[str]:
    since = datetime.now(UTC) - _USED_WITHIN
    queries = [select(table.c.gateway).where(table.c.at >= since) for table in (changes, plans, events)]
    queries.append(select(series.c.gateway).join(runs, runs.c.series == series.c.id).where(runs.c.at >= since))
    return frozenset(connection.execute(union(*queries)).scalars())


def _check_file(connection: Connection, where: str, check: str) -> None:
    verdict = connection.execute(text(f"PRAGMA {check}(1)")).scalar_one()
    if verdict != "ok":
        raise _damaged(where)
    if connection.execute(text("PRAGMA foreign_key_check")).first() is not None:
        raise _damaged(where)


def _damaged(where: str) -> StateError:
    return StateError(
        "the database {where} is damaged",
        advice=RESTORE_ADVICE,
        code="database-not-whole",
        values={"where": where},
    )


def _read_everything(connection: Connection) -> None:
    """Make the server read each row. Reading a damaged page fails."""
    for table in metadata.sorted_tables:
        for _row in connection.execution_options(yield_per=100).execute(table.select()):
            pass


def _size(connection: Connection) -> int:
    if connection.dialect.name == "sqlite":
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        return int(pages) * int(connection.execute(text("PRAGMA page_size")).scalar_one())
    sizes = (
        connection.execute(text("SELECT pg_total_relation_size(to_regclass(:name))"), {"name": table.name}).scalar_one()
        for table in metadata.sorted_tables
    )
    return sum(int(size or 0) for size in sizes)


VERSION = 1
"""The version of the export format."""


def export(transactions: Transactions, stream: TextIO) -> int:
    """Write one consistent state as a line of JSON per row, ``{"table": …, …}``, and return the number of rows.

    The first line is ``{"version": 1}``. Times are ISO 8601 in UTC, amounts are strings, and mails are in base64.

    Raises:
        StateError: the database can't be read.
        OSError: the stream can't be written.
    """
    count = 0
    print(json.dumps({"version": VERSION}), file=stream)
    # Print outside the reading block, so that an error of the stream isn't reported as the database's.
    with closing(_rows(transactions)) as rows:
        for row in rows:
            print(json.dumps(row), file=stream)
            count += 1
    return count


def _rows(transactions: Transactions) -> Generator[dict[str, Any]]:
    """Yield each row, with the name of its table."""
    with transactions.reading() as connection:
        for table in metadata.sorted_tables:
            if table is leases:
                continue
            order = table.primary_key.columns
            found = connection.execution_options(yield_per=_BATCH_SIZE).execute(select(table).order_by(*order))
            for row in found.mappings():
                yield {"table": table.name, **{name: _plain(value) for name, value in row.items()}}


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case Decimal():
            return str(value)
        case bytes() | memoryview():
            return base64.b64encode(bytes(value)).decode("ascii")
        case _:
            return value
