"""The database: transactions, schema, new files, and the clock behind stored times."""

from __future__ import annotations

import sqlite3
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text
from support.postgresql import shared_cluster
from support.states import columns_of

from evergreen_groups.errors import ConfigurationError, StateError, StateUnavailableError
from evergreen_groups.state import State, schema
from evergreen_groups.state.backup import restore
from evergreen_groups.state.database import FILE_NAME, Database, create_atomically
from evergreen_groups.state.engine import ServerClock
from evergreen_groups.state.upgrade import statements

PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
NOON = datetime(2026, 8, 14, 12, tzinfo=UTC)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _mail(number: int, at: datetime = NOON) -> dict[str, object]:
    return {"message_id": f"<{number}@example.org>", "written_at": at, "content": b"a mail"}


def _count(state: State) -> int:
    with state.database.reading() as connection:
        return len(connection.execute(schema.mails.select()).all())


def test_what_is_written_is_read_and_what_fails_is_not_there(state: State) -> None:
    with state.database.writing() as connection:
        connection.execute(schema.mails.insert(), [_mail(1), _mail(2)])
    with pytest.raises(StateError), state.database.writing() as connection:
        connection.execute(schema.mails.insert(), [_mail(3), _mail(1)])
    assert _count(state) == 2


def test_moments_and_amounts_come_back_as_they_were(state: State) -> None:
    moment = datetime(2026, 11, 1, 1, 30, 0, 123456, timezone(timedelta(hours=-5)))
    with state.database.writing() as connection:
        connection.execute(schema.series.insert().values(id=1, gateway="g", settings="s"))
        connection.execute(schema.runs.insert().values(id=1, series=1, at=moment, hidden_libraries="[]"))
        totals = {"run": 1, "org_unit": "", "group_count": 1, "member_count": 2}
        connection.execute(schema.run_totals.insert().values(**totals, combined_fines=Decimal("148581.87")))
    with state.database.reading() as connection:
        assert connection.execute(schema.runs.select()).one().at == moment
        amount = connection.execute(schema.run_totals.select()).one().combined_fines
    assert (amount, str(amount)) == (Decimal("148581.87"), "148581.87")


def test_a_moment_without_its_zone_is_refused(state: State) -> None:
    with pytest.raises(StateError), state.database.writing() as connection:
        connection.execute(schema.mails.insert(), [_mail(1, datetime(2026, 8, 14, 12))])  # noqa: DTZ001 - on purpose


def test_one_open_step_for_each_patron_and_field(state: State) -> None:
    step = {"gateway": "g", "patron": 7, "field": "usrgroup", "before": 1, "change": 1, "touched_at": NOON}
    with state.database.writing() as connection:
        change = {"id": 1, "suffix": "k7q4tz", "gateway": "g", "account": "a", "action": "move", "step_count": 1}
        connection.execute(schema.changes.insert().values(**change, at=NOON))
        connection.execute(schema.steps.insert(), [{**step, "state": "sending"}, {**step, "state": "done"}])
        connection.execute(schema.steps.insert(), [{**step, "state": "sending", "gateway": "another"}])
    with pytest.raises(StateError, match="rejected a write") as caught, state.database.writing() as connection:
        connection.execute(schema.steps.insert(), [{**step, "state": "sending"}])
    assert "7" not in str(caught.value).replace(str(state.database.where), "")


def test_a_step_belongs_to_a_change(state: State) -> None:
    step = {"gateway": "g", "patron": 7, "field": "usrgroup", "before": 1, "state": "done", "touched_at": NOON}
    with pytest.raises(StateError, match="rejected a write"), state.database.writing() as connection:
        connection.execute(schema.steps.insert().values(change=1, **step))


def test_a_reader_sees_one_state_of_everything(state: State) -> None:
    with state.database.reading() as reader:
        assert reader.execute(schema.mails.select()).all() == []
        with state.database.writing() as writer:
            writer.execute(schema.mails.insert(), [_mail(1)])
        assert reader.execute(schema.mails.select()).all() == []
    assert _count(state) == 1


