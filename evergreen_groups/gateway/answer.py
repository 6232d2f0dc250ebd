"""The gateway's answers: read strictly into a result, or an exception that names the problem, with secrets redacted."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import urllib3.exceptions

from evergreen_groups.errors import (
    CollisionError,
    CutOffError,
    EventError,
    HTTPStatusError,
    MethodNotFoundError,
    NoSessionError,
    NotJSONError,
    PermissionDeniedError,
    ProtocolError,
    RecordNotFoundError,
    ServerError,
    ServiceNotFoundError,
    TimedOutError,
    TransportError,
    UnexpectedAnswerError,
    UnexplainedError,
    UnreachableError,
)
from evergreen_groups.gateway import call as wire
from evergreen_groups.gateway.call import is_rust_gateway
from evergreen_groups.message import Message, system_reason

if TYPE_CHECKING:
    from evergreen_groups.gateway.call import Call

_URL = "gateway.url"
_ANSWERED = "the web server at {address} answered HTTP {status}"
_NOT_TRUSTED = "no connection to {address}: its TLS certificate isn't trusted ({reason})"
_CUT_OFF = "the answer was cut off"
_TOO_SLOW = "Evergreen didn't answer in time ({status})"
_UNREADABLE = "Evergreen's answer can't be read: {detail}"
_LATER = "try again later"
_ASK_FOR_LESS = "try again later, or ask for less"
_CHECK_PROXY = "check the address, and any proxy in between"
_CHECK_RELEASE = "check the server's release and log"
_CHECK_SERVER = "check url in [gateway], the firewall, and whether the web server is running"
_SEE_LOG = "the reason is in the server's log"
_SEE_WEB_LOG = "try again later; the reason is in the web server's error log"
_USE_TLS = "check that the server uses https at this address"
_CHECK_ENVIRONMENT = "check the proxy settings in the environment"
_CHECK_DNS = "check url in [gateway], and this machine's DNS"
_CHECK_HOST = "check the host name and ca_bundle"
_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}
"""OpenSSL's codes for self-signed certificates and for unknown authorities."""
_NOT_CONNECTED = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
)


def http_error(
    status: int, headers: Mapping[str, str], url: str, call: Call, *, raw: str, base: str
) -> TransportError | UnexplainedError:
    """Return the error for the HTTP status of an answer from ``url``. ``raw`` must be redacted already."""
    fields: dict[str, Any] = {"status": status, "raw": raw, **call.names}
    if status == 400 and call.method and is_rust_gateway(headers):
        return UnexplainedError(
            "the call failed, and the gateway gave no reason (HTTP {status})",
            advice=_SEE_LOG,
            values={"status": status},
            **fields,
        )
    if status == 408:
        del fields["status"]
        timed_out = {"status": "HTTP 408"}
        return TimedOutError(
            _TOO_SLOW, advice=_ASK_FOR_LESS, code="web-server-timed-out", values=timed_out, sent=True, **fields
        )
    if 300 <= status < 400:
        return HTTPStatusError(
            "the web server at {address} redirects to {place}",
            advice=_CHECK_PROXY,
            setting=_URL,
            code="web-server-elsewhere",
            values={"address": base, "place": _place(url, headers)},
            **fields,
        )
    values = {"address": base, "status": status}
    if status >= 500:
        return HTTPStatusError(_ANSWERED, advice=_SEE_WEB_LOG, code="web-server-failed", values=values, **fields)
    return HTTPStatusError(
        _ANSWERED, advice=_CHECK_PROXY, setting=_URL, code="web-server-refused", values=values, **fields
    )


