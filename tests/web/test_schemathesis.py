"""Requests that the description allows get the described answers, and others are refused. Schemathesis tries both."""

from __future__ import annotations

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
from support.web_caller import SECRET, MakeApp, bearer, events_settings, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import ServeSettings
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

EXAMPLES = 40
"""Examples per operation and generation mode, the same in every run."""
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

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def try_it(data: st.DataObject) -> None:
        case: Any = data.draw(operation.as_strategy(generation_mode=mode))
        response = case.call(headers=headers)
        assert response.status_code < 500, (case.as_curl_command(), response.text)
        case.validate_response(response, checks=CHECKS)

    try_it()
