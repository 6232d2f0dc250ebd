"""Alembic environment: run the migrations on the given connection, or print their SQL if there is none."""

from __future__ import annotations

from alembic import context

from evergreen_groups.state.schema import metadata

attributes = context.config.attributes
if "connection" in attributes:
    context.configure(connection=attributes["connection"], target_metadata=metadata, transactional_ddl=True)
else:
    context.configure(dialect_name=attributes["dialect"], target_metadata=metadata, literal_binds=True, as_sql=True)
with context.begin_transaction():
    context.run_migrations()
