"""HTTP connections that keep a deadline for the whole answer, and tell when a pooled one can't be used any more.

A read timeout alone is no limit: it starts anew with every byte, so a server that drips would hold a call for ever.
On a kept-alive connection nothing but its place tells which request an answer is to. So one on which more comes than
one answer to each request isn't used again, and what came on it last may be to another request.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_ import ALPN_PROTOCOLS, create_urllib3_context

from evergreen_groups.certificates import forgive_form

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from urllib3.connectionpool import ConnectionPool


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

    def wait(self) -> float:
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

    def left(self, seconds: float) -> float:
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
            self._sock.settimeout(self._exchange.wait())
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
            self.ssl_context = _context(str(self.ca_certs or ""), str(self.ca_cert_dir or ""), _stamp(str(trusted)))
            self.ca_certs = self.ca_cert_dir = None  # they are in it
        elif self.ssl_context is None:
            self.ssl_context = forgive_form(create_urllib3_context())
        super().connect()


@lru_cache(4)
def _context(file: str, directory: str, _stamp: tuple[int, ...]) -> ssl.SSLContext:
    """What trusts the certificates of a file, or of a directory, as they are at ``_stamp``.

    One for all connections: each would read the file anew, some 140 certificates of authorities, which takes longer
    than many a call.
    """
    made = forgive_form(create_urllib3_context())
    made.load_verify_locations(file or None, directory or None)
    made.set_alpn_protocols(ALPN_PROTOCOLS)
    # urllib3 sets them again for each connection, which frees those that another thread may be reading just then.
    setattr(made, "set_alpn_protocols", lambda _protocols: None)  # noqa: B010 - a method isn't assigned to otherwise
    return made


def _stamp(path: str) -> tuple[int, ...]:
    """When a file was changed, and which it is: a new one counts from the next connection on."""
    found = Path(path).stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


class _PatientPool(HTTPConnectionPool):
    """Waits for a free connection no longer than the exchange has time."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        exchange = current_exchange.get()
        return super()._get_conn(timeout if exchange is None else exchange.left(threading.TIMEOUT_MAX))


class _Pool(_PatientPool):
    ConnectionCls = _WatchedConnection


class _TLSPool(_PatientPool, HTTPSConnectionPool):
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
