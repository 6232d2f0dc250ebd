"""Requests that the description allows get the described answers, and others are refused. Schemathesis tries both."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.follow_ups import note_run
from support.gateways import gateway_of
from support.web_caller import SECRET, MakeApp, bearer, events_settings, session, settings_of

from evergreen_groups.report import Criteria, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import ServeSettings
from evergreen_groups.state import State
from evergreen_groups.web import PREFIX
from evergreen_groups.web.api import SECRET_HEADER

pytestmark = pytest.mark.long

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

EVERY_TIME = settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""Per operation and generation mode, the same examples in every run."""
OPERATIONS = (
    ("GET", "/api/v1/patrons/{patron}/summary"),
    ("GET", "/api/v1/patrons/{patron}/block"),
    ("GET", "/api/v1/patrons/{patron}/group"),
    ("GET", "/api/v1/patrons/{patron}/group/bills"),
    ("GET", "/api/v1/patrons/by-barcode/{barcode}/block"),
    ("GET", "/api/v1/patrons/by-barcode/{barcode}/summary"),
    ("GET", "/api/v1/patrons/by-barcode/{barcode}/group"),
    ("GET", "/api/v1/patrons/by-barcode/{barcode}/group/bills"),
    ("GET", "/api/v1/groups"),
    ("GET", "/api/v1/groups/{group}"),
    ("POST", "/api/v1/plans"),
    ("GET", "/api/v1/changes"),
    ("POST", "/api/v1/changes"),
    ("GET", "/api/v1/changes/{change}"),
    ("POST", "/api/v1/changes/{change}/undo"),
    ("GET", "/api/v1/follow-ups"),
    ("POST", "/api/v1/follow-ups"),
    ("POST", "/events"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
)


@pytest.fixture
def app(make_app: MakeApp, sandbox: Sandbox, tmp_path: Path) -> Flask:
    serve = ServeSettings(port=0, rate_limit=1_000_000)
    return make_app(settings_of(sandbox.url, serve=serve, events=events_settings(tmp_path)))


@pytest.fixture
def schema(app: Flask) -> BaseSchema:
    return schemathesis.openapi.from_wsgi(f"{PREFIX}/openapi.json", app)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_it_keeps_to_its_description(
    schema: BaseSchema, sandbox: Sandbox, method: str, path: str, mode: GenerationMode
) -> None:
    operation = schema[path][method]
    headers = (
        {SECRET_HEADER: SECRET} if path == "/events" else bearer(session(sandbox.url, username="consortium_staff"))
    )
    if mode is GenerationMode.NEGATIVE and not (operation.body or list(operation.iter_parameters())):
        return  # there is nothing to get wrong

    @EVERY_TIME
    @given(data=st.data())
    def try_it(data: st.DataObject) -> None:
        case: Any = data.draw(operation.as_strategy(generation_mode=mode))
        response = case.call(headers=headers)
        assert response.status_code < 500, (case.as_curl_command(), response.text)
        case.validate_response(response, checks=CHECKS)

    try_it()


def test_entries_of_listed_groups_keep_to_their_description(
    app: Flask, schema: BaseSchema, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Most entries that Schemathesis makes up are refused, so what they refer to, and often more, is set."""
    with State(tmp_path / "state") as state, gateway_of(sandbox.url, "consortium_staff") as gateway:
        report = build_report(gateway, Criteria())
        note_run(state, report)
    path = "/api/v1/follow-ups"
    reading, saving = schema[path]["GET"], schema[path]["POST"]
    headers = bearer(session(sandbox.url, username="consortium_staff"))
    statuses: Counter[int] = Counter()

    def call(case: Any) -> Any:
        response = case.call(headers=headers)
        case.validate_response(response, checks=CHECKS)
        return response

    @EVERY_TIME
    @given(data=st.data())
    def try_it(data: st.DataObject) -> None:
        groups = call(reading.Case(query={})).json()["groups"]
        case: Any = data.draw(saving.as_strategy(generation_mode=GenerationMode.POSITIVE))
        case.body["report"], case.headers["Idempotency-Key"] = "", f"{statuses.total()}"
        del case.body["entries"][len(groups) :]
        # Numbers to choose by, because what is there differs if an example is repeated.
        first, mended = data.draw(st.integers(0, 99)), data.draw(st.integers(0, 3)) > 0
        for group, entry in zip(groups[first % len(groups) :] + groups, case.body["entries"], strict=False):
            earlier = [None, *(one["id"] for one in group["entries"] if not one["deleted"])]
            entry |= {"group": group["group"], "seen": group["seen"], "corrects": earlier[first % len(earlier)]}
            entry["deletes"] = data.draw(st.booleans()) and entry["corrects"] is not None
            if mended:
                entry |= {"how": "phone", "date": None, "remind_on": None, "note": "x"}
        statuses[call(case).status_code] += 1

    try_it()
    assert statuses[200] > 10
    assert statuses[400] > 10
