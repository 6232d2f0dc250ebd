"""Changes over a bad network: nothing is written twice or by mistake, and the journal says what is so.

Each run is decided by its number; ``tests/bench/faults.py --only writing --seed N --runs 1`` makes one of them again.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults.one_run import SUBJECTS, Runner
from faults.world import World

RUNS, PARTS = 40, 4
MORE_RUNS, MORE_PARTS = 400, 4


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    world = World()
    yield Runner(world, SUBJECTS["writing"])
    world.close()


def ill(runner: Runner, seeds: range) -> list[str]:
    """What went wrong in these runs."""
    return [str(verdict) for verdict in map(runner.run, seeds) if not verdict.ending.is_well]


@pytest.mark.parametrize("part", range(PARTS))
def test_changes_with_faults_are_right_or_end_in_an_error(runner: Runner, part: int) -> None:
    assert ill(runner, range(part, RUNS, PARTS)) == []


@pytest.mark.long
@pytest.mark.parametrize("part", range(MORE_PARTS))
def test_so_are_many_more_of_them(runner: Runner, part: int) -> None:
    assert ill(runner, range(RUNS + part, RUNS + MORE_RUNS, MORE_PARTS)) == []