def transport_error(
    error: Exception, call: Call, *, sent: bool, seconds: float, base: str, connect_timeout: float
) -> TransportError:
    """Return the error to raise instead of an exception from urllib3 or the socket.

    ``sent`` means that the request may have reached the server. ``seconds`` is the time limit for the whole answer.
    """
    causes = list(causes_of(error))
    fields: dict[str, Any] = {"sent": sent, **call.names}

    def found(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if found(*_NOT_CONNECTED) or not sent:
        return _connection_error(causes, base, connect_timeout, fields)
    if found(TimeoutError, urllib3.exceptions.ReadTimeoutError):
        values = {"seconds": round(seconds, 2)}
        return TimedOutError("no answer within {seconds:g} seconds", advice=_ASK_FOR_LESS, values=values, **fields)
    if found(http.client.BadStatusLine) and not found(http.client.RemoteDisconnected):
        return _not_json("not-http", "not HTTP", **fields)
    if found(urllib3.exceptions.DecodeError):
        return _not_json("broken-compression", "broken compression", setting=None, **fields)
    return CutOffError(_CUT_OFF, advice=_LATER, **fields)


def _connection_error(
    causes: list[BaseException], base: str, connect_timeout: float, fields: dict[str, Any]
) -> UnreachableError:
    """Return the error that explains why no connection was made."""
    fields = {**fields, "asked": ""}  # no call is to blame
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _certificate_error(cause, base, fields)
        if isinstance(cause, TimeoutError | urllib3.exceptions.ConnectTimeoutError) and not isinstance(
            cause, urllib3.exceptions.NewConnectionError
        ):
            late = Message("no answer within {seconds:g} seconds", values={"seconds": connect_timeout})
            return _no_connection(base, late, code="connecting-timed-out", advice=_CHECK_SERVER, **fields)
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _no_connection(base, Message("TLS failed"), code="no-tls", advice=_USE_TLS, **fields)
        if isinstance(cause, urllib3.exceptions.ProxyError):
            refused = Message("the proxy refused it")
            return _no_connection(
                base, refused, code="proxy-refused", advice=_CHECK_ENVIRONMENT, setting=None, **fields
            )
    reasons = (system_reason(cause) for cause in causes if isinstance(cause, OSError) and cause.strerror)
    reason = next(reasons, type(causes[0]).__name__)
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return _no_connection(base, reason, code="host-unknown", advice=_CHECK_DNS, **fields)
    return _no_connection(base, reason, advice=_CHECK_SERVER, **fields)


def _no_connection(base: str, reason: str, *, setting: str | None = _URL, **fields: Any) -> UnreachableError:
    values = {"address": base, "reason": reason}
    return UnreachableError("no connection to {address}: {reason}", setting=setting, values=values, **fields)


def _not_json(code: str, detail: str, *, setting: str | None = _URL, **fields: Any) -> NotJSONError:
    message = "the answer isn't from an OpenSRF gateway: {detail}"
    values = {"detail": detail}
    return NotJSONError(message, advice=_CHECK_PROXY, setting=setting, code=code, values=values, **fields)


def _certificate_error(cause: ssl.SSLCertVerificationError, base: str, fields: dict[str, Any]) -> UnreachableError:
    """Return the error for a certificate: from an authority that isn't trusted here, or invalid in another way."""
    fields = {**fields, "setting": "gateway.ca_bundle"}
    values = {"address": base, "reason": cause.verify_message}
    if cause.verify_code in _UNKNOWN_AUTHORITY:
        return UnreachableError(
            _NOT_TRUSTED,
            advice="set ca_bundle in [gateway] to the certificate of the authority; check that the server sends its "
            "chain",
            code="certificate-authority-unknown",
            values=values,
            **fields,
        )
    return UnreachableError(_NOT_TRUSTED, advice=_CHECK_HOST, code="certificate-not-accepted", values=values, **fields)


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all its causes; urllib3 keeps them in different places."""
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


def _place(url: str, headers: Mapping[str, str]) -> str:
    """Return a redirect's target, without query and fragment."""
    try:
        parts = urlsplit(urljoin(url, headers.get("Location", "")))
    except ValueError:  # for example http://[
        return "an invalid address"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


RAW_LENGTH = 4000
"""Maximum number of characters of an answer that errors keep as ``raw``."""

_LONGEST_SECRET = 200
# A secret may straddle the cut (and be up to three times as long in a form), so redact more text than is kept.
_RAW_BYTES = RAW_LENGTH + 3 * _LONGEST_SECRET
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
        with self._lock:
            self._secrets |= {secret}

    def redact(self, text: str) -> str:
        """Return ``text`` with every secret, and everything that looks like a token, as asterisks.

        The length stays the same, so cutting the text later can't leave half a secret.
        """
        forms = [(secret, json.dumps(secret)[1:-1], quote(secret, safe="")) for secret in self._secrets if secret]
        # Longest first, because one secret may contain another.
        for secret in sorted(chain.from_iterable(forms), key=len, reverse=True):
            text = text.replace(secret, "*" * len(secret))
        return _TOKEN_LIKE.sub(lambda found: "*" * len(found.group()), text)

    def raw(self, body: bytes) -> str:
        """Return the beginning of an answer, safe to keep in an error."""
        return self.redact(body[:_RAW_BYTES].decode("utf-8", "replace"))[:RAW_LENGTH]


Shape = TypeVar("Shape")
Expect = Literal["one", "optional", "many"]
"""The number of results that a method promises: one, one or none (``null`` isn't sent), or any number."""


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """The result of a call.

    ``value`` is the result (``expect="one"``), the result or None (``"optional"``), or the list of all results
    (``"many"``), in wire form: numbers with a decimal point are ``Decimal``, and fieldmapper objects aren't decoded
    yet. ``size`` is the answer's length in bytes, and ``call`` is the call that was made.
    """

    value: Any
    size: int
    call: Call
    _body: bytes
    _redactor: Redactor

    def __repr__(self) -> str:
        return f"Result({self.size} bytes)"

    @property
    def raw(self) -> str:
        """The beginning of the answer's text, with tokens redacted."""
        return self._redactor.raw(self._body)

    def listing(self) -> list[Any]:
        """Return the value, which must be a list. Raises UnexpectedAnswerError if it isn't."""
        return self._of(list, "a list")

    def mapping(self) -> dict[str, Any]:
        """Return the value, which must be a hash. Raises UnexpectedAnswerError if it isn't."""
        return self._of(dict, "a hash")

    def _of(self, kind: type[Shape], due: str) -> Shape:
        if not isinstance(self.value, kind):
            raise self.unexpected(due)
        return self.value

    @contextmanager
    def understood(self, due: str) -> Iterator[None]:
        """Report any error in this block as a value that isn't ``due``, by raising UnexpectedAnswerError."""
        try:
            yield
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError):
            raise self.unexpected(due) from None

    def unexpected(self, due: str) -> UnexpectedAnswerError:
        """Return the error for a value that isn't ``due``, which names the expected shape."""
        return UnexpectedAnswerError(
            _UNREADABLE,
            advice=_CHECK_RELEASE,
            code="answer-of-another-shape",
            values={"detail": f"expected {due}"},
            raw=self.raw,
            **self.call.names,
        )


