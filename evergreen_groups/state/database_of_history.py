"""The SQLite file of the history: opened so that it is private, whole, and waited for within bounds."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evergreen_groups.errors import HistoryError
from evergreen_groups.state.own_files import directory_of, open_own, refuse_beside

_VERSION = 1
_SCHEMA = (
    "CREATE TABLE series (id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, settings TEXT NOT NULL,"
    " UNIQUE (gateway, settings))",
    "CREATE TABLE runs (id INTEGER PRIMARY KEY, series INTEGER NOT NULL REFERENCES series(id), at TEXT NOT NULL,"
    " unseen TEXT NOT NULL)",
    "CREATE INDEX runs_of_series ON runs(series, id)",
    # The org unit '' stands for all of them together.
    "CREATE TABLE totals (run INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE, org_unit TEXT NOT NULL,"
    " group_count INTEGER NOT NULL, member_count INTEGER NOT NULL, combined_fines TEXT NOT NULL,"
    " PRIMARY KEY (run, org_unit)) WITHOUT ROWID",
    "CREATE TABLE listings (run INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE, number INTEGER NOT NULL,"
    " combined_fines TEXT NOT NULL, certain INTEGER NOT NULL, member_count INTEGER NOT NULL, members TEXT NOT NULL,"
    " library TEXT NOT NULL, libraries TEXT NOT NULL, PRIMARY KEY (run, number)) WITHOUT ROWID",
)
_ADVICE = {
    sqlite3.SQLITE_FULL: "make room on the disk",
    sqlite3.SQLITE_IOERR: "make room on the disk, or see whether it is failing",
    sqlite3.SQLITE_CORRUPT: "it is damaged: move it away to begin a new one",
    sqlite3.SQLITE_NOTADB: "it is damaged: move it away to begin a new one",
    sqlite3.SQLITE_READONLY: "allow this user to write it and in its directory",
    sqlite3.SQLITE_CANTOPEN: "allow this user to write it and in its directory",
}
_ANEW = "move it away to begin a new one"
_BESIDE = ("-wal", "-shm", "-journal")
_PRIMARY_CODE = 0xFF


class HistoryFile:
    """The open file at ``path``; made, for its owner alone, where it isn't there yet.

    ``wait`` is how long (seconds) it waits for another process that is writing.

    Raises:
        HistoryError: it is damaged, isn't a history, or can't be opened.
    """

    def __init__(self, path: Path, wait: float) -> None:
        self._path = path
        self._wait = wait
        self._make_private()
        with self.errors_named():
            self.database = sqlite3.connect(path, isolation_level=None, timeout=wait)
        try:
            with self.errors_named():
                self._prepare()
        except BaseException:
            self.database.close()
            raise

    def _make_private(self) -> None:
        """SQLite gives the files beside it the same mode."""
        try:
            with directory_of(self._path) as parent:
                refuse_beside(self._path.name, _BESIDE, parent)
                descriptor = open_own(self._path.name, os.O_CREAT | os.O_RDWR, parent)
            try:
                # A file that was there before has the mode that somebody gave it; it names patrons.
                os.fchmod(descriptor, 0o600)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise HistoryError(
                "the history {path} can't be opened: {reason}",
                advice=_ADVICE[sqlite3.SQLITE_CANTOPEN],
                code="history-not-opened",
                values={"path": self._path, "reason": error.strerror},
            ) from error

    def _prepare(self) -> None:
        _set_up(self.database)
        if _version(self.database) == 0:
            with self.transaction():
                if _version(self.database) == 0:  # nobody else made the tables meanwhile
                    self._make_tables()
        version = _version(self.database)
        if version != _VERSION:
            raise HistoryError(
                "the history {path} was written by another release, in its format {version}",
                advice="use that release, or move it away to begin a new one",
                code="history-of-another-release",
                values={"path": self._path, "version": version},
            )

    def _make_tables(self) -> None:
        # Some other program's database is left as it is.
        (others,) = self.database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if others:
            raise HistoryError(
                "{path} isn't a history", advice=_ANEW, code="not-a-history", values={"path": self._path}
            )
        for statement in _SCHEMA:
            self.database.execute(statement)
        self.database.execute(f"PRAGMA user_version={_VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write what the block writes as a whole, or nothing of it."""
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # some errors have rolled it back already
                self.database.execute("ROLLBACK")
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let the block read one state of the file, whatever others write meanwhile."""
        self.database.execute("BEGIN")
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                self.database.execute("ROLLBACK")

    @contextmanager
    def errors_named(self) -> Iterator[None]:
        """Turn what goes wrong in the block into a :class:`HistoryError` that says what to do."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._named(error) from error
        except (ValueError, TypeError, ArithmeticError) as error:
            raise HistoryError(
                "the history {path} holds something it never wrote",
                advice=_ANEW,
                code="history-broken",
                values={"path": self._path},
            ) from error

    def _named(self, error: sqlite3.Error) -> HistoryError:
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return HistoryError(
                "the history {path} has been held by another process for {seconds:g} seconds",
                advice="end it (fuser names it), or run again later",
                code="history-busy",
                values={"path": self._path, "seconds": self._wait},
            )
        return HistoryError(
            "the history {path} can't be used ({reason})",
            advice=_ADVICE.get(code, _ANEW),
            values={"path": self._path, "reason": error},
        )

    def close(self) -> None:
        """Close the file."""
        self.database.close()


def _set_up(database: sqlite3.Connection) -> None:
    # WAL lets readers read while somebody writes. FULL: on disk when a statement returns, for what a run has published
    # must not be lost to a power cut, and a step is written down before its request is sent.
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("PRAGMA foreign_keys=ON")


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)
