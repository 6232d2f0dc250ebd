"""The API for changes: plans that are shown before anything happens, applied once, asked after, and taken back."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from flask import Blueprint, Response, jsonify, request, url_for

from evergreen_groups import hooks
from evergreen_groups.web import requests
from evergreen_groups.web import requests as plan_bodies
from evergreen_groups.web.change_runs import MOST_WAITED_FOR
from evergreen_groups.web.service import DeskRequest, Service, service

if TYPE_CHECKING:
    from collections.abc import Callable

    from evergreen_groups.progress import Progress
    from evergreen_groups.web.requests import Agreement

ASK_AGAIN_SECONDS = 1

blueprint = Blueprint("changes", __name__)


@blueprint.post("/api/v1/plans")
def propose() -> tuple[Response, int]:
    """Plan something; nothing is changed by that."""
    with service().changing_desk(request, largest=plan_bodies.LARGEST) as desk:
        proposed = hooks.propose_plan(desk.client, plan_bodies.plan_request(request))
        return jsonify(hooks.as_json(proposed)), 201


@blueprint.post("/api/v1/changes")
def apply() -> Response:
    """Apply a plan, once; the answer is the same when it is asked for again under the same key."""
    running = service()
    with running.changing_desk(request, largest=plan_bodies.LARGEST) as desk:
        agreed = plan_bodies.agreement(request)
        return _change(hooks.own_change(desk.client, apply_plan(running, desk, agreed)))


@blueprint.get("/api/v1/changes")
def recent() -> Response:
    """The caller's own changes of the last days."""
    with service().desk(request) as desk:
        return jsonify(hooks.as_json(hooks.recent_changes(desk.client)))


@blueprint.get("/api/v1/changes/<change>")
def change(change: str) -> Response:
    """A change, with what became of it."""
    with service().desk(request) as desk:
        return _change(hooks.change(desk.client, requests.change_id(change)))


@blueprint.post("/api/v1/changes/<change>/undo")
def undo(change: str) -> Response:
    """Take a change back."""
    running = service()
    with running.changing_desk(request, largest=plan_bodies.LARGEST) as desk:
        id = requests.change_id(change)
        key = plan_bodies.idempotency_key(request)
        plan_bodies.nothing_else(request)
        return _change(hooks.own_change(desk.client, undo_change(running, desk, id, key)))


def apply_plan(running: Service, desk: DeskRequest, agreed: Agreement) -> str:
    """Apply a plan, approved by a supervisor where the agreement names one; gives the change's id.

    A long one goes on when this returns. One that has been applied takes no supervisor and no thread any more.
    """
    plan = desk.client.plans.find(agreed.plan)
    steps = len(plan.steps)
    if plan.key is not None and steps > MOST_WAITED_FOR:
        return desk.client.plans.apply(agreed.plan, agreed.key, timeout=0.0)
    if plan.key is not None or (agreed.approval is None and steps <= MOST_WAITED_FOR):
        return desk.client.plans.apply(agreed.plan, agreed.key)
    if agreed.approval is None:
        unhurried = running.client_for(desk.caller, desk.gateway)
        return running.change_runs.begin(
            lambda begun, progress: unhurried.plans.apply(agreed.plan, agreed.key, on_start=begun, progress=progress)
        )
    with ExitStack() as stack:
        # The session outlives this block where the change is a long one.
        supervisor, user = stack.enter_context(
            running.approvals.approved(running.gateway, desk.client.gateway, desk.caller, agreed.approval)
        )
        if steps <= MOST_WAITED_FOR:
            hurried = supervisor.within(running.settings.serve.timeout)
            return running.client_for(desk.caller, hurried, approved_by=user).plans.apply(agreed.plan, agreed.key)
        client, session = running.client_for(desk.caller, supervisor, approved_by=user), ExitStack()

        def applied(begun: Callable[[str], None], progress: Progress) -> str:
            with session:
                return client.plans.apply(agreed.plan, agreed.key, on_start=begun, progress=progress)

        # Where there is no room for it, nobody else ends the session.
        return running.change_runs.begin(applied, taken=lambda: session.push(stack.pop_all()))


def undo_change(running: Service, desk: DeskRequest, change: str, key: str) -> str:
    """Take a change back; gives the id of the change that does it. A long one goes on when this returns."""
    if len(desk.client.plans.history.entry(change).steps) <= MOST_WAITED_FOR:
        return desk.client.plans.undo(change, key)
    unhurried = running.client_for(desk.caller, desk.gateway)
    return running.change_runs.begin(
        lambda begun, progress: unhurried.plans.undo(change, key, on_start=begun, progress=progress)
    )


def _change(found: hooks.Change) -> Response:
    """What became of a change; 202 as long as it is being made."""
    response = jsonify(hooks.as_json(found))
    if found.is_under_way:
        response.status_code = 202
        response.headers["Location"] = url_for("changes.change", change=found.entry.id)
        response.headers["Retry-After"] = str(ASK_AGAIN_SECONDS)
    return response
