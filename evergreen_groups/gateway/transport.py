"""Sending one HTTP request and getting the whole answer, or an error that says what happened."""

from __future__ import annotations

import copy
import http.client
import io
import logging
import socket
import ssl
import threading
import time
import zlib
from contextlib import closing
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import urllib3.exceptions
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_ import ALPN_PROTOCOLS, create_urllib3_context

from evergreen_groups import arguments
from evergreen_groups.certificates import forgive_form
from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError, UnexpectedAnswerError
from evergreen_groups.gateway.call import Statistics
from evergreen_groups.gateway.failures import Redactor, causes_of, http_error, root_of, transport_error
from evergreen_groups.message import Message, system_reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import urllib3
    from _typeshed import WriteableBuffer
    from urllib3.connectionpool import ConnectionPool

    from evergreen_groups.gateway.address import Address
    from evergreen_groups.gateway.call import Call

_SHORTEST_WAIT = 0.001  # in seconds; nought would be no limit to a socket
_LONGEST_WAIT = 0.5  # how long a read may go on, in seconds, after the gateway was closed in another thread


class StaleConnectionError(ConnectionError):
    """A kept-alive connection was no good any more by the time it was used again.

    The server had closed it, and nothing was answered; or an answer came of which nobody can say to what.
    """


class Exchange:
    """One request and its answer: the time that is left for it, and whether it may have reached the server.

    The time, ``seconds``, starts when the request has been sent. Setting ``stop`` ends the exchange early, and so does
    ``deadline``, a time of the monotonic clock by which everything has to be over, waiting for a connection included.
    """

    def __init__(self, seconds: float, stop: threading.Event, deadline: float | None = None) -> None:
        self.sent = False
        self.mixed_up = False
        """Whether the answer, which has come whole, may be to another request."""
        self.connection: _WatchedConnection | None = None
        self._seconds = seconds
        self._stop = stop
        self._deadline = deadline
        self._expires: float | None = None

    def read_timeout(self) -> float:
        """Return how long the next read may block, in seconds.

        Raises TimeoutError when the time is up, ConnectionAbortedError when the exchange has been stopped.
        """
        self.refuse_stopped()
        now = time.monotonic()
        if self._expires is None:
            self._expires = now + self._seconds if self._deadline is None else min(now + self._seconds, self._deadline)
        if now >= self._expires:
            raise TimeoutError("timed out")
        return min(self._expires - now, _LONGEST_WAIT)

    def refuse_stopped(self) -> None:
        """Raise ConnectionAbortedError where the exchange has been stopped."""
        if self._stop.is_set():
            raise ConnectionAbortedError("stopped")

    def remaining(self, seconds: float) -> float:
        """Return how much of ``seconds`` there is before everything has to be over."""
        if self._deadline is None:
            return seconds
        return min(seconds, max(self._deadline - time.monotonic(), _SHORTEST_WAIT))


current_exchange: ContextVar[Exchange | None] = ContextVar("current_exchange", default=None)


class _TimedReader(io.RawIOBase):
    """A socket's bytes, for as long as the exchange has time."""

    def __init__(self, sock: socket.socket, owner: io.BufferedIOBase, exchange: Exchange) -> None:
        self._sock = sock
        self._owner = owner  # closing it gives the socket back
        self._exchange = exchange
        self._answer_ended = False

    def readable(self) -> bool:
        return True

    def end_answer(self) -> None:
        """Nothing more of what comes belongs to the answer, and nothing more is read."""
        self._answer_ended = True

    def has_more(self) -> bool:
        """Whether the server has sent more than the answer, as far as that is known without waiting."""
        pending = getattr(self._sock, "pending", None)
        if pending is not None:  # TLS sends more than data, so that there are bytes says nothing
            return bool(pending())
        try:
            self._sock.settimeout(0)  # each read sets its own
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
    """An answer whose bytes are read through :class:`_TimedReader`."""

    fp: Any = None  # there even when a signal ends the run before the answer's own beginning has
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
        # Called as soon as the whole answer has been read, before the connection goes back to the pool.
        reader, self._reader = self._reader, None
        connection = None if self._exchange is None else self._exchange.connection
        if reader is not None and connection is not None and self._exchange is not None and not self.will_close:
            reader.end_answer()
            if self.fp.peek(1) or reader.has_more():
                connection.is_mixed_up = True
                # The first answer on a connection is to the only request that there was.
                self._exchange.mixed_up = connection.answers > 1
        super()._close_conn()  # type: ignore[misc]  # http.client's own


