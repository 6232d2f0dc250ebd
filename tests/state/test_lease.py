"""Leases, on each engine: one holder at a time, who is named, and who can't write any more when it is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from sqlalchemy import text
from support.postgresql import shared_cluster

from evergreen_groups.errors import BusyError, StateError
from evergreen_groups.state import State, schema

GATEWAY = "https://ils.example.org/osrf-gateway-v1"
HOLDER = """
import sys
from pathlib import Path
from evergreen_groups.state import State
with State(Path(sys.argv[1]), sys.argv[2] or None) as state, state.reporting():
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(state: State) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease for the report until its input ends, or it is killed."""
    arguments = [sys.executable, "-c", HOLDER, str(state.directory), state.database.url_text or ""]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def another(state: State) -> State:
    return State(state.directory, state.database.url_text)


def test_one_at_a_time(state: State) -> None:
    with another(state) as other, state.reporting():
        with pytest.raises(BusyError, match=r"another run is making the report \(process \d+"), other.reporting():
            pass
        with (
            other.changing(GATEWAY, [1], [15]),
            other.changing("https://other.example.org", [1], [15]),
            pytest.raises(BusyError, match=r"^another run is changing one of these patrons or groups$"),
            state.changing(GATEWAY, [1]),
        ):
            pass
    with another(state) as other, other.reporting():
        pass


def test_another_process_is_named_and_when_it_is_killed_that_is_noticed(state: State) -> None:
    assert state.reporter() is None
    with another_process(state) as process:
        holder = state.reporter()
        assert holder is not None
        assert (holder.pid, holder.alive) == (process.pid, True)
        with pytest.raises(BusyError, match=f"process {process.pid}"), state.reporting():
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with state.changing(GATEWAY, [1]):  # whoever else waits sees it at once
            pass
        holder = state.reporter()
        assert holder is not None
        assert (holder.pid, holder.alive) == (process.pid, False)
        with state.reporting():
            own = state.reporter()
            assert own is not None
            assert (own.pid, own.alive) == (os.getpid(), True)
    assert state.reporter() is None


def test_whoever_waits_gets_it(state: State) -> None:
    got = threading.Event()

    def wait() -> None:
        with another(state) as other, other.changing(GATEWAY, [1], timeout=20):
            got.set()

    with state.changing(GATEWAY, [1]):
        thread = threading.Thread(target=wait)
        thread.start()
        assert not got.wait(0.2)
    thread.join()
    assert got.is_set()


def test_an_error_in_the_block_lets_go(state: State) -> None:
    with pytest.raises(ZeroDivisionError), state.reporting():
        raise ZeroDivisionError
    assert state.reporter() is None
    with state.reporting():
        pass


def test_what_is_read_over_it_is_of_one_moment(state: State) -> None:
    with another(state) as other, state.reporting() as lease, lease.reading() as reader:
        assert reader.execute(schema.series.select()).all() == []
        with other.database.writing() as writer:
            writer.execute(schema.series.insert().values(gateway="g", settings="s"))
        assert reader.execute(schema.series.select()).all() == []


def test_what_is_written_over_it_is_there(state: State) -> None:
    with state.reporting() as lease:
        with lease.writing() as connection:
            connection.execute(schema.series.insert().values(gateway="g", settings="s"))
        with lease.reading() as connection:
            assert len(connection.execute(schema.series.select()).all()) == 1
    with state.database.reading() as connection:
        assert len(connection.execute(schema.series.select()).all()) == 1


@pytest.mark.parametrize("state", ["postgresql"], indirect=True)
def test_whoever_has_lost_it_cannot_write_any_more(state: State) -> None:
    """The connection is cut, as by a server that is restarted: another one takes over meanwhile."""
    name = str(state.database.url_text).partition("@/")[2].partition("?")[0]
    with another(state) as other, state.reporting() as lease:
        shared_cluster().execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        with other.reporting() as its:
            for reason in ("run again when PostgreSQL is up", r"connection to the database test_\w+ .*was lost"):
                with pytest.raises(StateError, match=reason), lease.writing() as connection:
                    connection.execute(schema.series.insert().values(gateway="g", settings="s"))
            with its.writing() as connection:
                assert connection.execute(schema.series.select()).all() == []
                connection.execute(text("SELECT 1"))
    with state.reporting():
        pass


@pytest.mark.parametrize("state", ["postgresql"], indirect=True)
def test_whoever_has_lost_it_leaves_the_next_ones_note(state: State) -> None:
    name = str(state.database.url_text).partition("@/")[2].partition("?")[0]
    with another(state) as other, ExitStack() as its:
        with state.reporting() as lease:
            shared_cluster().execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
            with pytest.raises(StateError), lease.reading() as connection:
                connection.execute(text("SELECT 1"))
            its.enter_context(other.reporting())
        assert state.reporter() is not None
