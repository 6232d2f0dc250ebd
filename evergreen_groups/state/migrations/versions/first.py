"""The first schema: journal, history, events, outbox, status and leases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from evergreen_groups.state import column_types as types

revision = "1"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    _journal()
    _history()
    _events()
    op.create_table(
        "mails",
        sa.Column("id", types.BIG, primary_key=True),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("written_at", types.Moment, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("message_id", name="mails_message_id_once"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "run_status",
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("started", types.Moment, nullable=False),
        sa.Column("finished", types.Moment, nullable=False),
        sa.Column("exit_code", sa.Integer, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("groups", sa.Integer),
        sa.Column("members", sa.Integer),
        sa.CheckConstraint("outcome IN ('done', 'partial', 'failed')", name=op.f("run_status_outcome")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("process", sa.Integer, nullable=False),
        sa.Column("since", types.Moment, nullable=False),
    )
    op.create_table(
        "retention",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("believed_at", types.Moment, nullable=False),
    )
    op.create_table(
        "former_files",
        sa.Column("place", sa.Text, primary_key=True),
        sa.Column("taken_over_at", types.Moment, nullable=False),
        sa.Column("row_count", sa.Integer, nullable=False),
    )


def _journal() -> None:
    op.create_table(
        "changes",
        sa.Column("id", types.BIG, primary_key=True),
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("at", types.Moment, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("undoes", types.BIG),
        sa.Column("step_count", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["undoes"], ["changes.id"], name="changes_undoes_of_changes", ondelete="SET NULL"),
        sqlite_autoincrement=True,
    )
    op.create_index("changes_at", "changes", ["at"])
    op.create_index("changes_undoes", "changes", ["undoes"])
    op.create_table(
        "steps",
        sa.Column("id", types.BIG, primary_key=True),
        sa.Column("change", types.BIG, nullable=False),
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column("patron", types.BIG, nullable=False),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("before", types.BIG, nullable=False),
        sa.Column("after", types.BIG),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("value", types.BIG),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("touched_at", types.Moment, nullable=False),
        sa.Column("sent_at", types.Moment),
        sa.Column("sent_until", types.Moment),
        sa.Column("last_xact_id", sa.Text),
        sa.Column("other_fields", sa.Text),
        sa.ForeignKeyConstraint(["change"], ["changes.id"], name="steps_change_of_changes", ondelete="CASCADE"),
        sa.CheckConstraint("field IN ('usrgroup', 'master_account', 'penalties')", name=op.f("steps_field")),
        sa.CheckConstraint("state IN ('planned', 'sending', 'done', 'not done', 'failed')", name=op.f("steps_state")),
        sqlite_autoincrement=True,
    )
    op.create_index("steps_change", "steps", ["change"])
    op.create_index("steps_patron", "steps", ["patron"])
    op.create_index(
        "steps_open_once",
        "steps",
        ["gateway", "patron", "field"],
        unique=True,
        sqlite_where=sa.text("state = 'sending'"),
        postgresql_where=sa.text("state = 'sending'"),
    )


def _history() -> None:
    op.create_table(
        "series",
        sa.Column("id", types.BIG, primary_key=True),
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.UniqueConstraint("gateway", "settings", name="series_gateway_once"),
    )
    op.create_table(
        "runs",
        sa.Column("id", types.BIG, primary_key=True),
        sa.Column("series", types.BIG, nullable=False),
        sa.Column("at", types.Moment, nullable=False),
        sa.Column("hidden_libraries", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["series"], ["series.id"], name="runs_series_of_series", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("runs_at", "runs", ["at"])
    op.create_index("runs_series", "runs", ["series", "id"])
    op.create_table(
        "run_totals",
        sa.Column("run", types.BIG, primary_key=True),
        sa.Column("org_unit", sa.Text, primary_key=True),
        sa.Column("group_count", sa.Integer, nullable=False),
        sa.Column("member_count", sa.Integer, nullable=False),
        sa.Column("combined_fines", types.Amount, nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="run_totals_run_of_runs", ondelete="CASCADE"),
    )
    op.create_table(
        "run_groups",
        sa.Column("run", types.BIG, primary_key=True),
        sa.Column("number", types.BIG, primary_key=True, autoincrement=False),
        sa.Column("combined_fines", types.Amount, nullable=False),
        sa.Column("certain", sa.Boolean, nullable=False),
        sa.Column("member_count", sa.Integer, nullable=False),
        sa.Column("members", sa.Text, nullable=False),
        sa.Column("library", sa.Text, nullable=False),
        sa.Column("libraries", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="run_groups_run_of_runs", ondelete="CASCADE"),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", types.BIG, primary_key=True),
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column("at", types.Moment, nullable=False),
        sa.Column("event", types.BIG, nullable=False),
        sa.Column("hook", sa.Text, nullable=False),
        sa.Column("patron", types.BIG, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.Column("blocked", sa.Boolean),
        sa.Column("recalculated", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_at", "events", ["at"])
    op.create_index("events_patron", "events", ["patron"])
    op.create_index(
        "events_done_once",
        "events",
        ["gateway", "event", "hook", "patron"],
        unique=True,
        sqlite_where=sa.text("done"),
        postgresql_where=sa.text("done"),
    )
