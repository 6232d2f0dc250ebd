"""Rows of the audit trail of events."""

from typing import Any

from sqlalchemy import Row, select

from evergreen_groups.state import schema
from evergreen_groups.state.database import Database


def trail_of(database: Database, gateway: str) -> list[Row[Any]]:
    """Return all rows for a gateway, latest first."""
    events = schema.events
    with database.reading() as connection:
        query = select(events).where(events.c.gateway == gateway).order_by(events.c.id.desc())
        return list(connection.execute(query))
