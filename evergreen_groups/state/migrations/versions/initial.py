"""The initial schema, as :mod:`evergreen_groups.state.schema` declares it.

Until 1.0 there is no other: an older database is refused. The first schema after 1.0 freezes these tables here, with
``op.create_table``, and adds a migration.
"""

from __future__ import annotations

from alembic import op

from evergreen_groups.state import schema

revision = schema.VERSION
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    context = op.get_context()
    schema.complete(context.dialect.name)
    for table in schema.metadata.sorted_tables:
        context.impl.create_table(table)
