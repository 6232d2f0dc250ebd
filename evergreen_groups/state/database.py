"""The state database: private to its owner, on this release's schema, and accessed only in transactions.

A lease on a PostgreSQL server belongs to one connection. Everything under the lease is written over it, so a run that
has lost the lease can't write any more.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from evergreen_groups.breaker import CircuitBreaker
from evergreen_groups.errors import StateUnavailableError
from evergreen_groups.state.addresses import not_installed, postgresql_url
from evergreen_groups.state.engine import (
    SERVER_DOWN,
    ServerClock,
    damaged,
    database_errors,
    sqlite_engine,
    transaction,
    unavailable,
    unshared_engine,
)
from evergreen_groups.state.files import atomic_write, give_to_directory_owner, make_state_directory, remove_abandoned
from evergreen_groups.state.lock import Holder, LeaseName, hold, holder_of, is_held
from evergreen_groups.state.schema import VERSION
from evergreen_groups.state.server_locks import hold_on_server, is_held_on_server, noted_holder
from evergreen_groups.state.upgrade import VERSIONS, upgrade_schema, written_by_a_later_release

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy.engine import URL, Connection, Engine


def create_atomically(path: Path, fill: Callable[[Engine], None]) -> None:
    """Create a SQLite file that ``fill`` fills, and put it in place when complete. Keep an existing file.

    Never open an existing file here: closing it would release the locks that SQLite holds on it in other threads.
    """
    with suppress(FileExistsError), atomic_write(path, new=True) as stream:
        give_to_directory_owner(stream.fileno(), path.parent)
        with unshared_engine(Path(stream.name)) as engine:
            fill(engine)


FILE_NAME = "state.sqlite3"
WAIT = 10.0
"""How many seconds to wait for another writer. Writes take milliseconds, so this is already a sign of trouble."""
_OPEN_SECONDS = 5.0


class Transactions(ABC):
    """A source of transactions: a database, or a lease on one, whose transactions fail once the lease is lost."""

    where: str
    """The database's name in messages."""

    @property
    @abstractmethod
    def is_there(self) -> bool:
        """Whether there is a database to read from yet. Always true for a server."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the time for what is stored or compared with it: by PostgreSQL's clock, or else this machine's."""

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give the block a consistent snapshot to read, whatever others write.

        Raises:
            StateError: the database can't be used, or contains a value that this program never writes.
        """
        with database_errors(self.where), self._connection() as connection, transaction(connection, reads=True):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Commit all writes of the block, or none. Durable when the block ends.

        Raises:
            StateError: the database can't be used, or a write violates a constraint.
        """
        with database_errors(self.where), self._connection() as connection, transaction(connection):
            # A later release may have upgraded the database while this program was running.
            version = str(connection.execute(select(VERSIONS)).scalar_one())
            if version != VERSION:
                raise written_by_a_later_release(self.where, version)
            yield connection

    @abstractmethod
    def _connection(self) -> AbstractContextManager[Connection]: ...


def _unanswered(error: Exception) -> str:
    """Return why a server didn't answer, for its breaker. Anything but silence is an answer."""
    refused = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None)
    # NoAnswerError's; the class itself can't be imported without psycopg.
    return "no-answer" if getattr(refused, "sqlstate", None) == "08000" else ""


