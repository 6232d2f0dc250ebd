"""A proxy between a client and the sandbox that loses, delays, repeats, changes or records traffic."""

from __future__ import annotations

import itertools
import json
import re
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from evergreen_groups.gateway import NO_TOKEN


class Fault(Enum):
    NONE = "it goes through"
    DROP_REQUEST = "it is lost before it reaches the server"
    DROP_ANSWER = "the server carries it out, and its answer is lost"
    LATE_ANSWER = "the server carries it out, and answers after the client has given up"
    LATE_REQUEST = "it reaches the server after the client has given up"
    HELD_REQUEST = "the client loses the connection, and it reaches the server when the test lets it go"
    REQUEST_TWICE = "the server carries it out twice, and the first answer comes back"
    REQUEST_REPEATED = "the server carries it out twice, and the second answer comes back"
    LATE_COPY = "the server carries it out, and once more when the test lets the copy go"
    ANSWER_TWICE = "its answer comes a second time, as that of the connection's next request"
    ANSWERS_BEHIND = "from here on, each request on this connection gets the answer of the one before"


_UNANSWERED = (Fault.DROP_REQUEST, Fault.HELD_REQUEST, Fault.LATE_REQUEST)


@dataclass(frozen=True)
class HttpAnswer:
    """A response to the client: its Content-Length is ``length``, by default that of the body.

    With a larger ``length``, the connection is closed in the middle. With ``chunk_length``, the body is sent as one
    chunk that claims this length, which may be wrong.
    """

    body: bytes
    status: int = 200
    content_type: str = "text/plain"
    length: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    chunk_length: str = ""

    @classmethod
    def of(cls, envelope: object) -> HttpAnswer:
        """Return a gateway's response with this body."""
        return cls(json.dumps(envelope).encode())

    @property
    def cut_off(self) -> bool:
        """Whether it ends early."""
        return self.length is not None and self.length > len(self.body)

    def to_bytes(self) -> bytes:
        length = len(self.body) if self.length is None else self.length
        framing = ("Transfer-Encoding", "chunked") if self.chunk_length else ("Content-Length", str(length))
        headers = [("Content-Type", self.content_type), framing, *self.headers]
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [f"HTTP/1.1 {self.status} {phrase}", *(f"{name}: {value}" for name, value in headers), "", ""]
        body = f"{self.chunk_length}\r\n".encode() + self.body + b"\r\n0\r\n\r\n" if self.chunk_length else self.body
        return "\r\n".join(lines).encode() + body


def with_numbers_as_text(answer: HttpAnswer) -> HttpAnswer:
    """Return the response of another kind of gateway, which sends the numbers in records as text."""

    def as_text(value: Any) -> Any:
        if isinstance(value, list):
            return [as_text(item) for item in value]
        if isinstance(value, dict):
            return {name: as_text(item) for name, item in value.items()}
        return str(value) if type(value) in (int, float) else value

    envelope = json.loads(answer.body)
    return HttpAnswer.of({**envelope, "payload": as_text(envelope["payload"])})


class Call:
    """One request: ``service``, ``method`` and ``parameters`` as sent (including tokens); empty for the IDL.

    ``port`` is the client's, by which connections differ.
    """

    def __init__(self, body: bytes, port: int = 0) -> None:
        self.port = port
        fields = [part.split("=", 1) for part in body.decode().split("&") if "=" in part]
        values = [(unquote(name), unquote(value)) for name, value in fields]
        self.method = next((value for name, value in values if name == "method"), "")
        self.service = next((value for name, value in values if name == "service"), "")
        self.parameters: list[Any] = [json.loads(value) for name, value in values if name == "param"]

    @property
    def proves_answers(self) -> bool:
        """Whether it echoes a random word, which proves that the Rust gateway's responses belong to their requests."""
        word = str(self.parameters[0]) if self.parameters else ""
        return self.method == "opensrf.system.echo" and re.fullmatch(r"[0-9a-f]{16}", word) is not None

    @property
    def asks_what_there_is(self) -> bool:
        """Whether it reads the server's version or methods, without other effects."""
        return self.method.startswith("opensrf.") or self.parameters[:1] == [NO_TOKEN]


Decide = Callable[[Call], Fault]
_Request = tuple[str, str, bytes, str | None]
"""Method, path and body of an HTTP request, and the ETag of a cached response."""


