"""Leases on a PostgreSQL server: advisory locks, which the server releases with the connection that took them.

Everything under a lease is written over that same connection, so a run that has lost the lease can't write any more.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Executable, delete, select, text
from sqlalchemy.exc import SQLAlchemyError

from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.message import Message
from evergreen_groups.state.lock import Holder, LeaseName, busy
from evergreen_groups.state.schema import leases

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_LOCK_BATCH = 500
_HELD_KEYS = text("""
    SELECT (classid::bigint << 32) | objid::bigint AS key FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND mode = 'ExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")
_TRY_SHARED = text("SELECT pg_try_advisory_lock_shared(:key)")
# The recursion stops at the first busy lock, so the order is kept: none of the later locks is taken yet.
_TRY_IN_ORDER = text("""
    WITH RECURSIVE taken(number, got) AS (
        SELECT 1, pg_try_advisory_lock((CAST(:keys AS bigint[]))[1])
        UNION ALL SELECT number + 1, pg_try_advisory_lock((CAST(:keys AS bigint[]))[number + 1])
        FROM taken WHERE got AND number < :count
    ) SELECT count(*) FROM taken WHERE got
""")
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two attempts to get a lease; doubled each time


@contextmanager
def hold_on_server(connection: Connection, name: LeaseName, since: datetime, timeout: float) -> Iterator[None]:
    """Hold the locks of a lease over a connection, and note who holds it ``since`` when.

    Raises:
        BusyError: another run holds the lease, also after ``timeout`` seconds.
    """
    at_end: list[Executable] = [text("SELECT pg_advisory_unlock_all()")]
    try:
        _acquire(connection, name, timeout)
        if not name.parts:
            note = {"name": name.name, "host": socket.gethostname(), "process": os.getpid(), "since": since}
            with connection.begin():
                connection.execute(delete(leases).where(leases.c.name == name.name))
                connection.execute(leases.insert().values(note))
            at_end = [delete(leases).where(leases.c.name == name.name), *at_end]
        yield
    finally:
        if not connection.invalidated:  # a new connection would delete the note of the next holder
            try:
                for statement in at_end:
                    with connection.begin():
                        connection.execute(statement)
            except (SQLAlchemyError, OSError, EvergreenGroupsError):
                with suppress(SQLAlchemyError):
                    connection.invalidate()  # closing it also releases the locks


def noted_holder(connection: Connection, name: LeaseName) -> Holder | None:
    """Return who holds a lease, or was killed while holding it. None if there is no note."""
    row = connection.execute(select(leases).where(leases.c.name == name.name)).one_or_none()
    return None if row is None else Holder(row.process, row.since, is_held_on_server(connection, name), row.host)


def is_held_on_server(connection: Connection, name: LeaseName) -> bool:
    """Return whether any lock of a lease is held, without taking it."""
    held = {int(key) for key in connection.execute(_HELD_KEYS).scalars()}
    return not held.isdisjoint(name.keys + name.shared_keys)


def _acquire(connection: Connection, name: LeaseName, timeout: float) -> None:
    """Take the locks in order, and hold each while waiting for the next, as :func:`~.lock.try_lock` does."""
    deadline, pause = time.monotonic() + timeout, _PAUSE
    shared, waiting = name.shared_keys, name.keys
    while True:
        with connection.begin():
            if all(connection.execute(_TRY_SHARED, {"key": key}).scalar_one() for key in shared):
                shared, waiting = [], waiting[_take_free(connection, waiting) :]
        if not waiting:
            return
        if time.monotonic() >= deadline:
            with connection.begin():
                holder = noted_holder(connection, name)
            raise busy(name.doing, holder.message if holder else Message("it has just begun"), name.parts)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _take_free(connection: Connection, keys: Sequence[int]) -> int:
    """Take locks until one is busy. Return how many were taken."""
    for start in range(0, len(keys), _LOCK_BATCH):
        some = keys[start : start + _LOCK_BATCH]
        got = int(connection.execute(_TRY_IN_ORDER, {"keys": some, "count": len(some)}).scalar_one())
        if got < len(some):
            return start + got
    return len(keys)
