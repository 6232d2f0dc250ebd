"""Errors for requests that failed on the way or that the web server refused, and redaction of secrets in them."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import urllib3.exceptions

from evergreen_groups.errors import (
    CutOffError,
    HTTPStatusError,
    NotJSONError,
    TimedOutError,
    TransportError,
    UnexplainedError,
    UnreachableError,
)
from evergreen_groups.gateway.call import is_rust_gateway
from evergreen_groups.message import Message, system_reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

    from evergreen_groups.gateway.call import Call

_URL = "gateway.url"
_CA_BUNDLE = "gateway.ca_bundle"
_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}
"""OpenSSL's codes for self-signed certificates and for unknown authorities."""
_NOT_CONNECTED = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
)


def http_error(response: requests.Response, call: Call, raw: str, base: str) -> TransportError | UnexplainedError:
    """Return the error for an HTTP status. ``base`` is the server's root; ``raw`` must be redacted already."""
    status = response.status_code
    if status == 400 and call.method and is_rust_gateway(response.headers):
        return UnexplainedError(
            "the call failed, and this gateway gives no reason (HTTP {status})",
            advice="look into the logs of {service} and of the gateway",
            values={"status": status, "service": call.service},
            status=status,
            raw=raw,
            **call.names,
        )
    if status == 408:
        return TimedOutError(
            "the web server says that the request timed out (HTTP 408)",
            advice="try again later, or ask for less",
            code="web-server-timed-out",
            raw=raw,
            sent=True,
            **call.names,
        )
    if 300 <= status < 400:
        return HTTPStatusError(
            "the web server at {address} is elsewhere: it points to {place}",
            advice="put that address in the configuration",
            setting=_URL,
            code="web-server-elsewhere",
            values={"address": base, "place": _place(response)},
            status=status,
            raw=raw,
            **call.names,
        )
    if status >= 500:
        return HTTPStatusError(
            "the web server at {address} failed (HTTP {status})",
            advice="try again later; the web server's error log knows more",
            code="web-server-failed",
            values={"address": base, "status": status},
            status=status,
            raw=raw,
            **call.names,
        )
    return HTTPStatusError(
        "the web server at {address} refused the request (HTTP {status})",
        advice="check the address, and whether a proxy stands in front",
        setting=_URL,
        code="web-server-refused",
        values={"address": base, "status": status},
        status=status,
        raw=raw,
        **call.names,
    )


