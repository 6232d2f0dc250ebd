"""The database schema, the same for SQLite and PostgreSQL.

Constraints back what the code promises: at most one open step per patron and field, and one outcome per event. Patrons
appear only by id; only waiting mails contain names. Notes of a follow-up are free text.
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
    Date,
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
    text,
)
from sqlalchemy.types import TypeDecorator

from evergreen_groups.state.record_ids import new_suffix

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.schema import SchemaItem
    from sqlalchemy.types import TypeEngine

BIG = BigInteger().with_variant(Integer(), "sqlite")
"""A 64-bit integer. SQLite numbers rows automatically only if the type has exactly this name."""


class Timestamp(TypeDecorator[datetime]):
    """An aware ``datetime``. In SQLite, UTC text of fixed width, so that it sorts by time."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        time = None if value is None else _in_utc(value)
        return time.isoformat(timespec="microseconds") if time and dialect.name == "sqlite" else time

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return _in_utc(datetime.fromisoformat(value) if dialect.name == "sqlite" else value)


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("a moment without its time zone")
    return time.astimezone(UTC)


class _AmountText(TypeDecorator[Decimal]):
    """An amount as text, because SQLite's numbers are binary fractions."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, _dialect: Dialect) -> str | None:
        return None if value is None else f"{value:.2f}"

    def process_result_value(self, value: Any, _dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


Amount = Numeric(14, 2).with_variant(_AmountText(), "sqlite")
"""An amount of money with two decimal places."""


VERSION = "15"
"""The version of this release's schema. Raise it with each change of a table, and add a migration."""

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_name)s",
        "uq": "%(table_name)s_%(column_0_name)s_once",
        "ck": "%(table_name)s_%(constraint_name)s",
        "fk": "%(table_name)s_%(column_0_name)s_of_%(referred_table_name)s",
        "pk": "%(table_name)s_key",
    }
)


def _table(name: str, *items: SchemaItem) -> Table:
    return Table(name, metadata, *items)


def _numbered(name: str, *items: SchemaItem) -> Table:
    """Return a table whose rows have numbers, which SQLite doesn't use again either."""
    return Table(name, metadata, Column("id", BIG, primary_key=True), *items, sqlite_autoincrement=True)


def _unique_index(name: str, *columns: str, where: str) -> Index:
    """Return a unique index of some rows. :func:`complete` declares the condition for PostgreSQL."""
    return Index(name, *columns, unique=True, sqlite_where=text(where))


def _suffix() -> Column[str]:
    """Return the random part of the ids of records whose ids leave the database. See :mod:`record_ids`."""
    return Column("suffix", Text, nullable=False, default=new_suffix)


