"""The gateway's address, and whether secrets may be sent to it."""

from __future__ import annotations

import http.client
import io
import ipaddress
import logging
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from queue import LifoQueue
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit, urlunsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_ import ALPN_PROTOCOLS, create_urllib3_context

from evergreen_groups import arguments
from evergreen_groups.certificates import relax_verification
from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError, UnexpectedAnswerError
from evergreen_groups.gateway.answer import Redactor, causes_of, http_error, root_of, transport_error
from evergreen_groups.gateway.call import Statistics, view_of
from evergreen_groups.message import Message, system_reason

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from evergreen_groups.gateway.call import Call

GATEWAY_PATH = "/osrf-gateway-v1"
IDL_PATH = "/reports/fm_IDL.xml"

_USUAL_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """The root of an Evergreen web server. ``base`` has no trailing slash.

    ``base`` identifies the server in leases, the journal and caches, so all spellings of an address have the same one.
    """

    base: str
    host: str
    encrypted: bool

    @classmethod
    def parse(cls, url: str) -> Address:
        """Parse ``https://host[:port][/prefix]``, with or without the gateway's path. Raises ConfigurationError."""
        try:
            parts = urlsplit(url.strip())
            host, port = _normalized_host(parts.hostname or ""), parts.port
            path = _normalized_path(parts.path) if host else ""
        except (ValueError, requests.RequestException):
            raise _invalid_address("address-unreadable", "can't be parsed") from None
        if parts.scheme not in {"http", "https"} or not host:
            raise _invalid_address("address-without-host", "no https:// or http://, or no host")
        # Errors, logs and reports show the address, and would show the password with it.
        if "@" in parts.netloc:
            raise _invalid_address("address-with-account", "contains a user name or password")
        if parts.query or parts.fragment:
            raise _invalid_address("address-with-query", "contains a query or fragment")
        # People copy the address with the gateway's path as often as without it.
        path = path.rstrip("/").removesuffix(GATEWAY_PATH).rstrip("/")
        place = f"[{host}]" if ":" in host else host
        if port not in (None, _USUAL_PORTS[parts.scheme]):
            place += f":{port}"
        return cls(urlunsplit((parts.scheme, place, path, "", "")), host, parts.scheme == "https")

    @property
    def gateway(self) -> str:
        """The URL that calls are posted to."""
        return self.base + GATEWAY_PATH

    @property
    def idl(self) -> str:
        """The URL of the server's IDL."""
        return self.base + IDL_PATH

    @property
    def loopback(self) -> bool:
        """Whether the host is this machine."""
        # "localhost" is the only name that always means this machine. Any other name can point elsewhere tomorrow.
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def refuse_plain_http(self) -> None:
        """Raise ConfigurationError if a password or token would cross the network unencrypted."""
        if not self.encrypted and not self.loopback:
            raise ConfigurationError(
                "{address} isn't encrypted: passwords and patron data would cross the network in plain text",
                advice="use https://, or set allow_plain_http = true",
                setting="gateway.allow_plain_http",
                code="not-encrypted",
                values={"address": self.base},
            )


def _invalid_address(code: str, detail: str) -> ConfigurationError:
    return ConfigurationError(
        "the gateway's address is invalid: {detail}",
        advice="write it as https://host",
        setting="gateway.url",
        code=code,
        values={"detail": detail},
    )


def _normalized_host(host: str) -> str:
    """Return a host in lower case, ASCII, without a trailing dot. Raises what requests would when sending."""
    if not host:
        return host
    if ":" in host:
        return ipaddress.IPv6Address(host).compressed
    if not unquote(host).isprintable():  # urllib3 before 2.8 would accept it
        raise ValueError(host)
    prepared = requests.PreparedRequest()
    prepared.prepare_url(f"https://{host}", None)
    return (urlsplit(prepared.url or "").hostname or "").removesuffix(".")


def _normalized_path(path: str) -> str:
    """Return a path as requests sends it, without dot segments and with minimal percent-encoding."""
    prepared = requests.PreparedRequest()
    prepared.prepare_url(f"https://host{path}", None)
    return urlsplit(prepared.url or "").path