class _WatchedConnection(HTTPConnection):
    """A connection that knows how many ``answers`` it has carried since it was opened, and whether too many came."""

    response_class = _TimedResponse
    answers = 0
    is_mixed_up = False

    def connect(self) -> None:
        self.answers, self.is_mixed_up = 0, False
        super().connect()

    @property
    def is_connected(self) -> bool:
        """Whether a pooled connection may be used again; one with bytes to read before anything was asked may not."""
        return super().is_connected and not self.is_mixed_up

    def send(self, data: Any) -> None:
        exchange = current_exchange.get()
        if exchange is not None:
            exchange.refuse_stopped()  # while it waited for a connection
        if self.sock is None:
            self.connect()
        if exchange is not None:
            exchange.connection = self
            # Before the first byte rather than after the last: half a request may have been enough.
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
            answer = super().getresponse()
        except (ConnectionError, http.client.BadStatusLine) as error:
            # That one is our own stop (Exchange.wait), not the server's.
            if not isinstance(error, ConnectionAbortedError):
                self._raise_if_stale(error)
            raise
        self.answers += 1
        return answer

    def _raise_if_stale(self, error: Exception) -> None:
        # Evergreen's Apache keeps a connection for 1 s and 100 requests (Debian's for 5 s), so a pooled one has often
        # just been closed. One that never carried an answer is no such case: there the server itself went away.
        if self.answers:
            raise StaleConnectionError("the server had closed this connection") from error


class _WatchedTLSConnection(_WatchedConnection, HTTPSConnection):
    """The same over TLS; the form of a certificate is forgiven."""

    def connect(self) -> None:
        trusted = self.ca_certs or self.ca_cert_dir
        if self.ssl_context is None and trusted:
            self.ssl_context = _context(
                str(self.ca_certs or ""), str(self.ca_cert_dir or ""), _file_version(str(trusted))
            )
            self.ca_certs = self.ca_cert_dir = None  # they are in it
        elif self.ssl_context is None:
            self.ssl_context = forgive_form(create_urllib3_context())
        super().connect()


@lru_cache(4)
def _context(file: str, directory: str, _version: tuple[int, ...]) -> ssl.SSLContext:
    """What trusts the certificates of a file, or of a directory, in this version of the file.

    One for all connections: each would read the file anew, some 140 certificates of authorities, which takes longer
    than many a call.
    """
    made = forgive_form(create_urllib3_context())
    made.load_verify_locations(file or None, directory or None)
    made.set_alpn_protocols(ALPN_PROTOCOLS)
    # urllib3 sets them again for each connection, which frees those that another thread may be reading just then.
    setattr(made, "set_alpn_protocols", lambda _protocols: None)  # noqa: B010 - a method isn't assigned to otherwise
    return made


def _file_version(path: str) -> tuple[int, ...]:
    """When a file was changed, and which it is: a new one counts from the next connection on."""
    found = Path(path).stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


