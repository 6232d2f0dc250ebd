"""Leases on a PostgreSQL server: advisory locks, which the server releases with the connection that took them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Executable, delete, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from evergreen_groups.state.engine import set_timeouts
from evergreen_groups.state.lock import Holder, LeaseName, busy, part_is_busy
from evergreen_groups.state.schema import leases

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_EXTRA_SECONDS = 5.0
"""How much longer than for one lock to wait for all of them."""
_HELD_KEYS = text("""
    SELECT (classid::bigint << 32) | objid::bigint AS key FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND mode = 'ExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")
# Evaluated in this order. Those before a busy lock stay held while this waits for it.
_TAKE = text("""
    SELECT CASE WHEN shared THEN pg_advisory_lock_shared(key) ELSE pg_advisory_lock(key) END
    FROM unnest(CAST(:keys AS bigint[]), CAST(:shared AS boolean[])) AS locks (key, shared)
""")
_TIMED_OUT = ("55P03", "57014")  # lock_timeout, statement_timeout


@contextmanager
def hold_on_server(connection: Connection, name: LeaseName, since: datetime, timeout: float) -> Iterator[None]:
    """Hold the locks of a lease over a connection, and note who holds it ``since`` when."""
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
            except (SQLAlchemyError, OSError):
                connection.invalidate()  # closing it also releases the locks


def noted_holder(connection: Connection, name: LeaseName) -> Holder | None:
    """Return who holds a lease, or was killed while holding it. None if there is no note."""
    row = connection.execute(select(leases).where(leases.c.name == name.name)).one_or_none()
    return None if row is None else Holder(row.process, row.since, is_held_on_server(connection, name), row.host)


def is_held_on_server(connection: Connection, name: LeaseName) -> bool:
    """Return whether any lock of a lease is held, without taking it."""
    held = {int(key) for key in connection.execute(_HELD_KEYS).scalars()}
    return any(key in held for key, _is_shared in name.locks)


def _acquire(connection: Connection, name: LeaseName, timeout: float) -> None:
    keys, shared = zip(*name.locks, strict=True)
    try:
        with connection.begin():
            set_timeouts(connection, max(timeout, 0.001), timeout + _EXTRA_SECONDS)
            connection.execute(_TAKE, {"keys": list(keys), "shared": list(shared)})
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) not in _TIMED_OUT:
            raise
        if name.parts:
            raise part_is_busy(name.doing) from None
        with connection.begin():
            holder = noted_holder(connection, name)
        raise busy(name.doing, holder) from None
