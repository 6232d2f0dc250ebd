"""Receives events from Evergreen (Action/Trigger, reactor ``CallHTTP``)."""

from __future__ import annotations

import hmac
import json
from typing import Any
from urllib.parse import parse_qsl

from flask import Blueprint, Request, Response, jsonify, request

from evergreen_groups import hooks
from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.web import problems
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.requests import LARGEST_ID, is_allowed
from evergreen_groups.web.service import Service, service

SECRET_HEADER = "X-Evergreen-Groups-Secret"  # noqa: S105  # the header's name

MOST_FIELDS = 20
"""Maximum number of fields in an event. Fields other than event, hook and patron are ignored."""

blueprint = Blueprint("events", __name__)


@blueprint.post("/events")
def receive() -> Response:
    """Handle an event and answer with the outcome."""
    running = service()
    _refuse_strangers(request, running)
    event = _event(_body(request))
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


def _body(event_request: Request) -> dict[str, Any]:
    """Return the fields of a JSON or form body."""
    try:
        text = event_request.get_data(cache=False).decode()
        if event_request.mimetype == "application/json":
            fields = json.loads(text)
        elif event_request.mimetype == "application/x-www-form-urlencoded":
            fields = dict(parse_qsl(text, max_num_fields=MOST_FIELDS))
        else:
            raise ProblemError(
                415, "An event is application/json or application/x-www-form-urlencoded.", code="event-of-another-type"
            )
    except (ValueError, RecursionError):
        raise ProblemError(400, "The body can't be read.", code="event-unreadable") from None
    if not isinstance(fields, dict) or len(fields) > MOST_FIELDS:
        raise ProblemError(
            400, "An event is an object with the fields event, hook and patron.", code="event-of-another-shape"
        )
    return fields


def _event(fields: dict[str, Any]) -> hooks.Event:
    hook = fields.get("hook")
    if not isinstance(hook, str) or not 1 <= len(hook) <= 100 or not hook.isascii() or not hook.isprintable():
        raise ProblemError(400, "hook is the name of the ILS's hook.", code="event-without-hook")
    return hooks.Event(
        id=_whole_number(fields, "event", 2**63 - 1), hook=hook, patron_id=_whole_number(fields, "patron", LARGEST_ID)
    )


def _whole_number(fields: dict[str, Any], name: str, largest: int) -> int:
    value = fields.get(name)
    # Evergreen's template writes numbers as text, in a form or in quotation marks.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON doesn't distinguish 1.0 from 1
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        raise ProblemError(
            400, "{name} is a whole number above zero.", code="event-number-wrong", values={"name": name}
        )
    return value
