"""Programs that go by the OpenAPI description: Schemathesis tries answers, and a generated client works."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
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
from support.description import DOCUMENT
from support.desk_caller import new_key
from support.follow_ups import record_report
from support.web_caller import SECRET, MakeApp, bearer, events_settings, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State
from evergreen_groups.web import PREFIX
from evergreen_groups.web.api import SECRET_HEADER, description

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
OPERATIONS = [
    (method.upper(), path)
    for path, item in DOCUMENT["paths"].items()
    for method in ("get", "post")
    if method in item and not path.startswith("/reports/") and not path.endswith((".js", ".json"))
]


@pytest.fixture
def app(make_app: MakeApp, sandbox: Sandbox, tmp_path: Path) -> Flask:
    return make_app(settings_of(sandbox.url, events=events_settings(tmp_path)))


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


NAME = "generated_evergreen_groups"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Generate the client, and return the name of its package."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(description()))
    program = Path(sys.executable).with_name("openapi-python-client")
    words = f"generate --path openapi.json --meta none --output-path {NAME} --fail-on-warning"
    environ = {"PATH": str(program.parent)}  # the generator looks for ruff there
    subprocess.run([program, *words.split()], cwd=folder, env=environ, check=True, timeout=300)
    sys.path.insert(0, str(folder))
    return NAME


def test_a_generated_client_works(generated: str, app: Flask, sandbox: Sandbox, state: State) -> None:
    record_report(state, sandbox.url)
    models = import_module(f"{generated}.models")
    client = import_module(generated).AuthenticatedClient(
        base_url="http://localhost/evergreen-groups",
        token=session(sandbox.url, username="consortium_staff"),
        httpx_args={"transport": httpx.WSGITransport(app=app)},
    )

    def call(name: str, **arguments: Any) -> Any:
        operation = import_module(f"{generated}.api.default.{name}")
        return operation.sync(client=client, **arguments)

    listed = call("groups", min_total="25.00", limit=2)
    first = listed.groups[0]
    assert [type(one.group) for one in listed.groups] == [int, int]
    assert call("group_summary", group=first.group).group == first.group
    assert call("groups", library="NOWHERE").errors[0].pointer == "#/library"
    summary = call("patron_summary_by_barcode", barcode="20000000001015")
    assert (summary.patron, summary.group) == (1015, 1004)
    body = models.PlanBody(models.PlanBodyAction.MOVE, patrons=["20000000001014"], target="20000000001001")
    plan = call("propose_plan", body=body)
    key = new_key()
    change = call("apply_plan", body=models.Agreement(plan=plan.id), idempotency_key=key)
    assert [step.state for step in change.steps] == ["done"]
    assert call("apply_plan", body=models.Agreement(plan=plan.id), idempotency_key=key) == change
    assert [step.state for step in call("undo_change", change=change.id, idempotency_key=new_key()).steps] == ["done"]
