"""Receives events from Evergreen (Action/Trigger, reactor ``CallHTTP``)."""

from __future__ import annotations

import hmac

from flask import Blueprint, Request, Response, jsonify, request

from evergreen_groups import hooks
from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.web import bodies, problems
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.requests import is_allowed
from evergreen_groups.web.service import Service, service

SECRET_HEADER = "X-Evergreen-Groups-Secret"  # noqa: S105  # the header's name

blueprint = Blueprint("events", __name__)


@blueprint.post("/events")
def receive() -> Response:
    """Handle an event and answer with the outcome."""
    running = service()
    _refuse_strangers(request, running)
    event = bodies.event(request)
    try:
        with running.events_breaker.watching():
            outcome = hooks.handle_event(
                running.events_client(), event, recalculate=running.settings.events.recalculate
            )
    except EvergreenGroupsError as error:
        raise problems.event_problem(error) from error
    return jsonify(hooks.as_json(outcome))


def _refuse_strangers(event_request: Request, running: Service) -> None:
    """Refuse a request unless it comes from an allowed address and has the secret.

    Raises:
        ProblemError: 403 if either is wrong, or 404 if events are disabled.
    """
    if running.events_secret is None:
        raise problems.no_events()
    # WSGI passes header bytes decoded as Latin-1.
    given = event_request.headers.get(SECRET_HEADER, "").encode("latin-1")
    # compare_digest takes the same time for every wrong secret. Evergreen stores the rendered request with the secret
    # where staff may read it, so the secret alone isn't enough: the address must be right too.
    knows = hmac.compare_digest(given, running.events_secret.encode())
    if not is_allowed(running.address_of(event_request), running.settings.events.allow) or not knows:
        raise ProblemError(
            403,
            "The address isn't allowed, or the secret in {header} is wrong.",
            code="event-not-allowed",
            values={"header": SECRET_HEADER},
        )
