"""The web server under the app: cheroot, with the service's limits."""

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
from evergreen_groups.web import requests as plan_bodies
from evergreen_groups.web.overload import Slots
from evergreen_groups.web.requests import SLOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from evergreen_groups.settings import ServeSettings

LARGEST_HEADERS = 32 * 1024
"""Bytes."""

_WHOLE = re.compile(rb"[\r\n]*[^\r\n].*?\n\r?\n", re.DOTALL)  # blank lines before a request are passed over


class Arrival(Enum):
    """How much of the next request there is."""

    PART = "not all of its headers"
    WHOLE = "all of its headers, or more than they may be"
    NEVER = "the client has hung up before they were whole"


class _HeaderReader(HeaderReader):
    """Stricter than cheroot's own.

    Leaves out headers such as ``X_Forwarded_For``, which are a proxy's ``X-Forwarded-For`` to WSGI.
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
        """Read them; a request with a body is the last of its connection.

        Otherwise cheroot reads a body that the app has no use for, however slowly it comes, before it answers.
        """
        understood: bool = super().read_request_headers()  # type: ignore[no-untyped-call]  # as cheroot has it
        if self.chunked_read or self.inheaders.get(b"Content-Length", b"0").strip(b"0"):
            self.close_connection = True
        return understood


class Connection(HTTPConnection):
    """Knows how much of its next request has come."""

    RequestHandlerClass = _Request
    began: float | None = None
    """When the first of the headers that are waited for came, in seconds since 1970; None before that."""
    _came = 0
    _hung_up = False

    def look(self) -> Arrival:
        """Look at what has come, without waiting and without taking it.

        After ``PART`` the connection counts as readable only when more has come.
        """
        if self._hung_up:  # what came before that can still be read, and would pass for a new arrival
            return Arrival.NEVER
        try:
            self.socket.settimeout(0)
            came = self.socket.recv(LARGEST_HEADERS + 1, socket.MSG_PEEK)
        except BlockingIOError:
            return Arrival.PART
        except OSError:
            return Arrival.NEVER
        finally:
            self.socket.settimeout(self.server.timeout)
        if len(came) > LARGEST_HEADERS or _WHOLE.match(came):
            self._expect(1)
            self._came, self.began = 0, None
            return Arrival.WHOLE
        if len(came) <= self._came:
            return Arrival.NEVER
        self._came, self.began = len(came), self.began or time.time()
        self._expect(self._came + 1)
        return Arrival.PART

    def _expect(self, count: int) -> None:
        """Count as readable from so many bytes on, or when the client has hung up."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def hang_up(self) -> None:
        """End it; it counts as readable then."""
        self._hung_up = True
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def communicate(self) -> bool:
        """Answer one request; whether the connection may be used again.

        A second request that was sent before the answer to the first isn't taken: half of one would hold the thread.
        """
        usable: bool = super().communicate() and not self.rfile.has_data()  # type: ignore[no-untyped-call]  # likewise
        if not usable:
            self._pass_over_the_rest()
        return usable

    def _pass_over_the_rest(self) -> None:
        """Take what has come of a body that nobody read: closing with it unread would take back the answer."""
        with suppress(OSError):
            self.socket.settimeout(0)
            self.socket.recv(LARGEST_HEADERS)


log = logging.getLogger("evergreen_groups.web.server")

MOST_CONNECTIONS = 1000
"""That wait for a request: fewer where the process may open few files, of which systemd lets it have 1,024."""

SPARE_REQUESTS = 6
"""At work beside those that may ask the ILS: for events, for what needs no ILS, and to turn away who waits in vain."""

MOST_SLOW_CLIENTS = 240
"""A client that takes slowly has a thread to itself, which is cheap as long as it does nothing else. Several processes
share them out."""

TIMEOUT = 10
"""Seconds in which a client has to send all headers of a request, or to take something of the answer."""

GRACE = 35.0
"""Seconds that running requests have to finish in, unless given otherwise."""

_BETWEEN_COLLECTIONS = 20_000
"""Objects that came to be and stayed: a request makes some thousands."""

UNUSABLE = (OSError, TypeError, ValueError)
"""What says that an address can't be listened on; the last two: the name can't be one at all."""


