"""What goes wrong, as ``application/problem+json`` (RFC 9457): fixed words, and nothing about a patron."""

from __future__ import annotations

import json
import math

from flask import Response

from evergreen_groups.errors import (
    BusyError,
    ConfigurationError,
    EvergreenGroupsError,
    NoSessionError,
    NotFoundError,
    PermissionDeniedError,
    TimedOutError,
    TransportError,
)

CONTENT_TYPE = "application/problem+json"
# As long as the breaker's pause: sooner there is nothing new to hear.
RETRY_SECONDS = 10.0

_TITLES = {
    400: "Bad request",
    401: "No session",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    411: "Length required",
    413: "Too large",
    414: "Address too long",
    415: "Unsupported media type",
    429: "Too many requests",
    500: "Internal error",
    502: "The ILS answered with an error",
    503: "Not available",
    504: "The ILS did not answer in time",
}

_WHILE_READING: dict[type[EvergreenGroupsError], tuple[int, str]] = {
    PermissionDeniedError: (403, "The session lacks a permission for this."),
    ConfigurationError: (500, "The configuration of this service doesn't fit the ILS; its log says how."),
    EvergreenGroupsError: (
        502,
        "The ILS refused, or its answers can't be trusted to be whole. The log of this service has more.",
    ),
}


class ProblemError(EvergreenGroupsError):
    """An answer other than success: HTTP ``status``, one sentence, and in how many seconds to try again."""

    def __init__(self, status: int, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after

    def response(self) -> Response:
        """The problem as an answer."""
        document = {
            "type": "about:blank",
            "title": _TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
        }
        response = Response(json.dumps(document) + "\n", status=self.status, content_type=CONTENT_TYPE)
        if self.retry_after is not None:
            response.headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="Evergreen"'
        return response


def no_session() -> ProblemError:
    """There is no token, or it isn't (or is no longer) a session's."""
    return ProblemError(401, "This takes the token of an Evergreen staff session. Log in again.")


def not_found() -> ProblemError:
    """What was asked for isn't there, or the session may not see it; the answer doesn't tell which."""
    return ProblemError(404, "There is no such thing in sight of this session.")


def of_reading(error: EvergreenGroupsError) -> ProblemError:
    """The problem for an error while reading in the name of a caller."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, NoSessionError):
        return no_session()
    if isinstance(error, NotFoundError):
        return not_found()
    if isinstance(error, TransportError):
        return _unavailable(error)
    kinds = (kind for kind in _WHILE_READING if isinstance(error, kind))
    return ProblemError(*_WHILE_READING[next(kinds, EvergreenGroupsError)])


def of_event(error: EvergreenGroupsError) -> ProblemError:
    """The problem for an error while working on an event of the ILS; says what failed, for whoever runs the ILS."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, TransportError):
        return ProblemError(_unavailable(error).status, str(error), retry_after=RETRY_SECONDS)
    if isinstance(error, BusyError):
        return ProblemError(503, str(error), retry_after=RETRY_SECONDS)
    if isinstance(error, ConfigurationError):
        return ProblemError(500, str(error))
    return ProblemError(404 if isinstance(error, NotFoundError) else 502, str(error))


def _unavailable(error: TransportError) -> ProblemError:
    if isinstance(error, TimedOutError):
        return ProblemError(504, "The ILS did not answer in time.", retry_after=RETRY_SECONDS)
    return ProblemError(503, "The ILS can't be reached.", retry_after=RETRY_SECONDS)
