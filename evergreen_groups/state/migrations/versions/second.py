"""The second schema: plans that the desk was shown, who made a change, and what the ILS refused it for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from evergreen_groups.state import column_types as types

revision = "2"
down_revision = "1"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, and add the columns."""
    for name in ("staff", "workstation", "approved_by"):
        op.add_column("changes", sa.Column(name, types.BIG))
    op.create_index("changes_staff", "changes", ["staff"])
    op.add_column("steps", sa.Column("permission", sa.Text))
    op.add_column("steps", sa.Column("org_unit", types.BIG))
    op.create_index("steps_from", "steps", ["gateway", "field", "before"])
    op.create_index("steps_to", "steps", ["gateway", "field", "value"])
    op.create_table(
        "plans",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column("staff", types.BIG, nullable=False),
        sa.Column("at", types.Moment, nullable=False),
        sa.Column("expires", types.Moment, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("change", types.BIG),
        sa.ForeignKeyConstraint(["change"], ["changes.id"], name="plans_change_of_changes", ondelete="SET NULL"),
        sa.UniqueConstraint("gateway", "staff", "idempotency_key", name="plans_gateway_once"),
    )
    op.create_index("plans_at", "plans", ["at"])
    op.create_index("plans_change", "plans", ["change"])
