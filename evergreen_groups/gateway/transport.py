"""HTTP requests to one web server: its connections, their deadlines, and complete answers."""

from __future__ import annotations

import http.client
import io
import logging
import math
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests.utils
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from evergreen_groups import arguments
from evergreen_groups.certificates import relax_verification
from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError, TimedOutError, UnexpectedAnswerError
from evergreen_groups.gateway.answer import Redactor, http_error, root_of, transport_error
from evergreen_groups.gateway.call import Statistics
from evergreen_groups.message import Message, system_reason
from evergreen_groups.threads import begin

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from evergreen_groups.gateway.address import Address
    from evergreen_groups.gateway.call import Call

log = logging.getLogger("evergreen_groups.gateway")
# It would log headers that it can't parse, and they may hold a token.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)

# Apache uses one process per connection, has few spare ones, and starts one per second. It would hold the process of an
# idle connection for 3 s: 1 s of keep-alive, then 2 s in which it waits for us to close.
_IDLE_SECONDS = 0.3
_SHORTEST_WAIT = 0.001  # seconds; urllib3 refuses a timeout of zero
_LONGEST_WAIT = 0.5  # maximum seconds until a read notices that another thread has closed the gateway
_CHUNK_BYTES = 256 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_NEVER = urllib3.Retry(False)  # only the sender can tell reads from writes

# Maximum bytes of a body. The largest expected one is the IDL, 1.1 MB. An answer fifteen times as large can't be right
# and mustn't fill the memory.
ANSWER_LIMIT = 16 * 1024 * 1024


class _StaleConnectionError(ConnectionError):
    """The server had closed a pooled connection, or its answer may belong to another request."""


@dataclass(eq=False)
class _Exchange:
    """One request: the time it has left, and what happened to it.

    The connection must be made before ``expires``. Then the answer must be complete ``seconds`` after the request was
    sent, and before the ``deadline``. Setting ``stop`` ends the exchange early.
    """

    seconds: float
    deadline: float
    stop: threading.Event
    expires: float
    sent: bool = False
    """Whether the request may have reached the server."""
    reuses: bool = False
    """Whether the connection had been used before."""
    has_surplus: bool = False
    """Whether the server sent more than the answer."""

    def begin(self) -> None:
        """Start the clock of the answer, right before the first byte: half a request may be enough to act on."""
        if self.stop.is_set():  # during the wait for a connection
            raise ConnectionAbortedError("stopped")
        self.sent = True
        self.expires = min(time.monotonic() + self.seconds, self.deadline)

    @property
    def is_over(self) -> bool:
        """Whether no time is left, or another thread has closed the gateway."""
        return self.stop.is_set() or time.monotonic() >= self.expires

    def next_wait(self) -> float:
        """Return how long the next read may block. Raises TimeoutError or, if stopped, ConnectionAbortedError."""
        if self.is_over:
            raise ConnectionAbortedError("stopped") if self.stop.is_set() else TimeoutError("timed out")
        return min(max(self.expires - time.monotonic(), _SHORTEST_WAIT), _LONGEST_WAIT)


_current_exchange: ContextVar[_Exchange] = ContextVar("current_exchange")


class _TimedReader(io.RawIOBase):
    """A socket's bytes, limited by the time of an exchange."""

    def __init__(self, sock: socket.socket, exchange: _Exchange) -> None:
        self.sock = sock
        self.exchange = exchange
        self.waits = True
        self._timeout = sock.gettimeout()
        self._file = sock.makefile("rb", buffering=0)  # as http.client may close the socket before the answer is read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while self.waits:
            self.sock.settimeout(self.exchange.next_wait())
            try:
                return self.sock.recv_into(buffer)
            except TimeoutError:
                continue
        if isinstance(self.sock, ssl.SSLSocket) and not self.sock.pending():
            return 0  # bytes that wait for decryption may be TLS's own, such as session tickets
        self.sock.settimeout(0)
        try:
            return self.sock.recv_into(buffer)
        except OSError:  # nothing has arrived
            return 0

    def close(self) -> None:
        if not self.closed:
            self.sock.settimeout(self._timeout)
            self._file.close()
        super().close()


class _AnswerBytes(io.BufferedReader):
    """The bytes of one answer, given to http.client in place of the socket. It closes this at the end of the answer."""

    raw: _TimedReader

    def makefile(self, _mode: str) -> _AnswerBytes:
        return self

    def close(self) -> None:
        if not self.closed:
            self.raw.waits = False
            self.raw.exchange.has_surplus = bool(self.peek(1))
            _ResumingContext.learn_session(self.raw.sock)  # with TLS 1.3, it comes with the answer
        super().close()


class _Connection(HTTPConnection):
    """A connection that keeps to the time of the exchange."""

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
        exchange.begin()
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
        answer: Any = _AnswerBytes(_TimedReader(sock, _current_exchange.get()))
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
    """Return a context for all connections: reading some 140 certificates takes longer than many calls.

    ``authorities`` is a PEM file or a directory, and ``_version`` changes when it does.
    """
    context = _ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sessions = {}
    context.hostname_checks_common_name = False
    super(_ResumingContext, context).set_alpn_protocols(["http/1.1"])
    file, directory = (None, authorities) if authorities.is_dir() else (authorities, None)
    context.load_verify_locations(file, directory)
    return relax_verification(context)


