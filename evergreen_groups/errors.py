"""Everything that can go wrong, as one tree under :class:`EvergreenGroupsError`.

An error is fields first: a ``code`` that doesn't change with the wording, named ``values``, the ``advice`` for the
reader and the ``setting`` it is about. Its text is made from them when somebody asks for it, so nobody has to take
prose apart.
No field holds a token, a password, or anything about a patron. docs/errors.md lists the codes.

It is one module because the tree is read as one: what an ``except`` catches shows at a glance.

::

    EvergreenGroupsError
    ├── ConfigurationError       a setting is missing, unknown or not allowed
    │   └── DiskError            a file can't be written
    ├── ArgumentError            a program handed in something of another type
    ├── DataError                answers that contradict each other or aren't whole
    ├── BusyError                another run is doing the same
    ├── DeadlineError            a run took longer than it may
    ├── StateError               what we keep ourselves can't be used
    │   └── StateUnavailableError  … for now: its server is down, or somebody else holds it
    ├── PlanError                what was asked for can't be done
    ├── NotFoundError            what was asked for isn't there, or is hidden
    │   └── RecordNotFoundError  … and the ILS said so: an EventError as well
    ├── MailServerError          the mail server can't be reached or says no
    └── GatewayError             between this program and the ILS
        ├── TransportError       no usable answer
        │   ├── UnreachableError, TimedOutError, CutOffError, ServiceNotFoundError
        │   └── NotJSONError, HTTPStatusError
        ├── ProtocolError        an answer that isn't a result
        │   ├── MethodNotFoundError, ServerError
        │   │   └── UnexplainedError   … or anything else: the gateway doesn't say
        │   └── UnexpectedAnswerError, RequestTooLargeError
        ├── OldReleaseError      this Evergreen is too old
        └── EventError           the ILS said no
            ├── NoSessionError, LoginRefusedError, PermissionDeniedError
            └── RecordNotFoundError, CollisionError

They stand in one module because the tree is meant to be read as a whole.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, TypedDict, Unpack

from evergreen_groups.message import Message, filled

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOTHING: Mapping[str, object] = MappingProxyType({})


class ErrorFields(TypedDict, total=False):
    """What every error takes besides its message."""

    advice: str
    setting: str | None
    code: str
    values: Mapping[str, object]


class CallNames(TypedDict):
    """The names of a call, as an error of the gateway takes them."""

    service: str
    method: str
    asked: str


class GatewayErrorFields(ErrorFields, total=False):
    """What an error of the gateway takes besides: the call, and the beginning of the answer."""

    service: str
    method: str
    asked: str
    raw: str


class EvergreenGroupsError(Exception):
    """Base of every error this package raises on purpose.

    ``message`` says what was being done and what came back; ``{name}`` in it stands for one of the named ``values``
    (where there are none, the message is taken as it is). ``advice`` is what the reader can do, the same way.
    ``setting`` is the dotted name of the setting it is about (``"mail.host"``), None where it is about none. ``code``
    names the case for programs, in lower case with hyphens; the class's own name, without "Error", unless given.

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
        values: Mapping[str, object] = _NOTHING,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.setting = setting
        self.code = code or _code_of(type(self))
        self.values = values

    @property
    def problem(self) -> str:
        """What was being done and what came back, without the advice."""
        return filled(self.message, self.values)

    @property
    def what_to_do(self) -> str:
        """The advice with its values; empty where there is none."""
        return filled(self.advice, self.values)

    def __str__(self) -> str:
        """The problem and the advice in one line."""
        return "; ".join(part for part in (self.problem, self.what_to_do) if part)


def _code_of(kind: type) -> str:
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", kind.__name__.removesuffix("Error"))
    return "-".join(words).lower()


class ConfigurationError(EvergreenGroupsError):
    """A setting is missing, unknown or not allowed. Likely cause: a typing error in the configuration file."""


class DiskError(ConfigurationError):
    """A file can't be written where the settings want it. Likely cause: the disk is full, failing, or read-only."""


class ArgumentError(EvergreenGroupsError, TypeError):
    """A program handed in something of another type than is documented: a mistake in that program, nowhere else."""


class DataError(EvergreenGroupsError):
    """The gateway's answers contradict each other or can't be trusted to be whole."""


class BusyError(EvergreenGroupsError):
    """Another run is doing the same: changing one of the same patrons or groups, or making the report."""


class DeadlineError(EvergreenGroupsError):
    """A run took longer than it may. Likely cause: a server under load, or a deadline that is too short."""


class StateError(EvergreenGroupsError):
    """A file in the state directory isn't what it should be. Likely cause: a damaged disk, or somebody edited it."""


class StateUnavailableError(StateError):
    """What is kept can't be used for now. Likely cause: PostgreSQL is down, or another program holds the database."""


class PlanError(EvergreenGroupsError):
    """What was asked for can't be done: an unknown barcode, a patron named twice, nothing to move to."""


class NotFoundError(EvergreenGroupsError):
    """What was asked for isn't there, or is hidden: a patron, a group, an entry of the journal, a plan.

    Whether somebody is hidden or isn't there at all, nobody is told. Where an ILS's method says that it has no such
    record, it is a :class:`RecordNotFoundError`; most of the time nothing but an empty list came back, or nobody was
    asked but our own journal, so this is no :class:`EventError`.
    """


