"""The web server that runs the app: cheroot with stricter limits."""

from __future__ import annotations

import gc
import logging
import re
import resource
import socket
import sys
import threading
import time
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from cheroot.server import HeaderReader, HTTPConnection, HTTPRequest
from cheroot.wsgi import Server as WSGIServer

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.web.overload import Slots
from evergreen_groups.web.requests import LARGEST_PLAN_BODY, SLOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from evergreen_groups.settings import ServeSettings

LARGEST_HEADERS = 32 * 1024
"""Maximum size of a request's headers, in bytes."""

_COMPLETE_HEADERS = re.compile(rb"[\r\n]*[^\r\n].*?\n\r?\n", re.DOTALL)  # blank lines before a request are ignored


class Arrival(Enum):
    """How much of a request's headers has arrived."""

    PARTIAL = "some of its headers"
    COMPLETE = "all of its headers, or more than the limit"
    CLOSED = "no more: the client has hung up"


class _HeaderReader(HeaderReader):
    """A stricter header reader.

    Drops headers with underscores: WSGI can't tell ``X_Forwarded_For`` from a proxy's ``X-Forwarded-For``.
    """

    def __call__(self, rfile: Any, hdict: dict[bytes, bytes] | None = None) -> dict[bytes, bytes]:
        headers: dict[bytes, bytes] = super().__call__(rfile, hdict)
        if not headers.get(b"Content-Length", b"0").isdigit():
            raise ValueError("Malformed Content-Length Header.")  # answered with 400
        return headers

    def _allow_header(self, key_name: bytes) -> bool:
        return b"_" not in key_name


class _Request(HTTPRequest):
    header_reader = _HeaderReader()

    def read_request_headers(self) -> bool:
        """Read the headers, and close the connection after a request with a body.

        On a connection that stays open, cheroot reads an unused body to its end, however slow the client, before it
        responds.
        """
        understood: bool = super().read_request_headers()  # type: ignore[no-untyped-call]  # cheroot has no types
        if self.chunked_read or self.inheaders.get(b"Content-Length", b"0").strip(b"0"):
            self.close_connection = True
        return understood


class Connection(HTTPConnection):
    """A connection that reports how much of its next request has arrived."""

    RequestHandlerClass = _Request
    began: float | None = None
    """When the first byte of the incomplete headers arrived, in seconds since 1970; None if none has."""
    _received = 0
    _hung_up = False

    def peek(self) -> Arrival:
        """Peek at the received bytes, without waiting and without consuming them.

        After ``PARTIAL``, the connection counts as readable only once more bytes arrive.
        """
        if self._hung_up:  # bytes from before the shutdown are still readable and would look like a new request
            return Arrival.CLOSED
        try:
            self.socket.settimeout(0)
            received = self.socket.recv(LARGEST_HEADERS + 1, socket.MSG_PEEK)
        except BlockingIOError:
            return Arrival.PARTIAL
        except OSError:
            return Arrival.CLOSED
        finally:
            self.socket.settimeout(self.server.timeout)
        if len(received) > LARGEST_HEADERS or _COMPLETE_HEADERS.match(received):
            self._expect(1)
            self._received, self.began = 0, None
            return Arrival.COMPLETE
        if len(received) <= self._received:
            return Arrival.CLOSED
        self._received, self.began = len(received), self.began or time.time()
        self._expect(self._received + 1)
        return Arrival.PARTIAL

    def _expect(self, count: int) -> None:
        """Count as readable once ``count`` bytes have arrived or the client has hung up."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def hang_up(self) -> None:
        """Shut the connection down. It then counts as readable, so the server closes it."""
        self._hung_up = True
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def communicate(self) -> bool:
        """Answer one request. Return whether the connection can be reused.

        A second request that arrived before the first was answered isn't accepted: half of a request would block the
        thread.
        """
        usable: bool = super().communicate() and not self.rfile.has_data()  # type: ignore[no-untyped-call]  # same
        if not usable:
            self._discard_body()
        return usable

    def _discard_body(self) -> None:
        """Discard an unread body. If the socket closed with unread data, the client would lose the response."""
        with suppress(OSError):
            self.socket.settimeout(0)
            self.socket.recv(LARGEST_HEADERS)


log = logging.getLogger("evergreen_groups.web.server")

MOST_CONNECTIONS = 1000
"""Maximum number of connections waiting for a request. Lower if the process may open few files; systemd's default is
1,024."""

SPARE_REQUESTS = 6
"""Requests that may run in addition to those that query Evergreen: events, static files, and refusals."""

MOST_SLOW_CLIENTS = 240
"""Threads for clients that read their response slowly, shared by all processes. An idle thread is cheap."""

TIMEOUT = 10
"""Seconds that a client has to send all headers of a request, or to accept part of the response."""

GRACE = 35.0
"""Default number of seconds that running requests have to finish when the server stops."""

_COLLECTION_THRESHOLD = 20_000
"""New objects that survive until the next garbage collection. One request creates a few thousand."""

BIND_ERRORS = (OSError, TypeError, ValueError)
"""Errors that mean an address can't be listened on. The last two mean that the host name is invalid."""


