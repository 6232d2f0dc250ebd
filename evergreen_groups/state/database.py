"""The state database: private to its owner, on this release's schema, and accessed only in transactions.

A lease on a PostgreSQL server is a set of advisory locks, which the server releases with the connection that took them.
Everything under a lease is written over that same connection, so a run that has lost the lease can't write any more.
"""

from __future__ import annotations

import io
import os
import socket
import stat
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Executable, MetaData, String, Table, delete, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from evergreen_groups.errors import EvergreenGroupsError, StateError, StateUnavailableError
from evergreen_groups.message import Message
from evergreen_groups.state.engine import (
    NOT_DURABLE,
    READS,
    RESTORE_ADVICE,
    SERVER_DOWN,
    CircuitBreaker,
    ServerClock,
    database_errors,
    postgresql_engine,
    postgresql_url,
    raise_timeouts,
    sqlite_engine,
)
from evergreen_groups.state.files import atomic_write, give_to_directory_owner, make_state_directory
from evergreen_groups.state.lock import Holder, LeaseName, busy, hold, holder_of, is_held
from evergreen_groups.state.schema import VERSION, leases, metadata

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from alembic.config import Config
    from sqlalchemy.engine import Connection, Engine

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
            raise busy(name.doing, holder, name.parts)
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


_MIGRATIONS = Path(__file__).parent / "migrations"
_VERSIONS = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
_BEFORE_1_0 = {str(version) for version in range(1, int(VERSION))}
NEW_DATABASE = Message("move the file away, or set an empty PostgreSQL database in [state]")
_UPGRADE_MINUTES = 10
_LOCK = 0x65766772  # an arbitrary number, to avoid clashes with other programs' advisory locks


def upgrade_schema(engine: Engine, where: str) -> None:
    """Ensure that a database is on this release's schema. Create or upgrade the schema if necessary.

    All or nothing, with other processes locked out.
    """
    with database_errors(where), engine.connect() as connection:
        with connection.execution_options(**{READS: True}).begin():
            if version_of(connection) == VERSION:
                return
        with connection.execution_options(**{READS: False}).begin():
            if connection.dialect.name == "postgresql":
                # Another process's upgrade may take longer than the usual lock timeout. Wait for it, but not forever.
                raise_timeouts(connection, _UPGRADE_MINUTES)
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            found = version_of(connection)
            if found is None:
                if inspect(connection).get_table_names():
                    raise StateError(
                        "the database {where} belongs to another program",
                        advice=NEW_DATABASE,
                        code="database-of-another-program",
                        values={"where": where},
                    )
                make_tables(connection)
            elif found != VERSION:
                _migrate(connection, where, found)


def version_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSIONS.name):
        return None
    version = connection.execute(select(_VERSIONS)).scalar_one_or_none()
    return None if version is None else str(version)


def statements(dialect: str) -> str:
    """Return the SQL that creates the schema, for administrators who want to review it first."""
    from alembic import command

    stream = io.StringIO()
    config = _config(stream, dialect=dialect)
    command.upgrade(config, "head", sql=True)
    return stream.getvalue()


def make_tables(connection: Connection) -> None:
    """Create all tables at once, as Alembic's documentation suggests. A test compares them with the migrations."""
    _VERSIONS.create(connection)
    connection.execute(_VERSIONS.insert().values(version_num=VERSION))
    metadata.create_all(connection)


def _migrate(connection: Connection, where: str, found: str) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    if found in _BEFORE_1_0:
        raise StateError(
            "the database {where} is from a development version (schema {version}) and can't be upgraded",
            advice=NEW_DATABASE,
            code="state-of-development-version",
            values={"where": where, "version": found},
        )
    if found not in {one.revision for one in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()}:
        raise _written_by_a_later_release(where, found)
    command.upgrade(_config(io.StringIO(), connection=connection), "head")


def _written_by_a_later_release(where: str, version: str) -> StateError:
    return StateError(
        "the database {where} is from a later release (schema {version})",
        advice="install that release, or restore a backup from before the upgrade (docs/upgrading.md)",
        code="state-of-newer-release",
        values={"where": where, "version": version},
    )


def _config(stream: io.StringIO, **attributes: Any) -> Config:
    from alembic.config import Config

    config = Config(output_buffer=stream, attributes=attributes)
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def create_atomically(path: Path, fill: Callable[[Engine], None]) -> None:
    """Create a SQLite file that ``fill`` fills, and put it in place when complete. Keep an existing file.

    Never open an existing file here: closing it would release the locks that SQLite holds on it in other threads.
    """
    with suppress(FileExistsError), atomic_write(path, new=True) as stream:
        give_to_directory_owner(stream.fileno(), path.parent)
        engine = sqlite_engine(Path(stream.name), WAIT, shared=False)
        try:
            fill(engine)
        finally:
            engine.dispose()


FILE_NAME = "state.sqlite3"
WAIT = 10.0
"""How many seconds to wait for another writer. Writes take milliseconds, so this is already a sign of trouble."""


