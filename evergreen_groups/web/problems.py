"""Errors as ``application/problem+json`` (RFC 9457), in fixed sentences without patron data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Unpack

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
# The breaker's pause: before that, the answer would be the same.
RETRY_SECONDS = 10.0
BUSY_SECONDS = 2.0
ANOTHER_DESK = "Another desk is changing these patrons or groups. Nothing was changed; try again in a moment."

_TITLES = {
    400: "Bad request",
    401: "No session",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    410: "Expired",
    411: "Length required",
    413: "Too large",
    414: "Address too long",
    415: "Unsupported media type",
    422: "Can't be done",
    429: "Too many requests",
    500: "Internal error",
    502: "Evergreen answered with an error",
    503: "Not available",
    504: "Evergreen didn't answer in time",
}


class ProblemError(EvergreenGroupsError):
    """An HTTP error response: ``status``, one sentence, and after how many seconds to retry.

    ``more`` are further keys of the JSON, or replace its ``detail`` with one for programs. They may have patron data,
    so no other text shows them.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        retry_after: float | None = None,
        more: Mapping[str, Any] | None = None,
        **fields: Unpack[ErrorFields],
    ) -> None:
        super().__init__(message, **fields)
        self.status = status
        self.retry_after = retry_after
        self._more = more or {}

    def response(self) -> Response:
        """Return the response in JSON."""
        document = {
            "type": "about:blank",
            "title": _TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": str(self),
            "code": self.code,
            **self._more,
        }
        text = json.dumps(document) + "\n"
        return Response(text, status=self.status, content_type=CONTENT_TYPE, headers=self.headers)

    def __str__(self) -> str:
        """Return the problem and the advice in one line. Most problems are whole sentences here."""
        return f"{self.problem} {self.what_to_do}".rstrip() if self.problem.endswith(".") else super().__str__()

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a response in any format."""
        found = {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}
        if self.status == 401:
            found["WWW-Authenticate"] = 'Bearer realm="Evergreen"'
        return found


def no_session() -> ProblemError:
    """Return the error for a missing, unknown or expired token."""
    return ProblemError(
        401,
        "You aren't logged in",
        advice="log in to the staff client in this browser, then try again",
        code="no-session",
        more={"detail": "The token is missing, unknown or has ended. Log in at Evergreen, and send its token."},
    )


def not_found() -> ProblemError:
    """Return the error for a record that is missing or hidden from the session. The answer doesn't reveal which."""
    return ProblemError(404, "Not found, or not visible to your login.", code="not-found")


def page_turned_off(setting: str) -> ProblemError:
    """Return the error for a page that the library doesn't want; ``setting`` is as in ``page in [desk]``."""
    return ProblemError(
        404,
        "Your library has turned this page off (setting: {setting}).",
        code="page-turned-off",
        values={"setting": setting},
    )


def no_events() -> ProblemError:
    """Return the error for a service without events."""
    return ProblemError(404, "Events are turned off: there is no secret for them in [events].", code="no-events")


def read_problem(error: EvergreenGroupsError) -> ProblemError:
    """Convert an error from reading on behalf of a caller."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, NoSessionError):
        return no_session()
    if isinstance(error, NotFoundError):
        return not_found()
    if isinstance(error, TransportError):
        return _unavailable(error)
    if isinstance(error, StateUnavailableError):  # this can happen in the middle of a change
        return ProblemError(
            503,
            "This service's database can't be used. Try again in a moment.",
            code="state-not-available",
            retry_after=RETRY_SECONDS,
        )
    return _refused(error)


def _refused(error: EvergreenGroupsError) -> ProblemError:
    """Convert an error that trying again won't help. Details about patrons go only to the log."""
    if isinstance(error, PermissionDeniedError):
        if not error.permission or error.org_unit is None:
            return ProblemError(403, "Your login lacks a permission for this.", code="permission-unknown")
        return ProblemError(
            403,
            "your login lacks the permission {permission} at {library}",
            code="permission-denied",
            values={"permission": error.permission, "library": f"org unit {error.org_unit}"},
        )
    if isinstance(error, StateError):
        return ProblemError(500, "This service's database can't be used. See its log.", code="state-broken")
    if isinstance(error, ConfigurationError):
        return ProblemError(
            500, "This service's configuration doesn't fit Evergreen. See its log.", code="service-misconfigured"
        )
    return ProblemError(
        502, "Evergreen refused, or its answer was incomplete. See the log of this service.", code="ils-refused"
    )


def event_problem(error: EvergreenGroupsError) -> ProblemError:
    """Convert an error from handling an event. Evergreen's administrators read it, so it says what failed."""
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
    "follow-up-unclear": 400,
    "group-named-twice": 400,
    "undo-of-another": 403,
    "plan-outdated": 409,
    "plan-applied-before": 409,
    "already-undone": 409,
    "nothing-to-undo": 409,
    "plan-expired": 410,
}


_MISSING_RECORDS = ("no-such-plan", "no-such-change", "no-such-entry", "no-such-follow-up-entry", "group-not-listed")
"""The codes of our own records that may be named as missing."""


def change_problem(error: EvergreenGroupsError) -> ProblemError:
    """Convert an error from planning or making a change.

    All of these except the state database's errors occur before anything is sent, so nothing has changed.
    """
    if isinstance(error, PlanError):  # contains ids and numbers, but no names
        return _relayed(error, _PLAN_PROBLEMS.get(error.code, 422))
    if isinstance(error, NotFoundError) and error.code in _MISSING_RECORDS:
        return _relayed(error, 404)
    if isinstance(error, BusyError) and error.code == "undo-too-early":
        return _relayed(error, 503, retry_after=BUSY_SECONDS)
    if isinstance(error, BusyError):
        return ProblemError(503, ANOTHER_DESK, code="others-at-it", retry_after=BUSY_SECONDS)
    return read_problem(error)


def _relayed(error: EvergreenGroupsError, status: int, *, retry_after: float | None = None) -> ProblemError:
    """Return a problem with the error's own text and code, and the name of the refused field if there is one."""
    field = error.values.get("field")
    problem = f"{error} ({field})" if field and f"`{field}`" not in str(error) else str(error)
    return ProblemError(status, "{problem}", code=error.code, values={"problem": problem}, retry_after=retry_after)


def _unavailable(error: TransportError) -> ProblemError:
    if isinstance(error, TimedOutError):
        return ProblemError(504, "Evergreen didn't answer in time", code="ils-timed-out", retry_after=RETRY_SECONDS)
    return unreachable(RETRY_SECONDS)


def unreachable(retry_after: float) -> ProblemError:
    """Return the error for an Evergreen that can't be reached, or couldn't be a moment ago."""
    return ProblemError(503, "Evergreen can't be reached", code="ils-unreachable", retry_after=retry_after)
