"""The schema of all that is kept: one, whatever engine keeps it.

What the code promises, the database holds: a patron's field has one open step at most, an event one outcome. Patrons
stand here with their ids alone; only mails that wait have names in them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    event,
    func,
    select,
    text,
)
from sqlalchemy.types import TypeDecorator

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Dialect
    from sqlalchemy.types import TypeEngine

BIG = BigInteger().with_variant(Integer(), "sqlite")
"""A whole number of 64 bits. SQLite counts up by itself only where the type has this very name."""


class Moment(TypeDecorator[datetime]):
    """An aware ``datetime``; in SQLite a text in UTC, of one width, so that texts sort as moments do."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """PostgreSQL has a type for it."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """What is stored."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without its time zone")
        moment = value.astimezone(UTC)
        return moment.isoformat(timespec="microseconds") if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """What was stored, in UTC."""
        if value is None:
            return None
        moment = datetime.fromisoformat(value) if dialect.name == "sqlite" else value
        if moment.tzinfo is None:
            raise ValueError("a moment without its time zone")
        return moment.astimezone(UTC)


class Amount(TypeDecorator[Decimal]):
    """An amount of money with two digits behind the point; in SQLite a text, for its numbers are binary fractions."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """PostgreSQL has a type for it."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else Numeric(14, 2))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """What is stored."""
        return value if value is None or dialect.name != "sqlite" else f"{value:.2f}"

    def process_result_value(self, value: Any, _dialect: Dialect) -> Decimal | None:
        """What was stored."""
        return None if value is None else Decimal(value)


VERSION = "9"
"""The version of the schema that this release uses. Until 1.0, raise it with each change of a table: there are no
migrations yet, and a database of another version is refused."""

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_name)s",
        "uq": "%(table_name)s_%(column_0_name)s_once",
        "ck": "%(table_name)s_%(constraint_name)s",
        "fk": "%(table_name)s_%(column_0_name)s_of_%(referred_table_name)s",
        "pk": "%(table_name)s_key",
    }
)

changes = Table(
    "changes",
    metadata,
    # A change's id is this number, a hyphen and the random suffix: after a restore the number is given out again.
    Column("id", BIG, primary_key=True),
    Column("suffix", Text, nullable=False),
    Column("gateway", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("at", Moment, nullable=False, index=True),
    Column("action", Text, nullable=False),
    Column("undoes", BIG, ForeignKey("changes.id", ondelete="SET NULL"), index=True),
    Column("step_count", Integer, nullable=False),  # as they were planned: some may be forgotten before the others
    # Ids of the ILS (au, aws, au): whose session it was, at which workstation, and who approved it. Changes of the
    # command line have the account's name, and the four columns below.
    Column("staff", BIG, index=True),
    Column("workstation", BIG),
    Column("approved_by", BIG),
    # Names of the operating system: with whose rights it ran, who had logged in, and where.
    Column("os_user", Text),
    Column("login_user", Text),
    Column("host", Text),
    Column("terminal", Text),
    sqlite_autoincrement=True,
)
"""The journal: plans that were applied, or begun."""

steps = Table(
    "steps",
    metadata,
    Column("id", BIG, primary_key=True),
    Column("change", BIG, ForeignKey("changes.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("gateway", Text, nullable=False),
    Column("patron", BIG, nullable=False, index=True),
    Column("field", Text, nullable=False),
    Column("before", BIG, nullable=False),
    Column("after", BIG),
    Column("state", Text, nullable=False),
    Column("value", BIG),
    Column("reason", Text, nullable=False, server_default=""),
    Column("touched_at", Moment, nullable=False),
    # The latest request of the step; what its outcome can be told by.
    Column("sent_at", Moment),
    Column("sent_until", Moment),
    Column("last_xact_id", Text),
    Column("other_fields", Text),
    # What the ILS refused it for, where it was the lack of a permission: its name, and at which org unit (aou.id).
    Column("permission", Text),
    Column("org_unit", BIG),
    # The case that the reason is, for programs, and what it is about as JSON: ids and numbers, nothing of a patron.
    Column("reason_code", Text),
    Column("reason_values", Text),
    CheckConstraint("field IN ('usrgroup', 'master_account', 'penalties')", name="field"),
    CheckConstraint("state IN ('planned', 'sending', 'done', 'unchanged', 'not done', 'failed')", name="state"),
    sqlite_autoincrement=True,
)
"""The steps of a change, each as it stands."""

open_steps = Index(
    "steps_open_once",
    steps.c.gateway,
    steps.c.patron,
    steps.c.field,
    unique=True,
    sqlite_where=text("state = 'sending'"),
)
"""One open step for each patron and field; and the way to find the open ones among millions."""

steps_of_group = (
    Index("steps_from", steps.c.gateway, steps.c.field, steps.c.before),
    Index("steps_to", steps.c.gateway, steps.c.field, steps.c.value),
)
"""The way to find the past of one group among millions of steps."""

plans = Table(
    "plans",
    metadata,
    Column("id", Text, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("staff", BIG, nullable=False),
    Column("at", Moment, nullable=False, index=True),
    Column("expires", Moment, nullable=False),
    Column("action", Text, nullable=False),
    Column("content", Text, nullable=False),  # JSON: ids of patrons, and numbers of groups
    Column("idempotency_key", Text),
    Column("change", BIG, ForeignKey("changes.id", ondelete="SET NULL"), index=True),
    UniqueConstraint("gateway", "staff", "idempotency_key"),
)
"""Plans that were shown to staff, and those of them that were applied: each once, and under a key of the caller's."""