class Transactions(ABC):
    """A source of transactions: a database, or a lease on one, whose transactions fail once the lease is lost."""

    @property
    @abstractmethod
    def where(self) -> str:
        """The database's name in messages."""

    @property
    @abstractmethod
    def is_there(self) -> bool:
        """Whether there is a database to read from yet. Always true for a server."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the current time for everything that is stored or compared with stored times.

        PostgreSQL's clock, or with SQLite this machine's.
        """

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give the block a consistent snapshot to read, whatever others write.

        Raises:
            StateError: the database can't be used, or contains a value that this program never writes.
        """
        with self._transaction("REPEATABLE READ", **{READS: True}) as connection:
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """Commit all writes of the block, or none. Durable when the block ends, by default.

        Without ``durable``, a commit survives the end of the process, but a power cut shortly after may lose it, along
        with commits made since. In return, no one waits for the disk.

        Raises:
            StateError: the database can't be used, or a write violates a constraint.
        """
        with self._transaction("READ COMMITTED", **{NOT_DURABLE: not durable}) as connection:
            if not durable and connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
            # A later release may have upgraded the database while this program was running.
            version = connection.exec_driver_sql(f"SELECT version_num FROM {_VERSIONS.name}").scalar_one()  # noqa: S608 - fixed
            if str(version) != VERSION:
                raise _written_by_a_later_release(self.where, str(version))
            yield connection

    @contextmanager
    def _transaction(self, isolation: str, **options: bool) -> Iterator[Connection]:
        with database_errors(self.where), self._connection() as connection:
            if connection.dialect.name == "postgresql":  # SQLite's only level is stricter than all of them
                connection.execution_options(isolation_level=isolation)
            with connection.execution_options(**options).begin():
                yield connection

    @abstractmethod
    def _connection(self) -> AbstractContextManager[Connection]: ...


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
        self._wait = wait
        self._breaker = CircuitBreaker()
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._clock = ServerClock()

    @property
    def path(self) -> Path | None:
        """The path of the file, None for a server's database."""
        return None if self._url else self._directory / FILE_NAME

    @property
    def url_text(self) -> str | None:
        """The address of the server's database without its password, None for a file."""
        return self._url.set(password=None).render_as_string() if self._url else None

    @property
    def where(self) -> str:
        if self._url is None:
            return str(self.path)
        return f"{self._url.database}@{self._url.host or 'localhost'}"

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
        """Hold a lease. ``timeout`` is how many seconds to wait for another holder.

        A lease ends with its holder, for whatever reason. With SQLite, it is a file lock, which the kernel releases.

        Raises:
            BusyError: another run holds the lease. The message says which one and since when.
            StateError: the database can't be reached.
            ConfigurationError: the lock file can't be used.
        """
        with ExitStack() as stack:
            if self._url is None:
                file, parts = make_state_directory(self._directory) / name.file, name.keys if name.parts else ()
                holder = stack.enter_context(hold(file, name.doing, timeout, parts=parts, shared=name.shared_keys))
                yield Lease(self, holder.since)
                return
            with database_errors(self.where):
                connection = stack.enter_context(self._connection())
                since = self.now()
                stack.enter_context(hold_on_server(connection, name, since, timeout))
            yield Lease(self, since, connection)

    def lease_holder(self, name: LeaseName) -> Holder | None:
        """Return who holds a lease, or was killed while holding it, without taking it. None if there is no note."""
        if self._url is None:
            return holder_of(self._directory / name.file)
        with self.reading() as connection:
            return noted_holder(connection, name)

    def is_leased(self, name: LeaseName) -> bool:
        """Return whether any part of a lease is held. Takes no lock, so no other run has to wait for this one."""
        if self._url is None:
            return is_held(make_state_directory(self._directory) / name.file, name.keys, name.shared_keys)
        with self.reading() as connection:
            return is_held_on_server(connection, name)

    def empty_log(self) -> bool:
        """Empty SQLite's write-ahead log, which may still contain deleted data. Return False if a reader prevents it.

        PostgreSQL manages its own log.
        """
        if self._url is not None:
            return True
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
        return self._opened().connect()

    def _opened(self) -> Engine:
        self._breaker.check()
        with self._lock:
            if self._engine is None:
                if self._url is not None:
                    engine = postgresql_engine(self._url, self._wait, self._breaker, self._clock)
                else:
                    engine = self._file_engine()
                try:
                    upgrade_schema(engine, self.where)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def _file_engine(self) -> Engine:
        path = make_state_directory(self._directory) / FILE_NAME
        if not os.path.lexists(path):
            create_atomically(path, lambda engine: upgrade_schema(engine, self.where))
        found = path.stat()
        if not found.st_size:  # only complete files get this name, so it was truncated
            raise StateError(
                "the database {where} is damaged",
                advice=RESTORE_ADVICE,
                code="database-cut-off",
                values={"where": self.where},
            )
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):  # SQLite gives its companion files the same
            path.chmod(0o600)
        return sqlite_engine(path, self._wait)


class Lease(Transactions):
    """A lease that is held since the time ``since``.

    Reading and writing raise StateError once the lease is lost. ``connection`` is the one that holds the lease, None
    if a file does.
    """

    def __init__(self, database: Database, since: datetime, connection: Connection | None = None) -> None:
        self.since = since
        self._database = database
        self._held = connection

    @property
    def where(self) -> str:
        return self._database.where

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
            raise StateUnavailableError(
                "lost the connection to the database {where}",
                advice=SERVER_DOWN,
                code="lease-lost",
                values={"where": self.where},
            )
        return nullcontext(self._held)
