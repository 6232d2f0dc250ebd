"""Reading an answer of the gateway strictly: a result, or the exception that says what came instead."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn
from urllib.parse import quote, urlencode

from evergreen_groups.errors import (
    CollisionError,
    CutOffError,
    EventError,
    MethodNotFoundError,
    NoSessionError,
    NotFoundError,
    NotJSONError,
    PermissionDeniedError,
    ProtocolError,
    RequestTooLargeError,
    ServerError,
    ServiceNotFoundError,
    TimedOutError,
    TransportError,
    UnexpectedAnswerError,
)
from evergreen_groups.gateway import wire

if TYPE_CHECKING:
    from evergreen_groups.errors import CallNames

Expect = Literal["one", "optional", "many"]
"""How many results a method promises: exactly one, one or nothing (``null`` isn't sent), or any number."""

_NO_SESSION_NUMBER = 1001
_NO_SERVICE = "osrfServiceException"
_SESSION_OVER = "the session has ended, or there never was one"
_LOG_IN = "log in again"
_CHECK_ADDRESS = "check the address"
_URL = "gateway.url"


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """What a call gave.

    ``value`` is the result itself (``expect="one"``), the result or None (``"optional"``), or the list of all
    results (``"many"``), in wire form: numbers with a point are ``Decimal``, fieldmapper objects are not decoded yet.
    ``raw`` is the beginning of the answer's text with tokens blanked; ``size`` is the answer's length in bytes.
    """

    value: Any
    raw: str
    size: int

    def __repr__(self) -> str:
        return f"Result({self.size} bytes)"


class Answer:
    """The body of one answer to ``call``; ``raw`` is its beginning, safe to keep."""

    def __init__(self, call: Call, body: bytes, raw: str) -> None:
        self._call = call
        self._body = body
        self._raw = raw

    def result(self, expect: Expect) -> Result:
        """Return the result.

        Raises NotJSONError and CutOffError for a body that isn't the gateway's JSON, TimedOutError,
        ServiceNotFoundError, MethodNotFoundError, NoSessionError and ServerError for the status inside it,
        UnexpectedAnswerError for another number of results than ``expect`` allows, and an EventError for an event
        other than SUCCESS.
        """
        payload = self._payload()
        if expect != "many" and len(payload) > 1:
            self._fail(
                UnexpectedAnswerError,
                "{count} results came where one was due",
                code="several-results",
                values={"count": len(payload)},
            )
        if expect == "one" and not payload:
            self._fail(
                UnexpectedAnswerError,
                "no result came where one was due",
                advice="try again later: older gateways answer like this when the service took too long",
                code="no-result",
            )
        value: Any = payload
        if expect != "many":
            value = payload[0] if payload else None
        self._raise_events(value)
        return Result(value, self._raw, len(self._body))

    def _payload(self) -> list[Any]:
        envelope = self._envelope()
        payload, status = envelope.get("payload"), envelope.get("status")
        if not isinstance(payload, list) or not isinstance(status, int) or isinstance(status, bool):
            self._fail_as_no_gateway()
        if status != 200:
            self._raise_status(status, envelope.get("debug"))
        return payload

    def _envelope(self) -> dict[str, Any]:
        try:
            text = self._body.decode("utf-8")
            envelope = wire.loads(text)
        except UnicodeDecodeError:
            self._fail(
                NotJSONError,
                "the answer is not text",
                advice=_CHECK_ADDRESS,
                setting=_URL,
                code="not-text",
                sent=True,
            )
        except ValueError as error:
            if _looks_cut_off(text, error):
                self._fail(
                    CutOffError,
                    "the answer stops in the middle",
                    advice="look at the proxy, where there is one: it may have cut it off",
                    code="answer-cut-off",
                    sent=True,
                )
            self._fail(
                NotJSONError,
                "the answer is not JSON",
                advice="check that the address is a gateway's",
                setting=_URL,
                sent=True,
            )
        if not isinstance(envelope, dict):
            self._fail_as_no_gateway()
        return envelope

    def _fail_as_no_gateway(self) -> NoReturn:
        self._fail(
            NotJSONError,
            "the answer is JSON, but not a gateway's",
            advice=_CHECK_ADDRESS,
            setting=_URL,
            code="not-a-gateway",
            sent=True,
        )

    def _raise_status(self, status: int, debug: object) -> NoReturn:
        # Of the debug text only the exception's name is repeated: the rest may quote tokens and patron data.
        name = re.match(r"[A-Za-z]+(?: Error)?(?= *:)", debug) if isinstance(debug, str) else None
        values = {"status": f"status {status}" + (f", {name.group()}" if name else "")}
        if status == 401:
            self._fail(NoSessionError, _SESSION_OVER, advice=_LOG_IN, textcode="NO_SESSION", number=_NO_SESSION_NUMBER)
        if status == 404 and name and name.group() == _NO_SERVICE:
            self._fail(
                ServiceNotFoundError,
                "{service} isn't running, or the gateway doesn't offer it ({status})",
                advice="try again later, or see what runs and what opensrf_core.xml names",
                values={"service": self._call.service, **values},
            )
        if status == 404:
            self._fail(
                MethodNotFoundError,
                "no such method, or parameters are missing ({status})",
                advice="look at the server's release: it may be too old",
                values=values,
                status=status,
            )
        if status == 408:
            self._fail(
                TimedOutError,
                "the service did not answer in time ({status})",
                advice="try again later, or ask for less",
                code="service-timed-out",
                values=values,
                sent=True,
            )
        self._fail(
            ServerError,
            "the method failed on the server ({status})",
            advice="look into its log",
            values=values,
            status=status,
        )

    def _raise_events(self, value: object) -> None:
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
            permission, org_unit = str(event.get("ilsperm") or ""), _number(event.get("ilspermloc"))
            where = "" if org_unit is None else f" at org unit {org_unit}"
            self._fail(
                PermissionDeniedError,
                "the account lacks the permission {permission}{where}",
                values={"permission": permission or "(the server does not say which)", "where": where},
                permission=permission,
                org_unit=org_unit,
                **rest,
            )
        if textcode == "XACT_COLLISION":
            self._fail(
                CollisionError,
                "the record was changed by somebody else",
                advice="fetch it again and repeat",
                **rest,
            )
        if textcode.endswith("_NOT_FOUND"):
            self._fail(NotFoundError, "there is no such record ({event})", code="no-such-record", values=values, **rest)
        self._fail(EventError, "the ILS refused ({event})", values=values, **rest)

    def _fail(self, kind: type[ProtocolError | EventError | TransportError], message: str, **fields: Any) -> NoReturn:
        raise kind(message, **self._call.names, raw=self._raw, **fields)


def _number(value: object) -> int | None:
    """Read an event's number or org unit: an integer, the same as text, or nothing."""
    try:
        return int(value) if isinstance(value, int | str) else None
    except ValueError:
        return None


def _looks_cut_off(text: str, error: ValueError) -> bool:
    """Say whether a text that isn't JSON is the beginning of a gateway's answer, or nothing at all."""
    stripped = text.strip()
    if not stripped:
        return True
    if not stripped.startswith("{") or not isinstance(error, json.JSONDecodeError) or error.msg == "Extra data":
        return False
    return not stripped.endswith("}") or error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")


REQUEST_LIMIT = 32_000
"""A request's body stays below this many bytes; real gateways can get stuck on larger ones."""


@dataclass(frozen=True, slots=True)
class Call:
    """The name of what is asked, without its parameters: those may hold patron data and tokens."""

    service: str
    method: str

    def __str__(self) -> str:
        return self.method or "the IDL"

    @property
    def names(self) -> CallNames:
        """What an error says of it."""
        return {"service": self.service, "method": self.method, "asked": str(self)}


IDL_CALL = Call("", "")
"""Stands for fetching the IDL, which is no method."""


def form(call: Call, parameters: Sequence[object], *, locale: str | None, timeout: float) -> bytes:
    """Encode a call as a form: each parameter a JSON text, a blank as %20.

    The gateway doesn't take ``+`` for a blank. ``timeout`` is in seconds, rounded up: the gateway reads it with
    ``atoi`` (``osrf_json_gateway.c``). Raises RequestTooLargeError from ``REQUEST_LIMIT`` on.
    """
    fields = [("service", call.service), ("method", call.method)]
    fields += [("param", wire.dumps(parameter)) for parameter in parameters]
    fields.append(("timeout", str(max(1, math.ceil(timeout)))))
    if locale is not None:
        fields.append(("locale", locale))
    body = urlencode(fields, quote_via=quote, safe="").encode("ascii")
    if len(body) >= REQUEST_LIMIT:
        raise RequestTooLargeError(
            "the request would be {size:,} bytes, and the gateway is only safe below {limit:,}",
            advice="ask in smaller portions",
            values={"size": len(body), "limit": REQUEST_LIMIT},
            **call.names,
        )
    return body
