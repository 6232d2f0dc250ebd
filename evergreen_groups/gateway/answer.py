"""The gateway's answers: read strictly into a result, or an exception that names the problem, with secrets redacted."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import urllib3.exceptions

from evergreen_groups import errors
from evergreen_groups.gateway import call as wire
from evergreen_groups.gateway.call import is_rust_gateway
from evergreen_groups.message import Message, system_reason

if TYPE_CHECKING:
    from evergreen_groups.gateway.call import Call

_URL = "gateway.url"
_ANSWERED = "the web server at {address} answered HTTP {status}"
_NOT_TRUSTED = "no connection to {address}: its TLS certificate isn't trusted ({reason})"
_NO_REASON = "the call failed, and the gateway gave no reason (HTTP {status})"
_REDIRECTED = "the web server at {address} redirects to {place}"
_NO_SERVICE = "{service} isn't running, or the gateway doesn't offer it ({status})"
_NO_METHOD = "unknown method, or missing parameters ({status})"
_FAILED = "the method failed on the server ({status})"
_REFUSED = "Evergreen refused ({event})"
_LACKS = "the account lacks this permission: {permission}"
_CUT_OFF = "the answer was cut off"
_TOO_SLOW = "Evergreen didn't answer in time ({status})"
_UNREADABLE = "Evergreen's answer can't be read: {detail}"
_LATER = "try again later"
_ASK_FOR_LESS = "try again later, or ask for less"
_CHECK_PROXY = "check the address, and any proxy in between"
_CHECK_RELEASE = "check the server's release and log"
_CHECK_SERVER = "check url in [gateway], the firewall, and whether the web server is running"
_CHECK_SERVICE = "try again later; check that it runs, and that opensrf_core.xml lists it"
_SEE_LOG = "the reason is in the server's log"
_SEE_WEB_LOG = "try again later; the reason is in the web server's error log"
_USE_TLS = "check that the server uses https at this address"
_CHECK_ENVIRONMENT = "check the proxy settings in the environment"
_CHECK_DNS = "check url in [gateway], and this machine's DNS"
_CHECK_HOST = "check the host name and ca_bundle"
_SET_BUNDLE = "set ca_bundle in [gateway] to the certificate of the authority; check that the server sends its chain"
_SESSION_OVER = "the session has ended or never existed"
_LOG_IN = "log in again"
_READ_AGAIN = "read the record again, and repeat the change"
_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}
"""OpenSSL's codes for self-signed certificates and for unknown authorities."""

Cause = TypeVar("Cause", bound=BaseException)


def http_error(
    status: int, headers: Mapping[str, str], url: str, call: Call, *, raw: str, base: str
) -> errors.TransportError | errors.UnexplainedError:
    """Return the error for the HTTP status of an answer from ``url``. ``raw`` must be redacted already."""
    fields: dict[str, Any] = {"raw": raw, **call.names}
    if status == 408:
        late = {"status": "HTTP 408"}
        fields["sent"] = True
        return errors.TimedOutError(_TOO_SLOW, advice=_ASK_FOR_LESS, code="web-server-timed-out", values=late, **fields)
    fields["status"] = status
    if status == 400 and call.method and is_rust_gateway(headers):
        return errors.UnexplainedError(_NO_REASON, advice=_SEE_LOG, values={"status": status}, **fields)
    values = {"address": base, "status": status}
    if status >= 500:
        return errors.HTTPStatusError(_ANSWERED, advice=_SEE_WEB_LOG, code="web-server-failed", values=values, **fields)
    fields["setting"] = _URL
    if 300 <= status < 400:
        moved = {"address": base, "place": _place(url, headers)}
        return errors.HTTPStatusError(
            _REDIRECTED, advice=_CHECK_PROXY, code="web-server-elsewhere", values=moved, **fields
        )
    return errors.HTTPStatusError(_ANSWERED, advice=_CHECK_PROXY, code="web-server-refused", values=values, **fields)


