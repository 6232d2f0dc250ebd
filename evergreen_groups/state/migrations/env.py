"""Alembic environment: run the migrations on the given connection, or print their SQL if there is none."""

from __future__ import annotations

from alembic import context

from evergreen_groups.state import schema

connection = context.config.attributes.get("connection")
if connection is None:
    context.configure(
        dialect_name=context.config.attributes["dialect"],
        target_metadata=schema.metadata,
        literal_binds=True,
        as_sql=True,
    )
else:
    context.configure(connection=connection, target_metadata=schema.metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
