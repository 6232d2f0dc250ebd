"""A connection to one of our SQLite files, which says what went wrong as an error of ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from evergreen_groups.errors import EvergreenGroupsError, StateError

ANEW = "move it away to begin a new one"
BESIDE = ("-wal", "-shm", "-journal")
"""What the names of the files that SQLite keeps beside another end with. It writes into what it finds there, deletes
it, and waits for ever for a pipe."""
_ADVICE = {
    sqlite3.SQLITE_FULL: "make room on the disk",
    sqlite3.SQLITE_IOERR: "make room on the disk, or see whether it is failing",
    sqlite3.SQLITE_BUSY: "another process holds it: end that (fuser names it), or run again later",
    sqlite3.SQLITE_LOCKED: "another process holds it: end that (fuser names it), or run again later",
    sqlite3.SQLITE_READONLY: "allow this user to write it and in its directory",
    sqlite3.SQLITE_CANTOPEN: "allow this user to write it and in its directory",
}
_PRIMARY_CODE = 0xFF


def advice_for(error: BaseException) -> str:
    """What to do about an error of SQLite's or the system's."""
    return _ADVICE.get(getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE, ANEW)


class StateConnection(sqlite3.Connection):
    """A connection whose statements, and what is read of their rows, raise StateError in place of SQLite's errors."""

    what = "file"
    path: object = ""

    def cursor(self, *_factory: Any) -> sqlite3.Cursor:  # type: ignore[override]  # no other factory is taken
        """A cursor that does so."""
        return super().cursor(_StateCursor)

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """Execute a statement."""
        return self.cursor().execute(*arguments)

    def executescript(self, script: str, /) -> sqlite3.Cursor:
        """Execute several statements."""
        with self.errors_named():
            return super().executescript(script)

    @contextmanager
    def errors_named(self) -> Iterator[None]:
        """Turn what goes wrong in the block, where rows are read as well, into a StateError that says what to do."""
        try:
            yield
        except EvergreenGroupsError:
            raise
        except sqlite3.Error as error:
            raise StateError(
                "the {what} {path} can't be used ({reason})",
                advice=advice_for(error),
                code="database-unusable",
                values={"what": self.what, "path": self.path, "reason": error},
            ) from error
        except (ValueError, TypeError, ArithmeticError) as error:
            raise StateError(
                "the {what} {path} holds something it never wrote",
                advice=ANEW,
                code="database-broken",
                values={"what": self.what, "path": self.path},
            ) from error


class _StateCursor(sqlite3.Cursor):
    connection: StateConnection

    def execute(self, *arguments: Any) -> Self:
        with self.connection.errors_named():
            return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> Self:
        with self.connection.errors_named():
            return super().executemany(*arguments)

    def fetchone(self) -> Any:
        with self.connection.errors_named():
            return super().fetchone()

    def fetchall(self) -> list[Any]:
        with self.connection.errors_named():
            return super().fetchall()

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except sqlite3.Error as error:
            with self.connection.errors_named():
                raise error from None
