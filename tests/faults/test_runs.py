"""Runs over a bad network: each is exactly right, or ends with a documented error.

Reads are right, nothing is written twice or by mistake, and the journal is true. A number determines each run;
``tests/bench/faults.py --only reading --seed N --runs 1`` repeats one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from faults.one_run import SUBJECTS, Runner
from faults.world import World

RUNS = {"pages": 200, "reading": 600, "writing": 400}
PARTS = 4
FEW_RUNS = 4
ONE_IN = 5
"""Plain pytest tries only one in so many commands and pages, because each is first run without faults."""


@pytest.fixture(scope="module", params=sorted(SUBJECTS))
def runner(request: pytest.FixtureRequest) -> Iterator[tuple[Runner, int]]:
    """What makes runs of a subject, and how many to make."""
    with closing(World()) as world:
        yield Runner(world, SUBJECTS[request.param]), RUNS[request.param]


def wrong(runner: Runner, seeds: range) -> list[str]:
    """Return what went wrong in some runs, with the numbers to repeat them."""
    return [str(verdict) for verdict in map(runner.run, seeds) if not verdict.ending.is_well]


@pytest.mark.parametrize("subject", sorted(SUBJECTS))
def test_a_run_with_faults_is_right_or_ends_in_an_error(subject: str) -> None:
    """The bench doesn't know these numbers, because it chooses from all commands and pages."""
    with closing(World()) as world:
        assert wrong(Runner(world, SUBJECTS[subject][::ONE_IN]), range(FEW_RUNS)) == []


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_many_more_runs_with_faults(runner: tuple[Runner, int], part: int) -> None:
    maker, runs = runner
    assert wrong(maker, range(part, runs, PARTS)) == []
