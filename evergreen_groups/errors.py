"""All errors that this package raises, in one tree under :class:`EvergreenGroupsError`.

An error consists of fields: a ``code`` that doesn't change with the wording, named ``values``, ``advice`` for the
reader, and the ``setting`` to change. ``str(error)`` builds the text from them, so programs never need to parse it.
No field holds a token, a password, or patron data. docs/errors.md lists the codes.

::

    EvergreenGroupsError
    ├── ConfigurationError       a setting is missing, unknown or not allowed
    │   └── DiskError            a file can't be written
    ├── ArgumentError            an argument has the wrong type
    ├── DataError                answers contradict each other or are incomplete
    ├── BusyError                another run is changing the same records
    ├── DeadlineError            a run exceeded its deadline
    ├── StateError               our own stored data can't be used
    │   └── StateUnavailableError  … temporarily: its server is down, it is locked, or its disk is full
    ├── PlanError                the requested change isn't possible
    ├── NotFoundError            a patron, group or record doesn't exist, or is hidden
    │   └── RecordNotFoundError  … and Evergreen said so: also an EventError
    ├── MailServerError          the mail server can't be reached, or refused
    └── GatewayError             a call to Evergreen failed
        ├── TransportError       no usable answer
        │   ├── UnreachableError, TimedOutError, CutOffError, ServiceNotFoundError
        │   └── NotJSONError, HTTPStatusError
        ├── ProtocolError        an answer that isn't a result
        │   ├── MethodNotFoundError, ServerError
        │   │   └── UnexplainedError   … or any other error: the gateway gives no reason
        │   └── UnexpectedAnswerError, RequestTooLargeError
        ├── OldReleaseError      this Evergreen is too old
        └── EventError           Evergreen answered with an error event
            ├── NoSessionError, LoginRefusedError, PermissionDeniedError
            └── RecordNotFoundError, CollisionError
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypedDict, Unpack

from evergreen_groups.message import Message, filled

_NO_VALUES: Mapping[str, object] = MappingProxyType({})


class ErrorFields(TypedDict, total=False):
    """The keyword arguments of all errors."""

    advice: str
    setting: str | None
    code: str
    values: Mapping[str, object]


class CallNames(TypedDict):
    """The arguments of a :class:`GatewayError` that identify the call."""

    service: str
    method: str
    asked: str


class GatewayErrorFields(ErrorFields, total=False):
    """The keyword arguments of a :class:`GatewayError`."""

    service: str
    method: str
    asked: str
    raw: str


class EvergreenGroupsError(Exception):
    """Base class of all errors that this package raises on purpose.

    ``message`` says what was attempted and what happened. A ``{name}`` in it is replaced from ``values``; if there are
    no values, braces stay as they are. ``advice`` tells the reader what to do, with the same placeholders. ``setting``
    is the dotted name of the setting to change (``"mail.host"``), or None. ``code`` identifies the error for programs,
    in lower case with hyphens; by default it is the class name without "Error".

    >>> error = ConfigurationError("cannot read {path}", advice="name another file", values={"path": "a.toml"})
    >>> str(error), error.code, error.values["path"]
    ('cannot read a.toml; name another file', 'configuration', 'a.toml')
    """

    def __init__(
        self,
        message: str,
        *,
        advice: str = "",
        setting: str | None = None,
        code: str = "",
        values: Mapping[str, object] = _NO_VALUES,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.setting = setting
        self.code = code or _code_of(type(self))
        self.values = values

    @property
    def problem(self) -> str:
        """The message with its values, without the advice."""
        return filled(self.message, self.values)

    @property
    def what_to_do(self) -> str:
        """The advice with its values, or an empty string."""
        return filled(self.advice, self.values)

    def __str__(self) -> str:
        """Return the problem and the advice in one line."""
        return "; ".join(part for part in (self.problem, self.what_to_do) if part)


def _code_of(kind: type) -> str:
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", kind.__name__.removesuffix("Error"))
    return "-".join(words).lower()


class ConfigurationError(EvergreenGroupsError):
    """A setting is missing, unknown or not allowed. Likely cause: a typo in the configuration file."""


class DiskError(ConfigurationError):
    """A file can't be written to the configured path. Likely cause: the disk is full, failing, or read-only."""


