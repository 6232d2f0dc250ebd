"""Two clerks act at random on three services on PostgreSQL, or one on SQLite: nothing twice, nothing lost.

``tests/bench/clerks.py`` runs a thousand of these.
"""

from __future__ import annotations

from itertools import chain

import pytest
from support.clerk_runs import town

pytestmark = pytest.mark.long

SEQUENCES = 24


def test_three_services_that_are_killed() -> None:
    with town(3, SEQUENCES, database="postgresql") as place:
        errors = list(chain.from_iterable(place.sequence(number, kill=0.5, outage=0.05) for number in range(SEQUENCES)))
        assert errors == []
        assert place.kills > 0
        assert place.tally["changes"] > SEQUENCES
        assert place.tally["undone"] > 0
        assert place.tally["faults"] > 0
        assert "a bug:" not in place.servers.errors


def test_one_service_with_faults() -> None:
    with town(1, SEQUENCES, database="sqlite") as place:
        errors = list(chain.from_iterable(place.sequence(number, kill=0.1) for number in range(SEQUENCES)))
        assert errors == []
        assert place.tally["changes"] > SEQUENCES
        assert "a bug:" not in place.servers.errors
