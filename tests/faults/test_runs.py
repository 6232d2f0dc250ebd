"""What a bad network may do: each run is exactly right, or ends in an error as documented.

What is read is right, nothing is written twice or by mistake, and the journal says what is so. Each run is decided by
its number; ``tests/bench/faults.py --only reading --seed N --runs 1`` makes one of them again.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults.one_run import SUBJECTS, Runner
from faults.world import World

RUNS = {"pages": 4, "reading": 4, "writing": 4}
MORE_RUNS = {"pages": 200, "reading": 600, "writing": 400}
PARTS = 4


@pytest.fixture(scope="module", params=sorted(SUBJECTS))
def subject(request: pytest.FixtureRequest) -> str:
    """What the runs of a runner do."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def runner(subject: str) -> Iterator[Runner]:
    world = World()
    yield Runner(world, SUBJECTS[subject])
    world.close()


def wrong(runner: Runner, seeds: range) -> list[str]:
    """What went wrong in these runs, with the number that makes each of them again."""
    return [str(verdict) for verdict in map(runner.run, seeds) if not verdict.ending.is_well]


@pytest.mark.parametrize("part", range(PARTS))
def test_a_run_with_faults_is_right_or_ends_in_an_error(runner: Runner, subject: str, part: int) -> None:
    assert wrong(runner, range(part, RUNS[subject], PARTS)) == []


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_so_are_many_more_of_them(runner: Runner, subject: str, part: int) -> None:
    first = RUNS[subject]
    assert wrong(runner, range(first + part, first + MORE_RUNS[subject], PARTS)) == []