groups_to_keep = Table(
    "groups_to_keep",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("number", BIG, primary_key=True, autoincrement=False),
    Column("at", Moment, nullable=False, index=True),
    Column("members", Text, nullable=False),  # JSON, a list of patrons' ids
)
"""Groups that look accidental and are to be kept as they are, with the members that they had then."""

series = Table(
    "series",
    metadata,
    Column("id", BIG, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("settings", Text, nullable=False),
    UniqueConstraint("gateway", "settings"),
)
"""Runs of the report that can be compared: at one gateway, with the same settings."""

runs = Table(
    "runs",
    metadata,
    Column("id", BIG, primary_key=True),
    Column("series", BIG, ForeignKey("series.id", ondelete="CASCADE"), nullable=False),
    Column("at", Moment, nullable=False, index=True),
    Column("hidden_libraries", Text, nullable=False),  # JSON, a list of short names
    Index("runs_series", "series", "id"),
    sqlite_autoincrement=True,
)
"""The history: a row for each run."""

run_totals = Table(
    "run_totals",
    metadata,
    Column("run", BIG, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("org_unit", Text, primary_key=True),  # '' stands for all of them together
    Column("group_count", Integer, nullable=False),
    Column("member_count", Integer, nullable=False),
    Column("combined_fines", Amount, nullable=False),
)
"""What a run found, by org unit."""

run_groups = Table(
    "run_groups",
    metadata,
    Column("run", BIG, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", BIG, primary_key=True, autoincrement=False),
    Column("combined_fines", Amount, nullable=False),
    Column("certain", Boolean, nullable=False),
    Column("member_count", Integer, nullable=False),
    Column("members", Text, nullable=False),  # JSON, a list of patrons' ids
    Column("library", Text, nullable=False),
    Column("libraries", Text, nullable=False),  # JSON, a list of short names
)
"""The groups that the last run of a series listed; of the runs before it nothing is ever compared."""

group_nights = Table(
    "group_nights",
    metadata,
    Column("run", BIG, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", BIG, primary_key=True, autoincrement=False),
    Column("combined_fines", Amount, nullable=False),
    Column("certain", Boolean, nullable=False),
    # JSON, the numbers that the group had in the run before; null where it was its own, or it wasn't listed.
    Column("formerly", Text),
    Index("group_nights_number", "number"),
)
"""What each listed group owed in the last runs of a series, by its number: of nobody, so nobody is forgotten in it."""

events = Table(
    "events",
    metadata,
    Column("id", BIG, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("at", Moment, nullable=False, index=True),
    Column("event", BIG, nullable=False),
    Column("hook", Text, nullable=False),
    Column("patron", BIG, nullable=False, index=True),
    Column("done", Boolean, nullable=False),
    Column("blocked", Boolean),
    Column("recalculated", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_autoincrement=True,
)
"""The events of the ILS, with what came of each."""

outcomes = Index(
    "events_done_once",
    events.c.gateway,
    events.c.event,
    events.c.hook,
    events.c.patron,
    unique=True,
    sqlite_where=text("done"),
)
"""One outcome for each event. Its id alone isn't enough: an ILS restored from a backup gives out ids again."""

mails = Table(
    "mails",
    metadata,
    Column("id", BIG, primary_key=True),
    Column("message_id", Text, nullable=False, unique=True),
    Column("written_at", Moment, nullable=False),
    Column("content", LargeBinary, nullable=False),  # as RFC 5322 has it
    sqlite_autoincrement=True,
)
"""The outbox: mails that wait until the mail server takes them."""

run_status = Table(
    "run_status",
    metadata,
    Column("job", Text, primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("started", Moment, nullable=False),
    Column("finished", Moment, nullable=False),
    Column("exit_code", Integer, nullable=False),
    Column("error", Text),
    Column("groups", Integer),
    Column("members", Integer),
    CheckConstraint("outcome IN ('done', 'partial', 'failed')", name="outcome"),
)
"""How the last run of a job ended."""

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("process", Integer, nullable=False),
    Column("since", Moment, nullable=False),
)
"""Who holds what, for the message to others. That it is held is a matter of the engine's own locks, not of this."""

retention = Table(
    "retention",
    metadata,
    Column("name", Text, primary_key=True),
    Column("believed_at", Moment, nullable=False),
)
"""The time that was believed when what is too old was last removed."""


def complete(dialect: str) -> None:
    """Add what only PostgreSQL has, before the tables are created there."""
    # Declared above, it would make every command load SQLAlchemy's PostgreSQL dialect.
    if dialect == "postgresql":
        for index in (open_steps, outcomes):
            index.dialect_options["postgresql"]["where"] = index.dialect_options["sqlite"]["where"]


@event.listens_for(metadata, "before_create")
def _before_create(_metadata: MetaData, connection: Connection, **_options: Any) -> None:
    complete(connection.dialect.name)


def set_counters(connection: Connection, *tables: Table) -> None:
    """Let numbering go on behind the highest number. SQLite does so by itself; PostgreSQL counts only its own."""
    if connection.dialect.name != "postgresql":
        return
    for table in tables:
        column = table.autoincrement_column  # none where rows are named by whoever makes them
        if column is not None:
            highest = select(func.max(column)).scalar_subquery()
            sequence = func.pg_get_serial_sequence(table.name, column.name)
            # Where the table is empty the next one is the first.
            connection.execute(select(func.setval(sequence, func.coalesce(highest, 1), highest.is_not(None))))
