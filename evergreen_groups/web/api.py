"""The API: what a group owes, for information only, and who is over the limit by their own fines."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from evergreen_groups import hooks
from evergreen_groups.web import requests
from evergreen_groups.web.service import service

blueprint = Blueprint("api", __name__)


@blueprint.get("/api/v1/patrons/<patron>/summary")
def patron_summary(patron: str) -> Response:
    """A patron's group: what its members owe, each and together."""
    with service().desk(request) as desk:
        return _answer(hooks.patron_summary(desk.client, requests.record_id(patron)))


@blueprint.get("/api/v1/patrons/<patron>/group")
def group_details(patron: str) -> Response:
    """A patron's group with all that a desk sees of its members."""
    with service().desk(request) as desk:
        return _answer(hooks.group_details(desk.client, requests.record_id(patron)))


@blueprint.get("/api/v1/patrons/<patron>/group/bills")
def group_bills(patron: str) -> Response:
    """What the visible members of a patron's group owe for, and have out; titles as the desk's page shows them."""
    running = service()
    with running.desk(request) as desk:
        titles = hooks.Titles(running.settings.desk.titles)
        return _answer(hooks.group_bills(desk.client, requests.record_id(patron), titles))


@blueprint.get("/api/v1/patrons/<patron>/block")
def block(patron: str) -> Response:
    """Whether a patron is over the limit by their own fines."""
    with service().desk(request) as desk:
        return _answer(hooks.block_decision(desk.client, requests.record_id(patron)))


@blueprint.get("/api/v1/patrons/by-barcode/<barcode>/block")
def block_by_barcode(barcode: str) -> Response:
    """Whether the patron with a barcode is over the limit by their own fines."""
    with service().desk(request) as desk:
        return _answer(hooks.block_decision_by_barcode(desk.client, requests.barcode(barcode)))


@blueprint.get("/api/v1/groups/<group>")
def group_summary(group: str) -> Response:
    """A group by its number: what its members owe, each and together."""
    with service().desk(request) as desk:
        return _answer(hooks.group_summary(desk.client, requests.record_id(group)))


def _answer(value: hooks.Document) -> Response:
    return jsonify(hooks.as_json(value))
