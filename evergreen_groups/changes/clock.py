"""The time that the journal's entries and the deadlines of open steps go by."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The time, aware. Asked for as ``clock.now()``, so that there is one place to set another."""
    return datetime.now(UTC)
