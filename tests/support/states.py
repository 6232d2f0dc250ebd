"""The state of a test's clients in files, closed when the test ends."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect
from support.postgresql import shared_cluster

from evergreen_groups.changes import Journal
from evergreen_groups.state import State

ENGINES = ("sqlite", "postgresql")
FILE_FIRST = ("sqlite", pytest.param("postgresql", marks=pytest.mark.long))
"""For tests of code above the database: plain pytest runs them with a file, ``nox -s long`` with a server too."""
_open: list[State] = []


def state_in(directory: Path) -> State:
    """Open the state in a directory, like another process would."""
    state = State(directory)
    _open.append(state)
    return state


def journal_in(directory: Path) -> Journal:
    return Journal(state_in(directory).database)


@contextmanager
def state_on(engine: str, directory: Path) -> Iterator[State]:
    """Return a new state in a directory, or in a database of the tests' PostgreSQL."""
    with ExitStack() as stack:
        url = None
        if engine == "postgresql":
            cluster = shared_cluster()
            url = cluster.url(stack.enter_context(cluster.database()))
        yield stack.enter_context(State(directory, url))


def close_states() -> None:
    while _open:
        _open.pop().close()


def columns_of(engine: Engine) -> dict[str, list[object]]:
    """Return what defines the tables, by table."""
    found = inspect(engine)
    return {
        table: [
            *((column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(table)),
            found.get_pk_constraint(table)["constrained_columns"],
            sorted(
                (key["name"] or "", key["referred_table"], str(key["options"])) for key in found.get_foreign_keys(table)
            ),
            sorted(
                (index["name"] or "", str(index["column_names"]), index["unique"]) for index in found.get_indexes(table)
            ),
            sorted((check["name"] or "", check["sqltext"]) for check in found.get_check_constraints(table)),
        ]
        for table in sorted(found.get_table_names())
    }
