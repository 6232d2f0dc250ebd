"""A proxy between a client and the sandbox that loses, holds back or watches requests, as a bad network would."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class Fault(Enum):
    """What happens to a request."""

    NONE = "it goes through"
    DROP_REQUEST = "it is lost before it reaches the server"
    DROP_ANSWER = "the server carries it out, and its answer is lost"
    LATE_ANSWER = "the server carries it out, and answers after the client has given up"
    LATE_REQUEST = "it reaches the server after the client has given up"
    HELD_REQUEST = "the client loses the connection, and it reaches the server when the test lets it go"


class Call:
    """One request: ``service``, ``method`` and ``parameters`` as sent (tokens as they are); empty for the IDL."""

    def __init__(self, body: bytes) -> None:
        fields = [part.split("=", 1) for part in body.decode().split("&") if "=" in part]
        values = [(unquote(name), unquote(value)) for name, value in fields]
        self.method = next((value for name, value in values if name == "method"), "")
        self.service = next((value for name, value in values if name == "service"), "")
        self.parameters: list[Any] = [json.loads(value) for name, value in values if name == "param"]


Decide = Callable[[Call], Fault]


class FaultProxy:
    """Forwards to ``target``.

    ``decide`` says what happens to a request. ``refuse`` gives the status and the debug text of one that the server is
    to refuse, ``answer`` a result in place of the server's, ``nothing`` says which are to have none. ``garble`` gives
    what is sent instead of the server's answer to a request that it did carry out: an envelope. ``before_answer`` is
    called when the server has answered and the client doesn't know yet, ``answered`` after that.
    """

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target)
        self.decide: Decide = lambda call: Fault.NONE
        self.refuse: Callable[[Call], tuple[int, str] | None] = lambda call: None
        self.answer: Callable[[Call], object | None] = lambda call: None
        self.nothing: Callable[[Call], bool] = lambda call: False
        self.garble: Callable[[Call], dict[str, object] | None] = lambda call: None
        self.before_answer: Callable[[Call], None] = lambda call: None
        self.answered: Callable[[Call], None] = lambda call: None
        self._idle: list[HTTPConnection] = []
        self.seen: list[str] = []
        self._held: list[tuple[str, str, bytes]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                proxy.handle(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            def do_GET(self) -> None:
                proxy.handle(self, b"")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        call = Call(body)
        self.seen.append(call.method)
        fault = self.decide(call)
        if fault is Fault.DROP_REQUEST:
            _hang_up(request)
            return
        if fault is Fault.HELD_REQUEST:
            self._held.append((request.command, request.path, body))
            _hang_up(request)
            return
        if fault is Fault.LATE_REQUEST:
            _wait_for_the_client_to_go(request.connection)
            self._forward(request.command, request.path, body)
            _hang_up(request)
            return
        status = 200
        refusal, instead = self.refuse(call), self.answer(call)
        if refusal is not None:
            content_type, answer = _made_up({"payload": [], "debug": refusal[1], "status": refusal[0]})
        elif instead is not None or self.nothing(call):
            content_type, answer = _made_up({"payload": [] if instead is None else [instead], "status": 200})
        else:
            status, content_type, answer = self._forward(request.command, request.path, body)
            if (envelope := self.garble(call)) is not None:
                content_type, answer = _made_up(envelope)
        self.before_answer(call)
        if fault is Fault.LATE_ANSWER:
            _wait_for_the_client_to_go(request.connection)
        if fault is not Fault.NONE:
            _hang_up(request)
            return
        request.send_response(status)
        request.send_header("Content-Type", content_type)
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)
        request.wfile.flush()
        self.answered(call)

    def let_go(self) -> None:
        """Hand on the requests that were held."""
        while self._held:
            self._forward(*self._held.pop(0))

    def _forward(self, command: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = HTTPConnection(self.target.hostname or "", self.target.port, timeout=30)
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        connection.request(command, path, body or None, headers)
        answer = connection.getresponse()
        content = answer.read()
        self._idle.append(connection)
        return answer.status, answer.headers.get("Content-Type", ""), content

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


def _made_up(envelope: dict[str, object]) -> tuple[str, bytes]:
    return "text/plain", json.dumps(envelope).encode()


def _hang_up(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True
    request.connection.shutdown(socket.SHUT_RDWR)


def _wait_for_the_client_to_go(connection: socket.socket) -> None:
    """Block until the other side has closed: then its timeout is over."""
    select.select([connection], [], [], 30)


@contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """A running proxy in front of ``target``."""
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
