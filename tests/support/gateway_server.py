"""A scripted web server on real sockets: it responds, hangs up, stalls, drips, resets."""

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qsl, unquote

from evergreen_groups.gateway import Credentials, Gateway, RetryPolicy

TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Request:
    """One request; ``connection`` counts connections from 0."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def form(self) -> list[tuple[str, str]]:
        return parse_qsl(self.body.decode("ascii"), keep_blank_values=True)

    @property
    def osrf_method(self) -> str:
        return dict(self.form).get("method", "")

    @property
    def params(self) -> list[object]:
        return [json.loads(value) for name, value in self.form if name == "param"]


class Line:
    """A connection, as actions get it; ``closing`` is set when the server stops."""

    def __init__(self, sock: socket.socket, closing: threading.Event) -> None:
        self.sock = sock
        self.closing = closing
        self.keep = True

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)


Action = Callable[[Line, Request], None]


def http(
    body: bytes | str, *, status: int = 200, content_type: str = "text/plain", headers: Mapping[str, str] | None = None
) -> bytes:
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Said So", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def envelope(*payload: object, status: int = 200, debug: str | None = None) -> str:
    said = "" if debug is None else f'"debug": {json.dumps(debug)},'
    return f'{{"payload":{json.dumps(list(payload))},{said}"status":{status}}}'


def event(textcode: str, number: int | str, **more: object) -> dict[str, object]:
    return {"ilsevent": number, "textcode": textcode, "desc": f"About {textcode}", "pid": 1, **more}


def logged_in(token: str = TOKEN, provisional: int = 0) -> dict[str, object]:
    return event("SUCCESS", 0, payload={"authtoken": token, "authtime": 420, "provisional": provisional})


def raw(data: bytes, *, close: bool = False) -> Action:
    """Send bytes unchanged, and optionally close the connection."""

    def act(line: Line, request: Request) -> None:
        line.send(data)
        line.keep = not close

    return act


def results(*payload: object, **how: object) -> Action:
    """Respond like the gateway with these results."""
    return raw(http(envelope(*payload)))


def says(status: int, debug: str = "osrfMethodException : it failed") -> Action:
    """Respond with HTTP 200 and another status in the body, like the gateway."""
    return raw(http(envelope(status=status, debug=debug)))


def http_error(status: int, **how: object) -> Action:
    page = "<!DOCTYPE HTML><html><body><h1>No</h1></body></html>"
    return raw(http(page, status=status, content_type="text/html; charset=iso-8859-1", **how))


def hang_up(line: Line, request: Request) -> None:
    line.keep = False


def reset(line: Line, request: Request) -> None:
    """Reset the connection: the client sees ECONNRESET."""
    line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.keep = False


def cut(data: bytes, keep: int) -> Action:
    """Send only the first ``keep`` bytes and close."""
    return raw(data[:keep], close=True)


def stall(line: Line, request: Request) -> None:
    """Send nothing until the server stops."""
    line.closing.wait()
    line.keep = False


def drip(data: bytes, pause: float) -> Action:
    """Send a byte every ``pause`` seconds until done, hung up on, or stopped."""

    def act(line: Line, request: Request) -> None:
        for byte in data:
            line.send(bytes([byte]))
            if line.closing.wait(pause):
                break
        line.keep = False

    return act


def then_close(action: Action) -> Action:
    """Respond in full with keep-alive, but close: like Apache's idle timeout."""

    def act(line: Line, request: Request) -> None:
        action(line, request)
        line.keep = False

    return act


def session_server(answer: Action) -> Action:
    """Accept every login and logout, and leave other requests to ``answer``."""

    def act(line: Line, request: Request) -> None:
        if request.osrf_method == "open-ils.auth.login":
            results(logged_in())(line, request)
        elif request.osrf_method == "open-ils.auth.session.delete":
            results(request.params[0])(line, request)
        else:
            answer(line, request)

    return act


@dataclass
class Server:
    """A server that plays ``script``, one action per request, and then the default action.

    If ``greeting`` is set, send it to every connection and close.
    """

    script: Iterable[Action] = ()
    otherwise: Action = field(default_factory=lambda: says(404))
    tls: ssl.SSLContext | None = None
    greeting: bytes = b""
    port: int = 0
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._script = deque(self.script)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._lines: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._lines:
            with contextlib.suppress(OSError):  # closed already
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads), "a client left a connection open"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def posts(self) -> list[str]:
        """The OpenSRF methods called so far."""
        return [request.osrf_method for request in self.requests if request.method == "POST"]

    @property
    def connections(self) -> list[int]:
        return [request.connection for request in self.requests]

    def _start(self, function: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=function, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # the listener was closed
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._lines.append(sock)
            self._start(self._serve, sock, number)
            number += 1

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            with self.tls.wrap_socket(sock, server_side=True) if self.tls else sock as open_sock:
                self._converse(open_sock, number)
        except OSError:  # the client left, or refused the certificate
            sock.close()

    def _converse(self, sock: socket.socket, number: int) -> None:
        line = Line(sock, self._closing)
        if self.greeting:
            line.send(self.greeting)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):  # closing with bytes unread would reset the connection
                pass
            return
        with sock.makefile("rb") as stream:
            while line.keep and (request := _read_request(stream, number)) is not None:
                with self._lock:
                    self.requests.append(request)
                    action = self._script.popleft() if self._script else self.otherwise
                action(line, request)


def _read_request(stream: object, number: int) -> Request | None:
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers = {}
    while (line := stream.readline().decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    body = stream.read(length)
    if len(body) < length:
        raise ConnectionAbortedError("the client gave up in the middle of its request")
    return Request(first[0], unquote(first[1]), headers, body, number)


QUICK = RetryPolicy(tries=3, first_delay=0.001, longest_delay=0.002)


def connect(server: Server, **settings: object) -> Gateway:
    """Open a gateway to the server that doesn't wait between retries."""
    return Gateway(server.url, **{"retries": QUICK, **settings})


def connect_as_staff(server: Server, **settings: object) -> Gateway:
    return connect(server, credentials=Credentials(username="desk", password="tEst-Secret/1"), **settings)
