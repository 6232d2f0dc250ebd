"""From when to when reports list a group, and what its members pay, for the results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "15"
down_revision = "14"


def upgrade() -> None:
    """Add the tables."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    time = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
    amount = sa.Numeric(14, 2).with_variant(sa.Text(), "sqlite")
    op.create_table(
        "stays",
        sa.Column("id", number, nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("number", number, nullable=False),
        sa.Column("members", sa.Text(), nullable=False),
        sa.Column("member_count", sa.Integer(), nullable=False),
        sa.Column("library", sa.Text(), nullable=False),
        sa.Column("libraries", sa.Text(), nullable=False),
        sa.Column("former_members", sa.Text(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("first_at", time, nullable=False),
        sa.Column("last_at", time, nullable=False),
        sa.Column("left_at", time),
        sa.Column("reason", sa.Text()),
        sa.Column("paid_until", time),
        sa.CheckConstraint("reason IN ('paid', 'below-minimum', 'moved', 'unknown')", name="stays_reason"),
        sa.PrimaryKeyConstraint("id", name="stays_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("stays_last_at", "stays", ["last_at"])
    op.create_index("stays_report", "stays", ["gateway", "report"])
    op.create_table(
        "payments",
        sa.Column("id", number, nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("patron", number, nullable=False),
        sa.Column("at", time, nullable=False),
        sa.Column("amount", amount, nullable=False),
        sa.PrimaryKeyConstraint("id", name="payments_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("payments_at", "payments", ["at"])
    op.create_index("payments_patron", "payments", ["gateway", "patron", "at"])
