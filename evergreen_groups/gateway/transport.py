"""Sending one HTTP request and getting the whole answer, or an error that says what happened."""

from __future__ import annotations

import copy
import http.client
import logging
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests
import urllib3.exceptions

from evergreen_groups.errors import (
    ConfigurationError,
    CutOffError,
    HTTPStatusError,
    NotJSONError,
    TimedOutError,
    TransportError,
    UnexpectedAnswerError,
    UnreachableError,
)
from evergreen_groups.gateway.connection import Adapter, Exchange, StaleConnectionError, current_exchange

if TYPE_CHECKING:
    from evergreen_groups.gateway.address import Address
    from evergreen_groups.gateway.calls import Call
    from evergreen_groups.gateway.redaction import Redactor
    from evergreen_groups.gateway.statistics import Statistics

log = logging.getLogger("evergreen_groups.gateway")

# The largest answer that is meant to come is the IDL, 1.1 MB. What is fifty times that isn't ours, and mustn't fill
# the memory.
ANSWER_LIMIT = 64 * 1024 * 1024
"""An answer with a larger body, in bytes, is refused while it is still being read."""

_PORTION = 256 * 1024
_CONDITIONS = {"If-None-Match", "If-Modified-Since"}
_NOT_CONNECTED = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
)


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """An HTTP answer that came whole: its status below 300 or 304, its headers and its body, decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """The connections to one web server. Safe to share between threads.

    ``concurrency`` is the greatest number of kept-alive connections; a further request waits for one of them.
    TLS certificates are always verified, against ``ca_bundle`` (a PEM file) where it is given.
    """

    def __init__(
        self,
        address: Address,
        *,
        statistics: Statistics,
        redactor: Redactor,
        connect_timeout: float = 10.0,
        concurrency: int = 3,
        ca_bundle: Path | None = None,
    ) -> None:
        if ca_bundle is not None and not ca_bundle.is_file():
            raise ConfigurationError(f"The CA bundle {ca_bundle} is not a file.")
        self._address = address
        self._statistics = statistics
        self._redactor = redactor
        self._connect_timeout = connect_timeout
        self._concurrency = concurrency
        self._stop = threading.Event()
        self._pool = self._new_session(concurrency)
        # What requests works out anew for each request is the same for all of them.
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        self._form = self._pool.prepare_request(requests.Request("POST", address.gateway, headers))
        bundle = str(ca_bundle) if ca_bundle else None
        self._environment = self._pool.merge_environment_settings(address.gateway, {}, True, bundle, None)

    @property
    def stop(self) -> threading.Event:
        """Set when the exchanges now under way are to end."""
        return self._stop

    def for_session(self, redactor: Redactor) -> Transport:
        """The same connections for another session, whose secrets are blanked by ``redactor``."""
        shared = copy.copy(self)
        shared._redactor = redactor
        return shared

    def interrupt(self) -> None:
        """End every exchange that is under way in other threads, within a second; later ones are not touched."""
        stopped, self._stop = self._stop, threading.Event()
        stopped.set()

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._pool.close()

    def post(
        self, call: Call, body: bytes, seconds: float, *, fresh: bool = False, until: float | None = None
    ) -> Reply:
        """Post a form and return the answer, which must have come whole ``seconds`` after the request was sent.

        ``fresh`` uses a new connection, for this request alone; ``until`` is a time of the monotonic clock by which
        everything must be over, waiting for a connection included. Raises a TransportError, or
        UnexpectedAnswerError for an answer over ``ANSWER_LIMIT``.
        """
        request = self._form.copy()
        request.prepare_body(body, None)
        if not fresh:
            return self._send(call, request, seconds, until)
        # A write has a connection of its own: had a pooled one been closed under it, nobody could say whether it was
        # done.
        request.headers["Connection"] = "close"
        with self._new_session(1) as session:
            return self._exchange(session, call, request, seconds, until, last=True)

    def get(
        self, call: Call, url: str, seconds: float, headers: Mapping[str, str], until: float | None = None
    ) -> Reply:
        """Get an address, with the same promises as :meth:`post`."""
        return self._send(call, self._pool.prepare_request(requests.Request("GET", url, dict(headers))), seconds, until)

    def _new_session(self, size: int) -> requests.Session:
        session = requests.Session()
        adapter = Adapter(size)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        session.trust_env = not self._address.loopback  # proxies from the environment, but none to reach this machine
        return session

    def _send(self, call: Call, request: requests.PreparedRequest, seconds: float, until: float | None) -> Reply:
        # Each pooled connection can have gone stale, but each only once.
        for _ in range(self._concurrency):
            try:
                return self._exchange(self._pool, call, request, seconds, until)
            except StaleConnectionError:
                self._statistics.retry()
        return self._exchange(self._pool, call, request, seconds, until, last=True)

    def _exchange(
        self,
        session: requests.Session,
        call: Call,
        request: requests.PreparedRequest,
        seconds: float,
        until: float | None,
        *,
        last: bool = False,
    ) -> Reply:
        exchange = Exchange(seconds, self._stop, until)
        seconds = exchange.left(seconds)
        adapter = session.get_adapter(self._address.base)  # used directly: no redirects are followed, no cookies kept
        began = time.monotonic()
        token = current_exchange.set(exchange)
        try:
            self._statistics.request(len(request.body or b""))
            response = adapter.send(
                request,
                stream=True,
                timeout=(exchange.left(self._connect_timeout), seconds),
                verify=self._environment["verify"] or True,
                cert=self._environment["cert"],
                proxies=self._environment["proxies"],
            )
            with closing(response):
                body = self._read(response, call)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            log.debug("%s %s failed after %.3f s", call.service, call, time.monotonic() - began)
            stale = next((cause for cause in _causes(error) if isinstance(cause, StaleConnectionError)), None)
            if stale is not None and not last:
                raise stale from None
            raise self._explained(error, call, exchange, seconds) from _root(error)
        finally:
            current_exchange.reset(token)
        log.debug(
            "%s %s: HTTP %d, %.3f s, %d bytes",
            call.service,
            call,
            response.status_code,
            time.monotonic() - began,
            len(body),
        )
        return self._checked(response, call, body)

    def _read(self, response: requests.Response, call: Call) -> bytes:
        body = bytearray()
        try:
            while portion := response.raw.read(_PORTION, decode_content=True):
                body += portion
                if len(body) > ANSWER_LIMIT:
                    raise UnexpectedAnswerError(
                        f"{call}: the answer is over {ANSWER_LIMIT // 1024**2} MB. Ask for less at once.",
                        service=call.service,
                        method=call.method,
                    )
        finally:
            self._statistics.answer(response.raw.tell())
        return bytes(body)

    def _checked(self, response: requests.Response, call: Call, body: bytes) -> Reply:
        status = response.status_code
        if 200 <= status < 300 or (status == 304 and not _CONDITIONS.isdisjoint(response.request.headers)):
            return Reply(status, response.headers, body)
        raw = self._redactor.raw(body)
        if status == 408:
            raise TimedOutError(
                f"{call}: the web server says that the request timed out (HTTP 408). Try again later, or ask for less.",
                service=call.service,
                method=call.method,
                raw=raw,
                sent=True,
            )
        if 300 <= status < 400:
            found = f"is elsewhere: it points to {_place(response)}. Put that address in the configuration"
        elif status >= 500:
            found = f"failed (HTTP {status}). Try again later; the web server's error log knows more"
        else:
            found = f"refused the request (HTTP {status}). Check the address, and whether a proxy stands in front"
        raise HTTPStatusError(
            f"{call}: the web server at {self._address.base} {found}.",
            status=status,
            service=call.service,
            method=call.method,
            raw=raw,
        )

    def _explained(self, error: Exception, call: Call, exchange: Exchange, seconds: float) -> TransportError:
        """Return the error to raise in place of one from requests, urllib3 or the socket."""
        causes = list(_causes(error))

        def found(*kinds: type[BaseException]) -> bool:
            return any(isinstance(cause, kinds) for cause in causes)

        kind: type[TransportError] = CutOffError
        if found(urllib3.exceptions.EmptyPoolError):
            kind = TimedOutError
            text = "no connection became free in time. Try again later"
        elif found(*_NOT_CONNECTED) or not exchange.sent:
            kind = UnreachableError
            text = f"no connection to {self._address.base}: {_reason(causes, self._connect_timeout)}"
        elif found(TimeoutError, urllib3.exceptions.ReadTimeoutError):
            kind = TimedOutError
            text = f"no whole answer within {round(seconds, 2):g} seconds. Try again later, or ask for less"
        elif found(http.client.BadStatusLine) and not found(http.client.RemoteDisconnected):
            kind = NotJSONError
            text = "what answers there does not speak HTTP. Check the address"
        elif found(urllib3.exceptions.DecodeError):
            kind = NotJSONError
            text = "the answer's compression can't be undone. Check what stands between here and the gateway"
        else:
            text = "the connection closed before the whole answer had come. The server may have been restarted"
        return kind(f"{call}: {text}.", service=call.service, method=call.method, sent=exchange.sent)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that is behind it; requests and urllib3 keep causes in different places."""
    waiting, seen = [error], set[int]()
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        behind = [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
        waiting += [one for one in behind if isinstance(one, BaseException)]


def _root(error: BaseException) -> BaseException:
    """Return the cause worth keeping: a certificate that failed, or the error itself."""
    return next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLCertVerificationError)), error)


def _reason(causes: list[BaseException], connect_timeout: float) -> str:
    """Say in words why there was no connection."""
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its TLS certificate is not accepted ({cause.verify_message}). Check the host name and ca_bundle"
        if isinstance(cause, TimeoutError | urllib3.exceptions.ConnectTimeoutError) and not isinstance(
            cause, urllib3.exceptions.NewConnectionError
        ):
            return f"nobody answered within {connect_timeout:g} seconds. Check the address and the firewall"
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return "no TLS connection could be made. Check whether this address speaks https"
        if isinstance(cause, urllib3.exceptions.ProxyError):
            return "the proxy does not let it through. Check the proxy settings in the environment"
    system = next((cause for cause in causes if isinstance(cause, OSError) and cause.strerror), None)
    words = system.strerror if isinstance(system, OSError) else None
    return f"{words or 'the connection failed'}. Check the address, and whether the web server is running"


def _place(response: requests.Response) -> str:
    """Where a redirect points, without query and fragment."""
    parts = urlsplit(urljoin(response.url, response.headers.get("Location", "")))
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