def transport_error(
    error: Exception, call: Call, *, sent: bool, seconds: float, base: str, connect_timeout: float
) -> TransportError:
    """Return the error to raise instead of an exception from requests, urllib3 or the socket.

    ``sent`` means that the request may have reached the server. ``seconds`` is the time limit for the whole answer.
    """
    causes = list(causes_of(error))

    def found(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if found(urllib3.exceptions.EmptyPoolError):
        return TimedOutError(
            "no connection became free in time",
            advice="try again later",
            code="no-free-connection",
            sent=sent,
            **call.names,
        )
    if found(*_NOT_CONNECTED) or not sent:
        return _connection_error(causes, call, sent=sent, base=base, connect_timeout=connect_timeout)
    if found(TimeoutError, urllib3.exceptions.ReadTimeoutError):
        return TimedOutError(
            "no whole answer within {seconds:g} seconds",
            advice="try again later, or ask for less",
            values={"seconds": round(seconds, 2)},
            sent=sent,
            **call.names,
        )
    if found(http.client.BadStatusLine) and not found(http.client.RemoteDisconnected):
        return NotJSONError(
            "what answers there does not speak HTTP",
            advice="check the address",
            setting=_URL,
            code="not-http",
            sent=sent,
            **call.names,
        )
    if found(urllib3.exceptions.DecodeError):
        return NotJSONError(
            "the answer's compression can't be undone",
            advice="check what stands between here and the gateway",
            code="broken-compression",
            sent=sent,
            **call.names,
        )
    return CutOffError(
        "the connection closed before the whole answer had come",
        advice="try again later: the server may have been restarted",
        sent=sent,
        **call.names,
    )


def _connection_error(
    causes: list[BaseException], call: Call, *, sent: bool, base: str, connect_timeout: float
) -> UnreachableError:
    """Return the error that explains why no connection was made."""
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _certificate_error(cause, call, sent=sent, base=base)
        if isinstance(cause, TimeoutError | urllib3.exceptions.ConnectTimeoutError) and not isinstance(
            cause, urllib3.exceptions.NewConnectionError
        ):
            return UnreachableError(
                "no connection to {address}: nobody answered within {seconds:g} seconds",
                advice="check the address and the firewall",
                setting=_URL,
                code="connecting-timed-out",
                values={"address": base, "seconds": connect_timeout},
                sent=sent,
                **call.names,
            )
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return UnreachableError(
                "no connection to {address}: no TLS connection could be made",
                advice="check whether this address speaks https",
                setting=_URL,
                code="no-tls",
                values={"address": base},
                sent=sent,
                **call.names,
            )
        if isinstance(cause, urllib3.exceptions.ProxyError):
            return UnreachableError(
                "no connection to {address}: the proxy does not let it through",
                advice="check the proxy settings in the environment",
                code="proxy-refused",
                values={"address": base},
                sent=sent,
                **call.names,
            )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return UnreachableError(
            "the name of {address} isn't known on this machine",
            advice="check url in [gateway], and this machine's DNS",
            setting=_URL,
            code="host-unknown",
            values={"address": base},
            sent=sent,
            **call.names,
        )
    reasons = (system_reason(cause) for cause in causes if isinstance(cause, OSError) and cause.strerror)
    return UnreachableError(
        "no connection to {address}: {reason}",
        advice="check the address, and whether the web server is running",
        setting=_URL,
        values={"address": base, "reason": next(reasons, Message("the connection failed"))},
        sent=sent,
        **call.names,
    )


def _certificate_error(cause: ssl.SSLCertVerificationError, call: Call, *, sent: bool, base: str) -> UnreachableError:
    """Return the error for a certificate: from an authority that isn't trusted here, or invalid in another way."""
    values = {"address": base, "reason": cause.verify_message}
    if cause.verify_code in _UNKNOWN_AUTHORITY:
        return UnreachableError(
            "no connection to {address}: nobody trusted here vouches for its TLS certificate ({reason})",
            advice="set ca_bundle in [gateway] to the certificate of the authority; check that the server sends its "
            "chain",
            setting=_CA_BUNDLE,
            code="certificate-authority-unknown",
            values=values,
            sent=sent,
            **call.names,
        )
    return UnreachableError(
        "no connection to {address}: its TLS certificate is not accepted ({reason})",
        advice="check the host name and ca_bundle",
        setting=_CA_BUNDLE,
        code="certificate-not-accepted",
        values=values,
        sent=sent,
        **call.names,
    )


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all its causes; requests and urllib3 keep them in different places."""
    waiting, seen = [error], set[int]()
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        behind = [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
        waiting += [one for one in behind if isinstance(one, BaseException)]


def root_of(error: BaseException) -> BaseException:
    """Return the cause to chain from: a failed certificate check, or the error itself."""
    return next((cause for cause in causes_of(error) if isinstance(cause, ssl.SSLCertVerificationError)), error)


def _place(response: requests.Response) -> str:
    """Return a redirect's target, without query and fragment."""
    try:
        parts = urlsplit(urljoin(response.url, response.headers.get("Location", "")))
    except ValueError:  # for example http://[
        return Message("an address that can't be read")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


RAW_LENGTH = 4000
"""Maximum number of characters of an answer that errors keep as ``raw``."""

_LONGEST_SECRET = 200
# A secret may straddle the cut (and be up to three times as long in a form), so redact more text than is kept.
_MARGIN = 3 * _LONGEST_SECRET
# Evergreen's tokens are MD5 digests in hexadecimal (oils_auth.c). Any value named authtoken is a token as well.
_TOKEN_LIKE = re.compile(
    r'(?i)(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])|(?<="authtoken":")[^"]+|(?<=bad auth token: )[^"\s]+'
)


class Redactor:
    """Replaces the secrets of a gateway's sessions with asterisks. Safe to share between threads."""

    def __init__(self) -> None:
        self._secrets: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "Redactor()"

    def learn(self, secret: str) -> None:
        """Redact ``secret`` from now on, also in its JSON and form encodings."""
        forms = {secret, json.dumps(secret)[1:-1], quote(secret, safe="")} - {""}
        with self._lock:
            self._secrets |= forms

    def redact(self, text: str) -> str:
        """Return ``text`` with every secret, and everything that looks like a token, as asterisks.

        The length stays the same, so cutting the text later can't leave half a secret.
        """
        # Longest first, because one secret may contain another.
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "*" * len(secret))
        return _TOKEN_LIKE.sub(lambda found: "*" * len(found.group()), text)

    def raw(self, body: bytes) -> str:
        """Return the beginning of an answer, safe to keep in an error."""
        return str(self.beginning(body))

    def beginning(self, body: bytes) -> Beginning:
        """Like :meth:`raw`, but redacted only when read, which hardly ever happens."""
        return Beginning(self, body[: RAW_LENGTH + _MARGIN])


class Beginning:
    """The beginning of an answer, redacted when converted to text; the original is never shown."""

    __slots__ = ("_body", "_redactor")

    def __init__(self, redactor: Redactor, body: bytes) -> None:
        self._redactor = redactor
        self._body = body

    def __str__(self) -> str:
        return self._redactor.redact(self._body.decode("utf-8", "replace"))[:RAW_LENGTH]

    def __repr__(self) -> str:
        return f"Beginning({len(self._body)} bytes)"
