"""Sending one HTTP request and getting the whole answer, or an error that says what happened."""

from __future__ import annotations

import copy
import logging
import ssl
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests

from evergreen_groups import arguments
from evergreen_groups.errors import ConfigurationError, EvergreenGroupsError, UnexpectedAnswerError
from evergreen_groups.gateway import body
from evergreen_groups.gateway.connection import Adapter, Exchange, StaleConnectionError, current_exchange
from evergreen_groups.gateway.failures import causes_of, explained, refusal, root_of
from evergreen_groups.gateway.redaction import Redactor
from evergreen_groups.gateway.statistics import Statistics
from evergreen_groups.message import Message, system_reason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from evergreen_groups.gateway.address import Address
    from evergreen_groups.gateway.call import Call

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
        session.headers["Accept-Encoding"] = body.ACCEPTED
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
        seconds = exchange.left(seconds)
        began = time.monotonic()
        token = current_exchange.set(exchange)
        try:
            self.statistics.request(len(request.body or b""))
            response = adapter.send(
                request,
                stream=True,
                timeout=(exchange.left(self._connect_timeout), seconds),
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
            raise explained(
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
            return body.read(response.raw, ANSWER_LIMIT)
        except body.TooLargeError:
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
        raise refusal(response, call, self.redactor.raw(content), self._address.base)


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
