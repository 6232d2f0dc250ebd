"""The database of all that is kept: whole, private, of this release's schema, and asked in transactions alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from evergreen_groups.errors import StateError
from evergreen_groups.message import Message
from evergreen_groups.state import refusals
from evergreen_groups.state.directory import make_state_directory
from evergreen_groups.state.engine import (
    HASTY,
    READS,
    Silence,
    engine_of,
    postgresql_url,
    refuse_another_users_database,
    sqlite_engine,
)
from evergreen_groups.state.new_file import make_whole
from evergreen_groups.state.server_clock import ServerClock
from evergreen_groups.state.upgrade import bring_up_to_date, refuse_a_later_schema, refuse_other_versions

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy.engine import Connection, Engine

FILE_NAME = "state.sqlite3"
WAIT = 10.0
"""How long to wait for whoever is writing, in seconds: writes take milliseconds, so something else holds it then."""


class Transactions(Protocol):
    """Where transactions are made: a database, or a lease of one, which ends when the lease is lost."""

    @property
    def is_there(self) -> bool:
        """Whether there is anything yet to read."""

    def now(self) -> datetime:
        """Return the time that everything stored goes by, and everything that is compared with it: PostgreSQL's clock,
        or with SQLite this machine's.

        Raises:
            StateError: the server can't be asked for its time.
        """
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """Let the block read one state of everything, whatever others write meanwhile."""
        ...

    def writing(self, *, durable: bool = True) -> AbstractContextManager[Connection]:
        """Write what the block writes as a whole, or nothing of it; it is on disk when the block has ended.

        What needn't be ``durable`` outlives the process, and what is written after it is on disk no sooner, but a power
        cut within the next moments may take it back: nobody waits for the disk.
        """
        ...


class Database:
    """The database; nothing is opened or made before it is first used. Safe to share between threads.

    ``url`` is the address of a PostgreSQL database; without one it is a file in ``directory``, made, for its owner
    alone, where it isn't there. ``wait`` is how long (seconds) it waits for whoever is writing.
    """

    def __init__(
        self,
        directory: Path,
        url: str | None = None,
        password: str | None = None,
        *,
        wait: float = WAIT,
    ) -> None:
        self._directory = directory
        self._url = postgresql_url(url, password) if url else None
        self._wait = wait
        self._silence = Silence()
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._clock = ServerClock()

    @property
    def path(self) -> Path | None:
        """The file it is in; None where it is a server's."""
        return None if self._url else self._directory / FILE_NAME

    @property
    def url_text(self) -> str | None:
        """The address of the server's database, without its password; None for a file."""
        return self._url.set(password=None).render_as_string() if self._url else None

    @property
    def where(self) -> str:
        """What messages call it."""
        if self._url is None:
            return str(self.path)
        values = {"name": self._url.database, "host": self._url.host}
        if self._url.host:
            return Message("{name} at {host}", values=values)
        return Message("{name} at this machine", values=values)

    @property
    def is_there(self) -> bool:
        """Whether there is anything yet to read: a server's database always is."""
        return self.path is None or os.path.lexists(self.path)

    def now(self) -> datetime:
        """As :meth:`Transactions.now`."""
        if self._url is None:
            return datetime.now(UTC)
        if not self._clock.is_known:
            with refusals.errors_named(self.where):
                self._opened()
        return self._clock.now()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Let the block read one state of everything, whatever others write meanwhile.

        Raises:
            StateError: it can't be used, or something stands in it that was never written.
        """
        one_state = {} if self._url is None else {"isolation_level": "REPEATABLE READ"}  # SQLite reads so by itself
        with (
            refusals.errors_named(self.where),
            self._opened().connect() as connection,
            connection.execution_options(**{READS: True}, **one_state).begin(),
        ):
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """As :meth:`Transactions.writing` has it.

        Raises:
            StateError: it can't be used, or what is written contradicts something in it.
        """
        with (
            refusals.errors_named(self.where),
            self._opened().connect() as connection,
            connection.execution_options(**{HASTY: not durable}).begin(),
        ):
            if not durable and self._url is not None:
                connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
            refuse_a_later_schema(connection, self.where)
            yield connection

    def empty_log(self) -> bool:
        """Empty SQLite's write-ahead log, which may still have what was deleted; False while somebody reads from it.

        PostgreSQL looks after its own.
        """
        if self._url is not None:
            return True
        with refusals.errors_named(self.where), closing(self._opened().raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return bool(cursor.fetchall()[0][0] == 0)  # 1: busy

    def connect(self) -> Connection:
        """A connection of its own, for a lease; whoever asks closes it."""
        with refusals.errors_named(self.where):
            return self._opened().connect()

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    def _opened(self) -> Engine:
        self._silence.refuse()
        with self._lock:
            if self._engine is None:
                engine = self._server() if self._url is not None else self._file()
                try:
                    refuse_other_versions(engine, self.where)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def _server(self) -> Engine:
        assert self._url is not None  # noqa: S101 - it is called where there is one
        return engine_of(self._url, self._wait, self._silence, self._clock)

    def _file(self) -> Engine:
        path = make_state_directory(self._directory) / FILE_NAME
        if not os.path.lexists(path):
            make_whole(path, lambda engine: bring_up_to_date(engine, self.where), self._wait)
        if not refuse_another_users_database(path).st_size:  # it is made whole, so something has cut it off
            raise StateError(
                "the database {where} is empty, which it never is",
                advice=refusals.ANEW,
                code="database-cut-off",
                values={"where": self.where},
            )
        return sqlite_engine(path, self._wait)
