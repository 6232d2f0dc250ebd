"""HTTP requests to one web server: its connections, their deadlines, and complete answers."""

from __future__ import annotations

import gzip
import http.client
import io
import logging
import math
import os
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests.utils
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from evergreen_groups.certificates import relax_verification
from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError, TimedOutError, UnexpectedAnswerError
from evergreen_groups.gateway.answer import Redactor, http_error, transport_error
from evergreen_groups.gateway.call import Call, GatewayKind, Statistics
from evergreen_groups.message import Message, system_reason
from evergreen_groups.threads import watcher

if TYPE_CHECKING:
    from evergreen_groups.gateway.address import Address

log = logging.getLogger("evergreen_groups.gateway")
# It would log headers that it can't parse, and they may hold a token.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)

# Apache uses one process per connection, has few spare ones, and starts one per second. It would hold the process of an
# idle connection for 3 s: 1 s of keep-alive, then 2 s in which it waits for us to close.
_IDLE_SECONDS = 0.3
_SHORTEST_WAIT = 0.001  # seconds; urllib3 refuses a timeout of zero
_CHUNK_BYTES = 256 * 1024
_NEVER = urllib3.Retry(False)  # only the sender can tell reads from writes

# Maximum bytes of a body. The largest expected one is the IDL, 1.1 MB. An answer fifteen times as large can't be right
# and mustn't fill the memory.
ANSWER_LIMIT = 16 * 1024 * 1024


class _StaleConnectionError(ConnectionError):
    """The server had closed a pooled connection, or its answer may belong to another request."""


@dataclass(frozen=True, slots=True, repr=False)
class HTTPRequest:
    """A request: to post a ``form`` to the gateway or, without one, to get ``url``.

    The answer must be complete ``seconds`` after the request was sent. ``deadline``, on the monotonic clock, limits
    everything, including the wait for a connection. ``fresh`` uses a connection of its own.
    """

    call: Call
    url: str
    form: bytes
    seconds: float
    redactor: Redactor
    deadline: float
    fresh: bool = False

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline."""
        return max(self.deadline - time.monotonic(), _SHORTEST_WAIT)


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """A complete HTTP answer with a status below 300: its headers and decompressed body."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(eq=False)
class _Exchange:
    """What happens to one request, which must be answered ``seconds`` after it was sent and before the ``deadline``."""

    seconds: float
    deadline: float
    expires: float = math.inf
    sock: socket.socket | None = None  # over which the request was sent; None if it can't have reached the server
    reuses: bool = False  # a connection that had been used before
    has_surplus: bool = False  # the server sent more than the answer
    is_stopped: bool = False

    def begin(self, sock: socket.socket) -> None:
        """Start the clock of the answer, right before the first byte: half a request may be enough to act on."""
        if self.is_stopped:  # while connecting
            raise ConnectionAbortedError
        self.expires = min(time.monotonic() + self.seconds, self.deadline)
        self.sock = sock

    @property
    def is_over(self) -> bool:
        """Whether no time is left, or another thread has closed the gateway."""
        return self.is_stopped or time.monotonic() >= self.expires

    def shut_if_over(self) -> None:
        """Shut the connection in time, so that the thread that waits for the answer reads the connection's end."""
        if self.sock is not None and self.is_over:
            # On a copy of the descriptor, because the TLS object isn't for two threads.
            with suppress(OSError), socket.socket(fileno=os.dup(self.sock.fileno())) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)


_current_exchange: ContextVar[_Exchange] = ContextVar("current_exchange")


class _AnswerBytes(io.BufferedReader):
    """The bytes of one answer, given to http.client in place of the socket. It closes this at the end of the answer."""

    def __init__(self, sock: socket.socket, exchange: _Exchange) -> None:
        super().__init__(sock.makefile("rb", buffering=0))  # as http.client may close the socket before reading on
        self._sock = sock
        self._exchange = exchange

    def makefile(self, _mode: str) -> _AnswerBytes:
        return self

    def close(self) -> None:
        if not self.closed:
            timeout = self._sock.gettimeout()
            with suppress(OSError):  # nothing has arrived
                self._sock.settimeout(0)
                self._exchange.has_surplus = bool(self.peek(1))
            with suppress(OSError):
                self._sock.settimeout(timeout)
            _ResumingContext.learn_session(self._sock)  # with TLS 1.3, it comes with the answer
        super().close()


