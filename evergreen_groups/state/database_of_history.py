"""The SQLite file of the history: opened so that it is private, whole, and waited for within bounds."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from pathlib import Path

from evergreen_groups.errors import StateError
from evergreen_groups.state.connection import BESIDE, StateConnection, advice_for
from evergreen_groups.state.directory import make_state_directory
from evergreen_groups.state.own_files import directory_of, refuse_beside, refuse_what_is_not_own


def opened(
    directory: Path, name: str, what: str, schema: str, tables: Collection[str], *, version: int
) -> StateConnection:
    """Open ``NAME.sqlite3``, made where it isn't there, readable by its owner alone; every statement is a transaction.

    ``schema`` makes the ``tables``, in the format ``version``; ``what`` is what an error calls the file. What has been
    written is on disk. Several threads and processes may do so at once.

    Raises:
        StateError: the file is something else, or broken, or of a newer release, or can't be made.
        ConfigurationError: the directory can't be made.
    """
    path = make_state_directory(directory) / f"{name}.sqlite3"
    script = schema + "".join(_only_grows(table, what) for table in tables)
    values = {"what": what, "path": path}

    def prepare(database: sqlite3.Connection) -> None:
        database.executescript(script + f"PRAGMA user_version={version};")

    try:
        _make_whole(path, prepare)
        _refuse_what_is_not_own(path)
        # Seconds: writes here take milliseconds, so ten of them mean that something holds the file.
        database = sqlite3.connect(path, isolation_level=None, timeout=10, factory=StateConnection)
        database.what, database.path = what, path
        try:
            _set_up(database)
            found = _version(database)
            if not found:
                _refuse_what_has_no_tables(database, tables)
            if found <= version:
                prepare(database)
                return database
        except BaseException:
            database.close()
            raise
    except (sqlite3.DatabaseError, OSError) as error:
        raise StateError(
            "the {what} {path} can't be used ({reason})",
            advice=advice_for(error),
            code="database-unusable",
            values={**values, "reason": getattr(error, "strerror", None) or error},
        ) from error
    database.close()
    raise StateError(
        "the {what} {path} was written by a newer release, in its format {version}",
        advice="use that release",
        code="state-of-newer-release",
        values={**values, "version": found},
    )


def _make_whole(path: Path, prepare: Callable[[sqlite3.Connection], None]) -> None:
    """Put a new file in place, whole, unless there is one already or somebody else is faster.

    A file that is there is never opened here: closing it would give up the locks that SQLite holds on it in other
    threads.
    """
    if os.path.lexists(path):
        return
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600 from the start
    os.close(handle)
    try:
        with closing(sqlite3.connect(temporary, isolation_level=None, timeout=10)) as database:
            _set_up(database)
            prepare(database)
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _refuse_what_is_not_own(path: Path) -> None:
    if not refuse_another_users_database(path).st_size:  # it is made whole, so something has cut it off
        raise sqlite3.DatabaseError("it is empty, which it never is")


def refuse_another_users_database(path: Path) -> os.stat_result:
    """See that an SQLite file, and those that SQLite keeps beside it, are this user's own; nothing is opened.

    Raises:
        OSError: one of them is something else; it says what.
    """
    with directory_of(path) as parent:
        found = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
        refuse_what_is_not_own(found, parent)
        refuse_beside(path.name, BESIDE, parent)
    return found


def _refuse_what_has_no_tables(database: sqlite3.Connection, tables: Collection[str]) -> None:
    """A file without a version is one of the first release's, or not one of ours at all."""
    there = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not there & set(tables):
        raise sqlite3.DatabaseError("it is another database")


def _set_up(database: sqlite3.Connection) -> None:
    # WAL lets readers read while somebody writes. FULL: on disk when a statement returns, for what a run has published
    # must not be lost to a power cut, and a step is written down before its request is sent.
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("PRAGMA foreign_keys=ON")


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def _only_grows(table: str, what: str) -> str:
    return "".join(
        # In the file itself, so that other programs that open it are kept from it as well.
        f"CREATE TRIGGER IF NOT EXISTS {table}_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, 'the {what} only grows'); END;\n"
        for verb in ("UPDATE", "DELETE")
    )
