"""What both database engines share: errors, transactions, addresses and the clock. And the engine for SQLite's file."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError, MultipleResultsFound, NoResultFound, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from evergreen_groups.errors import EvergreenGroupsError, StateError, StateUnavailableError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.state.files import NO_ROOM

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

_RESTORE = Message("restore a backup, or move the database away to start a new one")
_LOCKED = Message("end the process that locks the database (see {tool}), or try again later")
_DISK = Message("free up disk space, or check the disk for errors")
_NO_ACCESS = Message("give this user write access to the database and its directory")
_LATER = Message("try again later")
SERVER_DOWN = Message("try again when PostgreSQL is running and reachable from this machine")
_TROUBLES = {
    "SQLITE_": (_RESTORE, False),
    "SQLITE_FULL": (_DISK, True),
    "SQLITE_IOERR": (_DISK, False),
    "SQLITE_BUSY": (_LOCKED.with_values({"tool": "`fuser`"}), True),
    "SQLITE_LOCKED": (_LOCKED.with_values({"tool": "`fuser`"}), True),
    "SQLITE_READONLY": (_NO_ACCESS, False),
    "SQLITE_CANTOPEN": (_NO_ACCESS, False),
    "": (Message("run `evergreen-groups state check`"), False),
    "08": (SERVER_DOWN, True),
    "28": (Message("check the user, password and address in [state], and pg_hba.conf on the server"), False),
    "3D": (Message("create the database (createdb), or set another one in [state]"), False),
    "42501": (Message("grant this user write access, or run `evergreen-groups state upgrade` as the owner"), False),
    "53": (Message("free up disk space on the server, or raise max_connections"), True),
    "57": (SERVER_DOWN, True),
    "57014": (_LATER, True),  # statement_timeout
    "22P05": (Message("move to a PostgreSQL database with the encoding UTF8"), False),
    "25006": (Message("this server is a read-only replica: set the primary server in [state]"), False),
    "40": (_LATER, True),  # others were writing the same rows
    "55P03": (_LOCKED.with_values({"tool": "`pg_stat_activity`"}), True),
}
"""Advice by the beginning of an error's code, the longest counts, and whether the error may go away on a retry.

SQLite's codes are names, PostgreSQL's are those of SQL. What doesn't go away needs an administrator."""
_CODES_BY_TEXT = {
    "53": ("too many clients", "connection slots"),
    "57": ("starting up", "accepting connections", "shutting down", "recovery mode"),
    "3D": ('FATAL: database "',),
    "28": (
        *("permission denied", "authentication", "pg_hba.conf", 'FATAL: role "', "no password supplied"),
        *("SSL was required", "certificate", "is bad: invalid", "invalid connection option"),
    ),
}
"""Phrases in PostgreSQL's refusals of a connection, which carry no code, by the code to treat them as.

Any other refusal counts as temporary. A server with messages in another language only matches a few of these."""


@contextmanager
def database_errors(where: str) -> Iterator[None]:
    """Convert database errors in the block to a StateError about the database ``where``.

    Keep other code out of the block: its ValueErrors and OSErrors would be converted too.

    Raises:
        StateError: the engine, or the disk under it, refused.
    """
    try:
        yield
    except EvergreenGroupsError:
        raise
    except IntegrityError as error:
        diagnosis = getattr(error.orig, "diag", None)  # PostgreSQL's; SQLite's text names columns, not values
        values = {"where": where, "constraint": str(diagnosis.constraint_name if diagnosis else error.orig)}
        raise StateError(
            "the database {where} rejected a write ({constraint})",
            advice="run `evergreen-groups state check`",
            code="database-contradiction",
            values=values,
        ) from error
    # The first three are about a value of a row that can't be decoded.
    except (ValueError, TypeError, ArithmeticError, NoResultFound, MultipleResultsFound) as error:
        raise damaged(where, code="database-broken") from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        code, reason = _code_and_reason(getattr(error, "orig", None) or error)
        advice, is_temporary = _TROUBLES[max((begin for begin in _TROUBLES if code.startswith(begin)), key=len)]
        if is_temporary:
            raise unavailable(where, reason, advice) from error
        values = {"where": where, "reason": reason}
        raise StateError(
            "the database {where} can't be used ({reason})", advice=advice, code="database-unusable", values=values
        ) from error


def damaged(where: str, *, code: str) -> StateError:
    return StateError("the database {where} is damaged", advice=_RESTORE, code=code, values={"where": where})


