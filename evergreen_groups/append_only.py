"""SQLite files in the state directory that only grow: what is written there is never changed or deleted."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from evergreen_groups.errors import DataError
from evergreen_groups.state import made


def opened(directory: Path, name: str, what: str, schema: str, tables: Iterable[str]) -> sqlite3.Connection:
    """Open ``NAME.sqlite3``, made where it isn't there, readable by its owner alone; every statement is a transaction.

    ``schema`` makes the ``tables``; ``what`` is what an error calls the file. What has been written is on disk. Several
    threads and processes may do so at once.

    Raises:
        DataError: the file is something else, or broken, or can't be made.
        ConfigurationError: the directory can't be made.
    """
    path = made(directory) / f"{name}.sqlite3"
    script = schema + "".join(_only_grows(table, what) for table in tables)
    try:
        if not path.exists():
            _make(path, script)
        return _prepared(path, script)
    except (sqlite3.DatabaseError, OSError) as error:
        raise DataError(f"the {what} {path} can't be used ({error}); move it away to begin a new one") from error


def _make(path: Path, script: str) -> None:
    """Put a new file in place, whole, unless somebody else was faster.

    The file itself is never opened here: closing it would give up the locks that SQLite holds on it in other threads.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600 from the start
    os.close(handle)
    try:
        _prepared(Path(temporary), script).close()
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _prepared(path: Path, script: str) -> sqlite3.Connection:
    """Connect, and make what isn't there yet."""
    database = sqlite3.connect(path, isolation_level=None, timeout=10)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("PRAGMA foreign_keys=ON")
        database.executescript(script)
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _only_grows(table: str, what: str) -> str:
    return "".join(
        f"CREATE TRIGGER IF NOT EXISTS {table}_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, 'the {what} only grows'); END;\n"
        for verb in ("UPDATE", "DELETE")
    )
