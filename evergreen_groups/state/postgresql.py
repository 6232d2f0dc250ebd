"""The engine for PostgreSQL, shared by several servers, with time limits for a server that doesn't answer at all."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import create_engine, event
from sqlalchemy.exc import InvalidatePoolError

from evergreen_groups.state.engine import EXTRA_SECONDS, POOL, ServerClock
from evergreen_groups.threads import watcher

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

_SECONDS_TO_CONNECT = 6
"""Looking up the host takes five seconds if the first of two name servers is down."""
_SECONDS_TO_PING = 2.0
_SECONDS_TO_ANSWER = 30
"""The time limit for any statement. This program's statements take milliseconds."""
_TIME = "SELECT extract(epoch FROM clock_timestamp())::float8"


class NoAnswerError(psycopg.errors.ConnectionException):
    """The server didn't answer in time. Servers themselves don't send its ``sqlstate``."""


class TimedConnection(psycopg.Connection[Any]):
    """A connection that is lost if the server doesn't answer within ``seconds``: a frozen server never would.

    Its statements, commits and rollbacks then raise NoAnswerError.
    """

    seconds: float | None = None
    """The time limit until the transaction ends, None for the usual one."""

    def wait(self, *arguments: Any, **options: Any) -> Any:
        """Wait for an answer. All methods of a connection and its cursors call this."""
        limit = self.seconds or _SECONDS_TO_ANSWER + EXTRA_SECONDS
        deadline = time.monotonic() + limit
        is_silent = False

        def look() -> bool:
            nonlocal is_silent
            is_silent = time.monotonic() >= deadline
            if is_silent:
                # The driver goes on using its own descriptor, and reads the end of the connection.
                with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.fileno())) as duplicate:
                    duplicate.shutdown(socket.SHUT_RDWR)
            return not is_silent

        try:
            with watcher.watching(look):
                return super().wait(*arguments, **options)
        except psycopg.Error:
            if is_silent:
                raise NoAnswerError(f"no answer within {limit:g} seconds") from None
            raise

    def commit(self) -> None:
        super().commit()
        self.seconds = None

    def rollback(self) -> None:
        super().rollback()
        self.seconds = None


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
            connection = TimedConnection.connect(*arguments, **options)
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
            clock.compare(lambda: float(next(iter(connection.execute(_TIME)))[0]))
            connection.autocommit = False
        except psycopg.Error as error:
            if connection.closed and not isinstance(error, NoAnswerError):
                raise InvalidatePoolError from error
            raise
        connection.seconds = None

    return engine
