"""Backups: one SQLite file with all that is kept, whatever engine keeps it, from which either can be filled.

A backup is taken while others read and write. It is also how everything moves from a file to a server, or back.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select

from evergreen_groups.errors import ConfigurationError, StateError
from evergreen_groups.message import system_reason
from evergreen_groups.state import refusals
from evergreen_groups.state.counters import set_counters
from evergreen_groups.state.engine import READS, sqlite_engine
from evergreen_groups.state.own_files import directory_of, sync
from evergreen_groups.state.schema import leases, metadata
from evergreen_groups.state.unfinished import unfinished_directory
from evergreen_groups.state.upgrade import make_tables, refuse_other_versions, version_of

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Connection, Engine

    from evergreen_groups.state.database import Database

_AT_ONCE = 100  # mails may be large
_WAIT = 10.0
_PASSING = (leases,)
"""Who holds what isn't part of a backup."""


def back_up(database: Database, target: Path) -> int:
    """Write everything into a new file, readable by its owner alone; says how many rows.

    Raises:
        ConfigurationError: there is such a file already, or it can't be written.
        StateError: the database can't be read.
    """
    with _new_file(target) as temporary:
        if database.path is not None:
            with database.reading() as connection:  # opened and of this release, before a copy is made of its pages
                rows = _count(connection)
            _copy_pages(database.path, temporary)
            return rows
        engine = sqlite_engine(temporary, _WAIT)
        try:
            with (
                database.reading() as source,
                refusals.errors_named(str(target)),
                engine.connect() as copy,
                copy.begin(),
            ):
                make_tables(copy)
                return _copy_rows(source, copy)
        finally:
            engine.dispose()
            _in_one_file(temporary)


def restore(database: Database, source: Path) -> int:
    """Fill a database that has nothing in it yet from a backup, all or nothing; says how many rows.

    A backup of an earlier release is brought up to date in a copy.

    Raises:
        ConfigurationError: the backup can't be read.
        StateError: it isn't one, or is damaged; or something is in the database already.
    """
    with _copy_of(source) as copy:
        engine = sqlite_engine(copy, _WAIT)
        try:
            with refusals.errors_named(str(source)):
                _refuse_another_file(engine, source)
                refuse_other_versions(engine, str(source))
            with refusals.errors_named(str(source)), engine.connect() as backup, backup.begin():
                _refuse_damage(backup, source)
                with database.writing() as connection:
                    _refuse_what_is_there(connection, database.where)
                    rows = _copy_rows(backup, connection)
                    set_counters(connection, *metadata.sorted_tables)
                    return rows
        finally:
            engine.dispose()


def _tables() -> list[Table]:
    return [table for table in metadata.sorted_tables if table not in _PASSING]


def _count(connection: Connection) -> int:
    return sum(connection.execute(select(func.count()).select_from(table)).scalar_one() for table in _tables())


def _copy_rows(source: Connection, target: Connection) -> int:
    """Copy every row; a change may undo a later one's number no more than an earlier one's, so ids are in order."""
    for table in _tables():
        rows = source.execution_options(yield_per=_AT_ONCE).execute(select(table).order_by(*table.primary_key.columns))
        for portion in rows.mappings().partitions():
            target.execute(insert(table), [dict(row) for row in portion])
    copied = _count(target)
    if copied != _count(source):
        raise StateError("not everything was copied", advice="try again", code="copy-incomplete")
    return copied


def _copy_pages(source: Path, target: Path) -> None:
    """SQLite's own backup: one state of the file, whatever is written meanwhile."""
    with (
        refusals.errors_named(str(source)),
        closing(sqlite3.connect(source, timeout=_WAIT)) as database,
        closing(sqlite3.connect(target)) as copy,
    ):
        database.backup(copy)
    _in_one_file(target)


def _in_one_file(path: Path) -> None:
    """Have nothing beside a backup when it is opened, wherever it is carried."""
    with refusals.errors_named(str(path)), closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=DELETE")


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """A file that gets its name when it is whole and on disk."""
    try:
        with unfinished_directory(target) as directory:
            if os.path.lexists(target):
                raise _there_already(target)
            temporary = directory / "backup.sqlite3"
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # so from the start
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.link(temporary, target)
            with directory_of(target) as parent:
                sync(parent)
    except FileExistsError:
        raise _there_already(target) from None
    except OSError as error:
        raise ConfigurationError(
            "cannot write {path}: {reason}",
            advice="name a directory that this user can write to, with room in it",
            code="backup-not-written",
            values={"path": target, "reason": system_reason(error)},
        ) from error


def _there_already(target: Path) -> ConfigurationError:
    return ConfigurationError(
        "{path} is there already", advice="name another file", code="backup-there", values={"path": target}
    )


@contextmanager
def _copy_of(source: Path) -> Iterator[Path]:
    """A copy of a backup to work on, so that nothing is changed in it; it is gone afterwards."""
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
            refusals.errors_named(str(source)),
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as backup,
            closing(sqlite3.connect(name)) as copy,
        ):
            try:
                backup.backup(copy)
            except sqlite3.DatabaseError as error:
                raise _no_backup(source) if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB else error from None
        yield Path(name)
    finally:
        for ending in ("", "-wal", "-shm", "-journal"):
            Path(name + ending).unlink(missing_ok=True)


def _refuse_another_file(engine: Engine, source: Path) -> None:
    """A file that is empty, or another program's, would be made a database of ours with nothing in it."""
    with engine.connect() as connection:
        if version_of(connection.execution_options(**{READS: True})) is None:
            raise _no_backup(source)


def _no_backup(source: Path) -> StateError:
    return StateError("{path} isn't a backup", advice="name a backup", code="not-a-backup", values={"path": source})


def _refuse_damage(backup: Connection, source: Path) -> None:
    if backup.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one() != "ok":
        raise StateError(
            "the backup {path} is damaged", advice="take an earlier one", code="backup-damaged", values={"path": source}
        )


def _refuse_what_is_there(connection: Connection, where: str) -> None:
    if _count(connection):
        raise StateError(
            "something is kept in {where} already",
            advice="restore into a database with nothing in it: move the file away, or make a new database",
            code="restore-not-empty",
            values={"where": where},
        )