class ArgumentError(EvergreenGroupsError, TypeError):
    """An argument isn't of the documented type, or is impossible: a bug in the calling program."""


class DataError(EvergreenGroupsError):
    """The gateway's answers contradict each other, or may be incomplete."""


class BusyError(EvergreenGroupsError):
    """Another run is changing one of the same patrons or groups, or is making the report."""


class DeadlineError(EvergreenGroupsError):
    """A run exceeded its deadline. Likely cause: a server under load, or a deadline that is too short."""


class StateError(EvergreenGroupsError):
    """The state's database or a file in the state directory is damaged or can't be used.

    Likely cause: a failing disk, or a manual edit.
    """


class StateUnavailableError(StateError):
    """The state can't be used right now.

    Likely cause: PostgreSQL is down, another program locks the database, or the disk is full.
    """


class PlanError(EvergreenGroupsError):
    """The requested change isn't possible: an unknown barcode, a patron named twice, no group to move to."""


class NotFoundError(EvergreenGroupsError):
    """A patron, group, journal entry or plan doesn't exist, or is hidden.

    The error doesn't tell which, so that it reveals nothing about hidden patrons. It usually stands for an empty list,
    or for a missing row in our own database, so it isn't an :class:`EventError`. If an Evergreen method answers that a
    record doesn't exist, a :class:`RecordNotFoundError` is raised.
    """


class MailServerError(EvergreenGroupsError):
    """The mail server can't be reached, or refused. If ``final`` is true, retrying right away is pointless."""

    def __init__(self, message: str, *, final: bool, **fields: Unpack[ErrorFields]) -> None:
        super().__init__(message, **fields)
        self.final = final


class GatewayError(EvergreenGroupsError):
    """A call to the gateway failed, or Evergreen refused it.

    ``service`` and ``method`` name the OpenSRF call; both are empty for the IDL file. ``asked`` describes the request
    in words: the method, or "the IDL". It is empty if no single call is to blame. ``raw`` is the beginning of the
    response body with tokens redacted, or an empty string if there was no response.
    """

    def __init__(
        self,
        message: str,
        *,
        service: str = "",
        method: str = "",
        asked: str = "",
        raw: str = "",
        **fields: Unpack[ErrorFields],
    ) -> None:
        super().__init__(message, **fields)
        self.service = service
        self.method = method
        self.asked = asked
        self.raw = raw

    @property
    def problem(self) -> str:
        """The request and the message with its values, without the advice."""
        return ": ".join(part for part in (self.asked, filled(self.message, self.values)) if part)


class TransportError(GatewayError):
    """There was no usable answer.

    If ``sent`` is true, the server may have received and executed the request. After a write, read the record back
    before doing anything else. If ``sent`` is false, nothing was executed.
    """

    def __init__(self, message: str, *, sent: bool = False, **fields: Unpack[GatewayErrorFields]) -> None:
        super().__init__(message, **fields)
        self.sent = sent


class UnreachableError(TransportError):
    """No connection. Likely cause: a wrong address, Apache is down, a firewall, or an invalid TLS certificate."""


class TimedOutError(TransportError):
    """The gateway, or (status 408) the service behind it, didn't answer in time.

    Likely cause: the service has no free child, or the query is too large.
    """


class CutOffError(TransportError):
    """The connection closed before the answer was complete. Likely cause: a restart, or a proxy's limit."""


class ServiceNotFoundError(TransportError):
    """The gateway doesn't know the service (status 404, ``errors-001``, ``3.12/releases-060``). Nothing was executed.

    Likely cause: the service is restarting, or the gateway doesn't offer it. ``undelivered`` is true if the message
    bounced, as happens over XMPP, and false if the message bus itself reported the missing service.
    """

    def __init__(self, message: str, *, undelivered: bool = False, **fields: Unpack[GatewayErrorFields]) -> None:
        super().__init__(message, **fields)
        self.undelivered = undelivered