class MailServerError(EvergreenGroupsError):
    """The mail server can't be reached or says no; ``final``: to try again at once makes no sense."""

    def __init__(self, message: str, *, final: bool, **fields: Unpack[ErrorFields]) -> None:
        super().__init__(message, **fields)
        self.final = final


class GatewayError(EvergreenGroupsError):
    """Something went wrong between this program and the gateway, or the ILS behind it said no.

    ``service`` and ``method`` name the OpenSRF call (both empty for the IDL file), ``asked`` is what was asked for in
    words: the method, or "the IDL" (empty where one call alone isn't to blame). ``raw`` is the beginning of the
    answer's text as it came, with tokens blanked, or an empty string when there was none.
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
    def came_back(self) -> str:
        """What came back, without what was asked for."""
        return filled(self.message, self.values)

    @property
    def problem(self) -> str:
        """What was asked for and what came back, without the advice."""
        return ": ".join(part for part in (self.asked, self.came_back) if part)


class TransportError(GatewayError):
    """No usable answer came back.

    ``sent`` is True when the request may have reached the server, and so may have been done: after a write,
    read the state back before doing anything else. Where it is False, nothing was done.
    """

    def __init__(self, message: str, *, sent: bool = False, **fields: Unpack[GatewayErrorFields]) -> None:
        super().__init__(message, **fields)
        self.sent = sent


class UnreachableError(TransportError):
    """No connection. Likely cause: a wrong address, Apache is down, a firewall, or a TLS certificate that fails."""


class TimedOutError(TransportError):
    """No answer in time, from the gateway or (status 408) from the service behind it.

    Likely cause: the service has no free child, or the query is too large.
    """


class CutOffError(TransportError):
    """The connection closed before the whole answer had come. Likely cause: a restart, or a proxy's limit."""


class ServiceNotFoundError(TransportError):
    """The gateway has no such service (status 404, ``errors-001``, ``3.12/releases-060``), so nothing was done.

    Likely cause: it is being restarted, or the gateway doesn't offer it. ``undelivered`` is True where the message came
    back, as it does over XMPP; otherwise the bus itself said so.
    """

    def __init__(self, message: str, *, undelivered: bool = False, **fields: Unpack[GatewayErrorFields]) -> None:
        super().__init__(message, **fields)
        self.undelivered = undelivered


class NotJSONError(TransportError):
    """Something else than the gateway's JSON came back. Likely cause: the address isn't a gateway's."""


class HTTPStatusError(TransportError):
    """The web server itself refused (``status``). Likely cause: a wrong address, or a proxy in front of it."""

    def __init__(self, message: str, *, status: int, **fields: Unpack[GatewayErrorFields]) -> None:
        super().__init__(message, sent=True, **fields)
        self.status = status


class ProtocolError(GatewayError):
    """The gateway answered, but not with a result; ``status`` is the status inside the body.

    The gateway sends HTTP 200 for these as well (``errors-001``, ``errors-022``).
    """

    def __init__(self, message: str, *, status: int = 0, **fields: Unpack[GatewayErrorFields]) -> None:
        super().__init__(message, **fields)
        self.status = status


class MethodNotFoundError(ProtocolError):
    """No such method (404). Likely cause: an older release, or a missing parameter."""


class ServerError(ProtocolError):
    """The method died on the server (500). Likely cause: a query it can't run, or a server bug."""


class UnexplainedError(ServerError):
    """The call failed, and the gateway that is written in Rust says no more than HTTP 400.

    It may be what any other error under ProtocolError or TransportError stands for: no such method or service, a token
    that has ended, a query that can't be run. So after a write, read the state back.
    """


class UnexpectedAnswerError(ProtocolError):
    """A whole answer of another shape than the method promises: nothing, several results, another type."""


class RequestTooLargeError(ProtocolError):
    """The request would be 32 kB or more, which a real gateway can get stuck on; it was not sent."""


class OldReleaseError(GatewayError):
    """This Evergreen is older than the oldest release that is served. Nothing was changed."""


class EventError(GatewayError):
    """The ILS answered with an event other than SUCCESS.

    ``textcode`` (``"PERM_FAILURE"``), ``number`` (``5000``; 0 where the server gives none) and ``description`` are
    the event's own.
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
    """The session has ended or never was (NO_SESSION, or pcrud's status 401)."""


class LoginRefusedError(EventError):
    """Login was refused. Likely cause: a wrong password, or an account without STAFF_LOGIN at the root org unit."""


class PermissionDeniedError(EventError):
    """PERM_FAILURE: the account lacks ``permission`` at org unit ``org_unit`` (its id; None where it isn't given)."""

    def __init__(self, message: str, *, permission: str = "", org_unit: int | None = None, **rest: object) -> None:
        super().__init__(message, **rest)  # type: ignore[arg-type]  # passed through as they came
        self.permission = permission
        self.org_unit = org_unit


class RecordNotFoundError(NotFoundError, EventError):
    """The ILS says that there is no such record: an event whose textcode ends in ``_NOT_FOUND``."""


class CollisionError(EventError):
    """XACT_COLLISION: the record was changed by somebody else since it was read."""


def not_visible(message: str, *, code: str, values: Mapping[str, object] = _NOTHING) -> NotFoundError:
    """The error for a patron or group that was asked for and isn't there, or is hidden."""
    return NotFoundError(
        message,
        advice=Message("check the number, and that the account has VIEW_USER at the home library"),
        code=code,
        values=values,
    )
