"""The web server that runs the app: waitress, which gives a request to a thread once its headers and body are there."""

from __future__ import annotations

import gc
import logging
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import wait
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.message import Message, system_reason
from evergreen_groups.metrics import METRICS_CONTENT_TYPE
from evergreen_groups.settings import values
from evergreen_groups.threads import begin
from evergreen_groups.web.requests import LARGEST_PLAN_BODY

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from evergreen_groups.metrics import ServiceCounters
    from evergreen_groups.settings import ServeSettings

log = logging.getLogger("evergreen_groups.web.server")

LARGEST_HEADERS = 32 * 1024
"""Maximum size of a request's headers, in bytes."""

MOST_CONNECTIONS = 1000
"""Maximum number of open connections. Lower if the process may open few files; systemd's default is 1,024."""

SPARE_REQUESTS = 6
"""Requests that may run in addition to those that query Evergreen: events, static files, and refusals."""

TIMEOUT = 10
"""Seconds that a client has to send all headers of a request, to send more of its body, or to accept more of the
response."""

GRACE = 80.0
"""Seconds that a server has to stop. It goes on serving while changes run, for as long as this leaves
:data:`FINISH_SECONDS`."""

FINISH_SECONDS = 20.0
"""Seconds that accepted requests have to finish after the server has stopped accepting others."""

_ARRIVAL = 1.0
"""Seconds that the bytes of a request may take to arrive after the server has stopped accepting connections."""

_IN_MEMORY = 2**30
"""Requests and responses name patrons, so waitress must not put even large ones into temporary files."""

_COLLECTION_THRESHOLD = 20_000
"""New objects that survive until the next garbage collection. One request creates a few thousand."""


class _Connection(HTTPChannel):
    """A connection that ``owner`` may close after a response. waitress has no setting for it."""

    def __init__(self, owner: Server, *arguments: Any, **options: Any) -> None:
        self._owner = owner
        super().__init__(*arguments, **options)

    def service(self) -> None:
        """Answer a request. Close the connection if it has two lengths: a proxy may see two requests (RFC 9112, 6.1).

        A server that stops closes each connection with its next response, so no client finds it closed.
        """
        request = self.requests[0]
        # HTTP/1.0 has no Transfer-Encoding, and waitress leaves the header there.
        has_two_lengths = (request.chunked and "CONTENT_LENGTH" in request.headers) or (
            "TRANSFER_ENCODING" in request.headers
        )
        if has_two_lengths or self._owner.is_stopping:
            request.headers = {**request.headers, "CONNECTION": "close"}
        super().service()


def _log_kind_only(record: logging.LogRecord) -> bool:
    """Log only the type of an error: waitress's messages and tracebacks contain URLs, and URLs contain barcodes."""
    if record.levelno >= logging.WARNING:
        kind = sys.exc_info()[0]
        log.log(record.levelno, "a connection failed: %s", kind.__name__ if kind else "no reason given")
    return False


logging.getLogger("waitress").addFilter(_log_kind_only)
logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # warns whenever a request waits for a thread


class Server:
    """Serves a WSGI application on a listening socket.

    ``url`` is the server's root, for example ``http://127.0.0.1:8211``. ``threads`` is how many requests run at a time;
    the others wait in order of arrival.
    """

    def __init__(self, application: WSGIApplication, listener: socket.socket, *, threads: int) -> None:
        self._most_connections = _most_connections()
        self._sockets: dict[int, Any] = {}
        server = create_server(
            application,
            self._sockets,
            sockets=[listener],
            threads=threads,
            backlog=MOST_CONNECTIONS,
            connection_limit=self._most_connections + 100,  # not reached while _close_oldest finds any to close
            channel_timeout=TIMEOUT,
            cleanup_interval=1,
            asyncore_use_poll=True,
            max_request_header_size=LARGEST_HEADERS,
            max_request_body_size=2 * LARGEST_PLAN_BODY,  # above the app's own limit: the app can answer with 413
            inbuf_overflow=_IN_MEMORY,
            outbuf_overflow=_IN_MEMORY,
            clear_untrusted_proxy_headers=False,  # the app decides which proxies to trust
            log_socket_errors=False,
            ident="evergreen-groups",  # the default would reveal that it is waitress
        )
        self._server = cast("Any", server)  # the stubs know only some of its attributes
        self._server.channel_class = partial(_Connection, self)
        self._listener = listener
        self.is_stopping = False
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def stop(self) -> None:
        """Tell the server to stop. May be called from a signal handler or another thread."""
        if not self.is_stopping:
            self._server.pull_trigger()
            # Not before: run() may end and close the trigger. If it looks too early, it looks again in a second.
            self.is_stopping = True

    def run(self, is_changing: Callable[[], bool] = lambda: False, *, grace: float = GRACE, reuse: float = 0.0) -> bool:
        """Serve until stopped, and until no change runs. Then accept no more connections and finish the requests.

        Returns whether everything finished within ``grace`` seconds. ``is_changing`` tells whether a change runs. If
        another process will listen at the same address, ``reuse`` is how many seconds clients have to use the
        connections that they have kept: each is closed with its next response.
        """
        while not self.is_stopping:
            self._serve(1.0)
        now = time.monotonic()
        end, reuse_end = now + grace, now + reuse
        changes_end = end - FINISH_SECONDS
        earlier = set(self._connections())
        while now < changes_end and (
            is_changing() or (now < reuse_end and not earlier.isdisjoint(self._connections()))
        ):
            self._serve(0.1)
            now = time.monotonic()
        self._server.accepting = False
        self._listener.close()
        idle_end = now + _ARRIVAL
        while self._connections() or (now < changes_end and is_changing()):
            if now >= end:  # a thread that is still running needs the trigger
                return False
            for connection in self._connections() if now >= idle_end else ():
                if _is_idle(connection):
                    connection.handle_close()
            self._wait(0.1)
            now = time.monotonic()
        self._server.task_dispatcher.shutdown()
        self._server.close()
        return not is_changing()

    def _connections(self) -> list[wasyncore.dispatcher]:
        """Return the open connections, oldest first: a new socket is added at the end."""
        return [one for one in self._sockets.values() if isinstance(one, _Connection)]

    def _serve(self, seconds: float) -> None:
        self._wait(seconds)
        self._close_oldest()

    def _wait(self, seconds: float) -> None:
        """Wait for bytes from clients, for room for more bytes to them, or for a thread, and handle these."""
        wasyncore.loop(seconds, use_poll=True, map=self._sockets, count=1)

    def _close_oldest(self) -> None:
        """Close the oldest idle connection above the limit. The headers of an honest client arrive at once."""
        # The listening socket and the trigger are sockets, too.
        if len(self._sockets) > self._most_connections + 2:
            oldest = next(filter(_is_idle, self._connections()), None)
            if oldest is not None:
                oldest.handle_close()


