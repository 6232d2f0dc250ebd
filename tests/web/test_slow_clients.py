"""Clients that hold connections and send next to nothing don't delay others, and are turned away."""

from __future__ import annotations

import http.client
import json
import resource
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests
from flask import Flask
from support.desk_caller import plan_body
from support.web_caller import API, Clock, bearer, served, session

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import ServeSettings
from evergreen_groups.web import server
from evergreen_groups.web.requests import LARGEST_PLAN_BODY

pytestmark = pytest.mark.long  # opens hundreds of connections

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
    """Answer ``/body`` with the request's body. The answer of ``/large`` fills the socket buffers."""
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
        for _ in range(300):
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


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_after_a_body_with_two_lengths_the_connection_is_closed(url: str, version: str) -> None:
    """A proxy may take the rest for another request (RFC 9112, section 6.1)."""
    lengths = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive"
    body = "3\r\nabc\r\n0\r\n\r\n" if version == "1.1" else "abc"
    request = f"POST /body HTTP/{version}\r\nHost: localhost\r\n{lengths}\r\n\r\n{body}"
    with client(url, request.encode() + WHOLE) as connection:
        assert answer(connection) == b"abc"
        assert connection.recv(1) == b""


def test_a_body_over_the_limit_is_refused_before_it_arrives(url: str) -> None:
    length = 2 * LARGEST_PLAN_BODY
    with client(url, f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\nabc".encode()) as large:
        response = http.client.HTTPResponse(large)
        response.begin()
        assert response.status == 413
        response.read()
        assert ends(large)


def test_who_hangs_up_in_the_middle_of_the_headers_is_let_go(url: str) -> None:
    with client(url, WHOLE[:20]) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert ends(connection)


def test_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, half = Clock(), len(WHOLE) // 2
    for module in ("waitress.channel", "waitress.server"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(time=clock))

    def is_answered(connection: socket.socket) -> bool:
        connection.sendall(WHOLE[half:])
        return answer(connection) == b"hello"

    def others_come() -> None:
        """Wait for the server to look at all earlier connections, by letting two later ones be answered."""
        for _ in range(2):
            with client(url, WHOLE[:half]) as other:
                assert is_answered(other)

    with served(application) as url, client(url, WHOLE[:half]) as quicker, client(url, WHOLE[:half]) as slower:  # type: ignore[arg-type]
        others_come()
        clock.now += 9
        others_come()
        assert is_answered(quicker)
        clock.now += 2
        others_come()
        assert slower.recv(1) == b""


def test_who_waits_longest_goes_first_where_too_many_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TIMEOUT", 120)
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    with served(application) as url, ExitStack() as stack:  # type: ignore[arg-type]
        waiting = [stack.enter_context(client(url, WHOLE[:20])) for _ in range(3)]
        waiting[0].sendall(WHOLE[20:21])  # more bytes don't make the request newer
        waiting.append(stack.enter_context(client(url, WHOLE[:20])))
        assert waiting[0].recv(1) == b""
        for connection in waiting[1:]:
            connection.sendall(WHOLE[20:])
            assert answer(connection) == b"hello"


def test_who_is_being_answered_does_not_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 1)
    with served(application) as url, client(url, WHOLE.replace(b"/", b"/large", 1)) as reader:  # type: ignore[arg-type]
        assert reader.recv(1) == b"H"
        for _ in range(3):
            with client(url, WHOLE) as other, suppress(ConnectionResetError):
                other.recv(1)
        received = 1
        while received < 8_000_000:
            received += len(reader.recv(1_000_000))


@pytest.mark.parametrize(("token", "status"), [("", 201), ("0" * 32, 401)], ids=["session", "stranger"])
def test_bodies_that_come_slowly_are_answered_in_the_end(app: Flask, sandbox: Sandbox, token: str, status: int) -> None:
    own = session(sandbox.url, username="consortium_staff")
    body = json.dumps(plan_body("move", 1052, target=1001)).encode()
    lines = [f"POST {API}/plans HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token or own}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    sent = "\r\n".join(lines).encode() + body[:10]
    with served(app, ServeSettings(port=0, threads=2)) as url, ExitStack() as stack:
        slow = [stack.enter_context(client(url, sent)) for _ in range(300)]
        began = time.monotonic()
        assert requests.get(f"{url}{API}/patrons/1001/summary", headers=bearer(own), timeout=60).status_code == 200
        # They are closed after ten seconds without a byte. A busy machine may take more than one for a quick answer.
        assert time.monotonic() - began < 5
        for connection in slow[-3:]:
            connection.sendall(body[10:])
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == status
        with client(url, sent) as cut_off:
            cut_off.shutdown(socket.SHUT_WR)
            assert cut_off.recv(1) == b""


@pytest.mark.parametrize(("files", "most"), [(1024, 256), (20_000, 1000), (resource.RLIM_INFINITY, 1000), (2, 1)])
def test_no_more_wait_than_the_process_may_open_files(monkeypatch: pytest.MonkeyPatch, files: int, most: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (files, files))
    assert server._most_connections() == most
