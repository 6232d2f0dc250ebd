"""The schema of 1.0, frozen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from evergreen_groups.state.schema import BIG, Amount, Timestamp

revision = "12"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "changes",
        sa.Column("id", BIG, nullable=False),
        sa.Column("suffix", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("at", Timestamp, nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("undoes", BIG, nullable=True),
        sa.Column("step_count", sa.Integer(), nullable=False),
        sa.Column("staff", BIG, nullable=True),
        sa.Column("workstation", BIG, nullable=True),
        sa.Column("approved_by", BIG, nullable=True),
        sa.Column("os_user", sa.Text(), nullable=True),
        sa.Column("login_user", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("terminal", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["undoes"], ["changes.id"], name=op.f("changes_undoes_of_changes"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("changes_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("changes_at"), "changes", ["at"])
    op.create_index(op.f("changes_staff"), "changes", ["staff"])
    op.create_index(op.f("changes_undoes"), "changes", ["undoes"])
    op.create_table(
        "events",
        sa.Column("id", BIG, nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("at", Timestamp, nullable=False),
        sa.Column("event", BIG, nullable=False),
        sa.Column("hook", sa.Text(), nullable=False),
        sa.Column("patron", BIG, nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("blocked", sa.Boolean(), nullable=True),
        sa.Column("recalculated", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("events_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("events_at"), "events", ["at"])
    op.create_index(
        "events_done_once",
        "events",
        ["gateway", "event", "hook", "patron"],
        unique=True,
        sqlite_where=sa.text("done"),
        postgresql_where=sa.text("done"),
    )
    op.create_index(op.f("events_patron"), "events", ["patron"])
    op.create_table(
        "follow_ups",
        sa.Column("id", BIG, nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("contact", BIG, nullable=False),
        sa.Column("persons", sa.Text(), nullable=False),
        sa.Column("number", BIG, nullable=False),
        sa.Column("members", sa.Text(), nullable=False),
        sa.Column("member_count", sa.Integer(), nullable=False),
        sa.Column("library", sa.Text(), nullable=False),
        sa.Column("listed_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("follow_ups_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("follow_ups_contact"), "follow_ups", ["contact"])
    op.create_index(op.f("follow_ups_gateway"), "follow_ups", ["gateway"])
    op.create_index(op.f("follow_ups_listed_at"), "follow_ups", ["listed_at"])
    op.create_table(
        "groups_to_keep",
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("number", BIG, autoincrement=False, nullable=False),
        sa.Column("at", Timestamp, nullable=False),
        sa.Column("members", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("gateway", "number", name=op.f("groups_to_keep_key")),
    )
    op.create_index(op.f("groups_to_keep_at"), "groups_to_keep", ["at"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("process", sa.Integer(), nullable=False),
        sa.Column("since", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("leases_key")),
    )
    op.create_table(
        "mails",
        sa.Column("id", BIG, nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("written_at", Timestamp, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("held_since", Timestamp, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("mails_key")),
        sa.UniqueConstraint("message_id", name=op.f("mails_message_id_once")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "retention",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("believed_at", Timestamp, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("retention_key")),
    )
    op.create_table(
        "run_status",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("started", Timestamp, nullable=False),
        sa.Column("finished", Timestamp, nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("groups", sa.Integer(), nullable=True),
        sa.Column("members", sa.Integer(), nullable=True),
        sa.CheckConstraint("outcome IN ('done', 'partial', 'failed')", name=op.f("run_status_outcome")),
        sa.PrimaryKeyConstraint("job", name=op.f("run_status_key")),
    )
    op.create_table(
        "series",
        sa.Column("id", BIG, nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("series_key")),
        sa.UniqueConstraint("gateway", "settings", name=op.f("series_gateway_once")),
    )
    op.create_table(
        "follow_up_entries",
        sa.Column("id", BIG, nullable=False),
        sa.Column("suffix", sa.Text(), nullable=False),
        sa.Column("follow_up", BIG, nullable=False),
        sa.Column("at", Timestamp, nullable=False),
        sa.Column("saved_on", sa.Date(), nullable=False),
        sa.Column("number", BIG, nullable=False),
        sa.Column("contact", BIG, nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("how", sa.Text(), nullable=True),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("remind_on", sa.Date(), nullable=True),
        sa.Column("pay_by", sa.Date(), nullable=True),
        sa.Column("cancels", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("combined_fines", Amount, nullable=False),
        sa.Column("reopened", sa.Boolean(), nullable=False),
        sa.Column("staff", BIG, nullable=True),
        sa.Column("workstation", BIG, nullable=True),
        sa.Column("org_unit", BIG, nullable=True),
        sa.Column("corrects", BIG, nullable=True),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.CheckConstraint("cancels IN ('promise', 'reminder')", name=op.f("follow_up_entries_cancels")),
        sa.CheckConstraint("how IN ('phone', 'email', 'letter', 'in-person')", name=op.f("follow_up_entries_how")),
        sa.CheckConstraint(
            "what IN ('contacted', 'promised', 'no-answer', 'closed', 'note')", name=op.f("follow_up_entries_what")
        ),
        sa.ForeignKeyConstraint(
            ["corrects"],
            ["follow_up_entries.id"],
            name=op.f("follow_up_entries_corrects_of_follow_up_entries"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["follow_up"], ["follow_ups.id"], name=op.f("follow_up_entries_follow_up_of_follow_ups"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("follow_up_entries_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("follow_up_entries_contact"), "follow_up_entries", ["contact"])
    op.create_index(op.f("follow_up_entries_corrects"), "follow_up_entries", ["corrects"])
    op.create_index(op.f("follow_up_entries_follow_up"), "follow_up_entries", ["follow_up"])
    op.create_index("follow_up_entries_requested", "follow_up_entries", ["staff", "idempotency_key"])
    op.create_index(op.f("follow_up_entries_staff"), "follow_up_entries", ["staff"])
    op.create_table(
        "plans",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("staff", BIG, nullable=False),
        sa.Column("at", Timestamp, nullable=False),
        sa.Column("expires", Timestamp, nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("change", BIG, nullable=True),
        sa.ForeignKeyConstraint(["change"], ["changes.id"], name=op.f("plans_change_of_changes"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("plans_key")),
        sa.UniqueConstraint("gateway", "staff", "idempotency_key", name=op.f("plans_gateway_once")),
    )
    op.create_index(op.f("plans_at"), "plans", ["at"])
    op.create_index(op.f("plans_change"), "plans", ["change"])
    op.create_table(
        "runs",
        sa.Column("id", BIG, nullable=False),
        sa.Column("suffix", sa.Text(), nullable=False),
        sa.Column("series", BIG, nullable=False),
        sa.Column("at", Timestamp, nullable=False),
        sa.Column("hidden_libraries", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["series"], ["series.id"], name=op.f("runs_series_of_series"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("runs_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("runs_at"), "runs", ["at"])
    op.create_index("runs_series", "runs", ["series", "id"])
    op.create_table(
        "steps",
        sa.Column("id", BIG, nullable=False),
        sa.Column("change", BIG, nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("patron", BIG, nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("before", BIG, nullable=False),
        sa.Column("after", BIG, nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("value", BIG, nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("touched_at", Timestamp, nullable=False),
        sa.Column("sent_at", Timestamp, nullable=True),
        sa.Column("sent_until", Timestamp, nullable=True),
        sa.Column("last_xact_id", sa.Text(), nullable=True),
        sa.Column("other_fields", sa.Text(), nullable=True),
        sa.Column("permission", sa.Text(), nullable=True),
        sa.Column("org_unit", BIG, nullable=True),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("reason_values", sa.Text(), nullable=True),
        sa.CheckConstraint("field IN ('usrgroup', 'master_account', 'penalties')", name=op.f("steps_field")),
        sa.CheckConstraint(
            "state IN ('planned', 'sending', 'done', 'unchanged', 'not done', 'failed')", name=op.f("steps_state")
        ),
        sa.ForeignKeyConstraint(["change"], ["changes.id"], name=op.f("steps_change_of_changes"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("steps_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("steps_change"), "steps", ["change"])
    op.create_index("steps_from", "steps", ["gateway", "field", "before"])
    op.create_index(
        "steps_open_once",
        "steps",
        ["gateway", "patron", "field"],
        unique=True,
        sqlite_where=sa.text("state = 'sending'"),
        postgresql_where=sa.text("state = 'sending'"),
    )
    op.create_index(op.f("steps_patron"), "steps", ["patron"])
    op.create_index("steps_to", "steps", ["gateway", "field", "value"])
    op.create_index("steps_touched", "steps", ["gateway", "touched_at"])
    op.create_table(
        "group_nights",
        sa.Column("run", BIG, nullable=False),
        sa.Column("number", BIG, autoincrement=False, nullable=False),
        sa.Column("combined_fines", Amount, nullable=False),
        sa.Column("certain", sa.Boolean(), nullable=False),
        sa.Column("formerly", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("group_nights_run_of_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "number", name=op.f("group_nights_key")),
    )
    op.create_index("group_nights_number", "group_nights", ["number"])
    op.create_table(
        "run_groups",
        sa.Column("run", BIG, nullable=False),
        sa.Column("number", BIG, autoincrement=False, nullable=False),
        sa.Column("combined_fines", Amount, nullable=False),
        sa.Column("certain", sa.Boolean(), nullable=False),
        sa.Column("member_count", sa.Integer(), nullable=False),
        sa.Column("members", sa.Text(), nullable=False),
        sa.Column("library", sa.Text(), nullable=False),
        sa.Column("libraries", sa.Text(), nullable=False),
        sa.Column("contact", BIG, nullable=False),
        sa.Column("contact_library", sa.Text(), nullable=False),
        sa.Column("in_collections", sa.Boolean(), nullable=False),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.Column("over_limit_count", sa.Integer(), nullable=True),
        sa.Column("over_limit_certain", sa.Boolean(), nullable=True),
        sa.Column("age_band", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("run_groups_run_of_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "number", name=op.f("run_groups_key")),
    )
    op.create_table(
        "run_totals",
        sa.Column("run", BIG, nullable=False),
        sa.Column("org_unit", sa.Text(), nullable=False),
        sa.Column("group_count", sa.Integer(), nullable=False),
        sa.Column("member_count", sa.Integer(), nullable=False),
        sa.Column("combined_fines", Amount, nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("run_totals_run_of_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "org_unit", name=op.f("run_totals_key")),
    )