_SHORTEST_WAIT = 0.001  # seconds; a socket takes zero as non-blocking
_LONGEST_WAIT = 0.5  # maximum seconds until a read notices that another thread has closed the gateway


class StaleConnectionError(ConnectionError):
    """The server had closed a pooled connection, or its answer may belong to another request."""


@dataclass(eq=False)
class Exchange:
    """The state of one request: the time left, and whether it may have reached the server.

    The answer must arrive within ``seconds`` after the request was sent. Setting ``stop`` ends the exchange early.
    ``deadline``, on the monotonic clock, limits everything, including the wait for a connection. ``mixed_up`` says that
    the complete answer may belong to another request.
    """

    seconds: float
    stop: threading.Event
    deadline: float | None = None
    sent: bool = False
    mixed_up: bool = False
    connection: _WatchedConnection | None = None
    expires: float | None = None

    def read_timeout(self) -> float:
        """Return how long the next read may block. Raises TimeoutError or, if stopped, ConnectionAbortedError."""
        if self.stop.is_set():
            raise ConnectionAbortedError("stopped")
        now = time.monotonic()
        if self.expires is None:
            self.expires = now + self.seconds if self.deadline is None else min(now + self.seconds, self.deadline)
        if now >= self.expires:
            raise TimeoutError("timed out")
        return min(self.expires - now, _LONGEST_WAIT)

    def remaining(self, seconds: float) -> float:
        """Return ``seconds``, or less if the deadline comes first."""
        if self.deadline is None:
            return seconds
        return min(seconds, max(self.deadline - time.monotonic(), _SHORTEST_WAIT))


current_exchange: ContextVar[Exchange | None] = ContextVar("current_exchange", default=None)


class _TimedReader(io.RawIOBase):
    """A socket's bytes, limited by the time of the exchange."""

    def __init__(self, sock: socket.socket, owner: io.BufferedIOBase, exchange: Exchange) -> None:
        self._sock = sock
        self._owner = owner  # closing the owner releases the socket
        self._exchange = exchange
        self._answer_ended = False

    def readable(self) -> bool:
        return True

    def end_answer(self) -> None:
        """Stop reading: the answer is complete."""
        self._answer_ended = True

    def has_more(self) -> bool:
        """Return whether the server has sent more than the answer, without waiting for more."""
        pending = getattr(self._sock, "pending", None)
        if pending is not None:  # waiting bytes may be TLS's own, such as session tickets
            return bool(pending())
        try:
            self._sock.settimeout(0)  # every read sets its own timeout
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._answer_ended:
            return 0
        while True:
            self._sock.settimeout(self._exchange.read_timeout())
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                continue

    def close(self) -> None:
        if not self.closed:
            self._owner.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """A response that reads through :class:`_TimedReader`."""

    fp: Any = None  # for a signal that interrupts __init__ before it sets this
    _reader: _TimedReader | None = None
    _exchange: Exchange | None = None

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        exchange = current_exchange.get()
        if exchange is not None:
            self._exchange = exchange
            self._reader = _TimedReader(sock, self.fp, exchange)
            self.fp = io.BufferedReader(self._reader)

    def _close_conn(self) -> None:
        # http.client calls this after the complete answer, before the connection returns to the pool.
        reader, self._reader = self._reader, None
        connection = None if self._exchange is None else self._exchange.connection
        if reader is not None and connection is not None and self._exchange is not None and not self.will_close:
            reader.end_answer()
            if self.fp.peek(1) or reader.has_more():
                connection.is_mixed_up = True
                # The first answer on a connection can only belong to the only request.
                self._exchange.mixed_up = connection.answers > 1
        super()._close_conn()  # type: ignore[misc]  # http.client's own