class NotJSONError(TransportError):
    """The response isn't the gateway's JSON. Likely cause: the address of another server."""


class HTTPStatusError(TransportError):
    """The web server itself refused with ``status``. Likely cause: a wrong address, or a proxy in front of it."""

    def __init__(self, message: str, *, status: int, **fields: Unpack[GatewayErrorFields]) -> None:
        super().__init__(message, sent=True, **fields)
        self.status = status


class ProtocolError(GatewayError):
    """The gateway's answer isn't a result.

    ``status`` is the status in the body, because the HTTP status is 200 in this case as well (``errors-001``,
    ``errors-022``).
    """

    def __init__(self, message: str, *, status: int = 0, **fields: Unpack[GatewayErrorFields]) -> None:
        super().__init__(message, **fields)
        self.status = status


class MethodNotFoundError(ProtocolError):
    """The method doesn't exist (404). Likely cause: an older release, or a missing parameter."""


class ServerError(ProtocolError):
    """The method crashed on the server (500). Likely cause: a query it can't run, or a server bug."""


class UnexplainedError(ServerError):
    """The call failed, and the Rust implementation of the gateway gave no reason except HTTP 400.

    The cause may be that of any other ProtocolError or TransportError: an unknown method or service, an expired token,
    a query that can't be run. So after a write, read the record back.
    """


class UnexpectedAnswerError(ProtocolError):
    """The answer is complete but doesn't have the method's shape: no result, several results, or another type."""


class RequestTooLargeError(ProtocolError):
    """The request wasn't sent because it has 32 kB or more. A real gateway can hang on requests of that size."""


class OldReleaseError(GatewayError):
    """This Evergreen is older than the oldest supported release. Nothing was changed."""


class EventError(GatewayError):
    """Evergreen answered with an event other than SUCCESS.

    ``textcode`` (``"PERM_FAILURE"``), ``number`` (5000; 0 if missing) and ``description`` are copied from the event.
    """

    def __init__(
        self,
        message: str,
        *,
        textcode: str,
        number: int = 0,
        description: str = "",
        **fields: Unpack[GatewayErrorFields],
    ) -> None:
        super().__init__(message, **fields)
        self.textcode = textcode
        self.number = number
        self.description = description


class NoSessionError(EventError):
    """The session has expired or never existed (NO_SESSION, or pcrud's status 401)."""


class LoginRefusedError(EventError):
    """Login was refused. Likely cause: a wrong password, or an account without STAFF_LOGIN at the root org unit."""


class PermissionDeniedError(EventError):
    """PERM_FAILURE: the account lacks ``permission`` at ``org_unit`` (an id; None if Evergreen doesn't name it)."""

    def __init__(
        self,
        message: str,
        *,
        permission: str = "",
        org_unit: int | None = None,
        textcode: str = "PERM_FAILURE",
        number: int = 5000,
        **fields: Any,
    ) -> None:
        super().__init__(message, textcode=textcode, number=number, **fields)
        self.permission = permission
        self.org_unit = org_unit


class RecordNotFoundError(NotFoundError, EventError):
    """Evergreen has no record with this id: an event whose textcode ends in ``_NOT_FOUND``."""


class CollisionError(EventError):
    """XACT_COLLISION: someone else has changed the record since it was read."""


def not_visible(message: str, *, code: str, values: Mapping[str, object] = _NO_VALUES) -> NotFoundError:
    """Build the error for a patron or group that doesn't exist or is hidden, with advice on permissions."""
    return NotFoundError(
        message,
        advice=Message("check the number, and that the account has VIEW_USER at the home library"),
        code=code,
        values=values,
    )


def unreadable(code: str, detail: str, *, advice: str = "", setting: str | None = None) -> DataError:
    """Build the error for an answer from Evergreen that can't be used, for the reason ``detail``."""
    message = "Evergreen's answer can't be read: {detail}"
    return DataError(message, advice=advice, setting=setting, code=code, values={"detail": detail})
