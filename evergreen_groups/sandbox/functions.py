"""PostgreSQL's functions and operators that SQLite lacks, for the sandbox's connections."""

from __future__ import annotations

import sqlite3


def register(connection: sqlite3.Connection) -> None:
    """Teach a connection PostgreSQL's functions."""
