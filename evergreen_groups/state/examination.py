"""Looking a database through: whether it is whole, what is kept in it since when, and how large it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select, text, union

from evergreen_groups.errors import StateError
from evergreen_groups.state import refusals
from evergreen_groups.state.retention import StoredAmount, stored_amounts
from evergreen_groups.state.schema import changes, events, metadata, plans, runs, series, steps

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from evergreen_groups.state.database import Database


_USED_WITHIN = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found in a database that is whole.

    ``size`` is in bytes. ``addresses`` are the gateways that it was used for in the last 30 days.
    """

    where: str
    amounts: tuple[StoredAmount, ...]
    open_steps: int
    size: int
    addresses: frozenset[str] = frozenset()

    @property
    def since(self) -> datetime | None:
        """When the oldest of what is kept was written; None where nothing is."""
        return min((amount.since for amount in self.amounts if amount.since is not None), default=None)


def examine(database: Database, *, thoroughly: bool = False) -> Examination:
    """Look a database through, ``thoroughly`` with every index; nothing is changed.

    Raises:
        StateError: it is damaged, something in it contradicts something else, or it can't be used.
    """
    with database.reading() as connection:
        if connection.dialect.name == "sqlite":
            _look_through_the_file(connection, database.where, "integrity_check" if thoroughly else "quick_check")
        else:
            _read_everything(connection)
        open_steps = connection.execute(
            select(func.count()).select_from(steps).where(steps.c.state == "sending")
        ).scalar_one()
        amounts = tuple(stored_amounts(connection))
        return Examination(database.where, amounts, int(open_steps), _size(connection), _addresses(connection))


def _addresses(connection: Connection) -> frozenset[str]:
    since = datetime.now(UTC) - _USED_WITHIN
    queries = [select(table.c.gateway).where(table.c.at >= since) for table in (changes, plans, events)]
    queries.append(select(series.c.gateway).join(runs, runs.c.series == series.c.id).where(runs.c.at >= since))
    return frozenset(connection.execute(union(*queries)).scalars())


def _look_through_the_file(connection: Connection, where: str, check: str) -> None:
    verdict = connection.execute(text(f"PRAGMA {check}(1)")).scalar_one()
    if verdict != "ok":
        raise _damaged(where)
    if connection.execute(text("PRAGMA foreign_key_check")).first() is not None:
        raise _damaged(where)


def _damaged(where: str) -> StateError:
    return StateError(
        "the database {where} is damaged",
        advice=refusals.ANEW,
        code="database-not-whole",
        values={"where": where},
    )


def _read_everything(connection: Connection) -> None:
    """Have the server read each row; a page that is damaged can't be."""
    for table in metadata.sorted_tables:
        for _row in connection.execution_options(yield_per=100).execute(table.select()):
            pass


def _size(connection: Connection) -> int:
    if connection.dialect.name == "sqlite":
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        return int(pages) * int(connection.execute(text("PRAGMA page_size")).scalar_one())
    sizes = (
        connection.execute(text("SELECT pg_total_relation_size(to_regclass(:name))"), {"name": table.name}).scalar_one()
        for table in metadata.sorted_tables
    )
    return sum(int(size or 0) for size in sizes)
