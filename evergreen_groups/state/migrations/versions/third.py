"""The third schema: why a step is as it is, by a code and values as well as in the journal's words."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("steps", sa.Column("reason_code", sa.Text))
    op.add_column("steps", sa.Column("reason_values", sa.Text))