def test_many_threads_make_it_once(state: State) -> None:
    """Each thread has its own database object, like separate processes."""
    opened = [State(state.directory, state.address) for _ in range(6)]

    def write(number: int) -> None:
        with opened[number].database.writing() as connection:
            connection.execute(schema.mails.insert(), [_mail(number)])

    with ThreadPoolExecutor(len(opened)) as threads:
        list(threads.map(write, range(len(opened))))
    for one in opened:
        one.close()
    assert _count(state) == len(opened)


@pytest.mark.parametrize(
    ("version", "code", "message"),
    [
        (
            "6",
            "state-of-development-version",
            r"from a development version \(schema 6\) and can't be upgraded; move the file away",
        ),
        ("of tomorrow", "state-of-newer-release", r"from a later release \(schema of tomorrow\); install that release"),
    ],
)
def test_a_database_of_another_version_is_refused(state: State, version: str, code: str, message: str) -> None:
    _of_version(state, version)
    with pytest.raises(StateError, match=message) as caught:
        _count(state)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("state", ["sqlite"], indirect=True)
def test_a_backup_of_a_development_version_is_refused(state: State, tmp_path: Path) -> None:
    _of_version(state, "6")
    with State(tmp_path / "new") as new, pytest.raises(StateError, match="is from a development version"):
        restore(new.database, state.directory / FILE_NAME)


def _of_version(state: State, version: str) -> None:
    with state.database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    state.close()


def test_a_running_program_writes_nothing_more_once_the_schema_was_upgraded(state: State) -> None:
    with State(state.directory, state.address) as upgraded:
        with state.change_lease("g", [1]) as lease:
            with lease.writing() as connection:
                connection.execute(schema.mails.insert(), [_mail(1)])
            _of_version(upgraded, "of tomorrow")
            for writing in (state.database.writing, lease.writing):
                with pytest.raises(StateError, match="from a later release"), writing() as connection:
                    connection.execute(schema.mails.insert(), [_mail(2)])
        assert _count(state) == 1


def test_the_sql_for_review_makes_the_same_tables(state: State, tmp_path: Path, stack: ExitStack) -> None:
    with state.database.reading() as connection:
        made = columns_of(connection.engine)
    if state.database.path is None:
        cluster = shared_cluster()
        migrated = stack.enter_context(cluster.database())
        cluster.execute(statements("postgresql"), migrated)
        engine = create_engine(cluster.url(migrated))
    else:
        engine = create_engine(f"sqlite:///{tmp_path / 'migrated.sqlite3'}")
        with closing(sqlite3.connect(tmp_path / "migrated.sqlite3")) as raw:
            raw.executescript(statements("sqlite"))
    stack.callback(engine.dispose)
    assert columns_of(engine) == made


NAMES = sorted({name for table in schema.metadata.sorted_tables for name in (table.name, *table.columns.keys())})


