"""The state of a test's clients, in files; what they have open is closed when the test ends."""

from __future__ import annotations

from pathlib import Path
from weakref import WeakSet

from evergreen_groups.changes import Journal
from evergreen_groups.state import State

_open: WeakSet[State] = WeakSet()


def state_in(directory: Path) -> State:
    """The state in a directory, as a process of its own would have it."""
    state = State(directory)
    _open.add(state)
    return state


def journal_in(directory: Path) -> Journal:
    """The journal there, to look into."""
    return Journal(state_in(directory).database)


def close_states() -> None:
    """Close all of them."""
    while _open:
        _open.pop().close()
