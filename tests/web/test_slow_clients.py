"""Clients that hold connections and send next to nothing don't delay others, and are turned away."""

from __future__ import annotations

import http.client
import resource
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from support.web_caller import served

from evergreen_groups.settings import ServeSettings
from evergreen_groups.web import server
from evergreen_groups.web.server import Arrival, Connection

pytestmark = pytest.mark.long  # opens hundreds of connections

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
    """Answer without reading the body, except for ``/body``. The answer of ``/large`` fills the socket buffers."""
    answer = b"x" * 8_000_000 if environ["PATH_INFO"] == "/large" else b"hello"
    if environ["PATH_INFO"] == "/body":
        answer = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve with a long timeout for slow clients, so a request answered in half that time hasn't waited for them."""
    monkeypatch.setattr(server, "TIMEOUT", 120)
    with served(application, ServeSettings(port=0, threads=2)) as url:  # type: ignore[arg-type]  # no Flask, as good
        yield url


@contextmanager
def client(url: str, sent: bytes = b"") -> Iterator[socket.socket]:
    parts = urlsplit(url)
    with closing(socket.create_connection((parts.hostname, parts.port), timeout=60)) as connection:
        connection.sendall(sent)
        yield connection


def answer(connection: socket.socket) -> bytes:
    response = http.client.HTTPResponse(connection)
    response.begin()
    assert response.status == 200
    return response.read()


def ends(connection: socket.socket, byte: bytes = b"") -> bool:
    """Return whether the server closes the connection although bytes keep coming."""
    connection.settimeout(0.1)
    for _ in range(600):
        try:
            connection.sendall(byte)
            return connection.recv(1) == b""
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: x",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n\r\n{",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n 4000\r\n\r\n{",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4000\r\n{",
        WHOLE + b"GET / HT",
    ],
    ids=["nothing", "a-letter", "blank-lines", "headers", "body", "odd-body", "chunks", "second-request"],
)
def test_however_many_there_are_others_are_answered(url: str, sent: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(server.MOST_SLOW_CLIENTS + 2 + server.SPARE_REQUESTS + 10):
            stack.enter_context(client(url, sent))
        with client(url, WHOLE) as honest:
            honest.settimeout(server.TIMEOUT / 2)
            assert answer(honest) == b"hello"


def test_slow_readers_do_not_delay_others(url: str) -> None:
    with ExitStack() as stack:
        for _ in range(2 + server.SPARE_REQUESTS + 4):
            taking = stack.enter_context(client(url, WHOLE.replace(b"/", b"/large", 1)))
            taking.settimeout(server.TIMEOUT / 2)
            assert taking.recv(1) == b"H"
        with client(url, WHOLE) as honest:
            honest.settimeout(server.TIMEOUT / 2)
            assert answer(honest) == b"hello"


def test_headers_may_come_in_parts(url: str) -> None:
    with client(url) as connection:
        for place in range(len(WHOLE)):
            connection.sendall(WHOLE[place : place + 1])
        assert answer(connection) == b"hello"
        connection.sendall(WHOLE[:20])
        connection.sendall(WHOLE[20:])
        assert answer(connection) == b"hello", "the connection is kept"


def test_a_body_may_come_after_the_headers(url: str) -> None:
    with client(url, b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n") as connection:
        connection.sendall(b"ab")
        connection.sendall(b"c")
        assert answer(connection) == b"abc"


def test_what_is_left_of_a_body_does_not_take_back_the_answer(url: str) -> None:
    with client(url, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc") as connection:
        assert answer(connection) == b"hello"
        assert ends(connection)


def test_who_hangs_up_in_the_middle_of_the_headers_is_let_go(url: str) -> None:
    with client(url, WHOLE[:20]) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert ends(connection)


def test_headers_have_to_be_whole_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TIMEOUT", 1)
    with served(application) as url, client(url, WHOLE[:-2] + b"X-Slow: ") as connection:  # type: ignore[arg-type]
        assert ends(connection, b"x"), "each byte is no new beginning"


@pytest.mark.parametrize("busy", [False, True])
def test_who_waits_longest_goes_first_where_too_many_do(monkeypatch: pytest.MonkeyPatch, busy: bool) -> None:
    """With ``busy``, the server sees the fourth client before the first client's last byte."""
    seen: set[Connection] = set()
    third, may_go_on = threading.Event(), threading.Event()

    def peek(connection: Connection, usual: Callable[[Connection], Arrival] = Connection.peek) -> Arrival:
        seen.add(connection)
        if len(seen) == 3 and not third.is_set():
            third.set()
            may_go_on.wait(60)
        return usual(connection)

    monkeypatch.setattr(server, "TIMEOUT", 120)
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    monkeypatch.setattr(Connection, "peek", peek)
    with served(application) as url, ExitStack() as stack:  # type: ignore[arg-type]
        waiting = [stack.enter_context(client(url, WHOLE[:20])) for _ in range(3)]
        assert third.wait(60)
        if not busy:
            may_go_on.set()
        waiting[0].sendall(WHOLE[20:21])  # more bytes don't make the connection newer
        waiting.append(stack.enter_context(client(url, WHOLE[:20])))
        may_go_on.set()
        assert waiting[0].recv(1) == b""
        for connection in waiting[1:]:
            connection.sendall(WHOLE[20:])
            assert answer(connection) == b"hello"


@pytest.mark.parametrize(("files", "most"), [(1024, 256), (20_000, 1000), (resource.RLIM_INFINITY, 1000), (2, 1)])
def test_no_more_wait_than_the_process_may_open_files(monkeypatch: pytest.MonkeyPatch, files: int, most: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (files, files))
    assert server._most_connections() == most