class Database(Transactions):
    """The state database, opened or created at first use. Safe to share between threads.

    ``url`` is the address of a PostgreSQL database. Without ``url``, the database is a file in ``directory``, created
    with mode 0600. ``wait`` is how many seconds to wait for another writer.
    """

    def __init__(
        self, directory: Path, url: str | None = None, password: str | None = None, *, wait: float = WAIT
    ) -> None:
        self._directory = directory
        self._url = postgresql_url(url, password) if url else None
        self.where = str(directory / FILE_NAME)
        if self._url:
            self.where = f"{self._url.database}@{self._url.host or 'localhost'}"
        self._wait = wait
        self._breaker = CircuitBreaker(
            time.monotonic,
            _unanswered,
            lambda _seconds, _too_many: unavailable(self.where, "no answer a moment ago"),
            failures=1,
            pause=_OPEN_SECONDS,
        )
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._clock = ServerClock()

    @property
    def path(self) -> Path | None:
        """The path of the file, None for a server's database."""
        return None if self._url else self._directory / FILE_NAME

    @property
    def is_there(self) -> bool:
        return self.path is None or os.path.lexists(self.path)

    def now(self) -> datetime:
        if self._url is None:
            return datetime.now(UTC)
        if not self._clock.is_known:
            with database_errors(self.where):
                self._opened()
        return self._clock.now()

    @contextmanager
    def lease(self, name: LeaseName, timeout: float = 0.0) -> Iterator[Lease]:
        """Hold a lease, which ends with its process. ``timeout`` is how many seconds to wait for another holder.

        Raises:
            BusyError: another run holds the lease. The message says which one and since when.
            StateError: the database can't be reached.
            ConfigurationError: the lock file can't be used.
        """
        with ExitStack() as stack:
            if self._url is None:
                file = make_state_directory(self._directory) / name.file
                parts = name.locks if name.parts else ()
                yield Lease(self, stack.enter_context(hold(file, name.doing, timeout, parts=parts)).since)
                return
            with database_errors(self.where):
                connection = stack.enter_context(self._connection())
                since = self.now()
                stack.enter_context(hold_on_server(connection, name, since, timeout))
            yield Lease(self, since, connection)

    def lease_holder(self, name: LeaseName) -> Holder | None:
        """Return who holds a lease, or was killed while holding it. None if there is no note."""
        if self._url is None:
            return holder_of(self._directory / name.file)
        with self.reading() as connection:
            return noted_holder(connection, name)

    def is_leased(self, name: LeaseName) -> bool:
        """Return whether any part of a lease is held. Takes no lock, so no other run has to wait for this one."""
        if self._url is None:
            return is_held(make_state_directory(self._directory) / name.file, name)
        with self.reading() as connection:
            return is_held_on_server(connection, name)

    def empty_log(self) -> bool:
        """Empty SQLite's write-ahead log, which may contain deleted data. Return False if a reader prevents it."""
        if self._url is not None:
            return True  # PostgreSQL manages its own log
        with database_errors(self.where), closing(self._opened().raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return bool(cursor.fetchall()[0][0] == 0)  # 1: busy

    def close(self) -> None:
        """Close all connections. The next use opens new ones."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    def _connection(self) -> Connection:
        engine = self._opened()
        with self._breaker.watching():
            return engine.connect()

    def _opened(self) -> Engine:
        with self._lock:
            if self._engine is None:
                with self._breaker.watching():  # under the lock, so that those who wait for it don't all try again
                    engine = self._file_engine() if self._url is None else self._server_engine(self._url)
                    try:
                        upgrade_schema(engine, self.where)
                    except BaseException:
                        engine.dispose()
                        raise
                    self._engine = engine
            return self._engine

    def _server_engine(self, url: URL) -> Engine:
        try:
            from evergreen_groups.state.postgresql import postgresql_engine
        except ImportError as error:
            raise not_installed("state.database", "psycopg", "postgresql", code="postgresql-not-installed") from error
        return postgresql_engine(url, self._wait, self._clock)

    def _file_engine(self) -> Engine:
        path = make_state_directory(self._directory) / FILE_NAME
        if not os.path.lexists(path):
            create_atomically(path, lambda engine: upgrade_schema(engine, self.where))
        remove_abandoned(path.parent)
        found = path.stat()
        if not found.st_size:  # only complete files get this name, so it was truncated
            raise damaged(self.where, code="database-cut-off")
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):  # SQLite gives its companion files the same
            path.chmod(0o600)
        return sqlite_engine(path, self._wait)


class Lease(Transactions):
    """A lease, held ``since`` a time by a ``connection`` or a file. Once it is lost, its transactions fail."""

    def __init__(self, database: Database, since: datetime, connection: Connection | None = None) -> None:
        self.since = since
        self.where = database.where
        self._database = database
        self._held = connection

    @property
    def is_there(self) -> bool:
        return self._database.is_there

    def now(self) -> datetime:
        return self._database.now()

    def _connection(self) -> AbstractContextManager[Connection]:
        if self._held is None:
            return self._database._connection()
        # SQLAlchemy would silently replace a broken connection with a new one, which doesn't hold the lock.
        if self._held.invalidated or self._held.closed:
            values = {"where": self.where}
            raise StateUnavailableError(
                "lost the connection to the database {where}", advice=SERVER_DOWN, code="lease-lost", values=values
            )
        return nullcontext(self._held)
