"""Runs over a bad network: each is exactly right, or ends with a documented error.

Reads are right, nothing is written twice or by mistake, and the journal is true. A number determines each run;
``tests/bench/faults.py --only reading --seed N --runs 1`` repeats one.
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
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def runner(subject: str) -> Iterator[Runner]:
    world = World()
    yield Runner(world, SUBJECTS[subject])
    world.close()


def wrong(runner: Runner, seeds: range) -> list[str]:
    """Return what went wrong in some runs, with the numbers to repeat them."""
    return [str(verdict) for verdict in map(runner.run, seeds) if not verdict.ending.is_well]


@pytest.mark.parametrize("part", range(PARTS))
def test_a_run_with_faults_is_right_or_ends_in_an_error(runner: Runner, subject: str, part: int) -> None:
    assert wrong(runner, range(part, RUNS[subject], PARTS)) == []


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_many_more_runs_with_faults(runner: Runner, subject: str, part: int) -> None:
    first = RUNS[subject]
    assert wrong(runner, range(first + part, first + MORE_RUNS[subject], PARTS)) == []
