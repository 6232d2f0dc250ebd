"""Leases: locks on work that only one run may do at a time, on this machine or on all that share a database.

A lease ends with its holder, for whatever reason. With SQLite, a lease is a file lock, which the kernel releases. With
PostgreSQL, it is an advisory lock, which the server releases with the connection. Everything under a lease is written
over that same connection, so a run that has lost the lease can't write any more.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, text
from sqlalchemy.exc import SQLAlchemyError

from evergreen_groups.errors import BusyError, EvergreenGroupsError, StateError, StateUnavailableError
from evergreen_groups.message import Message
from evergreen_groups.state.database import refuse_later_schema
from evergreen_groups.state.engine import database_errors
from evergreen_groups.state.files import make_state_directory
from evergreen_groups.state.lock import Holder, hold, holder_of, is_held
from evergreen_groups.state.schema import leases

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from evergreen_groups.state.database import Database

_LOCK_BATCH = 500
_HELD_KEYS = """
    SELECT (classid::bigint << 32) | objid::bigint AS key FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND mode = 'ExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_TRY_SHARED = text("SELECT pg_try_advisory_lock_shared(:key)")
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two attempts to get a lease; doubled each time


@dataclass(frozen=True, slots=True)
class LeaseName:
    """The name of a lease.

    ``file`` is the name of its lock file in the state directory. ``doing`` is the message for a busy lease, about what
    the holder does. With ``parts``, only these are leased, and no note names the holder. ``shared`` names a part that
    others may share, but that no one may hold exclusively in the meantime.
    """

    name: str
    file: str
    doing: str
    parts: frozenset[str] = frozenset()
    shared: str = ""

    def part(self, name: str) -> LeaseName:
        """Return the lease of one part."""
        return replace(self, parts=frozenset({name}))

    @property
    def keys(self) -> list[int]:
        """The lease's lock numbers, 63 bits each, in the order in which every process takes them."""
        return sorted(_key(f"{self.name} {part}") for part in self.parts) or [_key(self.name)]

    @property
    def shared_keys(self) -> list[int]:
        """The number of the shared lock, taken before the others; empty if there is none."""
        return [_key(f"{self.name} {self.shared}")] if self.shared else []


@dataclass(frozen=True, slots=True)
class RemoteHolder:
    """A process, maybe on another machine, that holds a lease or left a note of one. ``since`` is aware."""

    host: str
    pid: int
    since: datetime
    alive: bool

    def __str__(self) -> str:
        return str(self.message)

    @property
    def message(self) -> Message:
        """The process, its machine, and the time since when it holds the lease."""
        values = {"pid": self.pid, "host": self.host, "since": self.since}
        return Message("process {pid} on {host}, since {since}", values=values)


class Lease:
    """A lease that is held since the time ``since``.

    Reading and writing raise StateError once the lease is lost.
    """

    def __init__(self, database: Database, since: datetime, connection: Connection | None) -> None:
        self.since = since
        self._database = database
        self._connection = connection

    @property
    def is_there(self) -> bool:
        """Whether there is a database to read from yet."""
        return self._database.is_there

    def now(self) -> datetime:
        """Return the current time. See :meth:`Transactions.now`."""
        return self._database.now()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give the block a consistent snapshot to read. See :meth:`Database.reading`."""
        if self._connection is None:
            with self._database.reading() as connection:
                yield connection
            return
        with self._transaction() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """Commit all writes of the block, or none. On PostgreSQL always durable. See :meth:`Database.writing`."""
        if self._connection is None:
            with self._database.writing(durable=durable) as connection:
                yield connection
            return
        with self._transaction() as connection:
            refuse_later_schema(connection, self._database.where)
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Begin a transaction on the lease's connection."""
        assert self._connection is not None  # noqa: S101 - the callers have looked
        with database_errors(self._database.where):
            # SQLAlchemy would silently replace a broken connection with a new one, which doesn't hold the lock.
            if self._connection.invalidated or self._connection.closed:
                raise self._lost()
            with self._connection.begin():
                yield self._connection

    def _lost(self) -> StateError:
        return StateUnavailableError(
            "the connection to the database {where} was lost on the way, and with it the right to go on",
            advice="run again when PostgreSQL is up",
            code="lease-lost",
            values={"where": self._database.where},
        )


@contextmanager
def lease(database: Database, directory: Path, name: LeaseName, timeout: float = 0.0) -> Iterator[Lease]:
    """Hold a lease. ``timeout`` is how many seconds to wait for another holder.

    Raises:
        BusyError: another run holds the lease. The message says which one and since when.
        StateError: the database can't be reached.
        ConfigurationError: the lock file can't be used.
    """
    if database.path is not None:
        # File locks need numbers below 2**62.
        parts = [key >> 1 for key in name.keys] if name.parts else ()
        shared = [key >> 1 for key in name.shared_keys]
        file = make_state_directory(directory) / name.file
        with hold(file, name.doing, timeout, parts=parts, shared=shared) as holder:
            yield Lease(database, holder.since, None)
        return
    with ExitStack() as stack:
        connection = stack.enter_context(database.connect())
        since = database.now()
        with database_errors(database.where):
            stack.callback(_release, connection)
            _acquire(connection, name, timeout)
            if not name.parts:
                _note(connection, name, since)
                stack.callback(_remove_note, connection, name)
        yield Lease(database, since, connection)