class _WatchedConnection(HTTPConnection):
    """A connection that counts its ``answers``, and notices surplus data after one."""

    response_class = _TimedResponse
    putheader = http.client.HTTPConnection.putheader  # urllib3's looks for its own markers in each header
    answers = 0
    is_mixed_up = False
    idle_since = 0.0
    _head: bytes | None = None
    """The head of a request that waits for the body, so that both leave in one packet. Empty: it is still to come."""

    def connect(self) -> None:
        self.answers, self.is_mixed_up = 0, False
        super().connect()

    @property
    def is_connected(self) -> bool:
        """Whether the pool may reuse the connection. Surplus data rules it out."""
        return super().is_connected and not self.is_mixed_up

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **_options: Any) -> None:
        self._head = b"" if body else None
        if self.sock is not None:
            self.sock.settimeout(self.timeout)  # reading has left another one
        http.client.HTTPConnection.request(self, method, url, body, headers)

    def send(self, data: Any) -> None:
        if self._head == b"":
            self._head = data
            return
        data, self._head = (self._head or b"") + data, None
        exchange = current_exchange.get()
        if exchange is not None and exchange.stop.is_set():  # by closing the gateway during the wait for a connection
            raise ConnectionAbortedError("stopped")
        if self.sock is None:
            self.connect()
        if exchange is not None:
            exchange.connection = self
            # Set before the first byte, because half a request may be enough to act on.
            exchange.sent = True
        try:
            super().send(data)
        except TimeoutError:
            raise
        except OSError as error:
            self._raise_if_stale(error)
            raise

    def getresponse(self) -> Any:
        try:
            answer = http.client.HTTPConnection.getresponse(self)
        except (ConnectionError, http.client.BadStatusLine) as error:
            # ConnectionAbortedError comes from our own stop (Exchange.read_timeout), not from the server.
            if not isinstance(error, ConnectionAbortedError):
                self._raise_if_stale(error)
            raise
        if len(set(answer.headers.get_all("Content-Length", ()))) > 1:
            raise http.client.HTTPException("more than one length")
        self.answers += 1
        return answer

    def _raise_if_stale(self, error: Exception) -> None:
        # Evergreen's Apache keeps a connection for 1 s and 100 requests (Debian's for 5 s), so a pooled connection has
        # often just been closed. On a new connection the same error means that the server itself failed.
        if self.answers:
            raise StaleConnectionError("the server had closed this connection") from error


class _WatchedTLSConnection(_WatchedConnection, HTTPSConnection):
    """A watched connection over TLS that tolerates certificates of an unusual form."""

    def connect(self) -> None:
        trusted = self.ca_certs or self.ca_cert_dir
        if self.ssl_context is None and trusted:
            found = Path(str(trusted)).stat()
            version = (found.st_mtime_ns, found.st_size, found.st_ino)  # new connections load a changed file
            self.ssl_context = _context(str(self.ca_certs or ""), str(self.ca_cert_dir or ""), version)
            self.ca_certs = self.ca_cert_dir = None  # the context has them now
        elif self.ssl_context is None:
            self.ssl_context = relax_verification(create_urllib3_context())
        super().connect()

    def getresponse(self) -> Any:
        sock = self.sock  # the answer may take it away
        answer = super().getresponse()
        if isinstance(self.ssl_context, _SharedContext) and isinstance(sock, ssl.SSLSocket) and self.answers == 1:
            self.ssl_context.sessions[sock.server_hostname] = sock.session  # with TLS 1.3, it comes with the answer
        return answer


