"""SIGKILL and a full disk lose no entry of a follow-up that was confirmed, on each engine."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.follow_ups import draft, note_run, save
from support.postgresql import shared_cluster
from support.report_samples import GATEWAY, member, report_of
from support.states import ENGINES

from evergreen_groups.errors import StateError
from evergreen_groups.follow_up import FollowUps
from evergreen_groups.groups import Group
from evergreen_groups.state import State

GROUP = 7
WRITER = """
import sys
from pathlib import Path
from support.follow_ups import draft, save
from evergreen_groups.follow_up import FollowUps
from evergreen_groups.state import State

state = State(Path(sys.argv[1]), sys.argv[2] or None)
print("began", flush=True)
seen = int(sys.argv[3]) or None
while True:
    [entry] = save(state, draft(7, seen=seen, note="x")).entries
    seen = entry.id
    print(seen, flush=True)
"""
"""Saves entries one after the other, and prints the id of each as soon as it is confirmed."""


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A state directory, and the address of the database, on each engine, with a report that lists one group."""
    with ExitStack() as stack:
        url = ""
        if request.param == "postgresql":
            cluster = shared_cluster()
            url = cluster.url(stack.enter_context(cluster.database()))
        with State(tmp_path / "state", url or None) as state:
            note_run(state, report_of([Group(GROUP, (member(71, "n", "30.00"), member(72, "n", "1.00")))]))
        yield tmp_path / "state", url


def stored(place: tuple[Path, str]) -> list[int]:
    with State(place[0], place[1] or None) as state:
        found = FollowUps(state.database, GATEWAY).of_report("")
        assert found is not None
        return [entry.id for entry in found.group(GROUP).entries]


@pytest.mark.long
def test_a_killed_writer(place: tuple[Path, str]) -> None:
    chance = Random(1)
    for _ in range(5):
        before = stored(place)
        arguments = [sys.executable, "-c", WRITER, str(place[0]), place[1], str(max(before, default=0))]
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environ) as process:
            assert process.stdout is not None
            wanted = chance.randint(1, 20)
            confirmed = [line for line, _ in zip(process.stdout, range(wanted), strict=False)][1:]
            os.kill(process.pid, signal.SIGKILL)
            confirmed += process.stdout.readlines()
        found = stored(place)
        assert set(before) | {int(line) for line in confirmed if line.strip().isdecimal()} <= set(found)
        assert len(found) <= len(before) + len(confirmed) + 1  # at most one was saved but not confirmed


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database may not grow: what is refused isn't there, what was confirmed is, and later it goes on."""
    place = (tmp_path / "state", "")
    with State(*place[:1]) as state:
        note_run(state, report_of([Group(GROUP, (member(71, "n", "30.00"),))]))
    connect = sqlite3.connect

    def small(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 2}")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    confirmed: list[int] = []
    with State(place[0]) as state:

        def fill() -> None:
            for _ in range(1000):
                seen = confirmed[-1] if confirmed else None
                confirmed.extend(entry.id for entry in save(state, draft(GROUP, seen=seen, note="x" * 300)).entries)

        with pytest.raises(StateError):
            fill()
    monkeypatch.undo()
    assert confirmed
    assert stored(place) == confirmed
    with State(place[0]) as state:
        assert save(state, draft(GROUP, seen=confirmed[-1])).entries


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_a_server_whose_connections_are_killed(place: tuple[Path, str]) -> None:
    """A backend that ends in the middle loses the unconfirmed entry alone, and the next one is saved."""
    confirmed: list[int] = []
    with State(place[0], place[1]) as state, State(place[0], place[1]) as other:
        for _ in range(3):
            confirmed += [
                entry.id for entry in save(state, draft(GROUP, seen=confirmed[-1] if confirmed else None)).entries
            ]
            with other.database.reading() as connection:
                connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
    assert stored(place) == confirmed