class _Connection(HTTPConnection):
    """A connection that tells the current exchange when it begins, and whether more arrived than its answer."""

    _is_used = False
    _holds = False  # whether the next bytes are a head whose body follows
    _head = b""

    def connect(self) -> None:
        super().connect()
        self._is_used = False

    def request(self, *args: Any, **options: Any) -> None:
        if self.is_closed:
            self.connect()
        exchange = _current_exchange.get()
        exchange.reuses, self._is_used = self._is_used, True
        exchange.begin(self.sock)
        self._holds, self._head = bool(options.get("body")), b""
        super().request(*args, **options)

    def send(self, data: Any) -> None:
        """Send bytes; called by http.client. Head and body leave together, so that the server wakes up only once."""
        if self._holds:
            self._holds, self._head = False, data
        else:
            super().send(self._head + data)
            self._head = b""

    def response_class(  # type: ignore[override]
        self, sock: socket.socket, *args: Any, **options: Any
    ) -> http.client.HTTPResponse:
        """Create the response; called by http.client."""
        answer: Any = _AnswerBytes(sock, _current_exchange.get())
        return http.client.HTTPResponse(answer, *args, **options)


class _TLSConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _ResumingContext(ssl.SSLContext):
    """A context for many connections, which resumes the TLS session of the last one to the same host."""

    sessions: dict[str | None, ssl.SSLSession | None]

    def set_alpn_protocols(self, alpn_protocols: Any) -> None:
        """Do nothing: urllib3 sets them for each connection, and would free memory that another thread is reading."""

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:
        options.setdefault("session", self.sessions.get(options["server_hostname"]))
        return super().wrap_socket(sock, *args, **options)

    @staticmethod
    def learn_session(sock: socket.socket) -> None:
        """Remember the session of a socket, if it has one of these contexts."""
        if isinstance(sock, ssl.SSLSocket) and isinstance(sock.context, _ResumingContext):
            sock.context.sessions[sock.server_hostname] = sock.session


@lru_cache(4)
def _context(authorities: Path, _version: tuple[int, ...]) -> ssl.SSLContext:
    """Return a context for all connections: reading some 140 certificates takes longer than many calls."""
    context = _ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sessions = {}
    context.hostname_checks_common_name = False
    super(_ResumingContext, context).set_alpn_protocols(["http/1.1"])
    file, directory = (None, authorities) if authorities.is_dir() else (authorities, None)
    context.load_verify_locations(file, directory)
    return relax_verification(context)


class _Connections:
    """Pools of one connection each, for at most ``count`` requests at once.

    The watcher closes those that are idle, and ends exchanges that take too long.
    """

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)
        self._lock = threading.Lock()
        self._idle: list[tuple[float, urllib3.HTTPConnectionPool]] = []
        self._running: set[_Exchange] = set()

    @contextmanager
    def slot(self, request: HTTPRequest) -> Iterator[None]:
        """Wait until fewer than ``count`` requests are under way. Raises TimedOutError."""
        # A service has a fixed number of processes for all its users, so threads wait instead of opening more.
        if not self._free.acquire(timeout=min(request.seconds_left, threading.TIMEOUT_MAX)):
            raise TimedOutError(
                "all connections are busy", advice="try again later", code="no-free-connection", **request.call.names
            )
        try:
            yield
        finally:
            self._free.release()

    def take(self, exchange: _Exchange, *, fresh: bool) -> urllib3.HTTPConnectionPool | None:
        """Watch an exchange, and return the idle pool that was used last, if it may use one."""
        with self._lock:
            self._running.add(exchange)
            pool = self._idle.pop()[1] if self._idle and not fresh else None
        watcher.add(self._watch)
        return pool

    def give_back(self, exchange: _Exchange, pool: urllib3.HTTPConnectionPool | None) -> None:
        """Forget an exchange, and keep its pool for the next one."""
        with self._lock:
            self._running.discard(exchange)
            if pool is not None:
                self._idle.append((time.monotonic(), pool))

    def interrupt(self) -> None:
        """Have the running exchanges ended."""
        with self._lock:
            for exchange in self._running:
                exchange.is_stopped = True

    def close(self, idle_seconds: float = 0.0) -> None:
        """Close the connections that have been idle for so long."""
        latest = time.monotonic() - idle_seconds
        with self._lock:
            old = [pool for since, pool in self._idle if since <= latest]
            self._idle = [(since, pool) for since, pool in self._idle if since > latest]
        for pool in old:
            pool.close()

    def _watch(self) -> bool:
        self.close(_IDLE_SECONDS)
        with self._lock:
            for exchange in self._running:
                exchange.shut_if_over()
            return bool(self._idle or self._running)