class _SharedContext(ssl.SSLContext):
    """A context for many connections, which resumes the TLS session of the last one to the same host."""

    sessions: dict[str | None, ssl.SSLSession | None]

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Do nothing: urllib3 sets them for each connection, and would free memory that another thread is reading."""

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:
        options.setdefault("session", self.sessions.get(options["server_hostname"]))
        return super().wrap_socket(sock, *args, **options)


@lru_cache(4)
def _context(file: str, directory: str, _version: tuple[int, ...]) -> ssl.SSLContext:
    """Return a context for all connections: reading some 140 certificates takes longer than many calls."""
    made = relax_verification(create_urllib3_context())
    made.load_verify_locations(file or None, directory or None)
    made.set_alpn_protocols(ALPN_PROTOCOLS)
    made.__class__ = _SharedContext
    shared = cast("_SharedContext", made)
    shared.sessions = {}
    return shared


# Apache uses one process per connection, has few spare ones, and starts one per second. It would hold the process of an
# idle connection for 3 s: 1 s of keep-alive, then 2 s in which it waits for us to close.
_IDLE_SECONDS = 0.3


class _DeadlinePool(HTTPConnectionPool):
    """A pool that waits for a free connection until the exchange's deadline, and soon closes idle connections.

    ``urlopen`` returns the response of ``http.client``, because urllib3's own takes a tenth of a summary's time.
    """

    _is_watched = False

    def _make_request(self, conn: Any, method: str, url: str, *_args: Any, **options: Any) -> Any:
        self._validate_conn(conn)  # connects if over TLS
        with suppress(BrokenPipeError, ConnectionResetError):  # a server may answer before it has read everything
            conn.request(method, url, options["body"], options["headers"])
        return conn.getresponse()

    def release(self, connection: _WatchedConnection | None, answer: http.client.HTTPResponse) -> None:
        """Take back the connection of an answer. Close both unless the answer was read to its end."""
        if connection is not None and not answer.isclosed():
            answer.close()  # has the socket alone if it is the connection's last answer
            connection.close()
        self._put_conn(connection)

    def _get_conn(self, timeout: float | None = None) -> Any:
        exchange = current_exchange.get()
        return super()._get_conn(timeout if exchange is None else exchange.remaining(threading.TIMEOUT_MAX))

    def _put_conn(self, conn: Any) -> None:
        is_open, connections = conn is not None and conn.sock is not None, self.pool
        if is_open:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)
        if is_open and connections is not None and not self._is_watched:
            with connections.mutex:
                begins, self._is_watched = not self._is_watched, True
            if begins:
                threading.Thread(target=self._close_idle, args=(connections,), name="idle", daemon=True).start()

    def _close_idle(self, connections: LifoQueue[Any]) -> None:
        """Close connections that have been idle for long enough, until none is open."""
        while self._is_watched:
            time.sleep(_IDLE_SECONDS / 3)
            with connections.mutex:  # no other thread can take one
                idle = [conn for conn in connections.queue if conn is not None and conn.sock is not None]
                for conn in idle:
                    if time.monotonic() - conn.idle_since > _IDLE_SECONDS:
                        conn.close()
                in_use = len(connections.queue) < connections.maxsize
                self._is_watched = self.pool is connections and (in_use or bool(idle))


class _Pool(_DeadlinePool):
    ConnectionCls = _WatchedConnection


class _TLSPool(_DeadlinePool, HTTPSConnectionPool):
    ConnectionCls = _WatchedTLSConnection


class HTTPRequest(NamedTuple):
    """A request as urllib3 takes it. ``target`` is the URL's path, or the whole URL if a proxy needs that."""

    method: str
    url: str
    target: str
    headers: dict[str, str]
    body: bytes | None = None


