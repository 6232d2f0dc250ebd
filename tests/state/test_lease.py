"""Leases on each engine: one holder at a time, who is named, and can't write after losing the lease."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from support.postgresql import shared_cluster
from support.waiting import wait_until

from evergreen_groups.errors import BusyError, StateError
from evergreen_groups.state import State, schema
from evergreen_groups.state.backup import export
from evergreen_groups.state.database import Lease
from evergreen_groups.state.lock import LeaseName

pytestmark = pytest.mark.long  # too slow for a plain pytest run

GATEWAY = "https://ils.example.org/osrf-gateway-v1"
HOLDER = """
import sys
from pathlib import Path
from evergreen_groups.state import State
with State(Path(sys.argv[1]), sys.argv[2] or None) as state:
    patrons = [int(patron) for patron in sys.argv[4:]]
    with state.change_lease(sys.argv[3], patrons) if patrons else state.report_lease():
        print("held", flush=True)
        sys.stdin.read()
"""


@contextmanager
def another_process(state: State, *patrons: int) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the lease for the report, or for some patrons, until its input ends or it is killed."""
    arguments = [sys.executable, "-c", HOLDER, str(state.directory), state.address or "", GATEWAY]
    arguments += map(str, patrons)
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def another(state: State) -> State:
    return State(state.directory, state.address)


def test_one_at_a_time(state: State) -> None:
    with another(state) as other, state.report_lease():
        with pytest.raises(BusyError, match=r"another run is making the report \(process \d+"), other.report_lease():
            pass
        with (
            other.change_lease(GATEWAY, [1], [15]),
            other.change_lease("https://other.example.org", [1], [15]),
            pytest.raises(BusyError, match=r"^another run is changing one of these patrons or groups$"),
            state.change_lease(GATEWAY, [1]),
        ):
            pass
    with another(state) as other, other.report_lease():
        pass


def test_another_process_is_named_and_when_it_is_killed_that_is_noticed(state: State) -> None:
    assert state.report_holder() is None
    with another_process(state) as process:
        holder = state.report_holder()
        assert holder is not None
        assert (holder.pid, holder.alive) == (process.pid, True)
        with pytest.raises(BusyError, match=f"process {process.pid}"), state.report_lease():
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with state.change_lease(GATEWAY, [1]):
            pass
        # A database server notices only when it finds the connection closed.
        holder = wait_until(lambda: (seen := state.report_holder()) and not seen.alive and seen)
        assert (holder.pid, holder.alive) == (process.pid, False)
        with state.report_lease():
            own = state.report_holder()
            assert own is not None
            assert (own.pid, own.alive) == (os.getpid(), True)
    assert state.report_holder() is None


def test_a_waiting_process_gets_the_lease(state: State) -> None:
    got = threading.Event()

    def wait() -> None:
        with another(state) as other, other.change_lease(GATEWAY, [1], timeout=60):
            got.set()

    with state.change_lease(GATEWAY, [1]):
        thread = threading.Thread(target=wait)
        thread.start()
        assert not got.wait(0.2)
    thread.join()
    assert got.is_set()


def test_an_error_in_the_block_lets_go(state: State) -> None:
    with pytest.raises(ZeroDivisionError), state.report_lease():
        raise ZeroDivisionError
    assert state.report_holder() is None
    with state.report_lease():
        pass


def test_what_is_read_over_it_is_of_one_moment(state: State) -> None:
    with another(state) as other, state.report_lease() as lease, lease.reading() as reader:
        assert reader.execute(schema.series.select()).all() == []
        with other.database.writing() as writer:
            writer.execute(schema.series.insert().values(gateway="g", settings="s"))
        assert reader.execute(schema.series.select()).all() == []


def test_what_is_written_over_it_is_there(state: State) -> None:
    with state.report_lease() as lease:
        assert lease.is_there is state.database.is_there
        with lease.writing() as connection:
            connection.execute(schema.series.insert().values(gateway="g", settings="s"))
        assert lease.is_there is True
        with lease.reading() as connection:
            assert len(connection.execute(schema.series.select()).all()) == 1
    with state.database.reading() as connection:
        assert len(connection.execute(schema.series.select()).all()) == 1