class Transport:
    """The connections to one web server. Safe to share between threads.

    At most ``concurrency`` connections; further requests wait. Idle ones are closed after 0.3 s. TLS certificates are
    always verified, against ``ca_bundle`` (a PEM file) if given.
    """

    def __init__(self, address: Address, connect_timeout: float, concurrency: int, ca_bundle: Path | None) -> None:
        self.url = address.gateway
        """The URL that calls are posted to."""
        self._address = address
        self.statistics = Statistics()
        self.kind: GatewayKind | None = None
        """The kind of gateway, as its senders have seen in its answers."""
        self.closing = threading.Event()
        self._connect_timeout = connect_timeout
        self._connections = _Connections(concurrency)
        session = requests.Session()  # only knows the environment's proxies and certificates; sends nothing
        session.trust_env = not address.loopback  # no proxies for this machine
        bundle = str(ca_bundle) if ca_bundle else None
        environment = session.merge_environment_settings(address.gateway, {}, None, bundle, None)
        verify = environment["verify"]
        self._authorities = Path(verify if isinstance(verify, str) else requests.utils.DEFAULT_CA_BUNDLE_PATH)
        self._proxy = requests.utils.select_proxy(address.gateway, environment["proxies"])
        try:
            if ca_bundle is not None:
                self._load_context()  # even if the address is http://
            self._new_pool()
        except FileNotFoundError as error:
            raise _bad_bundle(self._authorities, system_reason(error), code="no-ca-bundle") from error
        except OSError as error:
            reason = Message("it holds no certificate") if isinstance(error, ssl.SSLError) else system_reason(error)
            raise _bad_bundle(self._authorities, reason, code="ca-bundle-unusable") from error

    def interrupt(self) -> None:
        """End running exchanges in other threads. Later exchanges aren't affected."""
        self.closing.set()
        self._connections.interrupt()

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._connections.close()

    def send(self, request: HTTPRequest) -> Reply:
        """Send a request and return its answer. Raises a TransportError, UnexplainedError or UnexpectedAnswerError."""
        # Writes use a new connection: if the server closed a pooled one, we couldn't tell whether it had executed the
        # write.
        if request.fresh:
            return self._exchange(request, fresh=True)
        with self._connections.slot(request):
            try:
                return self._exchange(request, fresh=False)
            except _StaleConnectionError:
                self.statistics.add(retries=1)
                return self._exchange(request, fresh=True)

    def _new_pool(self) -> urllib3.HTTPConnectionPool:
        options: dict[str, Any] = {"maxsize": 1}
        if self._address.encrypted:
            options["ssl_context"] = self._load_context()
        if self._proxy is None:
            manager = urllib3.PoolManager(**options)
        else:
            proxy = requests.utils.prepend_scheme_if_needed(self._proxy, "http")  # type: ignore[no-untyped-call]
            user, password = requests.utils.get_auth_from_url(proxy)
            headers = urllib3.make_headers(proxy_basic_auth=f"{user}:{password}") if user else None
            manager = urllib3.ProxyManager(proxy, proxy_headers=headers, **options)
        pool = manager.connection_from_url(self._address.base)
        pool.ConnectionCls = _TLSConnection if pool.scheme == "https" else _Connection
        return pool

    def _load_context(self) -> ssl.SSLContext:
        """Return the context for the authorities as they are now: the file may change. Raises OSError."""
        found = self._authorities.stat()
        return _context(self._authorities, (found.st_mtime_ns, found.st_size, found.st_ino))

    def _exchange(self, request: HTTPRequest, *, fresh: bool) -> Reply:
        """Send a request, if ``fresh`` over a new connection, and return the answer.

        Raises _StaleConnectionError if the connection was used before, and the server either closed it without an
        answer or sent more than the answer, which may then belong to another request.
        """
        call, began = request.call, time.monotonic()
        exchange = _Exchange(min(request.seconds, request.seconds_left), request.deadline)
        token = _current_exchange.set(exchange)
        self.statistics.add(calls=1, sent=len(request.form))
        pool = response = None
        keeps = False
        try:
            pool = self._connections.take(exchange, fresh=fresh) or self._new_pool()
            response = self._begin(pool, request, exchange.seconds)
            try:
                body = self._read(response, call)
            finally:
                response.close()  # closes the connection as well, unless the answer was read to its end
                response.release_conn()
            if exchange.is_over:  # and perhaps shut, so that the answer's end is missing
                raise ConnectionAbortedError  # noqa: TRY301
            keeps = not (exchange.has_surplus or request.fresh)
            # The first answer on a connection can only belong to the only request.
            if exchange.has_surplus and exchange.reuses:
                raise http.client.HTTPException("more came than one answer to each request")  # noqa: TRY301
        except EvergreenGroupsError:
            raise
        except Exception as error:
            # urllib3, http.client and ssl can raise anything: a negative chunk length, for example, ends in a
            # bare ValueError.
            log.debug("%s %s failed after %.3f s", call.service, call, time.monotonic() - began)
            # Evergreen's Apache keeps a connection for 1 s and 100 requests (Debian's for 5 s), so a pooled connection
            # has often just been closed. On a new connection the same error means that the server itself failed.
            if exchange.reuses and not exchange.is_over and (response is None or exchange.has_surplus):
                raise _StaleConnectionError from error
            raise transport_error(
                TimeoutError() if exchange.is_over and not exchange.is_stopped else error,
                call,
                sent=exchange.sock is not None,
                seconds=exchange.seconds,
                base=self._address.base,
                connect_timeout=self._connect_timeout,
            ) from error
        finally:
            if pool is not None and not keeps:
                pool.close()
            self._connections.give_back(exchange, pool if keeps else None)
            _current_exchange.reset(token)
        status, headers, took = response.status, response.headers, time.monotonic() - began
        log.debug("%s %s: HTTP %d, %.3f s, %d bytes", call.service, call, status, took, len(body))
        if 200 <= status < 300:
            return Reply(headers, body)
        raise http_error(status, headers, request.url, call, raw=request.redactor.raw(body), base=self._address.base)

    def _begin(
        self, pool: urllib3.HTTPConnectionPool, request: HTTPRequest, seconds: float
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and read the head of the answer."""
        headers = {"Accept-Encoding": "gzip"}
        if request.form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        if request.fresh:
            headers["Connection"] = "close"
        # A proxy takes the whole URL, unless it only passes on what is encrypted.
        is_forwarded = self._proxy is not None and not self._address.encrypted
        return pool.urlopen(
            "POST" if request.form else "GET",
            request.url if is_forwarded else urlsplit(request.url)._replace(scheme="", netloc="").geturl(),
            request.form or None,
            headers,
            retries=_NEVER,
            redirect=False,
            assert_same_host=False,
            timeout=urllib3.Timeout(connect=min(self._connect_timeout, request.seconds_left), read=seconds),
            preload_content=False,
        )

    def _read(self, response: urllib3.BaseHTTPResponse, call: Call) -> bytes:
        """Read and decompress a whole body. Raises UnexpectedAnswerError if it is too large, and DecodeError."""
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise urllib3.exceptions.DecodeError("packed in another way than asked for")
        body = bytearray()
        while len(body) <= ANSWER_LIMIT and (chunk := response.read(_CHUNK_BYTES, decode_content=False)):
            self.statistics.add(received=len(chunk))
            body += chunk
        if encoding.endswith("gzip") and len(body) <= ANSWER_LIMIT:
            try:
                body[:] = gzip.GzipFile(fileobj=io.BytesIO(body)).read(ANSWER_LIMIT + 1)
            except (OSError, EOFError, zlib.error) as error:
                raise urllib3.exceptions.DecodeError("broken encoding") from error
        if len(body) > ANSWER_LIMIT:
            raise UnexpectedAnswerError(
                "the answer is too large: {detail}",
                advice="ask for less at once",
                code="answer-too-large",
                values={"detail": f"over {ANSWER_LIMIT // 1024**2} MB"},
                **call.names,
            )
        return bytes(body)


def _bad_bundle(path: Path, reason: str, *, code: str) -> ConfigurationError:
    return ConfigurationError(
        "ca_bundle {path} can't be used: {reason}",
        advice="set ca_bundle in [gateway] to a file with certificates (PEM), or remove it",
        setting="gateway.ca_bundle",
        code=code,
        values={"path": path, "reason": reason},
    )