class Adapter(HTTPAdapter):
    """At most ``size`` connections to the server of ``example``, which stands for all requests.

    ``environment`` has the proxies and certificates to use, as ``merge_environment_settings`` of requests returns them.
    """

    _pool: _DeadlinePool | None = None

    def __init__(self, size: int, example: requests.PreparedRequest, environment: Mapping[str, Any]) -> None:
        # No retries at this level, because only the sender can tell reads from writes. Threads wait for a free
        # connection instead of opening more, because a service has a fixed number of processes for all its users.
        super().__init__(pool_connections=1, pool_maxsize=size, max_retries=0, pool_block=True)
        self._example = example
        self._verify, self._cert = environment["verify"] or True, environment["cert"]
        self._proxies = environment["proxies"]

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Create the pool manager; called by requests."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    @property
    def pool(self) -> _DeadlinePool:
        """The connections to the server.

        Used directly: ``send`` of requests would look up the pool, the proxy and the certificates again for each
        request, and wrap the answer, which is a fifth of a call's processor time.
        """
        if self._pool is None:
            found = self.get_connection_with_tls_context(
                self._example, self._verify, proxies=self._proxies, cert=self._cert
            )
            self.cert_verify(found, self._example.url, self._verify, self._cert)  # type: ignore[no-untyped-call]
            self._pool = cast(_DeadlinePool, found)
        return self._pool

    def close(self) -> None:
        """Close idle connections."""
        # requests only drops its reference to the pool. Connections would stay open until garbage collection, which an
        # error's traceback can delay.
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
        super().close()

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Create the pool manager for a proxy; called by requests."""
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
        return manager


_CHUNK_BYTES = 256 * 1024
_GZIP = 16 + zlib.MAX_WBITS

log = logging.getLogger("evergreen_groups.gateway")

# Maximum bytes of a body. The largest expected one is the IDL, 1.1 MB. An answer fifteen times as large can't be right
# and mustn't fill the memory.
ANSWER_LIMIT = 16 * 1024 * 1024
_CONDITIONS = {"If-None-Match", "If-Modified-Since"}


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """A complete HTTP answer: its status (below 300, or 304), headers and decompressed body."""

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
        if ca_bundle is not None:
            _refuse_unusable(ca_bundle)
        self._address = address
        self.statistics = Statistics()
        self.redactor = Redactor()
        """Redacts the secrets of the session that requests are sent for."""
        self._connect_timeout = connect_timeout
        self._concurrency = concurrency
        self._stop = threading.Event()
        self._requests = requests.Session()  # prepares requests, and sends none: no redirects and no cookies
        self._requests.auth = _nothing_added
        self._requests.headers["Accept-Encoding"] = "gzip"
        del self._requests.headers["Accept"], self._requests.headers["Connection"]  # they say what is true without them
        self._requests.trust_env = not address.loopback  # proxies from the environment, but not for this machine
        bundle = str(ca_bundle) if ca_bundle else None
        self._environment = self._requests.merge_environment_settings(address.gateway, {}, True, bundle, None)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        example = self._requests.prepare_request(requests.Request("POST", address.gateway, headers))
        self._new_adapter = partial(Adapter, example=example, environment=self._environment)
        self._adapter = self._new_adapter(concurrency)
        self._form = self._prepared(example)

    @property
    def stop(self) -> threading.Event:
        """Set to end the running exchanges."""
        return self._stop

    def for_session(self) -> Transport:
        """Return a transport over the same connections for another session, whose secrets it doesn't share."""
        shared = view_of(self)
        shared.redactor = Redactor()
        return shared

    def interrupt(self) -> None:
        """End running exchanges in other threads within a second. Later exchanges aren't affected."""
        stopped, self._stop = self._stop, threading.Event()
        stopped.set()

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._adapter.close()

    def post(
        self, call: Call, form: bytes, seconds: float, *, fresh: bool = False, deadline: float | None = None
    ) -> Reply:
        """Post a form and return the answer, which must be complete ``seconds`` after the request was sent.

        ``fresh`` opens a new connection for this request only. ``deadline``, on the monotonic clock, limits everything,
        including the wait for a connection. Raises a TransportError, or UnexpectedAnswerError if the answer exceeds
        ``ANSWER_LIMIT``.
        """
        request = self._form._replace(body=form, headers={**self._form.headers, "Content-Length": str(len(form))})
        if not fresh:
            return self._send(call, request, seconds, deadline)
        # Writes use a new connection: if the server closed a pooled one, we couldn't tell whether it had executed the
        # write.
        request.headers["Connection"] = "close"
        with closing(self._new_adapter(1)) as adapter:
            return self._exchange(adapter, call, request, seconds, deadline, last=True)

    def get(
        self, call: Call, url: str, seconds: float, headers: Mapping[str, str], deadline: float | None = None
    ) -> Reply:
        """Get a URL, with the same limits and errors as :meth:`post`."""
        request = self._requests.prepare_request(requests.Request("GET", url, dict(headers)))
        return self._send(call, self._prepared(request), seconds, deadline)

    def _prepared(self, request: requests.PreparedRequest) -> HTTPRequest:
        target = self._adapter.request_url(request, self._environment["proxies"])
        return HTTPRequest(str(request.method), str(request.url), target, dict(request.headers))

    def _send(self, call: Call, request: HTTPRequest, seconds: float, deadline: float | None) -> Reply:
        # Every pooled connection may be stale, but only once.
        for _ in range(self._concurrency):
            try:
                return self._exchange(self._adapter, call, request, seconds, deadline)
            except StaleConnectionError:
                self.statistics.retry()
        return self._exchange(self._adapter, call, request, seconds, deadline, last=True)

    def _exchange(
        self,
        adapter: Adapter,
        call: Call,
        request: HTTPRequest,
        seconds: float,
        deadline: float | None,
        *,
        last: bool = False,
    ) -> Reply:
        exchange = Exchange(seconds, self._stop, deadline)
        seconds = exchange.remaining(seconds)
        began = time.monotonic()
        token = current_exchange.set(exchange)
        try:
            self.statistics.request(len(request.body or b""))
            response: Any = adapter.pool.urlopen(  # of http.client
                request.method,
                request.target,
                request.body,
                request.headers,
                retries=adapter.max_retries,
                redirect=False,
                assert_same_host=False,
                timeout=exchange.remaining(self._connect_timeout),  # for connecting and sending
                release_conn=False,
            )
            try:
                content = self._read(response, call)
            finally:
                adapter.pool.release(exchange.connection, response)
            if exchange.mixed_up:
                raise StaleConnectionError("more came than one answer to each request")  # noqa: TRY301  # as below
        except EvergreenGroupsError:
            raise
        except Exception as error:
            # urllib3, http.client and ssl can raise anything: a negative chunk length, for example, ends in a
            # bare ValueError.
            log.debug("%s %s failed after %.3f s", call.service, call, time.monotonic() - began)
            stale = next((cause for cause in causes_of(error) if isinstance(cause, StaleConnectionError)), None)
            if stale is not None and not last:
                raise stale from None
            base, connect_timeout = self._address.base, self._connect_timeout
            raise transport_error(
                error, call, sent=exchange.sent, seconds=seconds, base=base, connect_timeout=connect_timeout
            ) from root_of(error)
        finally:
            current_exchange.reset(token)
        status, took = response.status, time.monotonic() - began
        log.debug("%s %s: HTTP %d, %.3f s, %d bytes", call.service, call, status, took, len(content))
        if 200 <= status < 300 or (status == 304 and not _CONDITIONS.isdisjoint(request.headers)):
            return Reply(status, response.headers, content)
        raise http_error(
            status, response.headers, request.url, call, raw=self.redactor.raw(content), base=self._address.base
        )

    def _read(self, response: http.client.HTTPResponse, call: Call) -> bytes:
        """Read and decompress a whole body. Raises UnexpectedAnswerError if it is too large, and DecodeError."""
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        body, unpack, received = bytearray(), None, 0
        try:
            if encoding not in ("", "identity", "gzip", "x-gzip"):
                raise urllib3.exceptions.DecodeError("packed in another way than asked for")
            while chunk := response.read(_CHUNK_BYTES):
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
                if response.isclosed():
                    break  # another read would find nothing
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
        except zlib.error as error:
            raise urllib3.exceptions.DecodeError("broken encoding") from error
        finally:
            self.statistics.answer(received)
        if unpack is not None:
            raise urllib3.exceptions.DecodeError("the encoding ends in the middle")
        return bytes(body)


