"""Bringing a database to the schema of this release, and refusing one of a later release.

Alembic is loaded only where there is something to do: it takes longer to import than most commands run.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, MetaData, String, Table, inspect, select, text

from evergreen_groups.errors import StateError
from evergreen_groups.state import refusals
from evergreen_groups.state.engine import READS, allow_minutes
from evergreen_groups.state.schema import VERSION, metadata

if TYPE_CHECKING:
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