class _Connections:
    """Pools of one connection each, for at most ``count`` requests at once. Idle ones are soon closed."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)
        self._lock = threading.Lock()
        self._idle: list[tuple[float, urllib3.HTTPConnectionPool]] = []
        self._is_watched = False

    @contextmanager
    def slot(self, seconds: float, call: Call) -> Iterator[None]:
        """Wait until fewer than ``count`` requests are under way. Raises TimedOutError."""
        # A service has a fixed number of processes for all its users, so threads wait instead of opening more.
        if not self._free.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
            raise TimedOutError(
                "all connections are busy", advice="try again later", code="no-free-connection", **call.names
            )
        try:
            yield
        finally:
            self._free.release()

    def take(self) -> urllib3.HTTPConnectionPool | None:
        """Return the idle pool that was used last, if there is one."""
        with self._lock:
            return self._idle.pop()[1] if self._idle else None

    def give_back(self, pool: urllib3.HTTPConnectionPool) -> None:
        """Keep a pool for the next request."""
        with self._lock:
            self._idle.append((time.monotonic(), pool))
            begins, self._is_watched = not self._is_watched, True
        if begins:
            begin(self._watch)

    def close(self, idle_seconds: float = 0.0) -> bool:
        """Close the connections that have been idle for so long. Return whether any are left."""
        latest = time.monotonic() - idle_seconds
        with self._lock:
            old = [pool for since, pool in self._idle if since <= latest]
            self._idle = [(since, pool) for since, pool in self._idle if since > latest]
            self._is_watched = bool(self._idle)
        for pool in old:
            pool.close()
        return self._is_watched

    def _watch(self) -> None:
        time.sleep(_IDLE_SECONDS / 3)
        while self.close(_IDLE_SECONDS):
            time.sleep(_IDLE_SECONDS / 3)


@dataclass(frozen=True, slots=True, repr=False)
class _Request:
    """A request as urllib3 takes it. ``target`` is the URL's path, or the whole URL if a proxy needs that."""

    method: str
    url: str
    target: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """A complete HTTP answer: its status (below 300), headers and decompressed body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """The connections to one web server. Safe to share between threads.

    ``concurrency`` is the maximum number of connections; further requests wait. Idle ones are closed after 0.3 s. TLS
    certificates are always verified, against ``ca_bundle`` (a PEM file) if given.
    """

    def __init__(
        self, address: Address, *, connect_timeout: float = 10.0, concurrency: int = 3, ca_bundle: Path | None = None
    ) -> None:
        require_positive(
            arguments.seconds("connect_timeout", connect_timeout), arguments.integer("concurrency", concurrency)
        )
        if ca_bundle is not None and not ca_bundle.is_file():
            raise _bad_bundle(ca_bundle, Message("No such file or directory"), code="no-ca-bundle")
        self._address = address
        self.statistics = Statistics()
        self._connect_timeout = connect_timeout
        self._concurrency = concurrency
        self._stop = threading.Event()
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
        except OSError as error:  # includes ssl.SSLError
            without = Message("it holds no certificate")
            reason = without if isinstance(error, ssl.SSLError) else system_reason(error)
            raise _bad_bundle(self._authorities, reason, code="ca-bundle-unusable") from error
        self._connections = _Connections(concurrency)
        self._form = self._request("POST", address.gateway, {"Content-Type": "application/x-www-form-urlencoded"})

    @property
    def stop(self) -> threading.Event:
        """Set to end the running exchanges."""
        return self._stop

    def interrupt(self) -> None:
        """End running exchanges in other threads within a second. Later exchanges aren't affected."""
        stopped, self._stop = self._stop, threading.Event()
        stopped.set()

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._connections.close()

    def post(
        self,
        call: Call,
        form: bytes,
        seconds: float,
        redactor: Redactor,
        *,
        fresh: bool = False,
        deadline: float | None = None,
    ) -> Reply:
        """Post a form and return the answer, which must be complete ``seconds`` after the request was sent.

        ``fresh`` opens a new connection for this request only. ``deadline``, on the monotonic clock, limits everything,
        including the wait for a connection. ``redactor`` hides secrets in errors. Raises a TransportError, or
        UnexpectedAnswerError if the answer exceeds ``ANSWER_LIMIT``.
        """
        request = replace(self._form, body=form)
        if not fresh:
            return self._send(call, request, seconds, redactor, deadline)
        # Writes use a new connection: if the server closed a pooled one, we couldn't tell whether it had executed the
        # write.
        request = replace(request, headers={**request.headers, "Connection": "close"})
        return self._exchange(call, request, seconds, redactor, deadline, fresh=True)

    def get(self, call: Call, url: str, seconds: float, redactor: Redactor, deadline: float | None = None) -> Reply:
        """Get a URL, with the same limits and errors as :meth:`post`."""
        return self._send(call, self._request("GET", url, {}), seconds, redactor, deadline)

    def _request(self, method: str, url: str, headers: Mapping[str, str]) -> _Request:
        is_forwarded = self._proxy is not None and not self._address.encrypted
        target = url if is_forwarded else urlsplit(url)._replace(scheme="", netloc="").geturl()
        return _Request(method, url, target, {"Accept-Encoding": "gzip", **headers})

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

    def _send(self, call: Call, request: _Request, seconds: float, redactor: Redactor, deadline: float | None) -> Reply:
        with self._connections.slot(_left(deadline), call):
            try:
                return self._exchange(call, request, seconds, redactor, deadline)
            except _StaleConnectionError:
                self.statistics.retry()
                return self._exchange(call, request, seconds, redactor, deadline, fresh=True)

    def _exchange(
        self,
        call: Call,
        request: _Request,
        seconds: float,
        redactor: Redactor,
        deadline: float | None,
        *,
        fresh: bool = False,
    ) -> Reply:
        """Send a request, if ``fresh`` over a new connection, and return the answer.

        Raises _StaleConnectionError if the connection was used before, and the server either closed it without an
        answer or sent more than the answer, which may then belong to another request.
        """
        began = time.monotonic()
        left = _left(deadline)
        connect_timeout = min(self._connect_timeout, left)
        exchange = _Exchange(min(seconds, left), began + left, self._stop, expires=began + connect_timeout)
        token = _current_exchange.set(exchange)
        self.statistics.request(len(request.body))
        pool = response = None
        try:
            pool = (None if fresh else self._connections.take()) or self._new_pool()
            response = pool.urlopen(
                request.method,
                request.target,
                request.body or None,
                request.headers,
                retries=_NEVER,
                redirect=False,
                assert_same_host=False,
                timeout=urllib3.Timeout(connect=connect_timeout, read=exchange.seconds),
                preload_content=False,
            )
            try:
                content = self._read(response, call)
            finally:
                response.close()  # closes the connection as well, unless the answer was read to its end
                response.release_conn()
            if exchange.has_surplus or "Connection" in request.headers:
                pool.close()
            else:
                self._connections.give_back(pool)
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
            was_closed = response is None and not exchange.is_over
            if exchange.reuses and (was_closed or exchange.has_surplus):
                raise _StaleConnectionError from error
            raise transport_error(
                error,
                call,
                sent=exchange.sent,
                seconds=exchange.seconds,
                base=self._address.base,
                connect_timeout=self._connect_timeout,
            ) from root_of(error)
        finally:
            _current_exchange.reset(token)
        status, took = response.status, time.monotonic() - began
        log.debug("%s %s: HTTP %d, %.3f s, %d bytes", call.service, call, status, took, len(content))
        if 200 <= status < 300:
            return Reply(status, response.headers, content)
        raise http_error(
            status, response.headers, request.url, call, raw=redactor.raw(content), base=self._address.base
        )

    def _read(self, response: urllib3.BaseHTTPResponse, call: Call) -> bytes:
        """Read and decompress a whole body. Raises UnexpectedAnswerError if it is too large, and DecodeError."""
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        body, unpack, received = bytearray(), None, 0
        try:
            if encoding not in ("", "identity", "gzip", "x-gzip"):
                raise urllib3.exceptions.DecodeError("packed in another way than asked for")
            while chunk := response.read(_CHUNK_BYTES, decode_content=False):
                received += len(chunk)
                if not encoding.endswith("gzip"):
                    body += chunk
                    chunk = b""
                while chunk and len(body) <= ANSWER_LIMIT:
                    unpack = unpack or zlib.decompressobj(_GZIP)
                    body += unpack.decompress(chunk, ANSWER_LIMIT + 1)
                    chunk, unpack = unpack.unused_data, None if unpack.eof else unpack
                if len(body) > ANSWER_LIMIT:
                    raise UnexpectedAnswerError(
                        "the answer is too large: {detail}",
                        advice="ask for less at once",
                        code="answer-too-large",
                        values={"detail": f"over {ANSWER_LIMIT // 1024**2} MB"},
                        **call.names,
                    )
        except zlib.error as error:
            raise urllib3.exceptions.DecodeError("broken encoding") from error
        finally:
            self.statistics.answer(received)
        if unpack is not None:
            raise urllib3.exceptions.DecodeError("the encoding ends in the middle")
        return bytes(body)


def _left(deadline: float | None) -> float:
    """Return the seconds until a time on the monotonic clock."""
    return math.inf if deadline is None else max(deadline - time.monotonic(), _SHORTEST_WAIT)


def require_positive(*settings: float) -> None:
    """Raise ConfigurationError unless all values are greater than zero."""
    if min(settings) <= 0:
        raise ConfigurationError("timeouts and concurrency must be greater than 0", code="timeouts-not-positive")


def _bad_bundle(path: Path, reason: str, *, code: str) -> ConfigurationError:
    return ConfigurationError(
        "ca_bundle {path} can't be used: {reason}",
        advice="set ca_bundle in [gateway] to a file with certificates (PEM), or remove it",
        setting="gateway.ca_bundle",
        code=code,
        values={"path": path, "reason": reason},
    )
