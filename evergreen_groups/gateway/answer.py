"""Strict reading of the gateway's answers: a result, or an exception that names the problem."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from evergreen_groups.errors import (
    CollisionError,
    CutOffError,
    EventError,
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
)
from evergreen_groups.gateway import call as wire
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evergreen_groups.gateway.call import Call
    from evergreen_groups.gateway.failures import Beginning, Redactor

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
    beginning: Beginning
    size: int
    call: Call

    def __repr__(self) -> str:
        return f"Result({self.size} bytes)"

    @property
    def raw(self) -> str:
        """The beginning of the answer's text, with tokens redacted."""
        return str(self.beginning)

    def listing(self) -> list[Any]:
        """Return the value, which must be a list.

        Raises:
            UnexpectedAnswerError: it isn't.
        """
        return self._of(list, Message("a list"))

    def mapping(self) -> dict[str, Any]:
        """Return the value, which must be a hash.

        Raises:
            UnexpectedAnswerError: it isn't.
        """
        return self._of(dict, Message("a hash"))

    def _of(self, kind: type[Shape], due: Message) -> Shape:
        if not isinstance(self.value, kind):
            raise self.unexpected(due)
        return self.value

    @contextmanager
    def understood(self, due: Message) -> Iterator[None]:
        """Read the value in this block; report any error there as a value that isn't ``due``.

        Raises:
            UnexpectedAnswerError: the value has another shape.
        """
        try:
            yield
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError):
            raise self.unexpected(due) from None

    def unexpected(self, due: Message) -> UnexpectedAnswerError:
        """Return the error for a value that isn't ``due``, which names the expected shape."""
        return UnexpectedAnswerError(
            "the answer has another shape than Evergreen's; expected: {due}",
            advice="look at the server's release, and into its log",
            code="answer-of-another-shape",
            values={"due": due},
            raw=self.raw,
            **self.call.names,
        )


_MOST_VALUES = 2_000_000
_NO_SESSION_NUMBER = 1001
# Over Redis the bus itself reports the missing service (errors-001); over XMPP the message comes back undelivered
# (3.12/releases-060).
_NO_SERVICE = re.compile(r"osrfServiceException *:|(?P<undelivered>Internal Server Error *: *Transport Error)")
_SESSION_OVER = "the session has ended, or there never was one"
_LOG_IN = "log in again"
_CHECK_ADDRESS = "check the address"
_URL = "gateway.url"


class Answer:
    """The body of the answer to ``call``; ``redactor`` hides its secrets in errors."""

    def __init__(self, call: Call, body: bytes, redactor: Redactor) -> None:
        self._call = call
        self._body = body
        self._beginning = redactor.beginning(body)

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
                "several results came where one was due: {count}",
                code="several-results",
                values={"count": len(payload)},
            )
        # The gateway doesn't send a null (errors-059, patrons-056), and older gateways send an empty payload after a
        # timeout, too. Only the caller knows whether the method may return null.
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
        return Result(value, self._beginning, len(self._body), self._call)

    def _payload(self) -> list[Any]:
        envelope = self._envelope()
        payload, status = envelope.get("payload"), envelope.get("status")
        # True is an int in Python, and a proxy's {"status": true} isn't a gateway's answer.
        if not isinstance(payload, list) or not isinstance(status, int) or isinstance(status, bool):
            self._fail_as_no_gateway()
        # HTTP says 200 for errors, too (errors-004). Only the status in the body counts.
        if status != 200:
            self._raise_status(status, envelope.get("debug"))
        return payload

    def _envelope(self) -> dict[str, Any]:
        self._refuse_too_many_values()
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
        except ValueError:
            if _looks_cut_off(text):
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

    def _refuse_too_many_values(self) -> None:
        """Refuse a body with too many values: a value of a few bytes takes a hundred in memory."""
        if len(self._body) > _MOST_VALUES and sum(map(self._body.count, b",[{")) > _MOST_VALUES:
            self._fail(
                UnexpectedAnswerError,
                "the answer has over {most:,} values",
                advice="ask for less at once",
                code="answer-of-too-many-values",
                values={"most": _MOST_VALUES},
            )

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
        # Repeat only the exception's name from the debug text; the rest may quote tokens and patron data.
        name = re.match(r"[A-Za-z]+(?: Error)?(?= *:)", debug) if isinstance(debug, str) else None
        known: dict[str, object] = {"number": status}
        shown = Message("status {number}", values=known)
        if name:
            shown = Message("status {number}, {error}", values={**known, "error": name.group()})
        values = {"status": shown}
        if status == 401:
            self._fail(NoSessionError, _SESSION_OVER, advice=_LOG_IN, textcode="NO_SESSION", number=_NO_SESSION_NUMBER)
        # A missing service and a missing method are both 404 (errors-001, errors-004, and over XMPP 3.12/releases-060).
        # Only the service may be back in a moment.
        if status == 404 and isinstance(debug, str) and (no_service := _NO_SERVICE.match(debug)):
            self._fail(
                ServiceNotFoundError,
                "{service} isn't running, or the gateway doesn't offer it ({status})",
                advice="try again later, or see what runs and what opensrf_core.xml names",
                values={"service": self._call.service, **values},
                undelivered=no_service["undelivered"] is not None,
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
            which: str = permission or Message("not named by the server")
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
                "the record was changed by somebody else",
                advice="fetch the record again, and repeat the change",
                **rest,
            )
        # The textcode names the record: ACTOR_USER_NOT_FOUND (errors-029), ACTOR_USR_NOT_FOUND (patrons-051),
        # ACTOR_CARD_NOT_FOUND (errors-023).
        if textcode.endswith("_NOT_FOUND"):
            self._fail(
                RecordNotFoundError, "there is no such record ({event})", code="no-such-record", values=values, **rest
            )
        self._fail(EventError, "the ILS refused ({event})", values=values, **rest)

    def _fail(self, kind: type[ProtocolError | EventError | TransportError], message: str, **fields: Any) -> NoReturn:
        raise kind(message, **self._call.names, raw=str(self._beginning), **fields)


def _number(value: object) -> int | None:
    """Read an event's number or org unit, which may be an integer, text or empty."""
    try:
        return int(value) if isinstance(value, int | str) else None
    except ValueError:
        return None


def _looks_cut_off(text: str) -> bool:
    """Return whether a text that isn't JSON is the beginning of a gateway's answer, or is empty.

    A proxy that cuts an answer off leaves HTTP 200 in place. Retrying helps in this case, but not for a wrong address.
    """
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