class CherootServer(WSGIServer):
    """Cheroot that remembers why it can't listen, and keeps barcodes out of the log."""

    ConnectionClass = Connection
    max_request_body_size = 2 * LARGEST_PLAN_BODY  # above the app's own limit, so that the app can answer with 413
    max_request_header_size = LARGEST_HEADERS
    refusal: Exception | None = None
    _connections: Any  # set by cheroot's prepare()

    def __init__(self, *arguments: Any, listener: socket.socket | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._listener = listener
        self.keep_alive_conn_limit = _most_connections()
        self._waiting: dict[Connection, None] = {}  # connections with incomplete headers, oldest first

    def prepare(self) -> None:
        try:
            super().prepare()
        except BIND_ERRORS as error:
            self.refusal = self.refusal or error
        if self._listener is not None:
            # Don't block in accept() if another process has taken the connection.
            self.socket.setblocking(False)

    def bind(self, family: Any, type: Any, proto: int = 0) -> Any:
        """Bind to the address, or take over the socket that is already listening."""
        if self._listener is not None:
            self.socket = self._listener
            self.bind_addr = self._listener.getsockname()[:2]
            return self.socket
        try:
            return super().bind(family, type, proto)
        except OSError as error:
            self.refusal = error
            raise

    def process_conn(self, conn: Connection) -> None:
        """Pass a connection to a thread once all headers have arrived. Until then it waits without a thread.

        Cheroot closes connections that have waited for ``TIMEOUT``.
        """
        arrival = conn.peek()
        if arrival is not Arrival.PARTIAL:
            self._waiting.pop(conn, None)
        if arrival is Arrival.COMPLETE:
            super().process_conn(conn)
        elif arrival is Arrival.CLOSED:
            conn.close()
        else:
            self._connections.put(conn)
            if conn.began is not None:  # more bytes don't restart the timeout
                conn.last_used = conn.began
            self._waiting.setdefault(conn)
            self._close_oldest()

    def _close_oldest(self) -> None:
        """Close the oldest waiting connections above the limit. The headers of an honest client arrive at once."""
        while self._waiting:
            oldest = next(iter(self._waiting))
            is_closed = oldest.socket.fileno() < 0
            if not is_closed and len(self._waiting) <= self.keep_alive_conn_limit:
                return
            del self._waiting[oldest]
            if not is_closed:
                oldest.hang_up()

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:  # noqa: ARG002
        """Log only the type of an error: messages and tracebacks may contain URLs, and URLs contain barcodes."""
        if level >= logging.WARNING:
            kind = sys.exc_info()[0]
            log.log(level, "a connection failed: %s", kind.__name__ if kind else "no reason given")


class Server:
    """Serves a WSGI application at the configured address. Port 0 picks a free port.

    ``url`` is the server's root, for example ``http://127.0.0.1:8211``. ``listener`` is an already listening socket
    that several processes share.

    Raises:
        ConfigurationError: the address can't be used.
    """

    def __init__(
        self, application: WSGIApplication, settings: ServeSettings, *, listener: socket.socket | None = None
    ) -> None:
        at_once = settings.threads + SPARE_REQUESTS
        self._cheroot = CherootServer(
            (settings.host, settings.port),
            _limited(application, Slots(at_once, timeout=None)),
            server_name="evergreen-groups",  # the default would reveal cheroot's version
            numthreads=at_once + MOST_SLOW_CLIENTS // settings.processes,
            request_queue_size=MOST_CONNECTIONS,
            timeout=TIMEOUT,
            listener=listener,
        )
        self._stopping: threading.Thread | None = None
        self._grace: Callable[[], float] = lambda: GRACE
        # Threads started by a daemon thread are daemons too, so a request that hangs can't keep the process alive.
        preparing = threading.Thread(target=self._cheroot.prepare, daemon=True)
        preparing.start()
        preparing.join()
        if refusal := self._cheroot.refusal:
            raise port_unusable(settings, refusal) from refusal
        host, port = self._cheroot.bind_addr
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def stop(self) -> None:
        """Tell the server to stop. May be called from a signal handler or another thread."""
        if self._stopping is None:
            self._stopping = threading.Thread(target=self._finish, daemon=True)
            self._stopping.start()

    def run(self, grace: float | Callable[[], float] = GRACE) -> bool:
        """Serve until stopped, then accept no more connections and finish the running requests.

        Returns whether all of them finished within ``grace`` seconds. A callable is evaluated when the server stops.
        """
        self._grace = grace if callable(grace) else lambda: grace
        self._cheroot.serve()
        if self._stopping is None:
            return False
        self._stopping.join(self._grace() + 1)
        return not self._stopping.is_alive()

    def _finish(self) -> None:
        self._cheroot.shutdown_timeout = self._grace()
        self._cheroot.stop()


def reduce_garbage_collection() -> None:
    """Collect garbage less often in a process that serves from now on. Collection took a tenth of the time.

    Objects that exist now are never examined again. Requests leave hardly any cyclic garbage.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTION_THRESHOLD, 20, 20)


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address, for several processes to share. Port 0 picks a free port.

    Raises one of :data:`BIND_ERRORS` if the address can't be used.
    """
    refusal: OSError | None = None
    for family, kind, protocol, _name, _address in socket.getaddrinfo(
        host, port, socket.AF_UNSPEC, socket.SOCK_STREAM, 0, socket.AI_PASSIVE
    ):
        made = CherootServer.prepare_socket((host, port), family, kind, protocol, nodelay=True, ssl_adapter=None)
        try:
            made.bind((host, port))
            made.listen(MOST_CONNECTIONS)
        except OSError as error:
            made.close()
            refusal = refusal or error
        else:
            return cast(socket.socket, made)
    raise refusal or OSError("the name has no address")


def port_unusable(settings: ServeSettings, refusal: Exception) -> ConfigurationError:
    """Return the error for an address that the service can't listen on."""
    return ConfigurationError(
        "port {port} on {host} can't be used: {reason}",
        advice="try another",
        setting="serve.port",
        code="port-unusable",
        values={"port": settings.port, "host": settings.host, "reason": reason_of(refusal)},
    )


def reason_of(refusal: Exception) -> Message:
    """Return the reason why an address can't be listened on."""
    if isinstance(refusal, OSError) and refusal.strerror:
        return system_reason(refusal)
    return Message("not a host's name")


def _most_connections() -> int:
    """Return the limit for waiting connections, and for idle ones: a quarter of the files that the process may open."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(MOST_CONNECTIONS, files // 4))


def _limited(application: WSGIApplication, slots: Slots) -> WSGIApplication:
    """Limit how many requests run in an application at a time. The others wait in order of arrival.

    With one running request per thread, each would slow down the others. A slow client can't hold a slot: headers have
    arrived by now, and the app reads a body only if the client knows the events' secret or has a staff session. For
    staff sessions it gives up the slot while reading (``SLOT``).
    """

    def limited_application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[SLOT] = slots.released
        with slots.taken():
            return application(environ, start_response)

    return limited_application
