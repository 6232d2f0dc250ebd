"""Leases: what one run alone may do, on this machine or on all that share a database.

A lease ends with its holder, however that ends: on one machine the kernel lets go of a file's lock, and a server lets
go of an advisory lock with its connection. All that is written under a lease is written over that very connection, so
that whoever has lost it can't write any more.
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
from evergreen_groups.state import engine as refusals
from evergreen_groups.state.database import refuse_a_later_schema
from evergreen_groups.state.files import make_state_directory
from evergreen_groups.state.lock import Holder, hold, holder_of, is_held
from evergreen_groups.state.schema import leases

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy.engine import Connection

    from evergreen_groups.state.database import Database

_LOCKS_AT_ONCE = 500
_HELD_KEYS = """
    SELECT (classid::bigint << 32) | objid::bigint AS key FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND mode = 'ExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_TRY_SHARED = text("SELECT pg_try_advisory_lock_shared(:key)")
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two looks at a lease that somebody holds: more and more


@dataclass(frozen=True, slots=True)
class LeaseName:
    """What is leased. ``name`` is the lease's, ``file`` its lock file's in the state directory, and ``doing`` says what
    a holder does, for the message to others. With ``parts`` these alone are held, and it isn't written down by whom;
    a ``shared`` part is held beside others who share it, and keeps out who has it as one of their parts."""

    name: str
    file: str
    doing: str
    parts: frozenset[str] = frozenset()
    shared: str = ""

    def part(self, name: str) -> LeaseName:
        """One part of it."""
        return replace(self, parts=frozenset({name}))

    @property
    def keys(self) -> list[int]:
        """The numbers of its locks, 63 bits each, in the order in which everybody takes them."""
        return sorted(_key(f"{self.name} {part}") for part in self.parts) or [_key(self.name)]

    @property
    def shared_keys(self) -> list[int]:
        """The number of the lock that is shared, taken before the others, where one is."""
        return [_key(f"{self.name} {self.shared}")] if self.shared else []


@dataclass(frozen=True, slots=True)
class RemoteHolder:
    """A process, maybe on another machine, that holds a lease, or left its note there. ``since`` is aware."""

    host: str
    pid: int
    since: datetime
    alive: bool

    def __str__(self) -> str:
        return str(self.message)

    @property
    def message(self) -> Message:
        """Which it is, and since when."""
        values = {"pid": self.pid, "host": self.host, "since": self.since}
        return Message("process {pid} on {host}, since {since}", values=values)


class Lease:
    """A lease that is held. ``since`` is when it began.

    What is read and written over it raises StateError once it is lost.
    """

    def __init__(self, database: Database, since: datetime, connection: Connection | None) -> None:
        self.since = since
        self._database = database
        self._connection = connection

    @property
    def is_there(self) -> bool:
        """As :attr:`Database.is_there`."""
        return self._database.is_there

    def now(self) -> datetime:
        """As :meth:`Database.now`."""
        return self._database.now()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """As :meth:`Database.reading`."""
        if self._connection is None:
            with self._database.reading() as connection:
                yield connection
            return
        with self._transaction() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """As :meth:`Database.writing`; over a connection of the lease's own it is always durable."""
        if self._connection is None:
            with self._database.writing(durable=durable) as connection:
                yield connection
            return
        with self._transaction() as connection:
            refuse_a_later_schema(connection, self._database.where)
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Make a transaction over the lease's own connection."""
        assert self._connection is not None  # noqa: S101 - the callers have looked
        with refusals.errors_named(self._database.where):
            # One that broke would be made anew without a word, and without the lock.
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
    """Hold a lease; ``timeout`` is how many seconds to wait for whoever holds it.

    Raises:
        BusyError: another run holds it; the message says which and since when.
        StateError: the database can't be reached.
        ConfigurationError: the lock file can't be used.
    """
    if database.path is not None:
        parts = [key >> 1 for key in name.keys] if name.parts else ()
        shared = [key >> 1 for key in name.shared_keys]
        file = make_state_directory(directory) / name.file
        with hold(file, name.doing, timeout, parts=parts, shared=shared) as holder:
            yield Lease(database, holder.since, None)
        return
    with ExitStack() as stack:
        connection = stack.enter_context(database.connect())
        since = database.now()
        with refusals.errors_named(database.where):
            stack.callback(_release, connection)
            _acquire(connection, name, timeout)
            if not name.parts:
                _note(connection, name, since)
                stack.callback(_remove_note, connection, name)
        yield Lease(database, since, connection)


def lease_holder(database: Database, directory: Path, name: LeaseName) -> Holder | RemoteHolder | None:
    """Who holds a lease, or was killed while holding it; None where nobody is noted. Takes none itself.

    Raises:
        StateError: the database can't be used.
        ConfigurationError: the lock file can't be read.
    """
    if database.path is not None:
        return holder_of(directory / name.file)
    with database.reading() as connection:
        return _noted(connection, name)


def is_part_held(database: Database, directory: Path, name: LeaseName) -> bool:
    """Whether somebody holds one of the parts of a lease. Takes none itself, so nobody is kept waiting by it.

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
    """The number of the advisory lock: 63 bits."""
    return int.from_bytes(sha256(f"evergreen-groups {name}".encode()).digest()[:8]) >> 1


def _acquire(connection: Connection, name: LeaseName, timeout: float) -> None:
    """Take its locks one after another, each held while the next is waited for, as :func:`lock_in_time` does."""
    deadline, pause = time.monotonic() + timeout, _PAUSE
    shared, waiting = name.shared_keys, name.keys
    while True:
        with connection.begin():
            if all(connection.execute(_TRY_SHARED, {"key": key}).scalar_one() for key in shared):
                shared, waiting = [], waiting[_taken(connection, waiting) :]
        if not waiting:
            return
        if time.monotonic() >= deadline:
            raise _busy(connection, name)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _taken(connection: Connection, keys: Sequence[int]) -> int:
    """Take locks until one is held by somebody else; gives how many it took."""
    for start in range(0, len(keys), _LOCKS_AT_ONCE):
        some = keys[start : start + _LOCKS_AT_ONCE]
        # It ends at the first that isn't free: what comes after that one in the order isn't taken yet.
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
    """Give all locks of the connection back; where that fails it is closed, which does it as well."""
    if connection.invalidated:
        return
    try:
        with connection.begin():
            connection.execute(text("SELECT pg_advisory_unlock_all()"))
    except (SQLAlchemyError, OSError, EvergreenGroupsError):
        _give_up(connection)


def _remove_note(connection: Connection, name: LeaseName) -> None:
    if connection.invalidated:  # a new connection's note would be that of whoever holds the lease by now
        return
    try:
        with connection.begin():
            connection.execute(delete(leases).where(leases.c.name == name.name))
    except (SQLAlchemyError, OSError, EvergreenGroupsError):
        _give_up(connection)


def _give_up(connection: Connection) -> None:
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