class _DeadlinePool(HTTPConnectionPool):
    """Waits for a free connection no longer than the exchange has time."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        exchange = current_exchange.get()
        return super()._get_conn(timeout if exchange is None else exchange.remaining(threading.TIMEOUT_MAX))


class _Pool(_DeadlinePool):
    ConnectionCls = _WatchedConnection


class _TLSPool(_DeadlinePool, HTTPSConnectionPool):
    ConnectionCls = _WatchedTLSConnection


class Adapter(HTTPAdapter):
    """Gives a requests session these connections, ``size`` at most at once, all to one server."""

    _pool: ConnectionPool | None = None

    def __init__(self, size: int) -> None:
        # No retries down here: only retry.py knows reads from writes. And a thread waits for a connection rather than
        # opening one more, for a service has a fixed number of children to share among everybody.
        super().__init__(pool_connections=1, pool_maxsize=size, max_retries=0, pool_block=True)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Make the pool manager; called by requests."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> ConnectionPool:
        """Find the pool; called by requests for each request, though it's the same for all."""
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*args, **options)
        return self._pool

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        """Make an answer, without what nobody here reads: cookies, and how a text is encoded; called by requests."""
        response = Response()
        response.status_code, response.headers, response.raw = resp.status, resp.headers, resp
        response.url, response.request = req.url or "", req
        return response

    def close(self) -> None:
        """Close the connections that nobody uses."""
        # requests only forgets the pool. Its connections would stay open until the garbage collector finds it, which
        # takes time after an error, whose traceback still holds it.
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
        super().close()

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Make the pool manager for a proxy; called by requests."""
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
        return manager


ACCEPTED_ENCODING = "gzip"
"""What a request says about encoding."""

_CHUNK_BYTES = 256 * 1024
_GZIP = 16 + zlib.MAX_WBITS


class TooLargeError(Exception):
    """The body is larger than it may be."""


def read_body(response: urllib3.HTTPResponse, limit: int) -> bytes:
    """The whole body, unpacked: ``limit`` bytes of it at most.

    Raises:
        TooLargeError: there is more.
        DecodeError: it is packed otherwise than asked for, or what it is packed in is broken.
    """
    body = bytearray()
    for chunk in _decompressed(response, limit):
        body += chunk
        if len(body) > limit:
            raise TooLargeError
    return bytes(body)


def _decompressed(response: urllib3.HTTPResponse, limit: int) -> Iterator[bytes]:
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise urllib3.exceptions.DecodeError("packed in another way than asked for")
    chunks = iter(lambda: response.read(_CHUNK_BYTES, decode_content=False), b"")
    if not encoding.endswith("gzip"):
        yield from chunks
        return
    unpack = None
    for packed in chunks:
        while packed:
            unpack = unpack or zlib.decompressobj(_GZIP)
            try:
                yield unpack.decompress(packed, limit + 1)
            except zlib.error as error:
                raise urllib3.exceptions.DecodeError("broken encoding") from error
            packed, unpack = unpack.unused_data, None if unpack.eof else unpack  # noqa: PLW2901
    if unpack is not None:
        raise urllib3.exceptions.DecodeError("the encoding ends in the middle")


log = logging.getLogger("evergreen_groups.gateway")

# The largest answer that is meant to come is the IDL, 1.1 MB. What is fifteen times that isn't ours, and mustn't fill
# the memory.
ANSWER_LIMIT = 16 * 1024 * 1024
"""An answer with a larger body, in bytes, is refused while it is still being read."""

_CA_BUNDLE = "gateway.ca_bundle"
_ANOTHER_BUNDLE = "set ca_bundle in [gateway] to a file with certificates (PEM), or remove it"
_CONDITIONS = {"If-None-Match", "If-Modified-Since"}


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """An HTTP answer that came whole: its status below 300 or 304, its headers and its body, decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """The connections to one web server. Safe to share between threads.

    ``concurrency`` is the greatest number of connections; a further request waits for one of them. With ``keep_alive``
    they are kept for the next request.
    TLS certificates are always verified, against ``ca_bundle`` (a PEM file) where it is given.
    """

    def __init__(
        self,
        address: Address,
        *,
        connect_timeout: float = 10.0,
        concurrency: int = 3,
        keep_alive: bool = True,
        ca_bundle: Path | None = None,
    ) -> None:
        require_positive(
            arguments.seconds("connect_timeout", connect_timeout), arguments.whole("concurrency", concurrency)
        )
        if ca_bundle is not None and not ca_bundle.is_file():
            raise ConfigurationError(
                "the CA bundle {path} is not a file",
                advice=_ANOTHER_BUNDLE,
                setting=_CA_BUNDLE,
                code="no-ca-bundle",
                values={"path": ca_bundle},
            )
        if ca_bundle is not None:
            _refuse_unusable(ca_bundle)
        self._address = address
        self.statistics = Statistics()
        self.redactor = Redactor()
        """Blanks the secrets of the session that all this is sent for."""
        self._connect_timeout = connect_timeout
        self._concurrency = concurrency
        self._stop = threading.Event()
        self._adapter = Adapter(concurrency)  # used directly: no redirects are followed, no cookies kept
        self._requests = self._new_session()
        if not keep_alive:
            self._requests.headers["Connection"] = "close"
        # What requests works out anew for each request is the same for all of them.
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        self._form = self._requests.prepare_request(requests.Request("POST", address.gateway, headers))
        bundle = str(ca_bundle) if ca_bundle else None
        self._environment = self._requests.merge_environment_settings(address.gateway, {}, True, bundle, None)

    @property
    def stop(self) -> threading.Event:
        """Set when the exchanges now under way are to end."""
        return self._stop

    def for_session(self) -> Transport:
        """The same connections for another session, of whose secrets this one knows nothing."""
        shared = copy.copy(self)
        shared.redactor = Redactor()
        return shared

    def interrupt(self) -> None:
        """End every exchange that is under way in other threads, within a second; later ones are not touched."""
        stopped, self._stop = self._stop, threading.Event()
        stopped.set()

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._adapter.close()

    def post(
        self, call: Call, form: bytes, seconds: float, *, fresh: bool = False, deadline: float | None = None
    ) -> Reply:
        """Post a form and return the answer, which must have come whole ``seconds`` after the request was sent.

        ``fresh`` uses a new connection, for this request alone; ``deadline`` is a time of the monotonic clock by which
        everything must be over, waiting for a connection included. Raises a TransportError, or
        UnexpectedAnswerError for an answer over ``ANSWER_LIMIT``.
        """
        request = copy.copy(self._form)
        request.body, request.headers = form, self._form.headers.copy()
        request.headers["Content-Length"] = str(len(form))
        if not fresh:
            return self._send(call, request, seconds, deadline)
        # A write has a connection of its own: had a pooled one been closed under it, nobody could say whether it was
        # done.
        request.headers["Connection"] = "close"
        with closing(Adapter(1)) as adapter:
            return self._exchange(adapter, call, request, seconds, deadline, last=True)

    def get(
        self, call: Call, url: str, seconds: float, headers: Mapping[str, str], deadline: float | None = None
    ) -> Reply:
        """Get an address, with the same promises as :meth:`post`."""
        return self._send(
            call, self._requests.prepare_request(requests.Request("GET", url, dict(headers))), seconds, deadline
        )

    def _new_session(self) -> requests.Session:
        """What prepares requests; it sends none."""
        session = requests.Session()
        session.auth = _nothing_added
        session.headers["Accept-Encoding"] = ACCEPTED_ENCODING
        session.trust_env = not self._address.loopback  # proxies from the environment, but none to reach this machine
        return session

    def _send(self, call: Call, request: requests.PreparedRequest, seconds: float, deadline: float | None) -> Reply:
        # Each pooled connection can have gone stale, but each only once.
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
        request: requests.PreparedRequest,
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
            response = adapter.send(
                request,
                stream=True,
                timeout=(exchange.remaining(self._connect_timeout), seconds),
                verify=self._environment["verify"] or True,
                cert=self._environment["cert"],
                proxies=self._environment["proxies"],
            )
            with closing(response):
                content = self._read(response, call)
            if exchange.mixed_up:
                raise StaleConnectionError("more came than one answer to each request")  # noqa: TRY301  # as below
        except EvergreenGroupsError:
            raise
        except Exception as error:
            # Below are requests, urllib3, http.client and ssl. What they raise can't be listed: a negative chunk length
            # ends in a bare ValueError.
            log.debug("%s %s failed after %.3f s", call.service, call, time.monotonic() - began)
            stale = next((cause for cause in causes_of(error) if isinstance(cause, StaleConnectionError)), None)
            if stale is not None and not last:
                raise stale from None
            raise transport_error(
                error,
                call,
                sent=exchange.sent,
                seconds=seconds,
                base=self._address.base,
                connect_timeout=self._connect_timeout,
            ) from root_of(error)
        finally:
            current_exchange.reset(token)
        log.debug(
            "%s %s: HTTP %d, %.3f s, %d bytes",
            call.service,
            call,
            response.status_code,
            time.monotonic() - began,
            len(content),
        )
        return self._checked(response, call, content)

    def _read(self, response: requests.Response, call: Call) -> bytes:
        try:
            return read_body(response.raw, ANSWER_LIMIT)
        except TooLargeError:
            raise UnexpectedAnswerError(
                "the answer is over {megabytes} MB",
                advice="ask for less at once",
                code="answer-too-large",
                values={"megabytes": ANSWER_LIMIT // 1024**2},
                **call.names,
            ) from None
        finally:
            self.statistics.answer(response.raw.tell())

    def _checked(self, response: requests.Response, call: Call, content: bytes) -> Reply:
        status = response.status_code
        if 200 <= status < 300 or (status == 304 and not _CONDITIONS.isdisjoint(response.request.headers)):
            return Reply(status, response.headers, content)
        raise http_error(response, call, self.redactor.raw(content), self._address.base)


def require_positive(*settings: float) -> None:
    """Raises ConfigurationError where one of these isn't greater than nothing."""
    if min(settings) <= 0:
        raise ConfigurationError("timeouts and concurrency must be greater than nothing", code="timeouts-not-positive")


def _refuse_unusable(ca_bundle: Path) -> None:
    """Refuse a file without certificates now: with the first call it would look like a server without TLS."""
    try:
        ssl.create_default_context(cafile=str(ca_bundle))
    except OSError as error:  # ssl.SSLError is one
        without = Message("it holds no certificate")
        raise ConfigurationError(
            "ca_bundle {path} can't be used: {reason}",
            advice=_ANOTHER_BUNDLE,
            setting=_CA_BUNDLE,
            code="ca-bundle-unusable",
            values={"path": ca_bundle, "reason": without if isinstance(error, ssl.SSLError) else system_reason(error)},
        ) from error


def _nothing_added(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """In place of the name and password that requests takes from ``~/.netrc``, which aren't for this program."""
    return request