def _is_idle(connection: wasyncore.dispatcher) -> bool:
    """Return whether no request is being answered. One that is still arriving counts as idle.

    waitress reads from a connection only then.
    """
    return bool(connection.readable())


def reduce_garbage_collection() -> None:
    """Collect garbage less often in a process that serves from now on. Collection took a tenth of the time.

    Objects that exist now are never examined again. Requests leave hardly any cyclic garbage.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTION_THRESHOLD, 20, 20)


def passed_listener(environ: Mapping[str, str]) -> socket.socket | None:
    """Return the listening socket that systemd passes (``sd_listen_fds``), or None if it passes none."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    listener = socket.socket(fileno=_PASSED_FILE)
    listener.set_inheritable(False)
    return listener


_PASSED_FILE = 3


def open_listener(settings: ServeSettings) -> socket.socket:
    """Return a socket that listens at the configured address, or raise a ConfigurationError about it."""
    try:
        return _listening_socket(settings.host, settings.port)
    except (socket.gaierror, TypeError, ValueError) as refusal:
        raise ConfigurationError(
            "{host} isn't an address of this machine: {reason}",
            advice="change host in [serve]",
            setting="serve.host",
            code="host-unusable",
            values={"host": settings.host, "reason": _reason(refusal)},
        ) from refusal
    except OSError as refusal:
        raise ConfigurationError(
            "port {port} on {host} can't be used: {reason}",
            advice="try another",
            setting="serve.port",
            code="port-unusable",
            values={"port": settings.port, "host": settings.host, "reason": _reason(refusal)},
        ) from refusal


_METRICS_THREADS = 2
"""One for Prometheus and one for a second client."""
_METRICS_GRACE = 2.0


@contextmanager
def metrics_served(counters: ServiceCounters, address: str) -> Iterator[str]:
    """Serve only ``/metrics`` at ``address`` (host and port) during the block, which gets the URL.

    Port 0 picks a free port. An address that can't be used is a ConfigurationError.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/metrics" or environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"The metrics are at /metrics.\n"]
        text = counters.exposition()
        start_response("200 OK", [("Content-Type", METRICS_CONTENT_TYPE), ("Content-Length", str(len(text)))])
        return [text]

    try:
        listener = _listening_socket(*values.host_and_port(address))
    except _BIND_ERRORS as refusal:
        raise ConfigurationError(
            "the metrics can't be served at {address}: {reason}",
            advice="change listen in [metrics]",
            setting="metrics.listen",
            code="metrics-address-unusable",
            values={"address": address, "reason": _reason(refusal)},
        ) from refusal
    server = Server(answer, listener, threads=_METRICS_THREADS)
    serving = begin(server.run)
    try:
        yield f"{server.url}/metrics"
    finally:
        server.stop()
        wait([serving], _METRICS_GRACE)


_BIND_ERRORS = (OSError, TypeError, ValueError)
"""Errors that mean an address can't be listened on. The last two mean that the host name is invalid."""


def _listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address, or raise one of :data:`_BIND_ERRORS`. Port 0 picks a free port."""
    refusal: OSError | None = None
    for family, kind, protocol, _name, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))  # :: is IPv4's too
            listener.bind(address)
            listener.listen(MOST_CONNECTIONS)
        except OSError as error:
            listener.close()
            refusal = refusal or error
        else:
            return listener
    raise refusal or OSError("the name has no address")


def _reason(refusal: Exception) -> Message:
    """Return the reason why an address can't be listened on."""
    if isinstance(refusal, OSError) and refusal.strerror:
        return system_reason(refusal)
    return Message("not a host name")


def _most_connections() -> int:
    """Return the limit for open connections: a quarter of the files that the process may open, at most 1,000."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(MOST_CONNECTIONS, files // 4))
