"""A file of release 0.1: opened only where it is whole, its rows copied and counted, its damage named."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select

from evergreen_groups.errors import StateError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.state.engine import refuse_another_users_database

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

_AT_ONCE = 1000
Row = Mapping[str, Any]


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise StateError(
            "{path} of release 0.1 can't be taken over ({reason})",
            advice="repair the file, or move the file away to begin without it",
            code="former-file-broken",
            values={"path": path, "reason": system_reason(error) if isinstance(error, OSError) else _kind(error)},
        ) from error


def _kind(error: BaseException) -> str:
    """What went wrong, without anything that stands in the file."""
    return (
        str(error)
        if isinstance(error, sqlite3.Error)
        else Message("the file holds something that release 0.1 never wrote")
    )


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """An SQLite file that is whole and this user's own."""
    if not refuse_another_users_database(path).st_size:
        raise sqlite3.DatabaseError("it is empty, which it never was")
    # Not "ro": that would leave SQLite's two files beside it behind.
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=10)) as database:
        database.row_factory = sqlite3.Row
        ((verdict,),) = database.execute("PRAGMA quick_check(1)").fetchall()
        if verdict != "ok":
            raise sqlite3.DatabaseError("it is damaged")
        yield database


def insert_rows(connection: Connection, table: Table, rows: Iterator[Row]) -> int:
    """Write rows, some at a time; gives how many, after a look at whether they are all there."""
    before = connection.execute(select(func.count()).select_from(table)).scalar_one()
    count, portion = 0, []
    for row in rows:
        portion.append(dict(row))
        if len(portion) == _AT_ONCE:
            connection.execute(insert(table), portion)
            count, portion = count + len(portion), []
    if portion:
        connection.execute(insert(table), portion)
    count += len(portion)
    if connection.execute(select(func.count()).select_from(table)).scalar_one() != before + count:
        raise ValueError("not all of it is there")
    return count


def first_id(connection: Connection, table: Table) -> int:
    """What is added to ids, so that those of another machine's file stay free; nought where there is none yet."""
    return int(connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one())


def moment_of(text: object) -> datetime:
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment
