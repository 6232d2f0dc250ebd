"""Nights and entries that happened earlier: their dates are moved, in the state and for payments in the sandbox."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Date, Table, select, update
from support.payments import text

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import schema
from evergreen_groups.state.database import Transactions

_MOVED = (schema.runs, schema.stays, schema.payments, schema.follow_ups, schema.follow_up_entries, schema.retention)


def move_back(database: Transactions, sandbox: Sandbox, days: int) -> None:
    """Let everything that was recorded, agreed and paid so far have happened this many days earlier."""
    by = timedelta(days)
    with database.writing() as connection:
        for table in _MOVED:
            for row in connection.execute(select(table)).all():
                key = [column == row._mapping[column.name] for column in table.primary_key.columns]
                if values := _moved(table, row._mapping, by):
                    connection.execute(update(table).where(*key).values(values))
    store = sandbox._store
    with store.transaction():
        for name, field in (("mp", "payment_ts"), ("mbts", "last_payment_ts")):
            for row in store.rows(name):
                if row[field]:
                    store.update(name, row["id"], {field: text(datetime.fromisoformat(row[field]) - by)})


def _moved(table: Table, row: Any, by: timedelta) -> dict[str, date]:
    times = (column.name for column in table.columns if isinstance(column.type, Date | schema.Timestamp))
    return {name: row[name] - by for name in times if row[name] is not None}
