"""The state of a test's clients, in files; what they have open is closed when the test ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.postgresql import shared_cluster

from evergreen_groups.changes import Journal
from evergreen_groups.state import State

ENGINES = ("sqlite", "postgresql")
FILE_FIRST = ("sqlite", pytest.param("postgresql", marks=pytest.mark.long))
"""For tests of what stands above the database: plain pytest tries them on a file, ``nox -s long`` on a server too."""
_open: list[State] = []


def state_in(directory: Path) -> State:
    """The state in a directory, as a process of its own would have it."""
    state = State(directory)
    _open.append(state)
    return state


def journal_in(directory: Path) -> Journal:
    """The journal there, to look into."""
    return Journal(state_in(directory).database)


@contextmanager
def state_on(engine: str, directory: Path) -> Iterator[State]:
    """A new state in a directory, or in a database of the tests' PostgreSQL."""
    with ExitStack() as stack:
        url = None
        if engine == "postgresql":
            cluster = shared_cluster()
            url = cluster.url(stack.enter_context(cluster.database()))
        yield stack.enter_context(State(directory, url))


def close_states() -> None:
    """Close all of them."""
    while _open:
        _open.pop().close()
