"""Everything that can go wrong, as one tree under :class:`EvergreenGroupsError`.

A message says what was being done, what came back, and what the reader can do. No message holds a token, a
password, or anything about a patron.
"""

from __future__ import annotations


class EvergreenGroupsError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigurationError(EvergreenGroupsError):
    """A setting is missing, unknown or not allowed. Likely cause: a typing error in the configuration file."""


class DiskError(ConfigurationError):
    """A file can't be written where the settings want it. Likely cause: the disk is full, failing, or read-only."""


class DataError(EvergreenGroupsError):
    """The gateway's answers contradict each other or can't be trusted to be whole."""


class BusyError(EvergreenGroupsError):
    """Another run is doing the same: changing groups at this gateway, or making the report."""


class DeadlineError(EvergreenGroupsError):
    """A run took longer than it may. Likely cause: a server under load, or a deadline that is too short."""


class HistoryError(EvergreenGroupsError):
    """The history of runs can't be used. Likely cause: a full disk, a damaged file, or a program that has it open."""


class StateError(EvergreenGroupsError):
    """A file in the state directory isn't what it should be. Likely cause: a damaged disk, or somebody edited it."""


class PlanError(EvergreenGroupsError):
    """What was asked for can't be done: an unknown barcode, a patron named twice, nothing to move to."""


class GatewayError(EvergreenGroupsError):
    """Something went wrong between this program and the gateway, or the ILS behind it said no.

    ``service`` and ``method`` name the OpenSRF call (both empty for the IDL file); ``raw`` is the beginning of the
    answer's text as it came, with tokens blanked, or an empty string when there was none.
    """

    def __init__(self, message: str, *, service: str = "", method: str = "", raw: str = "") -> None:
        super().__init__(message)
        self.service = service
        self.method = method
        self.raw = raw


class TransportError(GatewayError):
    """No usable answer came back.

    ``sent`` is True when the request may have reached the server, and so may have been carried out: after a write,
    read the state back before doing anything else. Where it is False, nothing was done.
    """

    def __init__(self, message: str, *, service: str = "", method: str = "", raw: str = "", sent: bool = False) -> None:
        super().__init__(message, service=service, method=method, raw=raw)
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
    """The gateway has no such service (status 404, ``errors-001``), so nothing was done.

    Likely cause: it is being restarted, or the gateway doesn't offer it.
    """


class NotJSONError(TransportError):
    """Something else than the gateway's JSON came back. Likely cause: the address isn't a gateway's."""


class HTTPStatusError(TransportError):
    """The web server itself refused (``status``). Likely cause: a wrong address, or a proxy in front of it."""

    def __init__(self, message: str, *, status: int, service: str = "", method: str = "", raw: str = "") -> None:
        super().__init__(message, service=service, method=method, raw=raw, sent=True)
        self.status = status


class ProtocolError(GatewayError):
    """The gateway answered, but not with a result; ``status`` is the status inside the body.

    The gateway sends HTTP 200 for these as well (``errors-001``, ``errors-022``).
    """

    def __init__(self, message: str, *, status: int = 0, service: str = "", method: str = "", raw: str = "") -> None:
        super().__init__(message, service=service, method=method, raw=raw)
        self.status = status


class MethodNotFoundError(ProtocolError):
    """No such method (404). Likely cause: an older release, or a missing parameter."""


class ServerError(ProtocolError):
    """The method died on the server (500). Likely cause: a query it can't run, or a server bug."""


class UnexpectedAnswerError(ProtocolError):
    """A whole answer of another shape than the method promises: nothing, several results, another type."""


class RequestTooLargeError(ProtocolError):
    """The request would be 32 kB or more, which a real gateway can get stuck on; it was not sent."""


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
        service: str = "",
        method: str = "",
        raw: str = "",
    ) -> None:
        super().__init__(message, service=service, method=method, raw=raw)
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


class NotFoundError(EventError):
    """The record asked for doesn't exist (an event whose textcode ends in ``_NOT_FOUND``)."""


class CollisionError(EventError):
    """XACT_COLLISION: the record was changed by somebody else since it was read."""


def not_in_sight(what: str) -> NotFoundError:
    """The error for a patron or group that was asked for and isn't there, or is hidden."""
    return NotFoundError(
        f"{what}; check the number, and that the account has VIEW_USER at the home library", textcode="NOT_FOUND"
    )
