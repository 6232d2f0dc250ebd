"""The initial schema, as :mod:`evergreen_groups.state.schema` declares it.

This is the schema of 1.0, and older databases are refused. The first schema change must freeze these tables here, with
``op.create_table``, and ``_BEFORE_1_0`` in ``upgrade.py``, and add a migration.
"""

from __future__ import annotations

from alembic import op

from evergreen_groups.state import schema

revision = schema.VERSION
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables as currently declared."""
    context = op.get_context()
    schema.complete(context.dialect.name)
    for table in schema.metadata.sorted_tables:
        context.impl.create_table(table)
