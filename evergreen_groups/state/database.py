"""The database of all that is kept: whole, private, of this release's schema, and asked in transactions alone."""

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
from evergreen_groups.state import engine as refusals
from evergreen_groups.state.engine import (
    BESIDE,
    HASTY,
    READS,
    ServerClock,
    Silence,
    allow_minutes,
    engine_of,
    postgresql_url,
    refuse_another_users_database,
    sqlite_engine,
)
from evergreen_groups.state.files import hand_over, listed_directory, make_state_directory, names_in, sync
from evergreen_groups.state.lock import lock_in_time
from evergreen_groups.state.schema import VERSION, metadata

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from alembic.config import Config
    from sqlalchemy.engine import Connection, Engine

_MIGRATIONS = Path(__file__).parent / "migrations"
_VERSIONS = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
_BEFORE_1_0 = {str(version) for version in range(1, int(VERSION))}
_MINUTES = 10
_LOCK = 0x65766772  # any number that nobody else's program takes for a lock in the same database


def refuse_other_versions(engine: Engine, where: str) -> None:
    """See that a database is of this release's schema; an empty one, or one of an earlier release, is upgraded.

    Raises:
        StateError: it is of a later release or a development version, or another program's, or can't be changed.
    """
    with engine.connect() as connection:
        version = version_of(connection.execution_options(**{READS: True}))
    if version != VERSION:
        bring_up_to_date(engine, where)


def refuse_a_later_schema(connection: Connection, where: str) -> None:
    """Refuse to write if the database was upgraded while this program was running.

    Raises:
        StateError: it was.
    """
    found = str(connection.exec_driver_sql(f"SELECT version_num FROM {_VERSIONS.name}").scalar_one())  # noqa: S608 - fixed
    if found != VERSION:
        raise _written_by_a_later_release(where, found)


def bring_up_to_date(engine: Engine, where: str) -> None:
    """Run the migrations that a database lacks, all or none, while nobody else does."""
    with refusals.errors_named(where), engine.connect() as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            # Another one's upgrade may take longer than writes do, but not for ever.
            allow_minutes(connection, _MINUTES)
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        found = version_of(connection)
        if found is None:
            _refuse_another_programs(connection, where)
            make_tables(connection)
        elif found != VERSION:
            _migrate(connection, where, found)


def version_of(connection: Connection) -> str | None:
    """The version of the schema; None where there is none."""
    if not inspect(connection).has_table(_VERSIONS.name):
        return None
    version = connection.execute(select(_VERSIONS)).scalar_one_or_none()
    return None if version is None else str(version)


def statements(dialect: str) -> str:
    """The SQL that makes everything in an empty database, for administrators who want to read it first."""
    from alembic import command

    stream = io.StringIO()
    config = _config(stream, dialect=dialect)
    command.upgrade(config, "head", sql=True)
    return stream.getvalue()


def make_tables(connection: Connection) -> None:
    """Make everything at once, as Alembic's documentation suggests; a test compares the result with the migrations'."""
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


def make_whole(path: Path, fill: Callable[[Engine], None], wait: float) -> None:
    """Put a new SQLite file in place that ``fill`` has filled, unless somebody else is faster.

    ``wait`` is how long (seconds) it waits for whoever is making it. A file that is there is never opened here: closing
    it would give up the locks that SQLite holds on it in other threads.

    Raises:
        StateError: somebody else is still making it.
        OSError: the directory can't be used.
    """
    with listed_directory(path.parent) as directory:
        if not lock_in_time(directory, wait):
            raise StateError(
                "the database {where} is just being made by another process",
                advice="run again when that has ended",
                code="database-being-made",
                values={"where": path},
            )
        if os.path.lexists(path):
            return
        prefix = f".{path.name}-"
        with _nothing_left(directory, prefix):
            handle, temporary = mkstemp(dir=path.parent, prefix=prefix)  # 0600 from the start
            try:
                hand_over(handle, directory)
            finally:
                os.close(handle)
            _fill(Path(temporary), fill, wait)
            # Not linked and unlinked: killed in between, that would leave a file with two names, which is refused.
            Path(temporary).rename(path)
            sync(directory)


@contextmanager
def _nothing_left(directory: int, prefix: str) -> Iterator[None]:
    """Remove unfinished files before and after the block, whoever left them: they are only made under the lock."""
    _remove(directory, prefix)
    try:
        yield
    finally:
        _remove(directory, prefix)


def _remove(directory: int, prefix: str) -> None:
    for name in names_in(directory):
        if name.startswith(prefix):
            with suppress(OSError):  # it costs room, and nothing else
                os.unlink(name, dir_fd=directory)


def _fill(path: Path, fill: Callable[[Engine], None], wait: float) -> None:
    engine = sqlite_engine(path, wait)
    try:
        fill(engine)
        # When it is closed SQLite does this as well, but says nothing where the disk is full: half of it would stay
        # in the file beside it, which keeps the unfinished name.
        with engine.connect() as connection:
            connection.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        engine.dispose()
    for ending in BESIDE:
        if os.path.lexists(f"{path}{ending}"):
            raise OSError(f"{path.name}{ending} was left")


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
