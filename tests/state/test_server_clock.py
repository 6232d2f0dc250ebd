"""The clock behind all stored times: PostgreSQL's, or this machine's with SQLite."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.postgresql import shared_cluster

from evergreen_groups.state import State
from evergreen_groups.state.engine import ServerClock


def hours_ahead(state: State) -> int:
    return round((state.database.now() - datetime.now(UTC)) / timedelta(hours=1))


def test_a_servers_clock_counts_and_is_compared_again_with_each_transaction(tmp_path: Path) -> None:
    cluster = shared_cluster()

    def set_clock(hours: int) -> None:
        cluster.execute(
            "CREATE OR REPLACE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql"
            f" AS $$SELECT pg_catalog.clock_timestamp() + interval '{hours} hours'$$",
            name,
        )

    with cluster.database() as name:
        cluster.execute("CREATE SCHEMA ahead", name)
        set_clock(3)
        with State(tmp_path, f"{cluster.url(name)}&options=-csearch_path%3Dahead,pg_catalog") as state:
            assert hours_ahead(state) == 3
            with state.report_lease() as lease:
                assert round((lease.since - datetime.now(UTC)) / timedelta(hours=1)) == 3
            set_clock(-5)
            with state.database.reading():
                pass
            assert hours_ahead(state) == -5


def test_without_a_server_this_machines_clock_counts(tmp_path: Path) -> None:
    with State(tmp_path) as state:
        assert hours_ahead(state) == 0
        assert not state.database.is_there, "asking for the time makes nothing"


def test_an_answer_that_took_long_says_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ServerClock()
    times = iter([100.0, 100.2, 200.0, 209.0, 300.0])
    monkeypatch.setattr("time.clock_gettime", lambda _: next(times))
    clock.compare(lambda: 1_000_000.1)
    clock.compare(lambda: 2_000_000.0)
    assert clock.now() == datetime.fromtimestamp(1_000_200.0, UTC)
