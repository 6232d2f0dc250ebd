"""The sixth schema: who sat at which terminal, of changes from the command line."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; of the changes before nobody knows."""
    for name in ("system_user", "login_user", "host", "terminal"):
        op.add_column("changes", sa.Column(name, sa.Text))
