"""Reading over a bad network: each run is exactly right, or ends in an error as documented, and writes nothing.

``python tests/bench/faults.py --only reading --seed N --runs 1`` makes one of them again.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults.one_run import SUBJECTS, Runner
from faults.world import World

RUNS, PARTS = 60, 4
LONG_RUNS = 600


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    world = World()
    yield Runner(world, SUBJECTS["reading"])
    world.close()


def failures(runner: Runner, seeds: range) -> list[str]:
    """What isn't well, with the number that makes it again."""
    return [str(verdict) for verdict in map(runner.run, seeds) if not verdict.ending.is_well]


@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_read_is_right_or_an_error(runner: Runner, part: int) -> None:
    assert failures(runner, range(part, RUNS, PARTS)) == []


@pytest.mark.long
def test_what_is_read_is_right_or_an_error_very_often(runner: Runner) -> None:
    assert failures(runner, range(RUNS, RUNS + LONG_RUNS)) == []
