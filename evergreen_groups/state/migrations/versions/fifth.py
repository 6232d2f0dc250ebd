"""The fifth schema: what each group owed in the last runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from evergreen_groups.state import column_types as types

revision = "5"
down_revision = "4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, and begin with what the last runs found."""
    op.create_table(
        "group_nights",
        sa.Column("run", types.BIG, primary_key=True),
        sa.Column("number", types.BIG, primary_key=True, autoincrement=False),
        sa.Column("combined_fines", types.Amount, nullable=False),
        sa.Column("certain", sa.Boolean, nullable=False),
        sa.Column("formerly", sa.Text),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="group_nights_run_of_runs", ondelete="CASCADE"),
    )
    op.create_index("group_nights_number", "group_nights", ["number"])
    op.execute(
        "INSERT INTO group_nights (run, number, combined_fines, certain) "
        "SELECT run, number, combined_fines, certain FROM run_groups"
    )
