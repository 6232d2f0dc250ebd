"""Two clerks plan, apply and undo at random over a bad network: the journal is correct, with no write sent twice.

``TESTS_SEQUENCES`` sets the number of sequences of the long test, ``TESTS_SEED`` the first seed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.clerks import sequences

pytestmark = pytest.mark.long  # too slow for a plain pytest run

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