@pytest.mark.parametrize("state", ["postgresql"], indirect=True)
@pytest.mark.parametrize("take", [State.report_lease, lambda state: state.change_lease(GATEWAY, [1, 2], timeout=60)])
def test_a_lost_lease_cannot_write(state: State, take: Callable[[State], AbstractContextManager[Lease]]) -> None:
    """The connection is cut, as when a server restarts, and another process takes the lease."""
    name = str(state.address).partition("@/")[2].partition("?")[0]
    with another(state) as other, take(state) as lease:
        with lease.writing() as connection:
            connection.execute(schema.series.insert().values(gateway="g", settings="s"))
        shared_cluster().cut_connections(name)
        with take(other) as its:
            for reason in ("try again when PostgreSQL is running", r"lost the connection to the database test_\w+"):
                with pytest.raises(StateError, match=reason), lease.writing() as connection:
                    connection.execute(schema.series.insert().values(gateway="g", settings="t"))
            with its.writing() as connection:
                assert len(connection.execute(schema.series.select()).all()) == 1
    with take(state):
        pass


@pytest.mark.parametrize("state", ["postgresql"], indirect=True)
def test_a_lost_lease_leaves_the_next_holders_note(state: State) -> None:
    name = str(state.address).partition("@/")[2].partition("?")[0]
    with another(state) as other, ExitStack() as its:
        with state.report_lease() as lease:
            shared_cluster().cut_connections(name)
            with pytest.raises(StateError), lease.reading() as connection:
                connection.execute(text("SELECT 1"))
            its.enter_context(other.report_lease())
        assert state.report_holder() is not None


LOCKS = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def is_free(state: State, *patrons: int, groups: tuple[int, ...] = ()) -> bool:
    """Return whether another process could take the lease now."""
    try:
        with another(state) as other, other.change_lease(GATEWAY, patrons, groups):
            return True
    except BusyError:
        return False


def in_order(patrons: Sequence[int]) -> list[int]:
    """Return the patrons in the order in which a lease locks them."""
    name = LeaseName(f"changes {GATEWAY}", "", "")
    return sorted(patrons, key=lambda patron: name.part(f"patron {patron}").locks)


def test_changes_of_other_patrons_do_not_wait(state: State) -> None:
    with state.change_lease(GATEWAY, [1, 2], [7]):
        assert is_free(state, 3, 7, groups=(1, 2))
        for taken in ((1,), (3, 2)):
            assert not is_free(state, *taken)
        assert not is_free(state, 3, groups=(8, 7))
    assert is_free(state, 1, 2, groups=(7,))


def test_an_empty_lease(state: State) -> None:
    with state.change_lease(GATEWAY, []):
        assert is_free(state, 1)


def test_a_waiting_change_holds_only_the_locks_before(state: State) -> None:
    """Holding its first locks lets a large change finish despite traffic, and the fixed order prevents deadlock."""
    before, taken, after = in_order([11, 12, 13])
    got, may_go = threading.Event(), threading.Event()

    def wait() -> None:
        with another(state) as other, other.change_lease(GATEWAY, [before, taken, after], timeout=60):
            got.set()
            may_go.wait(60)

    thread = threading.Thread(target=wait)
    with state.change_lease(GATEWAY, [taken]):
        thread.start()
        while is_free(state, before):
            pass
        assert is_free(state, after)
        assert not got.is_set()
    assert got.wait(60)
    assert not is_free(state, after)
    may_go.set()
    thread.join()
    assert is_free(state, before, taken, after)


def test_who_has_waited_in_vain_lets_go_of_what_it_had(state: State) -> None:
    first, last = in_order([11, 12])
    with state.change_lease(GATEWAY, [last]):
        began = time.monotonic()
        with another(state) as other, pytest.raises(BusyError), other.change_lease(GATEWAY, [first, last], timeout=0.2):
            pass
        assert 0.2 <= time.monotonic() - began < 30
        assert is_free(state, first)


