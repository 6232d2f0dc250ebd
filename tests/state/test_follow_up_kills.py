"""SIGKILL and a full disk lose no entry of a follow-up that was confirmed, on each engine."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest
from support.follow_ups import draft, note_run, save
from support.postgresql import Cluster, own_cluster, shared_cluster
from support.report_samples import GATEWAY, member, report_of
from support.states import ENGINES

from evergreen_groups.errors import StateError
from evergreen_groups.follow_up import FollowUps
from evergreen_groups.groups import Group
from evergreen_groups.state import State

GROUP = 7
Place = tuple[Path, str]
"""A state directory, and the address of the database (empty: a file there)."""
WRITER = """
import sys
from pathlib import Path
from support.follow_ups import draft, save
from evergreen_groups.follow_up import FollowUps
from evergreen_groups.state import State

state = State(Path(sys.argv[1]), sys.argv[2] or None)
print("began", flush=True)
seen = sys.argv[3] or None
while True:
    [entry] = save(state, draft(7, seen=seen, note="x")).entries
    seen = entry.id
    print(seen, flush=True)
"""
"""Saves entries one after the other, and prints the id of each as soon as it is confirmed."""


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place on each engine, with a report that lists one group."""
    with ExitStack() as stack:
        url = ""
        if request.param == "postgresql":
            cluster = shared_cluster()
            url = cluster.url(stack.enter_context(cluster.database()))
        yield listed_in(tmp_path / "state", url)


@pytest.fixture
def server_place(cluster: Cluster, tmp_path: Path) -> Iterator[Place]:
    """The same on a server of this module's own, which may end."""
    with cluster.database() as name:
        yield listed_in(tmp_path / "state", cluster.url(name))


def listed_in(directory: Path, url: str) -> Place:
    with State(directory, url or None) as state:
        note_run(state, report_of([Group(GROUP, (member(71, "n", "30.00"), member(72, "n", "1.00")))]))
    return directory, url


def fill(state: State, confirmed: list[str], between: Callable[[], object] = lambda: None) -> StateError:
    """Save entries until that fails, and note each as soon as it is confirmed. Return the error."""
    for _ in range(5000):
        seen = confirmed[-1] if confirmed else None
        try:
            confirmed.extend(entry.id for entry in save(state, draft(GROUP, seen=seen, note="x" * 300)).entries)
        except StateError as error:
            return error
        between()
    raise AssertionError("there was room for 5,000 entries")


def stored(place: Place) -> list[str]:
    with State(place[0], place[1] or None) as state:
        found = FollowUps(state.database, GATEWAY).of_report("")
        assert found is not None
        return [entry.id for entry in found.group(GROUP).entries]


@pytest.mark.long
def test_a_killed_writer(place: Place) -> None:
    chance = Random(1)
    for _ in range(5):
        check_nothing_lost(place, chance.randint(1, 20), subprocess.Popen.kill)


def check_nothing_lost(place: Place, count: int, kill: Callable[[subprocess.Popen[str]], None]) -> None:
    """Let a process save entries, call ``kill`` with it after so many, and look for those that it confirmed."""
    before = stored(place)
    arguments = [sys.executable, "-c", WRITER, str(place[0]), place[1], before[-1] if before else ""]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        confirmed = list(islice(process.stdout, count))[1:]
        kill(process)
        rest, _errors = process.communicate()
    confirmed += rest.splitlines(keepends=True)
    found = stored(place)
    assert set(before) | {line.strip() for line in confirmed if line.endswith("\n")} <= set(found)
    assert len(found) <= len(before) + len(confirmed) + 1  # at most one was saved but not confirmed


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database may not grow: what is refused isn't there, what was confirmed is, and later it goes on."""
    place = listed_in(tmp_path / "state", "")
    connect = sqlite3.connect

    def small(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 2}")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    confirmed: list[str] = []
    with State(place[0]) as state:
        fill(state, confirmed)
    monkeypatch.undo()
    assert confirmed
    assert stored(place) == confirmed
    with State(place[0]) as state:
        assert save(state, draft(GROUP, seen=confirmed[-1])).entries


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_a_server_whose_connections_are_killed(place: Place) -> None:
    """A backend that ends in the middle loses the unconfirmed entry alone, and the next one is saved."""
    confirmed: list[str] = []
    with State(place[0], place[1]) as state, State(place[0], place[1]) as other:
        for _ in range(3):
            seen = confirmed[-1] if confirmed else None
            confirmed += [entry.id for entry in save(state, draft(GROUP, seen=seen)).entries]
            with other.database.reading() as connection:
                connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
    assert stored(place) == confirmed


@pytest.mark.long
def test_a_killed_server(cluster: Cluster, server_place: Place) -> None:
    def kill(writer: subprocess.Popen[str]) -> None:
        cluster.kill()
        writer.wait()  # a server that runs again before the writer's next entry would be reconnected to
        cluster.run_server()

    for count in (1, 5, 20):
        check_nothing_lost(server_place, count, kill)


def test_a_server_whose_disk_is_full(cluster: Cluster, server_place: Place) -> None:
    """What is refused isn't there, what was confirmed is, and with more room it goes on."""
    name = server_place[1].partition("?")[0].rpartition("/")[2]
    with small_disk(cluster, "64k") as more_room:
        cluster.execute(f"CREATE TABLESPACE small LOCATION '{cluster.directory / 'small'}'")
        cluster.execute("ALTER TABLE follow_up_entries SET TABLESPACE small", name)
        confirmed: list[str] = []
        with State(*server_place) as state:
            assert "free up disk space" in str(fill(state, confirmed))
            assert confirmed
            assert stored(server_place) == confirmed
            more_room()
            assert save(state, draft(GROUP, seen=confirmed[-1])).entries
        cluster.execute("ALTER TABLE follow_up_entries SET TABLESPACE pg_default", name)
        cluster.execute("DROP TABLESPACE small")


@pytest.mark.long
def test_a_server_whose_log_cannot_grow(tmp_path: Path) -> None:
    """PostgreSQL ends at once if it can't write its log of changes. What was confirmed is there when it runs again."""
    with own_cluster() as cluster, small_disk(cluster, "48m") as more_room:
        cluster.stop()
        small = cluster.directory / "small"
        subprocess.run(["cp", "-a", f"{cluster.log_of_changes}/.", small], check=True)
        shutil.rmtree(cluster.log_of_changes)
        cluster.log_of_changes.symlink_to(small)
        cluster.run_server()
        with cluster.database() as name:
            place = listed_in(tmp_path / "state", cluster.url(name))
            confirmed: list[str] = []
            with State(*place) as state, suppress(psycopg.OperationalError):
                fill(state, confirmed, lambda: cluster.execute(A_MEGABYTE_OF_LOG))
            assert "No space left on device" in (cluster.directory / "log").read_text()
            more_room()
            cluster.stop("immediate")
            cluster.run_server()
            found = stored(place)
            assert confirmed
            assert found[: len(confirmed)] == confirmed
            assert len(found) <= len(confirmed) + 1
        cluster.stop()


A_MEGABYTE_OF_LOG = "SELECT pg_logical_emit_message(false, '', repeat('x', 1000000))"


@contextmanager
def small_disk(cluster: Cluster, size: str) -> Iterator[Callable[[], object]]:
    """Mount a small disk in memory, as ``small`` in the server's directory. Yields a function that makes it larger."""
    directory = cluster.directory / "small"
    directory.mkdir()
    owner = cluster.directory.stat()
    options = f"size={size},mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory]
    if os.geteuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("takes the right to mount a disk")
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=200m", directory], check=True)
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)