class _Connection(BaseHTTPRequestHandler):
    """A client's connection. ``waiting`` is a response to send before that of the next request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: FaultProxy
    waiting = b""
    is_behind = False
    remembers = 0

    def do_POST(self) -> None:
        self.proxy.handle(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def do_GET(self) -> None:
        self.proxy.handle(self, b"")

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    """Counts the open connections."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.connections = 0
        self.changed = threading.Condition()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.changed:
            self.connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self.changed:
            self.connections -= 1
            self.changed.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that hang up in the middle, which tests cause."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # handed on as it comes


class FaultProxy:
    """Forwards requests to ``target``.

    ``decide`` chooses the fault of a request. The response is the server's unless one of these overrides it (None: it
    doesn't): without calling the server, ``refuse`` gives the status and debug text of a failure, ``answer`` a result,
    ``instead`` a whole HTTP response, and ``nothing`` selects requests without a result. After the server has executed
    the request, ``garble`` replaces the response's envelope, and ``alter`` changes the response.

    ``calls`` are the requests, and ``seen`` their methods, without the echoes that prove the Rust gateway's responses.

    ``carried_out`` is called when the server has responded, ``before_answer`` before the client gets the response:
    after that, the test may already be checking what was called. ``too_late`` is called when a client should give up
    waiting.
    """

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target)
        self.heal()
        self.carried_out: Callable[[Call, HttpAnswer], None] = lambda call, answer: None
        self.before_answer: Callable[[Call], None] = lambda call: None
        self.too_late: Callable[[], None] = lambda: None
        self._idle: list[HTTPConnection] = []
        self._closed = False
        self.seen: list[str] = []
        self.calls: list[Call] = []
        self._held: list[_Request] = []
        self._copies: list[_Request] = []
        self.forgotten = 0
        connection = type("Connection", (_Connection,), {"proxy": self})
        self.server = _Server(("127.0.0.1", 0), connection)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def heal(self) -> None:
        """Let everything through, from now on."""
        self.decide: Decide = lambda call: Fault.NONE
        self.refuse: Callable[[Call], tuple[int, str] | None] = lambda call: None
        self.answer: Callable[[Call], object | None] = lambda call: None
        self.nothing: Callable[[Call], bool] = lambda call: False
        self.instead: Callable[[Call], HttpAnswer | None] = lambda call: None
        self.garble: Callable[[Call], dict[str, object] | None] = lambda call: None
        self.alter: Callable[[Call, HttpAnswer], HttpAnswer | None] = lambda call, answer: None

    def handle(self, request: _Connection, body: bytes) -> None:
        call = Call(body, request.client_address[1])
        if not call.proves_answers:
            self.seen.append(call.method)
            self.calls.append(call)
        fault = self.decide(call)
        sent = (request.command, request.path, body, request.headers.get("If-None-Match"))
        if fault in _UNANSWERED:
            if fault is Fault.HELD_REQUEST:
                self._held.append(sent)
            elif fault is Fault.LATE_REQUEST:
                self.too_late()
                _wait_for_the_client_to_go(request.connection)
                self._forward(*sent)
            _hang_up(request)
            return
        answer = self._made_up(call) or self._from_the_server(call, sent, fault)
        self.before_answer(call)
        if fault is Fault.LATE_ANSWER:
            self.too_late()
            _wait_for_the_client_to_go(request.connection)
        if fault in (Fault.DROP_ANSWER, Fault.LATE_ANSWER):
            _hang_up(request)
            return
        _send(request, answer, fault)

    def _made_up(self, call: Call) -> HttpAnswer | None:
        """Return a response without the server."""
        refusal, result = self.refuse(call), self.answer(call)
        if refusal is not None:
            return HttpAnswer.of({"payload": [], "debug": refusal[1], "status": refusal[0]})
        if result is not None or self.nothing(call):
            return HttpAnswer.of({"payload": [] if result is None else [result], "status": 200})
        return self.instead(call)

    def _from_the_server(self, call: Call, sent: _Request, fault: Fault) -> HttpAnswer:
        answer = self._forward(*sent)
        if fault is Fault.REQUEST_TWICE:
            self._forward(*sent)
        elif fault is Fault.REQUEST_REPEATED:
            answer = self._forward(*sent)
        elif fault is Fault.LATE_COPY:
            self._copies.append(sent)
        if (envelope := self.garble(call)) is not None:
            return HttpAnswer.of(envelope)
        return self.alter(call, answer) or answer

    def forget(self) -> None:
        """Let each connection have the responses to its own requests again."""
        self.forgotten += 1

    def settle(self) -> None:
        """Wait until all requests of clients that have ended since have been executed."""
        with socket.create_connection(("127.0.0.1", self.server.server_port), timeout=60) as last_in_the_queue:
            last_in_the_queue.shutdown(socket.SHUT_WR)
            last_in_the_queue.recv(1)
        with self.server.changed:
            assert self.server.changed.wait_for(lambda: self.server.connections == 0, timeout=60)

    def let_copies_go(self) -> None:
        """Deliver the late duplicates of requests."""
        while self._copies:
            self._forward(*self._copies.pop(0))

    def let_go(self) -> None:
        """Deliver the requests held back, and the late duplicates."""
        self.let_copies_go()
        while self._held:
            self._forward(*self._held.pop(0))

    def _forward(self, command: str, path: str, body: bytes, known: str | None) -> HttpAnswer:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = HTTPConnection(self.target.hostname or "", self.target.port, timeout=60)
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        if known is not None:
            headers["If-None-Match"] = known
        connection.request(command, path, body or None, headers)
        response = connection.getresponse()
        content = response.read()
        if response.headers.get("Content-Type") == "text/json":  # the Rust gateway closes without saying so
            connection.close()
        else:
            self._idle.append(connection)
        if self._closed:  # the client had given up, and the test is over
            self.close()
        tag = response.headers.get("ETag")
        content_type = response.headers.get("Content-Type", "")
        answer = HttpAnswer(content, response.status, content_type, headers=(("ETag", tag),) if tag else ())
        self.carried_out(Call(body), answer)
        return answer

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()


