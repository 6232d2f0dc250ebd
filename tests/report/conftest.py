"""The state that a report is compared with."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.states import FILE_FIRST, state_on

from evergreen_groups.state import State


@pytest.fixture(params=FILE_FIRST)
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    """A new state: only a file in a plain pytest run, each engine in a long one."""
    with state_on(request.param, tmp_path / "state") as state:
        yield state
