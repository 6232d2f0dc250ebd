"""A large, always equal population."""

import sqlite3


def add(connection: sqlite3.Connection, patrons: int) -> None:
    """Add patrons."""
