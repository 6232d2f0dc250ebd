"""The fourth schema: groups that look accidental and are to be kept as they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from evergreen_groups.state import column_types as types

revision = "4"
down_revision = "3"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "groups_to_keep",
        sa.Column("gateway", sa.Text, primary_key=True),
        sa.Column("number", types.BIG, primary_key=True, autoincrement=False),
        sa.Column("at", types.Moment, nullable=False),
        sa.Column("members", sa.Text, nullable=False),
    )
    op.create_index("groups_to_keep_at", "groups_to_keep", ["at"])
