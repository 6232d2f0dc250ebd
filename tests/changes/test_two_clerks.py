"""Two clerks plan, apply and take back at random over a bad network: the journal is true, and nothing is written twice.

``TESTS_SEQUENCES`` says how many sequences the long test runs, ``TESTS_SEED`` with
which it begins.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.clerks import sequences

pytestmark = pytest.mark.long  # together they take longer than plain pytest has time for

FIRST = int(os.environ.get("TESTS_SEED", "1"))
MANY = int(os.environ.get("TESTS_SEQUENCES", "100"))


@pytest.mark.parametrize("count", [pytest.param(6, id="some"), pytest.param(MANY, id="many")])
def test_two_clerks(count: int, tmp_path: Path) -> None:
    with sequences(tmp_path) as run:
        for seed in range(FIRST, FIRST + count):
            try:
                run.run(seed)
            except Exception as error:
                error.add_note(f"in the sequence with seed {seed}")
                raise
        print(f"{count} sequences: {run.entries} changes, {run.written} writes")
        assert run.written >= count, "hardly anything was changed"
