"""The API for changes: propose a plan, apply it once, ask for its outcome, undo it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from flask import Blueprint, Response, jsonify, request, url_for

from evergreen_groups import hooks
from evergreen_groups.web import bodies, requests
from evergreen_groups.web.change_runs import MAX_AWAITED_STEPS
from evergreen_groups.web.service import DeskRequest, service

if TYPE_CHECKING:
    from evergreen_groups.changes import BegunChange
    from evergreen_groups.web.bodies import Approval

ASK_AGAIN_SECONDS = 1

blueprint = Blueprint("changes", __name__)


@blueprint.post("/api/v1/plans")
def propose() -> tuple[Response, int]:
    """Make a plan. Nothing is changed."""
    with service().changing_desk(request, largest=requests.LARGEST_PLAN_BODY) as desk:
        proposed = hooks.propose_plan(desk.client, bodies.plan_request(request))
        return jsonify(hooks.as_json(proposed)), 201


@blueprint.post("/api/v1/changes")
def apply() -> Response:
    """Apply a plan once. Repeating the request with the same key gives the same answer."""
    with service().changing_desk(request, largest=requests.LARGEST_PLAN_BODY) as desk:
        agreement = bodies.agreement(request)
        id = apply_plan(desk, agreement.plan, requests.idempotency_key(request), agreement.approval)
        return _change(hooks.own_change(desk.client, id))


@blueprint.get("/api/v1/changes")
def recent() -> Response:
    """Answer with the caller's own recent changes."""
    with service().desk(request) as desk:
        return jsonify(hooks.as_json(hooks.recent_changes(desk.client)))


@blueprint.get("/api/v1/changes/<change>")
def change(change: str) -> Response:
    """Answer with a change and its outcome so far."""
    with service().desk(request) as desk:
        return _change(hooks.change(desk.client, requests.change_id(change)))


@blueprint.post("/api/v1/changes/<change>/undo")
def undo(change: str) -> Response:
    """Undo a change."""
    with service().changing_desk(request, largest=requests.LARGEST_PLAN_BODY) as desk:
        id, key = requests.change_id(change), requests.idempotency_key(request)
        bodies.require_empty_body(request)
        return _change(hooks.own_change(desk.client, undo_change(desk, id, key)))


def apply_plan(desk: DeskRequest, plan: str, key: str, approval: Approval | None) -> str:
    """Apply a plan, with a supervisor's approval if the request has one. Return the change's id.

    A long change continues in the background. A plan that was already applied needs neither approval nor a thread.
    """
    running, found = desk.service, desk.client.changes.find(plan)
    steps = len(found.steps)
    if found.key is not None and steps > MAX_AWAITED_STEPS:
        return desk.client.changes.apply(plan, key, timeout=0.0)
    if found.key is not None or (approval is None and steps <= MAX_AWAITED_STEPS):
        return desk.client.changes.apply(plan, key)
    if approval is None:
        without_deadline = running.client_for(desk.caller, desk.gateway)
        return running.change_runs.begin(lambda: without_deadline.changes.begin(plan, key))
    with ExitStack() as stack:
        # A long change keeps the supervisor's session beyond this block.
        supervisor, user = stack.enter_context(
            running.approvals.approved(running.gateway, desk.client.gateway, desk.caller, approval)
        )
        if steps <= MAX_AWAITED_STEPS:
            with_deadline = supervisor.within(running.settings.serve.timeout)
            return running.client_for(desk.caller, with_deadline, approved_by=user).changes.apply(plan, key)
        client, session = running.client_for(desk.caller, supervisor, approved_by=user), ExitStack()

        @contextmanager
        def begun() -> Iterator[BegunChange]:
            with session, client.changes.begin(plan, key) as change:
                yield change

        # If the change can't start, this block ends the session. Once started, the thread does.
        return running.change_runs.begin(begun, on_accepted=lambda: session.push(stack.pop_all()))


def undo_change(desk: DeskRequest, change: str, key: str) -> str:
    """Undo a change. Return the id of the new change that does it. A long one continues in the background."""
    if len(desk.client.changes.entry(change).steps) <= MAX_AWAITED_STEPS:
        return desk.client.changes.undo(change, key)
    without_deadline = desk.service.client_for(desk.caller, desk.gateway)
    return desk.service.change_runs.begin(lambda: without_deadline.changes.begin_undo(change, key))


def _change(found: hooks.Change) -> Response:
    """Answer with a change: 202 while it is being made, 200 afterward."""
    response = jsonify(hooks.as_json(found))
    if found.is_under_way:
        response.status_code = 202
        response.headers["Location"] = url_for("changes.change", change=found.entry.id)
        response.headers["Retry-After"] = str(ASK_AGAIN_SECONDS)
    return response