def require_positive(*settings: float) -> None:
    """Raise ConfigurationError unless all values are greater than zero."""
    if min(settings) <= 0:
        raise ConfigurationError("timeouts and concurrency must be greater than 0", code="timeouts-not-positive")


def _refuse_unusable(ca_bundle: Path) -> None:
    """Refuse a file without certificates early; in the first call, it would look like a server without TLS."""
    if not ca_bundle.is_file():
        raise _bad_bundle(ca_bundle, Message("No such file or directory"), code="no-ca-bundle")
    try:
        ssl.create_default_context(cafile=str(ca_bundle))
    except OSError as error:  # includes ssl.SSLError
        without = Message("it holds no certificate")
        reason = without if isinstance(error, ssl.SSLError) else system_reason(error)
        raise _bad_bundle(ca_bundle, reason, code="ca-bundle-unusable") from error


def _bad_bundle(path: Path, reason: str, *, code: str) -> ConfigurationError:
    return ConfigurationError(
        "ca_bundle {path} can't be used: {reason}",
        advice="set ca_bundle in [gateway] to a file with certificates (PEM), or remove it",
        setting="gateway.ca_bundle",
        code=code,
        values={"path": path, "reason": reason},
    )


def _nothing_added(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Replace the default of requests, which sends name and password from ``~/.netrc``."""
    return request
