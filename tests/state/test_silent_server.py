"""A PostgreSQL that doesn't answer: its processes are frozen, or it refuses connections for now."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import text
from support.postgresql import Cluster

from evergreen_groups.errors import StateUnavailableError
from evergreen_groups.state import State, postgresql


@pytest.fixture
def state(cluster: Cluster, tmp_path: Path) -> Iterator[State]:
    with cluster.database() as name, State(tmp_path, cluster.url(name)) as state:
        use(state)
        yield state


def use(state: State) -> None:
    with state.database.reading() as connection:
        connection.execute(text("SELECT 1"))


@pytest.mark.long
class TestFrozen:
    def test_nobody_waits_twice(self, state: State, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither on the existing connection nor on a new one."""
        monkeypatch.setattr(state.database._breaker, "_pause", 600.0)
        with cluster.frozen():
            with pytest.raises(StateUnavailableError, match="no answer within 2 seconds"):
                use(state)
            for _ in range(3):
                with pytest.raises(StateUnavailableError, match="no answer a moment ago"):
                    use(state)
            state.database._breaker._open_until = None
            with pytest.raises(StateUnavailableError, match="connection timeout expired"):
                use(state)
            with pytest.raises(StateUnavailableError, match="no answer a moment ago"):
                use(state)

    def test_the_first_after_a_pause_finds_out(
        self, state: State, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(state.database._breaker, "_pause", 0.0)
        with cluster.frozen():
            for _ in range(2):
                with pytest.raises(StateUnavailableError):
                    use(state)
        use(state)
        monkeypatch.setattr(state.database._breaker, "_pause", 600.0)
        use(state)
        use(state)

    def test_a_transaction_ends_and_a_lease_is_lost(
        self, state: State, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgresql, "_SECONDS_TO_ANSWER", 0.2)
        monkeypatch.setattr(postgresql, "EXTRA_SECONDS", 0.0)
        with state.change_lease("https://ils.example.org", [7]) as lease:
            with (
                cluster.frozen(),
                pytest.raises(StateUnavailableError, match="no answer within"),
                lease.writing() as connection,
            ):
                connection.execute(text("SELECT 1"))
            with pytest.raises(StateUnavailableError, match="lost the connection to the database"), lease.writing():
                pass

    def test_what_is_late_is_waited_for(self, state: State, cluster: Cluster) -> None:
        """A transaction continues when the server does."""

        def ask() -> int:
            with state.database.reading() as connection:
                begun.set()
                frozen.wait(60)
                asking.set()
                return int(connection.execute(text("SELECT 42")).scalar_one())

        begun, frozen, asking = threading.Event(), threading.Event(), threading.Event()
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(ask)
            assert begun.wait(60)
            with cluster.frozen():
                frozen.set()
                assert asking.wait(60)
                with pytest.raises(TimeoutError):
                    answer.result(timeout=0.2)
            assert answer.result(60) == 42


def test_the_server_ends_what_takes_too_long(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "_SECONDS_TO_ANSWER", 1)
    with cluster.database() as name, State(tmp_path, cluster.url(name)) as state:
        with pytest.raises(StateUnavailableError, match="statement timeout"), state.database.reading() as connection:
            connection.execute(text("SELECT pg_sleep(60)"))
        use(state)


@contextmanager
def refusing(message: str) -> Iterator[str]:
    """Run a server that refuses each connection as PostgreSQL does. Yield its URL."""
    fields = b"".join(code + value.encode() + b"\0" for code, value in [
        (b"S", "FATAL"), (b"V", "FATAL"), (b"C", "57P03"), (b"M", message)
    ])  # fmt: skip
    refusal = b"E" + struct.pack("!I", len(fields) + 5) + fields + b"\0"
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        while connection.recv(1000)[4:8] == struct.pack("!I", 80877103):  # a request for TLS
                            connection.sendall(b"N")
                        connection.sendall(refusal)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"postgresql://groups@127.0.0.1:{listening.getsockname()[1]}/groups?gssencmode=disable"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    "message",
    [
        "the database system is starting up",
        "the database system is not yet accepting connections",
        "the database system is not accepting connections",
        "the database system is shutting down",
        "the database system is in recovery mode",
        "le système de base de données se lance",
    ],
)
def test_a_server_that_takes_no_connections_yet_is_not_a_wrong_login(message: str, tmp_path: Path) -> None:
    with refusing(message) as address, State(tmp_path, address) as state:
        with pytest.raises(StateUnavailableError) as caught:
            use(state)
        assert message in str(caught.value)
        assert "password" not in str(caught.value)