def lease_holder(database: Database, directory: Path, name: LeaseName) -> Holder | RemoteHolder | None:
    """Return who holds a lease, or was killed while holding it, without taking it. None if there is no note.

    Raises:
        StateError: the database can't be used.
        ConfigurationError: the lock file can't be read.
    """
    if database.path is not None:
        return holder_of(directory / name.file)
    with database.reading() as connection:
        return _noted(connection, name)


def is_part_held(database: Database, directory: Path, name: LeaseName) -> bool:
    """Return whether any part of a lease is held. Takes no lock, so no other run has to wait for this one.

    Raises:
        StateError: the database can't be used.
        ConfigurationError: the lock file can't be used.
    """
    if database.path is not None:
        parts, shared = ([key >> 1 for key in keys] for keys in (name.keys, name.shared_keys))
        return is_held(make_state_directory(directory) / name.file, parts, shared)
    with database.reading() as connection:
        held = {int(key) for key in connection.execute(text(_HELD_KEYS)).scalars()}
    return not held.isdisjoint(name.keys + name.shared_keys)


def _key(name: str) -> int:
    """Return the number of the advisory lock: 63 bits."""
    return int.from_bytes(sha256(f"evergreen-groups {name}".encode()).digest()[:8]) >> 1


def _acquire(connection: Connection, name: LeaseName, timeout: float) -> None:
    """Take the locks in order, and hold each while waiting for the next. See :func:`try_lock`."""
    deadline, pause = time.monotonic() + timeout, _PAUSE
    shared, waiting = name.shared_keys, name.keys
    while True:
        with connection.begin():
            if all(connection.execute(_TRY_SHARED, {"key": key}).scalar_one() for key in shared):
                shared, waiting = [], waiting[_take_free(connection, waiting) :]
        if not waiting:
            return
        if time.monotonic() >= deadline:
            raise _busy(connection, name)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _take_free(connection: Connection, keys: Sequence[int]) -> int:
    """Take locks until one is busy. Return how many were taken."""
    for start in range(0, len(keys), _LOCK_BATCH):
        some = keys[start : start + _LOCK_BATCH]
        # The recursion stops at the first busy lock, so the order is kept: none of the later locks is taken yet.
        got = connection.execute(
            text(
                "WITH RECURSIVE taken(number, got) AS ("
                " SELECT 1, pg_try_advisory_lock((CAST(:keys AS bigint[]))[1])"
                " UNION ALL SELECT number + 1, pg_try_advisory_lock((CAST(:keys AS bigint[]))[number + 1])"
                " FROM taken WHERE got AND number < :count"
                ") SELECT count(*) FROM taken WHERE got"
            ),
            {"keys": some, "count": len(some)},
        ).scalar_one()
        if got < len(some):
            return start + int(got)
    return len(keys)


def _busy(connection: Connection, name: LeaseName) -> BusyError:
    if name.parts:
        return BusyError("{doing}", code="others-changing", values={"doing": name.doing})
    with connection.begin():
        holder = _noted(connection, name)
    return BusyError(
        "{doing} ({holder})",
        values={"doing": name.doing, "holder": holder.message if holder else Message("it has just begun")},
    )


def _release(connection: Connection) -> None:
    """Release all locks of the connection. If that fails, close the connection, which also releases them."""
    if connection.invalidated:
        return
    try:
        with connection.begin():
            connection.execute(text("SELECT pg_advisory_unlock_all()"))
    except (SQLAlchemyError, OSError, EvergreenGroupsError):
        _invalidate(connection)


def _remove_note(connection: Connection, name: LeaseName) -> None:
    if connection.invalidated:  # a new connection would delete the note of the next holder
        return
    try:
        with connection.begin():
            connection.execute(delete(leases).where(leases.c.name == name.name))
    except (SQLAlchemyError, OSError, EvergreenGroupsError):
        _invalidate(connection)


def _invalidate(connection: Connection) -> None:
    with suppress(SQLAlchemyError):
        connection.invalidate()


def _note(connection: Connection, name: LeaseName, since: datetime) -> None:
    with connection.begin():
        connection.execute(delete(leases).where(leases.c.name == name.name))
        connection.execute(
            leases.insert().values(name=name.name, host=socket.gethostname(), process=os.getpid(), since=since)
        )


def _noted(connection: Connection, name: LeaseName) -> RemoteHolder | None:
    row = connection.execute(select(leases).where(leases.c.name == name.name)).one_or_none()
    if row is None:
        return None
    held = connection.execute(
        text(f"SELECT EXISTS (SELECT 1 FROM ({_HELD_KEYS}) held WHERE key = :key)"),  # noqa: S608 - no value in it
        {"key": _key(name.name)},
    ).scalar_one()
    return RemoteHolder(row.host, row.process, row.since, bool(held))