def test_many_who_want_several_all_get_them(state: State) -> None:
    """Holders never overlap, regardless of the order in which they list patrons."""
    inside: set[int] = set()
    together: list[set[int]] = []
    guard = threading.Lock()

    def work(number: int) -> None:
        wanted = random.Random(number).sample(range(6), 3)
        with state.change_lease(GATEWAY, wanted, timeout=60):
            with guard:
                together.append(inside & set(wanted))
                inside.update(wanted)
            with guard:
                inside.difference_update(wanted)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(24)))
    assert together == [set()] * 24


def test_a_process_that_is_killed_lets_go_of_them(state: State) -> None:
    with another_process(state, 1, 2) as process:
        assert not is_free(state, 2)
        assert is_free(state, 3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with another(state) as other, other.change_lease(GATEWAY, [1, 2], timeout=60):
            pass


def test_a_large_change_does_not_block_others(state: State) -> None:
    """Regression: with only 2,048 lock slots, most of a thousand other families collided with a change this large."""
    with state.change_lease(GATEWAY, range(1, 1_500), range(1, 400)):
        assert is_free(state, *range(2_000, 3_000))
        assert not is_free(state, 5_000, 1_499)
        assert state.is_being_changed(GATEWAY, [5_000, 1_499])
        assert not state.is_being_changed(GATEWAY, range(2_000, 3_000))


def test_however_many_there_are_it_takes_few_locks(state: State) -> None:
    with state.change_lease(GATEWAY, range(100_000), range(1_000)):
        assert not is_free(state, 7)
        assert not is_free(state, *range(200_000, 300_000))
        assert state.is_being_changed(GATEWAY, [7])
        if state.database.path is None:
            with state.database.reading() as connection:
                count = connection.execute(text(LOCKS)).scalar_one()
            assert count == 1
        with another(state) as other, other.change_lease("https://other.example.org", range(100_000)):
            pass
    with state.change_lease(GATEWAY, range(1_000)):
        assert not is_free(state, *range(200_000, 300_000)), "it waits until nobody changes anything"
        assert is_free(state, 1_000)
    assert is_free(state, *range(100_000))


def test_a_look_at_who_changes_something_takes_nothing(state: State) -> None:
    """Concurrent checks don't see each other, and don't block anyone."""
    assert not state.is_being_changed(GATEWAY, [1001])
    with state.change_lease(GATEWAY, [1001]):
        assert state.is_being_changed(GATEWAY, [1001, 1002])
        assert not state.is_being_changed(GATEWAY, [1002])
        assert not state.is_being_changed("https://other.example.org", [1001])
    assert not state.is_being_changed(GATEWAY, [1001])
    with another(state) as other, other.change_lease(GATEWAY, [1002]):
        assert state.is_being_changed(GATEWAY, [1001, 1002])
        with state.change_lease(GATEWAY, [1001]):
            pass


def test_a_servers_limits_of_idle_time_end_neither_a_lease_nor_an_export(tmp_path: Path) -> None:
    """A lease is idle for as long as a report takes, and an export for as long as its reader takes."""
    cluster = shared_cluster()
    with cluster.database() as name:
        for limit in ("idle_session_timeout", "idle_in_transaction_session_timeout"):
            cluster.execute(f"ALTER DATABASE {name} SET {limit} = '300ms'")

        def is_idle_for_long() -> bool:
            """Return whether a connection has been idle for longer than the limits. Raise if they have ended it."""
            ages = cluster.query(
                "SELECT now() - state_change > '500ms' FROM pg_stat_activity "
                f"WHERE datname = '{name}' AND state LIKE 'idle%'"
            )
            assert ages, "the connection was ended"
            return all(age for (age,) in ages)

        class SlowReader(io.StringIO):
            def write(self, written: str) -> int:
                if "retention" in written:
                    wait_until(is_idle_for_long)
                return super().write(written)

        with State(tmp_path, cluster.url(name)) as state:
            with state.report_lease() as lease:
                wait_until(is_idle_for_long)
                with lease.writing() as connection:
                    connection.execute(schema.retention.insert().values(name="clock", believed_at=lease.now()))
            assert state.report_holder() is None
            assert export(state.database, SlowReader()) == 1
