"""How many items of a group were overdue or lost, where reports list groups by items."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "14"
down_revision = "13"


def upgrade() -> None:
    """Add the columns. They are null for what earlier releases wrote."""
    for table in ("run_groups", "follow_up_entries"):
        op.add_column(table, sa.Column("unreturned", sa.Integer()))
