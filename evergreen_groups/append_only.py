"""SQLite files in the state directory that only grow: what is written there is never changed or deleted."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from evergreen_groups.errors import DataError
from evergreen_groups.state import made


def opened(directory: Path, name: str, what: str, schema: str, tables: Iterable[str]) -> sqlite3.Connection:
    """Open ``NAME.sqlite3``, made where it isn't there, readable by its owner alone; every statement is a transaction.

    ``schema`` makes the ``tables``; ``what`` is what an error calls the file. What has been written is on disk.

    Raises:
        DataError: the file is something else, or broken.
        ConfigurationError: the directory can't be made.
    """
    path = made(directory) / f"{name}.sqlite3"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        database = sqlite3.connect(path, isolation_level=None, timeout=10)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("PRAGMA foreign_keys=ON")
        database.executescript(schema + "".join(_only_grows(table, what) for table in tables))
    except (sqlite3.DatabaseError, OSError) as error:
        raise DataError(f"the {what} {path} can't be used ({error}); move it away to begin a new one") from error
    return database


def _only_grows(table: str, what: str) -> str:
    return "".join(
        f"CREATE TRIGGER IF NOT EXISTS {table}_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, 'the {what} only grows'); END;\n"
        for verb in ("UPDATE", "DELETE")
    )
