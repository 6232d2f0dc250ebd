"""The state database: private to its owner, on this release's schema, and accessed only in transactions."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Column, MetaData, String, Table, inspect, select, text

from evergreen_groups.errors import StateError
from evergreen_groups.message import Message
from evergreen_groups.state.engine import (
    COMPANION_SUFFIXES,
    NOT_DURABLE,
    READS,
    RESTORE_ADVICE,
    CircuitBreaker,
    ServerClock,
    database_errors,
    postgresql_engine,
    postgresql_url,
    raise_timeouts,
    refuse_another_users_database,
    sqlite_engine,
)
from evergreen_groups.state.files import give_to_directory_owner, make_state_directory, names_in, open_directory, sync
from evergreen_groups.state.lock import try_lock
from evergreen_groups.state.schema import VERSION, metadata

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from alembic.config import Config
    from sqlalchemy.engine import Connection, Engine

_MIGRATIONS = Path(__file__).parent / "migrations"
_VERSIONS = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
_BEFORE_1_0 = {str(version) for version in range(1, int(VERSION))}
_UPGRADE_MINUTES = 10
_LOCK = 0x65766772  # an arbitrary number, to avoid clashes with other programs' advisory locks


def ensure_current_schema(engine: Engine, where: str) -> None:
    """Ensure that a database is on this release's schema. Create or upgrade the schema if necessary.

    Raises:
        StateError: the database is from a later release, a development version, or another program, or can't be
            changed.
    """
    with engine.connect() as connection:
        version = version_of(connection.execution_options(**{READS: True}))
    if version != VERSION:
        upgrade_schema(engine, where)


def refuse_later_schema(connection: Connection, where: str) -> None:
    """Refuse to write if a later release upgraded the database while this program was running.

    Raises:
        StateError: the schema is of a later release.
    """
    found = str(connection.exec_driver_sql(f"SELECT version_num FROM {_VERSIONS.name}").scalar_one())  # noqa: S608 - fixed
    if found != VERSION:
        raise _written_by_a_later_release(where, found)


def upgrade_schema(engine: Engine, where: str) -> None:
    """Create the schema or run the missing migrations, all or nothing, with other processes locked out."""
    with database_errors(where), engine.connect() as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            # Another process's upgrade may take longer than the usual lock timeout. Wait for it, but not forever.
            raise_timeouts(connection, _UPGRADE_MINUTES)
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        found = version_of(connection)
        if found is None:
            _refuse_another_programs(connection, where)
            make_tables(connection)
        elif found != VERSION:
            _migrate(connection, where, found)


def version_of(connection: Connection) -> str | None:
    """Return the version of the schema, or None if there is none."""
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

    if found in _BEFORE_1_0:
        raise StateError(
            "the database {where} was written by a development version, in its schema {version}, and can't be upgraded",
            advice="start with a new database: move the file away, or name an empty PostgreSQL database",
            code="state-of-development-version",
            values={"where": where, "version": found},
        )
    if found not in _known_versions():
        raise _written_by_a_later_release(where, found)
    command.upgrade(_config(io.StringIO(), connection=connection), "head")


def _written_by_a_later_release(where: str, version: str) -> StateError:
    return StateError(
        "the database {where} was written by a later release, in its schema {version}",
        advice="use that release, or restore a backup from before the upgrade (docs/upgrading.md)",
        code="state-of-newer-release",
        values={"where": where, "version": version},
    )


def _known_versions() -> set[str]:
    from alembic.script import ScriptDirectory

    return {one.revision for one in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()}


def _config(stream: io.StringIO, **attributes: Any) -> Config:
    from alembic.config import Config

    config = Config(output_buffer=stream, attributes=attributes)
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _refuse_another_programs(connection: Connection, where: str) -> None:
    if inspect(connection).get_table_names():
        raise StateError(
            "the database {where} is another program's: it has tables, and none of ours",
            advice="name one of its own for evergreen-groups",
            code="database-of-another-program",
            values={"where": where},
        )


def create_atomically(path: Path, fill: Callable[[Engine], None], wait: float) -> None:
    """Create a SQLite file that ``fill`` fills, and put it in place when complete. Keep an existing file.

    ``wait`` is how many seconds to wait for another process that is creating the file. Never open an existing file
    here: closing it would release the locks that SQLite holds on it in other threads.

    Raises:
        StateError: another process is still creating the file.
        OSError: the directory can't be used.
    """
    with open_directory(path.parent) as directory:
        if not try_lock(directory, wait):
            raise StateError(
                "the database {where} is just being made by another process",
                advice="run again when that has ended",
                code="database-being-made",
                values={"where": path},
            )
        if os.path.lexists(path):
            return
        prefix = f".{path.name}-"
        with _clean_up_unfinished(directory, prefix):
            handle, temporary = mkstemp(dir=path.parent, prefix=prefix)  # 0600 from the start
            try:
                give_to_directory_owner(handle, directory)
            finally:
                os.close(handle)
            _fill(Path(temporary), fill, wait)
            # Rename. With link and unlink, a kill in between would leave a file with two names, which is refused later.
            Path(temporary).rename(path)
            sync(directory)


@contextmanager
def _clean_up_unfinished(directory: int, prefix: str) -> Iterator[None]:
    """Remove unfinished files before and after the block. They are created only under the lock, so none is in use."""
    _remove(directory, prefix)
    try:
        yield
    finally:
        _remove(directory, prefix)


def _remove(directory: int, prefix: str) -> None:
    for name in names_in(directory):
        if name.startswith(prefix):
            with suppress(OSError):  # a leftover only takes up space
                os.unlink(name, dir_fd=directory)


def _fill(path: Path, fill: Callable[[Engine], None], wait: float) -> None:
    engine = sqlite_engine(path, wait)
    try:
        fill(engine)
        # SQLite also does this on close, but ignores a full disk. Half of the data would then stay in the WAL file,
        # which keeps the temporary name.
        with engine.connect() as connection:
            connection.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        engine.dispose()
    for ending in COMPANION_SUFFIXES:
        if os.path.lexists(f"{path}{ending}"):
            raise OSError(f"{path.name}{ending} was left")


FILE_NAME = "state.sqlite3"
WAIT = 10.0
"""How many seconds to wait for another writer. Writes take milliseconds, so this is already a sign of trouble."""


class Transactions(Protocol):
    """A source of transactions: a database, or a lease on one, whose transactions fail once the lease is lost."""

    @property
    def is_there(self) -> bool:
        """Whether there is a database to read from yet."""

    def now(self) -> datetime:
        """Return the current time for everything that is stored or compared with stored times.

        PostgreSQL's clock, or with SQLite this machine's.

        Raises:
            StateError: the server can't be asked for its time.
        """
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """Give the block a consistent snapshot to read, whatever others write."""
        ...

    def writing(self, *, durable: bool = True) -> AbstractContextManager[Connection]:
        """Commit all writes of the block, or none. Durable when the block ends, by default.

        Without ``durable``, a commit survives the end of the process, but a power cut shortly after may lose it, along
        with commits made since. In return, no one waits for the disk.
        """
        ...


class Database:
    """The state database, opened or created at first use. Safe to share between threads.

    ``url`` is the address of a PostgreSQL database. Without ``url``, the database is a file in ``directory``, created
    with mode 0600. ``wait`` is how many seconds to wait for another writer.
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
        """The database's name in messages."""
        if self._url is None:
            return str(self.path)
        values = {"name": self._url.database, "host": self._url.host}
        if self._url.host:
            return Message("{name} at {host}", values=values)
        return Message("{name} at this machine", values=values)

    @property
    def is_there(self) -> bool:
        """Whether there is a database to read from yet. Always true for a server."""
        return self.path is None or os.path.lexists(self.path)

    def now(self) -> datetime:
        """Return the current time. See :meth:`Transactions.now`."""
        if self._url is None:
            return datetime.now(UTC)
        if not self._clock.is_known:
            with database_errors(self.where):
                self._opened()
        return self._clock.now()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give the block a consistent snapshot to read, whatever others write.

        Raises:
            StateError: the database can't be used, or contains a value that this program never writes.
        """
        one_state = {} if self._url is None else {"isolation_level": "REPEATABLE READ"}  # SQLite's default does this
        with (
            database_errors(self.where),
            self._opened().connect() as connection,
            connection.execution_options(**{READS: True}, **one_state).begin(),
        ):
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """Commit all writes of the block, or none. See :meth:`Transactions.writing`.

        Raises:
            StateError: the database can't be used, or a write violates a constraint.
        """
        with (
            database_errors(self.where),
            self._opened().connect() as connection,
            connection.execution_options(**{NOT_DURABLE: not durable}).begin(),
        ):
            if not durable and self._url is not None:
                connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
            refuse_later_schema(connection, self.where)
            yield connection

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

    def connect(self) -> Connection:
        """Return a dedicated connection for a lease. The caller closes it."""
        with database_errors(self.where):
            return self._opened().connect()

    def close(self) -> None:
        """Close all connections. The next use opens new ones."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    def _opened(self) -> Engine:
        self._breaker.check()
        with self._lock:
            if self._engine is None:
                if self._url is not None:
                    engine = postgresql_engine(self._url, self._wait, self._breaker, self._clock)
                else:
                    engine = self._file_engine()
                try:
                    ensure_current_schema(engine, self.where)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def _file_engine(self) -> Engine:
        path = make_state_directory(self._directory) / FILE_NAME
        if not os.path.lexists(path):
            create_atomically(path, lambda engine: upgrade_schema(engine, self.where), self._wait)
        if not refuse_another_users_database(path).st_size:  # only complete files get this name, so it was truncated
            raise StateError(
                "the database {where} is empty, which it never is",
                advice=RESTORE_ADVICE,
                code="database-cut-off",
                values={"where": self.where},
            )
        return sqlite_engine(path, self._wait)