_MOST_VALUES = 2_000_000
_NO_SESSION_NUMBER = 1001
# Over Redis the bus itself reports the missing service (errors-001); over XMPP the message comes back undelivered
# (3.12/releases-060).
_NO_SERVICE = re.compile(r"osrfServiceException *:|(?P<undelivered>Internal Server Error *: *Transport Error)")
_SESSION_OVER = "the session has ended or never existed"
_LOG_IN = "log in again"


class Answer:
    """The body of the answer to ``call``; ``redactor`` hides its secrets in errors."""

    def __init__(self, call: Call, body: bytes, redactor: Redactor) -> None:
        self._call = call
        self._body = body
        self._redactor = redactor

    def result(self, expect: Expect) -> Result:
        """Return the result.

        Raises NotJSONError and CutOffError for a body that isn't the gateway's JSON; TimedOutError,
        ServiceNotFoundError, MethodNotFoundError, NoSessionError and ServerError for the status in the body;
        UnexpectedAnswerError for a number of results that ``expect`` doesn't allow; and EventError for any event but
        SUCCESS.
        """
        payload = self._payload()
        # A streaming method sends one element per result (pcrud-114). Without .atomic, the first row would pass for the
        # whole answer.
        if expect != "many" and len(payload) > 1:
            self._fail(
                UnexpectedAnswerError,
                _UNREADABLE,
                code="several-results",
                values={"detail": f"{len(payload)} results, expected one"},
            )
        # The gateway doesn't send a null (errors-059, patrons-056), and older gateways send an empty payload after a
        # timeout, too. Only the caller knows whether the method may return null.
        if expect == "one" and not payload:
            self._fail(
                UnexpectedAnswerError,
                _UNREADABLE,
                advice=_LATER,
                code="no-result",
                values={"detail": "no result (older gateways send none after a timeout)"},
            )
        value: Any = payload
        if expect != "many":
            value = payload[0] if payload else None
        self._raise_events(value)
        # Redacted only when read, which hardly ever happens.
        return Result(value, len(self._body), self._call, self._body[:_RAW_BYTES], self._redactor)

    def _payload(self) -> list[Any]:
        # A value of a few bytes takes a hundred in memory.
        if len(self._body) > _MOST_VALUES and sum(map(self._body.count, b",[{")) > _MOST_VALUES:
            self._fail(
                UnexpectedAnswerError,
                "the answer is too large: {detail}",
                advice="ask for less at once",
                code="answer-of-too-many-values",
                values={"detail": f"over {_MOST_VALUES:,} values"},
            )
        try:
            text = self._body.decode("utf-8")
            envelope = wire.loads(text)
        except UnicodeDecodeError:
            raise _not_json("not-text", "not UTF-8", sent=True, **self._names) from None
        except ValueError:
            if _looks_cut_off(text):
                self._fail(CutOffError, _CUT_OFF, advice=_CHECK_PROXY, code="answer-cut-off", sent=True)
            raise _not_json("not-json", "not JSON", sent=True, **self._names) from None
        payload, status = (envelope.get("payload"), envelope.get("status")) if isinstance(envelope, dict) else (None, 0)
        # True is an int in Python, and a proxy's {"status": true} isn't a gateway's answer.
        if not isinstance(payload, list) or not isinstance(status, int) or isinstance(status, bool):
            raise _not_json("not-a-gateway", "not an OpenSRF envelope", sent=True, **self._names)
        # HTTP says 200 for errors, too (errors-004). Only the status in the body counts.
        if status != 200:
            self._raise_status(status, envelope.get("debug"))
        return payload

    def _raise_status(self, status: int, debug: object) -> NoReturn:
        # Repeat only the exception's name from the debug text; the rest may quote tokens and patron data.
        name = re.match(r"[A-Za-z]+(?: Error)?(?= *:)", debug) if isinstance(debug, str) else None
        values = {"status": f"status {status}, {name.group()}" if name else f"status {status}"}
        if status == 401:
            self._fail(NoSessionError, _SESSION_OVER, advice=_LOG_IN, textcode="NO_SESSION", number=_NO_SESSION_NUMBER)
        # A missing service and a missing method are both 404 (errors-001, errors-004, and over XMPP 3.12/releases-060).
        # Only the service may be back in a moment.
        if status == 404 and isinstance(debug, str) and (no_service := _NO_SERVICE.match(debug)):
            self._fail(
                ServiceNotFoundError,
                "{service} isn't running, or the gateway doesn't offer it ({status})",
                advice="try again later; check that it runs, and that opensrf_core.xml lists it",
                values={"service": self._call.service, **values},
                undelivered=no_service["undelivered"] is not None,
            )
        if status == 404:
            self._fail(
                MethodNotFoundError,
                "unknown method, or missing parameters ({status})",
                advice=_CHECK_RELEASE,
                values=values,
                status=status,
            )
        if status == 408:
            self._fail(
                TimedOutError, _TOO_SLOW, advice=_ASK_FOR_LESS, code="service-timed-out", values=values, sent=True
            )
        self._fail(
            ServerError, "the method failed on the server ({status})", advice=_SEE_LOG, values=values, status=status
        )

    def _raise_events(self, value: object) -> None:
        # An event may be the result, or an item in the list that .atomic makes of several results (settings-024,
        # fielder-014). Read the textcode and not the number, which is an integer from C (auth-016), text from Perl
        # (errors-057), or empty (patrons-051). Success is an event as well (auth-001).
        for item in [value, *(value if isinstance(value, list) else ())]:
            if isinstance(item, dict) and "ilsevent" in item and item.get("textcode", "SUCCESS") != "SUCCESS":
                self._raise_event(item)

    def _raise_event(self, event: dict[str, Any]) -> NoReturn:
        textcode = str(event["textcode"])
        description = str(event.get("desc") or "")[:200]
        rest = {"textcode": textcode, "number": _number(event["ilsevent"]) or 0, "description": description}
        values = {"event": f"{textcode}: {description.rstrip('.')}" if description else textcode}
        if textcode == "NO_SESSION":
            self._fail(NoSessionError, _SESSION_OVER, advice=_LOG_IN, **rest)
        if textcode == "PERM_FAILURE":
            # The org unit is text in most of these events (errors-057), and a number from perm.check (auth-064).
            permission, org_unit = str(event.get("ilsperm") or ""), _number(event.get("ilspermloc"))
            which: str = permission or textcode
            if org_unit is not None:
                which = Message(
                    "{permission} at org unit {org_unit}", values={"permission": which, "org_unit": org_unit}
                )
            self._fail(
                PermissionDeniedError,
                "the account lacks this permission: {permission}",
                values={"permission": which},
                permission=permission,
                org_unit=org_unit,
                **rest,
            )
        if textcode == "XACT_COLLISION":
            self._fail(
                CollisionError,
                "someone else changed the record",
                advice="read the record again, and repeat the change",
                **rest,
            )
        # The textcode names the record: ACTOR_USER_NOT_FOUND (errors-029), ACTOR_USR_NOT_FOUND (patrons-051),
        # ACTOR_CARD_NOT_FOUND (errors-023).
        if textcode.endswith("_NOT_FOUND"):
            self._fail(RecordNotFoundError, "Evergreen refused ({event})", code="no-such-record", values=values, **rest)
        self._fail(EventError, "Evergreen refused ({event})", values=values, **rest)

    def _fail(self, kind: type[ProtocolError | EventError | TransportError], message: str, **fields: Any) -> NoReturn:
        raise kind(message, **self._names, **fields)

    @property
    def _names(self) -> dict[str, Any]:
        return {**self._call.names, "raw": self._redactor.raw(self._body)}


def _number(value: object) -> int | None:
    """Read an event's number or org unit, which may be an integer, text or empty."""
    try:
        return int(value) if isinstance(value, int | str) else None
    except ValueError:
        return None


def _looks_cut_off(text: str) -> bool:
    """Return whether a text that isn't JSON is the beginning of an answer, or empty, so that retrying may help."""
    stripped = text.strip()
    if not stripped:
        return True
    if not stripped.startswith("{"):
        return False
    try:
        json.loads(text)  # msgspec's errors don't have the position
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return False
        return not stripped.endswith("}") or error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
    except (ValueError, RecursionError):
        return False
    return False