def _send(request: _Connection, answer: HttpAnswer, fault: Fault) -> None:
    """Send a response, after any that waits on this connection."""
    if request.remembers != request.proxy.forgotten:
        request.remembers, request.waiting, request.is_behind = request.proxy.forgotten, b"", False
    waiting, request.waiting = request.waiting, b""
    content = answer.to_bytes()
    request.is_behind |= fault is Fault.ANSWERS_BEHIND
    if request.is_behind:
        request.waiting = content
        content = waiting or content
    else:
        request.waiting = content if fault is Fault.ANSWER_TWICE else b""
        content = waiting + content
    try:
        request.wfile.write(content)
        request.wfile.flush()
        if answer.cut_off:
            _hang_up(request)
    except ConnectionError:  # the client hasn't waited for it
        request.close_connection = True


def _hang_up(request: _Connection) -> None:
    request.close_connection = True
    with suppress(OSError):  # the client may have closed already
        request.connection.shutdown(socket.SHUT_RDWR)


def _wait_for_the_client_to_go(connection: socket.socket) -> None:
    """Block until the other side has closed, which means that its timeout is over."""
    select.select([connection], [], [], 120)


@contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    proxy = FaultProxy(target)
    thread = threading.Thread(target=proxy.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()
        thread.join()
        proxy.close()


class HeldCalls:
    """Holds back some calls at a proxy until ``let_go``, but at most ``most`` of them."""

    def __init__(
        self, proxy: FaultProxy, holds: Callable[[Call], bool] = lambda _call: True, *, most: int = 1_000_000
    ) -> None:
        self._holds = holds
        self._left = most
        self._arrived, self._released = threading.Semaphore(0), threading.Event()
        proxy.decide = self._decide

    def _decide(self, call: Call) -> Fault:
        if self._left and self._holds(call):
            self._left -= 1
            self._arrived.release()
            self._released.wait(50)
        return Fault.NONE

    def wait_for(self, count: int = 1) -> None:
        for _ in range(count):
            assert self._arrived.acquire(timeout=60)

    def any_more(self) -> bool:
        """Return whether a call has arrived that ``wait_for`` didn't wait for."""
        return self._arrived.acquire(blocking=False)

    def let_go(self) -> None:
        self._released.set()


def alter_payloads(
    proxy: FaultProxy, method: str, change: Callable[[Any], Any], *, first: int = 0, times: int = 1_000_000
) -> list[Any]:
    """Change what a method answers, from its call ``first`` on; return the true payloads as they come."""
    true: list[Any] = []
    places = itertools.count()

    def alter(call: Call, answer: HttpAnswer) -> HttpAnswer | None:
        if call.method != method or not first <= next(places) < first + times:
            return None
        envelope = json.loads(answer.body)
        true.append(json.loads(answer.body)["payload"][0])
        envelope["payload"][0] = change(envelope["payload"][0])
        return HttpAnswer.of(envelope)

    proxy.alter = alter
    return true
