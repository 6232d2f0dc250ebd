"""What goes wrong, as ``application/problem+json`` (RFC 9457): fixed words, and nothing about a patron."""

from __future__ import annotations

import json
import math
from typing import Unpack

from flask import Response

from evergreen_groups.errors import (
    BusyError,
    ConfigurationError,
    ErrorFields,
    EvergreenGroupsError,
    NoSessionError,
    NotFoundError,
    PermissionDeniedError,
    PlanError,
    StateError,
    StateUnavailableError,
    TimedOutError,
    TransportError,
)

CONTENT_TYPE = "application/problem+json"
# As long as the breaker's pause: sooner there is nothing new to hear.
RETRY_SECONDS = 10.0
BUSY_SECONDS = 2.0

_TITLES = {
    400: "Bad request",
    401: "No session",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "No longer so",
    410: "Too old",
    411: "Length required",
    413: "Too large",
    414: "Address too long",
    415: "Unsupported media type",
    422: "Can't be done",
    429: "Too many requests",
    500: "Internal error",
    502: "The ILS answered with an error",
    503: "Not available",
    504: "The ILS did not answer in time",
}


class ProblemError(EvergreenGroupsError):
    """An answer other than success: HTTP ``status``, one sentence, and in how many seconds to try again."""

    def __init__(
        self, status: int, message: str, *, retry_after: float | None = None, **fields: Unpack[ErrorFields]
    ) -> None:
        super().__init__(message, **fields)
        self.status = status
        self.retry_after = retry_after

    def response(self) -> Response:
        """The problem as an answer."""
        document = {
            "type": "about:blank",
            "title": _TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": str(self),
            "code": self.code,
        }
        response = Response(json.dumps(document) + "\n", status=self.status, content_type=CONTENT_TYPE)
        if self.retry_after is not None:
            response.headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="Evergreen"'
        return response


def no_session() -> ProblemError:
    """There is no token, or it isn't (or is no longer) a session's."""
    return ProblemError(401, "This takes the token of an Evergreen staff session. Log in again.", code="no-session")


def not_found() -> ProblemError:
    """What was asked for isn't there, or the session may not see it; the answer doesn't say which."""
    return ProblemError(404, "There is no such thing, or this session may not see it.", code="not-found")


def no_events() -> ProblemError:
    """Events aren't taken."""
    return ProblemError(404, "No events are taken here: there is no secret for them in [events].", code="no-events")


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
    if isinstance(error, StateError):
        return _without_state()
    return _refused(error)


def _refused(error: EvergreenGroupsError) -> ProblemError:
    """The problem for an answer that can't be used; what it says of patrons stays in the log."""
    if isinstance(error, PermissionDeniedError):
        return _lacking(error)
    if isinstance(error, ConfigurationError):
        return ProblemError(
            500,
            "The configuration of this service doesn't fit the ILS; its log says how.",
            code="service-misconfigured",
        )
    return ProblemError(
        502,
        "The ILS refused, or its answers can't be trusted to be whole. The log of this service has more.",
        code="ils-refused",
    )


def _lacking(error: PermissionDeniedError) -> ProblemError:
    if not error.permission or error.org_unit is None:
        return ProblemError(403, "Your login lacks a permission for this.", code="permission-unknown")
    return ProblemError(
        403,
        "Your login lacks the permission {permission} at org unit {org_unit}.",
        code="permission-denied",
        values={"permission": error.permission, "org_unit": error.org_unit},
    )


def of_event(error: EvergreenGroupsError) -> ProblemError:
    """The problem for an error while working on an event of the ILS; says what failed, for whoever runs the ILS."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, TransportError):
        return _relayed(error, _unavailable(error).status, retry_after=RETRY_SECONDS)
    if isinstance(error, BusyError | StateUnavailableError):
        return _relayed(error, 503, retry_after=RETRY_SECONDS)
    if isinstance(error, ConfigurationError | StateError):
        return _relayed(error, 500)
    return _relayed(error, 404 if isinstance(error, NotFoundError) else 502)


_PLAN_PROBLEMS = {
    "plan-unclear": 400,
    "undo-of-another": 403,
    "plan-outdated": 409,
    "plan-applied-before": 409,
    "already-undone": 409,
    "nothing-to-undo": 409,
    "plan-expired": 410,
}


def of_changing(error: EvergreenGroupsError) -> ProblemError:
    """The problem for an error while planning or changing something.

    But for the state's own, each comes before anything is sent: nothing was changed by that request.
    """
    if isinstance(error, PlanError):  # it has ids and numbers in it, and no names
        return _relayed(error, _PLAN_PROBLEMS.get(error.code, 422))
    if isinstance(error, NotFoundError) and error.code in ("no-such-plan", "no-such-change", "no-such-entry"):
        return _relayed(error, 404)
    if isinstance(error, BusyError) and error.code == "undo-too-early":
        return _relayed(error, 503, retry_after=BUSY_SECONDS)
    if isinstance(error, BusyError):
        return ProblemError(
            503,
            "Somebody else is changing the same patrons or groups. Nothing was changed; try again in a moment.",
            code="others-at-it",
            retry_after=BUSY_SECONDS,
        )
    return of_reading(error)


def _without_state() -> ProblemError:
    """The state's database can't be used: that may come out in the middle of a change, after it has been sent."""
    return ProblemError(
        503,
        "The service's own database can't be used. Ask the same again in a moment; with the same key nothing is "
        "done twice.",
        code="state-not-available",
        retry_after=RETRY_SECONDS,
    )


def _relayed(error: EvergreenGroupsError, status: int, *, retry_after: float | None = None) -> ProblemError:
    """The problem that says what an error says, with its code."""
    return ProblemError(status, "{problem}", code=error.code, values={"problem": str(error)}, retry_after=retry_after)


def _unavailable(error: TransportError) -> ProblemError:
    if isinstance(error, TimedOutError):
        return ProblemError(504, "The ILS did not answer in time.", code="ils-timed-out", retry_after=RETRY_SECONDS)
    return unreachable(RETRY_SECONDS)


def unreachable(retry_after: float) -> ProblemError:
    """The ILS can't be reached, or isn't asked because it couldn't be a moment ago."""
    return ProblemError(503, "The ILS can't be reached.", code="ils-unreachable", retry_after=retry_after)
