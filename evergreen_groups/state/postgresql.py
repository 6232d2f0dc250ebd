"""The engine for PostgreSQL, shared by several servers, with time limits for a server that doesn't answer at all."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, cast

import psycopg
from sqlalchemy import create_engine, event
from sqlalchemy.exc import InvalidatePoolError

from evergreen_groups.state.engine import EXTRA_SECONDS, POOL, ServerClock
from evergreen_groups.threads import begin

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

_SECONDS_TO_CONNECT = 6
"""Looking up the host takes five seconds if the first of two name servers is down."""
_SECONDS_TO_PING = 2.0
_SECONDS_TO_ANSWER = 30
"""The time limit for any statement. This program's statements take milliseconds."""
_TICK = 0.1  # seconds between two looks at the clock
_TIME = "SELECT extract(epoch FROM clock_timestamp())::float8"


class NoAnswerError(psycopg.errors.ConnectionException):
    """The server didn't answer in time. Servers themselves don't send its ``sqlstate``."""


class _Deadlines:
    """Calls functions whose time is up, in a thread that runs while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[object, tuple[float, Callable[[], None]]] = {}
        self._is_running = False

    @contextmanager
    def within(self, seconds: float, give_up: Callable[[], None]) -> Iterator[None]:
        """Call ``give_up`` if the block takes longer. Never call it once the block has ended."""
        ticket = object()
        with self._lock:
            self._pending[ticket] = time.monotonic() + seconds, give_up
            if not self._is_running:
                with suppress(RuntimeError):  # Python is exiting, and starts no more threads
                    begin(self._run)
                    self._is_running = True
        try:
            yield
        finally:
            with self._lock:
                self._pending.pop(ticket, None)

    def _run(self) -> None:
        while True:
            time.sleep(_TICK)
            with self._lock:
                for ticket, (deadline, give_up) in list(self._pending.items()):
                    if time.monotonic() >= deadline:
                        del self._pending[ticket]
                        give_up()
                if not self._pending:
                    self._is_running = False
                    return


_deadlines = _Deadlines()


class TimedConnection(psycopg.Connection[Any]):
    """A connection that is lost if the server doesn't answer within ``seconds``: a frozen server never would.

    Its statements, commits and rollbacks then raise NoAnswerError.
    """

    seconds: float | None = None
    """The time limit until the transaction ends, None for the usual one."""

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Limit how long the block waits for the server's answer."""
        limit = self.seconds or _SECONDS_TO_ANSWER + EXTRA_SECONDS
        is_silent = threading.Event()

        def give_up() -> None:
            is_silent.set()
            # The driver goes on using its own descriptor, and reads the end of the connection.
            with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.fileno())) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)

        try:
            with _deadlines.within(limit, give_up):
                yield
        except psycopg.Error:
            if is_silent.is_set():
                raise NoAnswerError(f"no answer within {limit:g} seconds") from None
            raise

    def commit(self) -> None:
        with self.waiting():
            super().commit()
        self.seconds = None

    def rollback(self) -> None:
        with self.waiting():
            super().rollback()
        self.seconds = None


class _TimedCursor(psycopg.Cursor[Any]):
    """A cursor of a :class:`TimedConnection`."""

    def execute(self, *arguments: Any, **options: Any) -> Self:
        with cast("TimedConnection", self.connection).waiting():
            return super().execute(*arguments, **options)

    def executemany(self, *arguments: Any, **options: Any) -> None:
        with cast("TimedConnection", self.connection).waiting():
            super().executemany(*arguments, **options)


def postgresql_engine(url: URL, wait: float, clock: ServerClock) -> Engine:
    """Return an engine for a server's database, which replaces connections that the server has closed.

    ``wait`` is how many seconds to wait for a lock on a table or row. Connection options in the address take
    precedence. Each new connection, and each check of a pooled connection, also updates ``clock``.
    """
    ours = {
        "connect_timeout": _SECONDS_TO_CONNECT,
        "application_name": "evergreen-groups",
        "client_encoding": "utf8",  # a database with encoding SQL_ASCII would return bytes
        # A lease's connection is idle for as long as a report takes.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,  # milliseconds; keepalives don't detect unacknowledged data
    }
    session = {
        # Override a server default that would make commits not durable.
        "synchronous_commit": "on",
        "lock_timeout": f"{round(wait * 1000)}",
        "statement_timeout": f"{_SECONDS_TO_ANSWER}s",
        # Let the server check the connection too: if a machine that holds a lease goes down, only this ends the lease.
        # The system's default takes two hours.
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "60000",
    }
    ours = {name: value for name, value in ours.items() if name not in url.query}
    engine = create_engine(url, connect_args=ours, **POOL)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]) -> TimedConnection:
        try:
            connection = TimedConnection.connect(*arguments, **options, cursor_factory=_TimedCursor)
        except psycopg.errors.ConnectionTimeout as error:
            raise NoAnswerError(str(error)) from error
        settings = dict(session)
        if connection.info.server_version >= 140_000:
            # The server's limit would end a lease during a long report.
            settings["idle_session_timeout"] = "0"
        calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
        connection.seconds = _SECONDS_TO_CONNECT
        connection.execute(f"SELECT {calls}", [part for item in settings.items() for part in item])
        connection.commit()
        return connection

    @event.listens_for(engine, "checkout")
    def check(connection: TimedConnection, _record: object, _proxy: object) -> None:
        # Replaces SQLAlchemy's pool_pre_ping, which has no time limit. This one also reads the server's time.
        connection.seconds = _SECONDS_TO_PING
        try:
            connection.autocommit = True
            clock.compare(lambda: float(next(connection.execute(_TIME))[0]))
            connection.autocommit = False
        except psycopg.Error as error:
            if connection.closed and not isinstance(error, NoAnswerError):
                raise InvalidatePoolError from error
            raise
        connection.seconds = None

    return engine