def test_no_name_is_reserved_in_postgresql() -> None:
    """Reserved words differ between versions: 16 added ``system_user``, and SQLAlchemy doesn't quote it."""
    with psycopg.connect(shared_cluster().url("postgres").replace("+psycopg", "")) as connection:
        found = connection.execute("SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T')")
        reserved = {word for (word,) in found} | {"system_user"}
    assert len(reserved) > 90
    assert reserved.isdisjoint(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_no_name_is_reserved_in_sqlite(name: str) -> None:
    """SQLite accepts many of its keywords as names, and doesn't list which."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE {name} ({name} INTEGER)")


class TestFile:
    """Behavior specific to SQLite's file."""

    def test_it_is_its_owners_alone(self, tmp_path: Path) -> None:
        state = State(tmp_path / "state")
        assert _count(state) == 0
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "state").iterdir()}
        assert modes == dict.fromkeys((FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"), 384)
        state.close()
        assert [file.name for file in (tmp_path / "state").iterdir()] == [FILE_NAME]

    def test_what_is_written_survives_a_power_cut(self, tmp_path: Path) -> None:
        with State(tmp_path) as state, state.database.writing() as connection:
            pragmas = [connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in PRAGMAS]
        assert dict(zip(PRAGMAS, pragmas, strict=True)) == PRAGMAS

    def test_one_that_was_open_to_others_is_closed_to_them(self, tmp_path: Path) -> None:
        with State(tmp_path) as state:
            _count(state)
        (tmp_path / FILE_NAME).chmod(0o644)
        with State(tmp_path) as state:
            _count(state)
            assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is damaged; restore a backup"),
            (b"?" * 4096, "restore a backup, or move the database away to start a new one"),
        ],
        ids=["cut off", "overwritten"],
    )
    def test_a_damaged_one_is_refused(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / FILE_NAME).touch(mode=0o600)
        (tmp_path / FILE_NAME).write_bytes(content)
        with pytest.raises(StateError, match=message):
            _count(State(tmp_path))

    def test_another_programs_is_refused(self, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as raw, raw:
            raw.execute("CREATE TABLE somebody (id INTEGER)")
        with pytest.raises(StateError, match="belongs to another program"):
            _count(State(tmp_path))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nonsense", "isn't a valid address"),
        ("mysql://here/there", "isn't a valid address"),
        ("postgresql://me:secret@here/there", "contains a password"),
        ("postgresql://me@here/there?password=secret", "contains a password"),
        ("postgresql://me@here:port/there", "isn't a valid address"),
    ],
)
def test_addresses_that_will_not_do(tmp_path: Path, address: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        Database(tmp_path, address)
    assert "secret" not in str(caught.value)


def test_the_driver_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "evergreen_groups.state.postgresql", None)
    with State(tmp_path, "postgresql://localhost/groups") as state:
        with pytest.raises(ConfigurationError, match="psycopg isn't installed") as caught:
            _count(state)
        assert caught.value.code == "postgresql-not-installed"


@pytest.mark.parametrize("state", ["postgresql"], indirect=True)
def test_whoever_holds_a_table_is_not_waited_for_without_end(state: State, tmp_path: Path, stack: ExitStack) -> None:
    assert _count(state) == 0
    with closing(Database(tmp_path, state.address, wait=0.2)) as other, state.database.writing() as holder:
        holder.execute(text("LOCK TABLE mails"))
        with (
            pytest.raises(StateError, match=r"lock timeout\); end the process that locks the database"),
            other.reading() as connection,
        ):
            connection.execute(schema.mails.select())


@pytest.mark.parametrize(
    ("former", "now", "advice"),
    [
        ("postgres@/", "nobody@/", "check the user"),
        ("?host=", "_of_nobody?host=", "create the database"),
        ("?host=", "?sslmode=whatever&host=", "check the user, password and address"),
        ("?host=", "?foo=bar&host=", "check the user, password and address"),
        ("?host=/", "?host=/nowhere/", "try again when PostgreSQL is running"),
    ],
)
def test_what_to_do_where_a_connection_is_refused(tmp_path: Path, former: str, now: str, advice: str) -> None:
    cluster = shared_cluster()
    with cluster.database() as name, State(tmp_path, cluster.url(name).replace(former, now)) as state:
        with pytest.raises(StateError, match=advice) as caught:
            _count(state)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "UTF8"])
def test_letters_come_back_whatever_the_databases_encoding(tmp_path: Path, encoding: str) -> None:
    cluster = shared_cluster()
    with cluster.database() as name:
        cluster.execute(f"DROP DATABASE {name}")
        cluster.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        with State(tmp_path, cluster.url(name)) as state:
            with state.database.writing() as connection:
                connection.execute(schema.series.insert().values(gateway="Łódź", settings="日本"))
            with state.database.reading() as connection:
                (row,) = connection.execute(schema.series.select())
                assert (row.gateway, row.settings) == ("Łódź", "日本")


