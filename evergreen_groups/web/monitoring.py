"""For monitoring: is the service up, can it do its work, and what has it counted."""

from __future__ import annotations

import hmac

from flask import Blueprint, Response, current_app, jsonify, request

from evergreen_groups.metrics import METRICS_CONTENT_TYPE
from evergreen_groups.web import succession
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.service import service

blueprint = Blueprint("monitoring", __name__)

_ANSWERS, _DOES_NOT = "answers", "does not answer"


@blueprint.get("/healthz")
def health() -> Response:
    """That the service is up, whether the gateway answers, and if it doesn't, why: a code, with no name or address."""
    return jsonify(status="up", **_gateway_state(), breaker=service().breaker.state.value)


@blueprint.get("/readyz")
def readiness() -> Response:
    """Whether requests can be answered: 503 while the gateway or the state's database can't be used."""
    gateway = _gateway_state()
    database = _ANSWERS if service().health.database_answers() else _DOES_NOT
    response = jsonify(**gateway, database=database)
    if _DOES_NOT in (gateway["gateway"], database):
        response.status_code = 503
    return response


@blueprint.get("/metrics")
def metrics() -> Response:
    """What was counted, for whoever knows the token."""
    token = service().metrics_token
    if token is None:
        raise ProblemError(
            404,
            "No metrics are shown here: set token_file in [metrics], or listen for an address of their own.",
            code="no-metrics",
        )
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # In the same time however much of it is right; WSGI's headers are bytes in the disguise of Latin-1.
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), token.encode()):
        raise ProblemError(
            403, "The metrics take the token of [metrics] (Authorization: Bearer).", code="metrics-token-wrong"
        )
    counters = succession.succession_of(current_app).counters
    return Response(counters.exposition(), content_type=METRICS_CONTENT_TYPE)


def _gateway_state() -> dict[str, str]:
    last = service().health.gateway_outcome()
    if last is None:
        return {"gateway": "not known yet"}
    return {"gateway": _ANSWERS} if last.answered else {"gateway": _DOES_NOT, "cause": last.cause}
