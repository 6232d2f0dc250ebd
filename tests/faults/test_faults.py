"""Runs over a bad network: each is exactly right, or ends in an error as documented, and writes nothing it shouldn't.

``tests/bench/faults.py --seed N --runs 1`` makes one of them again.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults.failing import FAILING
from faults.one_run import Runner
from faults.world import World

RUNS, PARTS = 200, 8


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    world = World()
    yield Runner(world)
    world.close()


@pytest.fixture(scope="module")
def causes() -> set[str]:
    """What runs of this module have failed for."""
    return set()


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_runs_with_faults_are_right_or_end_in_an_error(runner: Runner, causes: set[str], part: int) -> None:
    verdicts = [runner.run(seed) for seed in range(part, RUNS, PARTS)]
    causes.update(verdict.cause for verdict in verdicts)
    assert [str(it) for it in verdicts if not it.ending.is_well and it.cause not in FAILING] == []


@pytest.mark.long
def test_what_is_known_to_fail_still_does(causes: set[str]) -> None:
    assert FAILING - causes == set()