def unavailable(where: str, reason: str, advice: str = SERVER_DOWN) -> StateUnavailableError:
    values = {"where": where, "reason": reason}
    return StateUnavailableError(
        "the database {where} can't be used ({reason})", advice=advice, code="database-unavailable", values=values
    )


def _code_and_reason(error: BaseException) -> tuple[str, str]:
    if isinstance(error, OSError):
        return "SQLITE_FULL" if error.errno in NO_ROOM else "SQLITE_CANTOPEN", system_reason(error)
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorname", "SQLITE_ERROR"), str(error)
    # Use only the primary message: the others may quote a row. Without an answer from the server there is none.
    reason = getattr(getattr(error, "diag", None), "message_primary", None) or shorten(str(error), 300)
    by_text = (code for code, phrases in _CODES_BY_TEXT.items() if any(one in reason for one in phrases))
    return getattr(error, "sqlstate", None) or next(by_text, "08"), reason


# hide_parameters keeps patron data out of error messages.
POOL: dict[str, Any] = {"pool_size": 5, "max_overflow": -1, "hide_parameters": True}
EXTRA_SECONDS = 5
"""A server itself cancels a slow statement. Give up a server that is still silent this many seconds later."""


def sqlite_engine(path: Path, wait: float, *, shared: bool = True) -> Engine:
    """Return an engine for an existing file. ``wait`` is how many seconds to wait for another writer.

    A file that isn't ``shared`` with other processes has no locks, and no other files next to it.
    """

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw" if shared else unlocked_uri(path),  # never create one
            uri=True,
            isolation_level=None,
            timeout=wait,
            check_same_thread=False,
        )
        try:
            # WAL lets others read during a write.
            connection.execute(f"PRAGMA journal_mode={'WAL' if shared else 'MEMORY'}")
            # A published report must survive a power cut, and a step must be on disk before its request is sent.
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA secure_delete=ON")  # overwrite deleted data in the file
        except BaseException:
            connection.close()
            raise
        return connection

    return create_engine("sqlite://", creator=connect, poolclass=QueuePool, **POOL)


@contextmanager
def transaction(connection: Connection, *, reads: bool = False) -> Iterator[None]:
    """Run the block in one transaction, on one snapshot if it only ``reads``. Readers don't lock out writers."""
    if connection.dialect.name == "postgresql":
        connection.execution_options(isolation_level="REPEATABLE READ" if reads else "READ COMMITTED")
    with connection.begin():
        if connection.dialect.name == "sqlite":
            # The driver itself begins a transaction only before the first write, too late for a read that the write is
            # based on.
            connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
        yield


@contextmanager
def unshared_engine(path: Path) -> Iterator[Engine]:
    """Open a SQLite file of ours that no other process uses."""
    engine = sqlite_engine(path, 0.0, shared=False)
    try:
        yield engine
    finally:
        engine.dispose()


def unlocked_uri(path: Path) -> str:
    """Return the URI of a file that SQLite doesn't lock. On network disks, its locks collide with our own."""
    return f"{path.absolute().as_uri()}?nolock=1"


def set_timeouts(connection: Connection, lock_seconds: float, statement_seconds: float) -> None:
    """Set other time limits for waiting and working in a transaction on a server."""
    timed: Any = connection.connection.driver_connection
    timed.seconds = statement_seconds + EXTRA_SECONDS
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(lock_seconds * 1000)}")
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {round(statement_seconds * 1000)}")


_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that is never set. Where available, one that keeps running while the machine is suspended."""
_PRECISE = 0.5
"""An answer that took longer than this many seconds says too little about the time."""


class ServerClock:
    """A server's clock, on which machines with different clocks agree. Safe to share between threads."""

    def __init__(self) -> None:
        self._offset = math.nan  # from the clock that is never set

    @property
    def is_known(self) -> bool:
        """Whether the server has been asked for its time yet."""
        return not math.isnan(self._offset)

    def compare(self, ask: Callable[[], float]) -> None:
        """Ask the server for its time (seconds since 1970) and update the offset."""
        began = time.clock_gettime(_ELAPSED)
        there = ask()
        ended = time.clock_gettime(_ELAPSED)
        if not self.is_known or ended - began <= _PRECISE:
            self._offset = there - (began + ended) / 2

    def now(self) -> datetime:
        """Return the server's time, which must be known."""
        return datetime.fromtimestamp(self._offset + time.clock_gettime(_ELAPSED), UTC)