def transport_error(
    error: Exception, call: Call, *, sent: bool, seconds: float, base: str, connect_timeout: float
) -> errors.TransportError:
    """Return the error for an exception from urllib3 or the socket; ``seconds`` is the limit for the whole answer."""
    causes = list(_causes_of(error))
    if not sent:
        return _connection_error(causes, call, base, connect_timeout)
    fields: dict[str, Any] = {"sent": True, **call.names}
    if _first(causes, TimeoutError):
        values = {"seconds": round(seconds, 2)}
        return errors.TimedOutError(
            "no answer within {seconds:g} seconds", advice=_ASK_FOR_LESS, values=values, **fields
        )
    if _first(causes, http.client.BadStatusLine) and not _first(causes, http.client.RemoteDisconnected):
        return _not_json("not-http", "not HTTP", **fields)
    if _first(causes, urllib3.exceptions.DecodeError):
        return _not_json("broken-compression", "broken compression", setting=None, **fields)
    return errors.CutOffError(_CUT_OFF, advice=_LATER, **fields)


def _causes_of(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first(causes: list[BaseException], kind: type[Cause]) -> Cause | None:
    return next((cause for cause in causes if isinstance(cause, kind)), None)


def _connection_error(
    causes: list[BaseException], call: Call, base: str, connect_timeout: float
) -> errors.UnreachableError:
    """Return the error that explains why no connection was made."""
    fields: dict[str, Any] = {**call.names, "asked": "", "setting": _URL}  # no call is to blame
    if refused := _first(causes, ssl.SSLCertVerificationError):
        return _certificate_error(refused, base, fields)
    if _first(causes, TimeoutError):
        late = Message("no answer within {seconds:g} seconds", values={"seconds": connect_timeout})
        return _no_connection(base, late, code="connecting-timed-out", advice=_CHECK_SERVER, **fields)
    if _first(causes, urllib3.exceptions.ProxyError):
        fields["setting"] = None
        why = Message("the proxy refused it")
        return _no_connection(base, why, code="proxy-refused", advice=_CHECK_ENVIRONMENT, **fields)
    if _first(causes, ssl.SSLError):
        return _no_connection(base, Message("TLS failed"), code="no-tls", advice=_USE_TLS, **fields)
    reasons = (system_reason(cause) for cause in causes if isinstance(cause, OSError) and cause.strerror)
    reason = next(reasons, type(causes[0]).__name__)
    if _first(causes, socket.gaierror):
        return _no_connection(base, reason, code="host-unknown", advice=_CHECK_DNS, **fields)
    return _no_connection(base, reason, advice=_CHECK_SERVER, **fields)


def _certificate_error(
    refused: ssl.SSLCertVerificationError, base: str, fields: dict[str, Any]
) -> errors.UnreachableError:
    values = {"address": base, "reason": refused.verify_message}
    fields["setting"] = "gateway.ca_bundle"
    if refused.verify_code in _UNKNOWN_AUTHORITY:
        return errors.UnreachableError(
            _NOT_TRUSTED, advice=_SET_BUNDLE, code="certificate-authority-unknown", values=values, **fields
        )
    return errors.UnreachableError(
        _NOT_TRUSTED, advice=_CHECK_HOST, code="certificate-not-accepted", values=values, **fields
    )


def _no_connection(base: str, reason: str, **fields: Any) -> errors.UnreachableError:
    values = {"address": base, "reason": reason}
    return errors.UnreachableError("no connection to {address}: {reason}", values=values, **fields)


def _not_json(code: str, detail: str, *, setting: str | None = _URL, **fields: Any) -> errors.NotJSONError:
    message = "the answer isn't from an OpenSRF gateway: {detail}"
    values = {"detail": detail}
    return errors.NotJSONError(message, advice=_CHECK_PROXY, setting=setting, code=code, values=values, **fields)


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
        self._secrets: list[str] = []

    def __repr__(self) -> str:
        return "Redactor()"

    def learn(self, secret: str) -> None:
        """Redact ``secret`` from now on, also in its JSON and form encodings."""
        self._secrets.append(secret)

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

_MOST_VALUES = 2_000_000
# Over Redis the bus itself reports the missing service (errors-001); over XMPP the message comes back undelivered
# (3.12/releases-060).
_MISSING_SERVICE = re.compile(r"osrfServiceException *:|(?P<undelivered>Internal Server Error *: *Transport Error)")


class Result:
    """The result of a call, read from the body of the answer.

    ``value`` is the result (``expect="one"``), the result or None (``"optional"``), or the list of all results
    (``"many"``), in wire form: numbers with a decimal point are ``Decimal``, and fieldmapper objects aren't decoded
    yet. ``size`` is the answer's length in bytes, and ``call`` is the call that was made.

    Raises NotJSONError and CutOffError for a body that isn't the gateway's JSON; TimedOutError, ServiceNotFoundError,
    MethodNotFoundError, NoSessionError and ServerError for the status in the body; UnexpectedAnswerError for a number
    of results that ``expect`` doesn't allow; and EventError for any event but SUCCESS.
    """

    __slots__ = ("_beginning", "_redactor", "call", "size", "value")

    def __init__(self, call: Call, body: bytes, redactor: Redactor, expect: Expect) -> None:
        self.call = call
        self.size = len(body)
        self._beginning = body[:_RAW_BYTES]  # redacted only when read, which hardly ever happens
        self._redactor = redactor
        payload = self._payload(body)
        # A streaming method sends one element per result (pcrud-114). Without .atomic, the first row would pass for the
        # whole answer.
        if expect != "many" and len(payload) > 1:
            self._fail(
                errors.UnexpectedAnswerError,
                _UNREADABLE,
                code="several-results",
                values={"detail": f"{len(payload)} results, expected one"},
            )
        # The gateway doesn't send a null (errors-059, patrons-056), and older gateways send an empty payload after a
        # timeout, too. Only the caller knows whether the method may return null.
        if expect == "one" and not payload:
            self._fail(
                errors.UnexpectedAnswerError,
                _UNREADABLE,
                advice=_LATER,
                code="no-result",
                values={"detail": "no result (older gateways send none after a timeout)"},
            )
        self.value: Any = payload
        if expect != "many":
            self.value = payload[0] if payload else None
        # An event may be the result, or an item in the list that .atomic makes of several results (settings-024,
        # fielder-014). Read the textcode and not the number, which is an integer from C (auth-016), text from Perl
        # (errors-057), or empty (patrons-051). Success is an event as well (auth-001).
        for item in [self.value, *(self.value if isinstance(self.value, list) else ())]:
            if isinstance(item, dict) and "ilsevent" in item and item.get("textcode", "SUCCESS") != "SUCCESS":
                self._raise_event(item)

    def __repr__(self) -> str:
        return f"Result({self.size} bytes)"

    @property
    def raw(self) -> str:
        """The beginning of the answer's text, with tokens redacted."""
        return self._redactor.raw(self._beginning)

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

    def unexpected(self, due: str) -> errors.UnexpectedAnswerError:
        """Return the error for a value that isn't ``due``, which names the expected shape."""
        return errors.UnexpectedAnswerError(
            _UNREADABLE,
            advice=_CHECK_RELEASE,
            code="answer-of-another-shape",
            values={"detail": f"expected {due}"},
            **self._names,
        )

    def _payload(self, body: bytes) -> list[Any]:
        # A value of a few bytes takes a hundred in memory.
        if len(body) > _MOST_VALUES and sum(map(body.count, b",[{")) > _MOST_VALUES:
            self._fail(
                errors.UnexpectedAnswerError,
                "the answer is too large: {detail}",
                advice="ask for less at once",
                code="answer-of-too-many-values",
                values={"detail": f"over {_MOST_VALUES:,} values"},
            )
        try:
            envelope = wire.loads(body.decode("utf-8"))
        except UnicodeDecodeError:
            raise _not_json("not-text", "not UTF-8", **self._names, sent=True) from None
        except ValueError as error:
            if _is_cut_off(body, str(error)):
                self._fail(errors.CutOffError, _CUT_OFF, advice=_CHECK_PROXY, code="answer-cut-off", sent=True)
            raise _not_json("not-json", "not JSON", **self._names, sent=True) from None
        if not isinstance(envelope, dict):
            envelope = {}
        payload, status = envelope.get("payload"), envelope.get("status")
        # True is an int in Python, and a proxy's {"status": true} isn't a gateway's answer.
        if not isinstance(payload, list) or type(status) is not int:
            raise _not_json("not-a-gateway", "not an OpenSRF envelope", **self._names, sent=True)
        # HTTP says 200 for errors, too (errors-004). Only the status in the body counts.
        if status != 200:
            self._raise_status(status, envelope.get("debug"))
        return payload

    def _raise_status(self, status: int, debug: object) -> NoReturn:
        text = debug if isinstance(debug, str) else ""
        # Repeat only the exception's name from the debug text; the rest may quote tokens and patron data.
        name = re.match(r"[A-Za-z]+(?: Error)?(?= *:)", text)
        values = {"status": f"status {status}, {name.group()}" if name else f"status {status}"}
        if status == 401:
            self._fail(errors.NoSessionError, _SESSION_OVER, advice=_LOG_IN, textcode="NO_SESSION", number=1001)
        # A missing service and a missing method are both 404 (errors-001, errors-004, and over XMPP 3.12/releases-060).
        # Only the service may be back in a moment.
        if status == 404 and (missing := _MISSING_SERVICE.match(text)):
            undelivered = missing["undelivered"] is not None
            known = {"service": self.call.service, **values}
            self._fail(
                errors.ServiceNotFoundError, _NO_SERVICE, advice=_CHECK_SERVICE, values=known, undelivered=undelivered
            )
        if status == 404:
            self._fail(errors.MethodNotFoundError, _NO_METHOD, advice=_CHECK_RELEASE, values=values, status=status)
        if status == 408:
            self._fail(
                errors.TimedOutError,
                _TOO_SLOW,
                advice=_ASK_FOR_LESS,
                code="service-timed-out",
                values=values,
                sent=True,
            )
        self._fail(errors.ServerError, _FAILED, advice=_SEE_LOG, values=values, status=status)

    def _raise_event(self, event: dict[str, Any]) -> NoReturn:
        textcode = str(event["textcode"])
        description = str(event.get("desc") or "")[:200]
        rest = {"textcode": textcode, "number": _number(event["ilsevent"]) or 0, "description": description}
        values = {"event": f"{textcode}: {description.rstrip('.')}" if description else textcode}
        if textcode == "NO_SESSION":
            self._fail(errors.NoSessionError, _SESSION_OVER, advice=_LOG_IN, **rest)
        if textcode == "PERM_FAILURE":
            # The org unit is text in most of these events (errors-057), and a number from perm.check (auth-064).
            permission, org_unit = str(event.get("ilsperm") or ""), _number(event.get("ilspermloc"))
            which: str = permission or textcode
            if org_unit is not None:
                place = {"permission": which, "org_unit": org_unit}
                which = Message("{permission} at org unit {org_unit}", values=place)
            rest |= {"permission": permission, "org_unit": org_unit}
            self._fail(errors.PermissionDeniedError, _LACKS, values={"permission": which}, **rest)
        if textcode == "XACT_COLLISION":
            self._fail(errors.CollisionError, "someone else changed the record", advice=_READ_AGAIN, **rest)
        # The textcode names the record: ACTOR_USER_NOT_FOUND (errors-029), ACTOR_USR_NOT_FOUND (patrons-051),
        # ACTOR_CARD_NOT_FOUND (errors-023).
        if textcode.endswith("_NOT_FOUND"):
            self._fail(errors.RecordNotFoundError, _REFUSED, code="no-such-record", values=values, **rest)
        self._fail(errors.EventError, _REFUSED, values=values, **rest)

    def _fail(
        self, kind: type[errors.ProtocolError | errors.EventError | errors.TransportError], message: str, **fields: Any
    ) -> NoReturn:
        raise kind(message, **self._names, **fields)

    @property
    def _names(self) -> dict[str, Any]:
        return {**self.call.names, "raw": self.raw}


def _number(value: object) -> int | None:
    """Read an event's number or org unit, which may be an integer, text or empty."""
    try:
        return int(value) if isinstance(value, int | str) else None
    except ValueError:
        return None


def _is_cut_off(body: bytes, problem: str) -> bool:
    """Return whether a body that isn't JSON is the beginning of an answer, or empty, so that retrying may help."""
    # msgspec says where a number breaks off.
    signs = ("truncated", f"invalid number (byte {len(body)})")
    begun = body.strip()
    return not begun or (begun.startswith(b"{") and any(sign in problem for sign in signs))
