"""The counters that number new rows, after rows came with numbers of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Connection


def set_counters(connection: Connection, *tables: Table) -> None:
    """Let numbering go on behind the highest number. SQLite does so by itself; PostgreSQL counts only its own."""
    if connection.dialect.name != "postgresql":
        return
    for table in tables:
        column = table.autoincrement_column  # none where rows are named by whoever makes them
        if column is not None:
            highest = select(func.max(column)).scalar_subquery()
            sequence = func.pg_get_serial_sequence(table.name, column.name)
            # Where the table is empty the next one is the first.
            connection.execute(select(func.setval(sequence, func.coalesce(highest, 1), highest.is_not(None))))