def test_a_database_that_cannot_store_all_letters_stays_that_way(tmp_path: Path) -> None:
    cluster = shared_cluster()
    with cluster.database() as name:
        cluster.execute(f"DROP DATABASE {name}")
        cluster.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        with (
            State(tmp_path, cluster.url(name)) as state,
            pytest.raises(StateError, match="encoding UTF8") as caught,
            state.database.writing() as connection,
        ):
            connection.execute(schema.series.insert().values(gateway="Łódź", settings="日本"))
        assert not isinstance(caught.value, StateUnavailableError)


def hours_ahead(state: State) -> int:
    return round((state.database.now() - datetime.now(UTC)) / timedelta(hours=1))


def test_a_servers_clock_counts_and_is_compared_again_with_each_transaction(tmp_path: Path) -> None:
    cluster = shared_cluster()

    def set_clock(hours: int) -> None:
        cluster.execute(
            "CREATE OR REPLACE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql"
            f" AS $$SELECT pg_catalog.clock_timestamp() + interval '{hours} hours'$$",
            name,
        )

    with cluster.database() as name:
        cluster.execute("CREATE SCHEMA ahead", name)
        set_clock(3)
        with State(tmp_path, f"{cluster.url(name)}&options=-csearch_path%3Dahead,pg_catalog") as state:
            assert hours_ahead(state) == 3
            with state.report_lease() as lease:
                assert round((lease.since - datetime.now(UTC)) / timedelta(hours=1)) == 3
            set_clock(-5)
            with state.database.reading():
                pass
            assert hours_ahead(state) == -5


def test_without_a_server_this_machines_clock_counts(tmp_path: Path) -> None:
    with State(tmp_path) as state:
        assert hours_ahead(state) == 0
        assert not state.database.is_there, "asking for the time makes nothing"


def test_an_answer_that_took_long_says_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ServerClock()
    times = iter([100.0, 100.2, 200.0, 209.0, 300.0])
    monkeypatch.setattr("time.clock_gettime", lambda _: next(times))
    clock.compare(lambda: 1_000_000.1)
    clock.compare(lambda: 2_000_000.0)
    assert clock.now() == datetime.fromtimestamp(1_000_200.0, UTC)


LEFT = (".evergreen-groups.0123456789ab.part", ".evergreen-groups.ab12cd34ef56.part")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory in which a process was killed while creating the database."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    for name in LEFT:
        (directory / name).write_bytes(b"unfinished")
    return directory


def use(directory: Path) -> None:
    with closing(Database(directory)) as database, database.reading():
        pass


def fill(engine: Engine) -> None:
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("CREATE TABLE filled (number INTEGER)")


def test_files_of_a_process_killed_while_creating_it_are_removed(directory: Path) -> None:
    use(directory)
    assert [path.name for path in directory.iterdir()] == [FILE_NAME]
    assert (directory / FILE_NAME).stat().st_nlink == 1


def test_an_existing_file_is_never_recreated(directory: Path) -> None:
    path = directory / FILE_NAME
    path.write_bytes(b"somebody's")
    create_atomically(path, lambda engine: pytest.fail("it is there"))
    assert path.read_bytes() == b"somebody's"


def test_all_of_it_is_in_the_file_itself(directory: Path) -> None:
    """No data is left in a temporary or WAL file next to the database."""
    path = directory / FILE_NAME
    create_atomically(path, fill)
    assert [one.name for one in directory.iterdir()] == [FILE_NAME]
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("filled",)]


def test_what_could_not_be_filled_leaves_nothing(directory: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        create_atomically(directory / FILE_NAME, lambda engine: fill(engine) or 1 / 0)  # type: ignore[arg-type]
    assert list(directory.iterdir()) == []