class CherootServer(WSGIServer):
    """Cheroot, which remembers why it can't listen, and logs nothing that may have a barcode in it."""

    ConnectionClass = Connection
    max_request_body_size = 2 * plan_bodies.LARGEST  # more than the app takes, so that it can say so itself
    max_request_header_size = LARGEST_HEADERS
    refusal: Exception | None = None
    _connections: Any  # cheroot's own, made by prepare()

    def __init__(self, *arguments: Any, listener: socket.socket | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._listener = listener
        self.keep_alive_conn_limit = _most_connections()
        self._waiting: dict[Connection, None] = {}  # for the rest of their headers, those who came first first

    def prepare(self) -> None:
        try:
            super().prepare()
        except UNUSABLE as error:
            self.refusal = self.refusal or error
        if self._listener is not None:
            # Whoever doesn't get a connection, because another process has taken it, waits for none.
            self.socket.setblocking(False)

    def bind(self, family: Any, type: Any, proto: int = 0) -> Any:
        """Listen there, or at the socket that listens already."""
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
        """Have a thread answer the request on a connection, or let it wait, without one, until all headers are there.

        Cheroot closes whoever has waited for ``TIMEOUT``.
        """
        arrival = conn.look()
        if arrival is not Arrival.PART:
            self._waiting.pop(conn, None)
        if arrival is Arrival.WHOLE:
            super().process_conn(conn)
        elif arrival is Arrival.NEVER:
            conn.close()
        else:
            self._connections.put(conn)
            if conn.began is not None:  # more of them is no new beginning
                conn.last_used = conn.began
            self._waiting.setdefault(conn)
            self._close_the_oldest()

    def _close_the_oldest(self) -> None:
        """Close who waits longest where too many do. An honest client's headers come at once."""
        while self._waiting:
            oldest = next(iter(self._waiting))
            is_closed = oldest.socket.fileno() < 0
            if not is_closed and len(self._waiting) <= self.keep_alive_conn_limit:
                return
            del self._waiting[oldest]
            if not is_closed:
                oldest.hang_up()

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:  # noqa: ARG002
        """Log the kind of an error alone: messages and tracebacks may have addresses in them, and these barcodes."""
        if level >= logging.WARNING:
            kind = sys.exc_info()[0]
            log.log(level, "a connection failed: %s", kind.__name__ if kind else "no reason given")


class Server:
    """Serves a WSGI application at the configured address; port 0 takes a free one.

    ``url`` is the server's root, such as ``http://127.0.0.1:8211``. ``listener`` is a socket that listens there
    already, for several processes that share one.

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
            server_name="evergreen-groups",  # in answers, where cheroot would name its version
            numthreads=at_once + MOST_SLOW_CLIENTS // settings.processes,
            request_queue_size=MOST_CONNECTIONS,
            timeout=TIMEOUT,
            listener=listener,
        )
        self._stopping: threading.Thread | None = None
        self._grace: Callable[[], float] = lambda: GRACE
        # Threads that a daemon starts are daemons too: a request that never ends doesn't keep the process from ending.
        preparing = threading.Thread(target=self._cheroot.prepare, daemon=True)
        preparing.start()
        preparing.join()
        if refusal := self._cheroot.refusal:
            raise port_unusable(settings, refusal) from refusal
        host, port = self._cheroot.bind_addr
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def stop(self) -> None:
        """Ask it to stop; may be called from a signal handler or another thread."""
        if self._stopping is None:
            self._stopping = threading.Thread(target=self._finish, daemon=True)
            self._stopping.start()

    def run(self, grace: float | Callable[[], float] = GRACE) -> bool:
        """Serve until it is stopped, then take no more connections and finish the requests that have come.

        Gives back whether all of them were finished within ``grace`` seconds, which are asked for when it stops.
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


def collect_garbage_seldom() -> None:
    """Have Python look for garbage less often, for a process that serves from now on: that was a tenth of its work.

    What is there by now stays, so it needn't be looked at again; what a request leaves goes mostly without.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_BETWEEN_COLLECTIONS, 20, 20)


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens at an address, for several processes; port 0 takes a free one.

    Raises one of :data:`UNUSABLE` where it can't.
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
    """Why the service can't listen where the settings say."""
    return ConfigurationError(
        "port {port} on {host} can't be used: {reason}",
        advice="try another",
        setting="serve.port",
        code="port-unusable",
        values={"port": settings.port, "host": settings.host, "reason": reason_of(refusal)},
    )


def reason_of(refusal: Exception) -> Message:
    """Why an address can't be listened on."""
    if isinstance(refusal, OSError) and refusal.strerror:
        return system_reason(refusal)
    return Message("not a host's name")


def _most_connections() -> int:
    """How many connections may wait, and as many again be idle: a quarter of the files that the process may open."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(MOST_CONNECTIONS, files // 4))


def _limited(application: WSGIApplication, slots: Slots) -> WSGIApplication:
    """An application that so many requests at a time get into; the rest wait, the first come first.

    Without it there would be as many at work as there are threads, each slower for the others. Nobody holds a slot by
    sending slowly: headers have come before, the app reads a body only of whoever knows the events' secret or has
    the session of a member of staff, and of the latter without a slot (``SLOT``).
    """

    def limited_application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[SLOT] = slots.given_back
        with slots.taken():
            return application(environ, start_response)

    return limited_application
