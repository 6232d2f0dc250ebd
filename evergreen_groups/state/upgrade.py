"""The schema of a database: created, upgraded by Alembic's migrations, or refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, MetaData, String, Table, inspect, select, text

from evergreen_groups.errors import StateError
from evergreen_groups.message import Message
from evergreen_groups.state.engine import database_errors, set_timeouts, transaction
from evergreen_groups.state.schema import VERSION, complete, metadata

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

_MIGRATIONS = Path(__file__).parent / "migrations"
VERSIONS = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
_BEFORE_1_0 = {str(version) for version in range(1, 12)}
NEW_DATABASE = Message("move the file away, or set an empty PostgreSQL database in [state]")
_UPGRADE_SECONDS = 600.0
_LOCK = 0x65766772  # an arbitrary number, to avoid clashes with other programs' advisory locks


def upgrade_schema(engine: Engine, where: str) -> None:
    """Ensure that a database is on this release's schema. Create or upgrade the schema if necessary.

    All or nothing, with other processes locked out.
    """
    with database_errors(where), engine.connect() as connection:
        with transaction(connection, reads=True):
            if version_of(connection) == VERSION:
                return
        with transaction(connection):
            if connection.dialect.name == "postgresql":
                # Another process's upgrade may take longer than the usual lock timeout. Wait for it, but not forever.
                set_timeouts(connection, _UPGRADE_SECONDS, _UPGRADE_SECONDS)
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
    if not inspect(connection).has_table(VERSIONS.name):
        return None
    version = connection.execute(select(VERSIONS)).scalar_one_or_none()
    return None if version is None else str(version)


def statements(dialect: str) -> str:
    """Return the SQL that creates the schema, for administrators who want to review it first."""
    return _run_migrations(dialect=dialect)


def make_tables(connection: Connection) -> None:
    """Create all tables at once, as Alembic's documentation suggests. A test compares them with the migrations."""
    complete(connection.dialect.name)
    VERSIONS.create(connection)
    connection.execute(VERSIONS.insert().values(version_num=VERSION))
    metadata.create_all(connection)


def _migrate(connection: Connection, where: str, found: str) -> None:
    from alembic.script import ScriptDirectory

    if found in _BEFORE_1_0:
        raise StateError(
            "the database {where} is from a development version (schema {version}) and can't be upgraded",
            advice=NEW_DATABASE,
            code="state-of-development-version",
            values={"where": where, "version": found},
        )
    if found not in {one.revision for one in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()}:
        raise written_by_a_later_release(where, found)
    _run_migrations(connection=connection)


def written_by_a_later_release(where: str, version: str) -> StateError:
    return StateError(
        "the database {where} is from a later release (schema {version})",
        advice="install that release, or restore a backup from before the upgrade (docs/upgrading.md)",
        code="state-of-newer-release",
        values={"where": where, "version": version},
    )


def _run_migrations(**attributes: Any) -> str:
    """Run the migrations on a ``connection``, or return their SQL for a ``dialect``."""
    from alembic import command
    from alembic.config import Config

    output = io.StringIO()
    config = Config(output_buffer=output, attributes=attributes)
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, "head", sql="dialect" in attributes)
    return output.getvalue()