changes = _numbered(
    "changes",
    _suffix(),
    Column("gateway", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("at", Timestamp, nullable=False, index=True),
    Column("action", Text, nullable=False),
    Column("undoes", BIG, ForeignKey("changes.id", ondelete="SET NULL"), index=True),
    Column("step_count", Integer, nullable=False),  # as planned; steps of forgotten patrons are deleted
    # Evergreen's ids (au, aws, au): the logged-in account, its workstation, and the supervisor who approved the change.
    # Changes from the command line have only the account's name, and the four columns below. Of
    # forgotten staff, the account is empty.
    Column("staff", BIG, index=True),
    Column("workstation", BIG),
    Column("approved_by", BIG),
    # Names from the operating system: the account that the program ran as, who logged in, and where.
    Column("os_user", Text),
    Column("login_user", Text),
    Column("host", Text),
    Column("terminal", Text),
)
"""The journal: applied plans, complete or not."""

steps = _numbered(
    "steps",
    Column("change", BIG, ForeignKey("changes.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("gateway", Text, nullable=False),
    Column("patron", BIG, nullable=False, index=True),
    Column("field", Text, nullable=False),
    Column("before", BIG, nullable=False),
    Column("after", BIG),
    Column("state", Text, nullable=False),
    Column("value", BIG),
    Column("reason", Text, nullable=False, server_default=""),
    Column("touched_at", Timestamp, nullable=False),
    # The step's latest request, with the facts that its outcome can be inferred from.
    Column("sent_at", Timestamp),
    Column("sent_until", Timestamp),
    Column("last_xact_id", Text),
    Column("other_fields", Text),
    # The missing permission that made Evergreen refuse the step: its name and org unit (aou.id).
    Column("permission", Text),
    Column("org_unit", BIG),
    # The code of the reason, and its values as JSON: ids and numbers, but no patron data.
    Column("reason_code", Text),
    Column("reason_values", Text),
    CheckConstraint("field IN ('usrgroup', 'master_account', 'penalties')", name="field"),
    CheckConstraint("state IN ('planned', 'sending', 'done', 'unchanged', 'not done', 'failed')", name="state"),
    # At most one open step per patron and field. These also find, among millions of steps, the open ones, the history
    # of one group, and, for each summary that a replica answers, the patrons with recent changes.
    _unique_index("steps_open_once", "gateway", "patron", "field", where="state = 'sending'"),
    Index("steps_from", "gateway", "field", "before"),
    Index("steps_to", "gateway", "field", "value"),
    Index("steps_touched", "gateway", "touched_at"),
)
"""The steps of changes, in their current state."""

plans = _table(
    "plans",
    Column("id", Text, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("staff", BIG, nullable=False),
    Column("at", Timestamp, nullable=False, index=True),
    Column("expires", Timestamp, nullable=False),
    Column("action", Text, nullable=False),
    Column("content", Text, nullable=False),  # JSON: patron ids and group numbers
    Column("idempotency_key", Text),
    Column("change", BIG, ForeignKey("changes.id", ondelete="SET NULL"), index=True),
    UniqueConstraint("gateway", "staff", "idempotency_key"),
)
"""Plans shown to staff. Each can be applied once, under the caller's idempotency key."""

groups_to_keep = _table(
    "groups_to_keep",
    Column("gateway", Text, primary_key=True),
    Column("number", BIG, primary_key=True, autoincrement=False),
    Column("at", Timestamp, nullable=False, index=True),
    Column("members", Text, nullable=False),  # JSON: a list of patron ids
)
"""Decisions to keep groups that look accidental, with the members at the time of the decision."""

series = _table(
    "series",
    Column("id", BIG, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("settings", Text, nullable=False),
    UniqueConstraint("gateway", "settings"),
)
"""Series of comparable report runs: at the same gateway, with the same settings."""

runs = _numbered(
    "runs",
    _suffix(),
    Column("series", BIG, ForeignKey("series.id", ondelete="CASCADE"), nullable=False),
    Column("at", Timestamp, nullable=False, index=True),
    Column("hidden_libraries", Text, nullable=False),  # JSON: a list of short names
    Index("runs_series", "series", "id"),
)
"""The history of report runs."""

run_totals = _table(
    "run_totals",
    Column("run", BIG, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("org_unit", Text, primary_key=True),  # '' for the total
    Column("group_count", Integer, nullable=False),
    Column("member_count", Integer, nullable=False),
    Column("combined_fines", Amount, nullable=False),  # group_fines everywhere else, here and below
)
"""The totals of a run by org unit."""

run_groups = _table(
    "run_groups",
    Column("run", BIG, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", BIG, primary_key=True, autoincrement=False),
    Column("combined_fines", Amount, nullable=False),
    Column("certain", Boolean, nullable=False),
    Column("member_count", Integer, nullable=False),
    Column("members", Text, nullable=False),  # JSON: a list of patron ids
    Column("library", Text, nullable=False),
    Column("libraries", Text, nullable=False),  # JSON: a list of short names
    # The person to contact, and the short name of their home library.
    Column("contact", BIG, nullable=False),
    Column("contact_library", Text, nullable=False),
    Column("in_collections", Boolean, nullable=False),  # whether a member is
    Column("listed", Boolean, nullable=False),  # false: met the criteria, but ``top`` cut it off
    # How many members are over the limit, at least; exactly, if certain. Null: not listed.
    Column("over_limit_count", Integer),
    Column("over_limit_certain", Boolean),
    Column("age_band", Text),  # null: not known
    Column("unreturned", Integer),  # overdue and lost items, at least; null: the report doesn't list groups by items
)
"""The groups in the last run of a series. Earlier runs are never compared, so their groups aren't kept."""

group_nights = _table(
    "group_nights",
    Column("run", BIG, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", BIG, primary_key=True, autoincrement=False),
    Column("combined_fines", Amount, nullable=False),
    Column("certain", Boolean, nullable=False),
    # JSON: the numbers that the group had in the previous run. Null if unchanged, or if the group wasn't listed.
    Column("formerly", Text),
    Index("group_nights_number", "number"),
)
"""What each listed group owed in the last runs of a series, by number, without patron ids."""

follow_ups = _numbered(
    "follow_ups",
    Column("gateway", Text, nullable=False, index=True),
    # Whom the entries are about: the contact person, and all members (JSON: a list of patron ids).
    Column("contact", BIG, nullable=False, index=True),
    Column("persons", Text, nullable=False),
    # The group as of ``listed_at``, when a report last listed it: its number, those of the persons who were in it
    # (JSON), their count with hidden members, and the short name of the home library of the group's contact person.
    Column("number", BIG, nullable=False),
    Column("members", Text, nullable=False),
    Column("member_count", Integer, nullable=False),
    Column("library", Text, nullable=False),
    Column("listed_at", Timestamp, nullable=False, index=True),
)
"""The follow-ups of groups, whichever reports list them. A group whose persons change gets another row."""

follow_up_entries = _numbered(
    "follow_up_entries",
    _suffix(),
    Column("follow_up", BIG, ForeignKey("follow_ups.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("at", Timestamp, nullable=False),
    Column("saved_on", Date, nullable=False),  # the date at the library of the contact person
    # The group and the contact person at that time.
    Column("number", BIG, nullable=False),
    Column("contact", BIG, nullable=False, index=True),
    Column("what", Text, nullable=False),
    Column("how", Text),
    Column("day", Date, nullable=False),
    Column("remind_on", Date),
    Column("pay_by", Date),  # the day of a promise
    Column("cancels", Text),  # what this entry ends
    Column("note", Text, nullable=False),
    Column("combined_fines", Amount, nullable=False),
    # Of a closing: whether the group has owed or kept more since, or left. Of a letter: whether it has left.
    Column("reopened", Boolean, nullable=False),
    Column("staff", BIG, index=True),  # au.id; null once forgotten
    Column("workstation", BIG),  # aws.id
    Column("org_unit", BIG),  # aou.id: where the staff user was working
    # A correction is a row that replaces an earlier entry, whose note is removed; a deletion replaces it with nothing.
    Column("corrects", BIG, ForeignKey("follow_up_entries.id", ondelete="CASCADE"), index=True),
    Column("deleted", Boolean, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("request", Text, nullable=False),  # a digest of what was requested under the key
    Column("detail", Text),  # more about "no-answer", or why "closed"
    Column("amount", Amount),  # what was promised; null: all
    # What the last night's report found after the day of a promise: paid and forgiven (or worked off) since.
    Column("outcome", Text),
    Column("paid", Amount),
    Column("forgiven", Amount),
    Column("unreturned", Integer),  # as in run_groups
    CheckConstraint("what IN ('contacted', 'promised', 'no-answer', 'closed', 'note')", name="what"),
    CheckConstraint("how IN ('phone', 'email', 'letter', 'in-person')", name="how"),
    CheckConstraint("cancels IN ('promise', 'reminder')", name="cancels"),
    CheckConstraint(
        "detail IN ('left-message', 'wrong-contact', 'paid', 'waived', 'given-up', 'other')", name="detail"
    ),
    CheckConstraint("outcome IN ('kept', 'broken', 'not-owed', 'check')", name="outcome"),
    Index("follow_up_entries_requested", "staff", "idempotency_key"),
)
"""The entries of follow-ups. Rows are only added, so that who corrected what and when is on record."""

stays = _numbered(
    "stays",
    Column("gateway", Text, nullable=False),
    Column("report", Text, nullable=False),  # '' for the one configured as [report]
    # The group as of ``last_at``, when a run last listed it, as in run_groups.
    Column("number", BIG, nullable=False),
    Column("members", Text, nullable=False),  # JSON: a list of patron ids
    Column("member_count", Integer, nullable=False),
    Column("library", Text, nullable=False),  # that of the person to contact
    Column("libraries", Text, nullable=False),  # JSON: a list of short names
    Column("former_members", Text, nullable=False),  # JSON: the ids of those who left the group during the stay
    Column("complete", Boolean, nullable=False),  # whether every member was visible, each night
    Column("first_at", Timestamp, nullable=False),
    Column("last_at", Timestamp, nullable=False, index=True),
    # The run that no longer listed it, and why.
    Column("left_at", Timestamp),
    Column("reason", Text),
    # Until when the payments of all these persons are known. Null: never.
    Column("paid_until", Timestamp),
    CheckConstraint("reason IN ('paid', 'below-minimum', 'moved', 'unknown')", name="reason"),
    Index("stays_report", "gateway", "report"),
)
"""From when to when a report listed a group, without interruption."""

payments = _numbered(
    "payments",
    Column("gateway", Text, nullable=False),
    Column("patron", BIG, nullable=False),
    Column("at", Timestamp, nullable=False, index=True),
    Column("amount", Amount, nullable=False),
    Index("payments_patron", "gateway", "patron", "at"),
)
"""What persons of ``stays`` have paid in Evergreen, without what was forgiven, worked off or voided."""

events = _numbered(
    "events",
    Column("gateway", Text, nullable=False),
    Column("at", Timestamp, nullable=False, index=True),
    Column("event", BIG, nullable=False),
    Column("hook", Text, nullable=False),
    Column("patron", BIG, nullable=False, index=True),
    Column("done", Boolean, nullable=False),
    Column("blocked", Boolean),
    Column("recalculated", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    # One outcome per event. The id alone doesn't identify an event: a restored Evergreen reuses ids.
    _unique_index("events_done_once", "gateway", "event", "hook", "patron", where="done"),
)
"""Evergreen's events, with the result of each."""

mails = _numbered(
    "mails",
    Column("message_id", Text, nullable=False, unique=True),
    Column("written_at", Timestamp, nullable=False),
    Column("content", LargeBinary, nullable=False),  # in RFC 5322 format
    # When a backup with this mail was restored. It may have been sent since the backup, so staff decide. Null: to send.
    Column("held_since", Timestamp),
)
"""The outbox: mails that wait for the mail server to accept them."""

run_status = _table(
    "run_status",
    Column("job", Text, primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("started", Timestamp, nullable=False),
    Column("finished", Timestamp, nullable=False),
    Column("exit_code", Integer, nullable=False),
    Column("error", Text),
    Column("groups", Integer),
    Column("members", Integer),
    CheckConstraint("outcome IN ('done', 'partial', 'failed')", name="outcome"),
)
"""The outcome of the last run of each job."""

leases = _table(
    "leases",
    Column("name", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("process", Integer, nullable=False),
    Column("since", Timestamp, nullable=False),
)
"""The holders of leases, for messages only. The database engine's own locks decide who holds a lease."""

retention = _table(
    "retention", Column("name", Text, primary_key=True), Column("believed_at", Timestamp, nullable=False)
)
"""The trusted time of the last deletion of old records."""


def complete(dialect: str) -> None:
    """Add what only PostgreSQL has. Must run before the tables are created there."""
    # Declared with the tables, this would make every command import SQLAlchemy's PostgreSQL dialect.
    if dialect == "postgresql":
        for index in (index for table in metadata.tables.values() for index in table.indexes):
            index.dialect_options["postgresql"]["where"] = index.dialect_options["sqlite"]["where"]
