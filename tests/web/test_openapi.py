"""The service's OpenAPI description lists every route, answers conform to it, and a client generated from it works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from flask.testing import FlaskClient
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
from support.change_ids import UNKNOWN
from support.description import DOCUMENT, check_answer, check_body, validator
from support.desk_caller import new_key
from support.follow_ups import record_report
from support.pages import blocks
from support.repository import REPOSITORY
from support.web_caller import SECRET, MakeApp, bearer, client_of, events_settings, session, settings_of

from evergreen_groups.errors import ConfigurationError, DataError, ServerError, TimedOutError, UnreachableError
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State
from evergreen_groups.web import PREFIX, problems
from evergreen_groups.web.api import SECRET_HEADER
from evergreen_groups.web.description import description

FAILURES = [ConfigurationError("x"), UnreachableError("x"), TimedOutError("x"), ServerError("x"), DataError("x")]
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


@pytest.fixture
def caller(make_app: MakeApp, sandbox: Sandbox, tmp_path: Path) -> FlaskClient:
    return client_of(make_app(settings_of(sandbox.url, events=events_settings(tmp_path))))


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def test_every_route_is_described_and_no_other(caller: FlaskClient) -> None:
    assert caller.get(f"{PREFIX}/openapi.json").get_json() == json.loads(json.dumps(DOCUMENT))
    routes = {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in caller.application.url_map.iter_rules()
        if not rule.endpoint.startswith(
            ("desk_pages.", "letters.", "results.", "worklist.")
        )  # for people: see docs/desk.md, docs/branch-manager.md, docs/report.md, docs/letters.md
        for method in rule.methods - {"HEAD"}
    }
    assert {(DOCUMENT["servers"][0]["url"] + path, method) for path, method, _ in operations()} == routes


def test_every_problem_that_a_session_or_an_event_can_get_is_described() -> None:
    common = {str(problems.read_problem(error).status) for error in FAILURES}
    assert common == {str(problems.event_problem(error).status) for error in FAILURES} == {"500", "502", "503", "504"}
    for path, _, operation in operations():
        if operation["security"] and key_of(operation) != "metricsToken":  # metrics make no calls to the ILS
            assert common | {"403", "404"} <= operation["responses"].keys(), path


def key_of(operation: dict[str, Any]) -> str | None:
    """Return the name of the operation's first security scheme."""
    return next((name for way in operation["security"] for name in way), None)


def address(path: str, value: str) -> str:
    """Return the address of a described path, with ``value`` as its parameter."""
    return PREFIX + re.sub(r"{\w+}", value, path)


def test_what_takes_a_session_and_what_does_not(caller: FlaskClient) -> None:
    for path, method, operation in operations():
        status = {"bearer": 401, "eventSecret": 403, "metricsToken": 404, None: 200}[key_of(operation)]
        assert caller.open(address(path, "1001"), method=method).status_code == status, path


def test_plans_and_changes_keep_to_it(caller: FlaskClient, sandbox: Sandbox) -> None:
    headers = bearer(session(sandbox.url, username="consortium_staff"))

    def ask(method: str, path: str, status: int, body: object = None, id: str = "", key: str = "") -> dict[str, Any]:
        where = PREFIX + path.replace("{change}", id)
        more = {} if body is None else {"json": body}
        answer = caller.open(where, method=method, headers={**headers, "Idempotency-Key": key}, **more)
        assert answer.status_code == status, answer.text
        check_answer(method, path, status, answer.get_json(force=True))
        if body is not None and status < 400:
            check_body(method, path, body)
        return dict(answer.get_json(force=True))

    plans, changes, change, undo = (f"/api/v1/{path}" for path in PLANNING)
    move = {"action": "move", "patrons": ["20000000001052", {"id": 1053}], "target": "20000000001007"}
    plan = ask("post", plans, 201, move)
    assert plan["warnings"]
    made = ask("post", changes, 200, {"plan": plan["id"]}, key="one")
    ask("get", changes, 200)
    ask("get", change, 200, id=made["id"])
    ask("post", undo, 200, id=made["id"], key="two")
    ask("post", plans, 201, {"action": "recalculate", "patrons": [{"id": 1053}]})
    ask("post", plans, 422, {**move, "target": "20000000001"})
    ask("post", plans, 400, {})
    ask("post", changes, 404, {"plan": "x"}, key="three")
    ask("post", changes, 409, {"plan": plan["id"]}, key="four")
    ask("get", change, 404, id=UNKNOWN)


PLANNING = ("plans", "changes", "changes/{change}", "changes/{change}/undo")


def test_an_events_outcome_keeps_to_it(caller: FlaskClient) -> None:
    sent = {"event": 1, "hook": "au.updated", "patron": 1001}
    check_body("POST", "/events", sent)
    answer = caller.post(f"{PREFIX}/events", json=sent, headers={SECRET_HEADER: SECRET})
    check_answer("POST", "/events", answer.status_code, answer.get_json())


@pytest.mark.parametrize(
    "body", ['{"event": 1, "hook": "x", "patron": 1001.0}', '{"event": 1e9, "hook": "x", "patron": 1001}']
)
def test_whole_numbers_as_json_has_them(caller: FlaskClient, body: str) -> None:
    headers = {SECRET_HEADER: SECRET, "Content-Type": "application/json"}
    assert caller.post(f"{PREFIX}/events", data=body, headers=headers).status_code == 200


MANY = {f"more{number}": 1 for number in range(18)}


@pytest.mark.parametrize(
    "change",
    [MANY, {"patron": 1.5}, {"patron": 0}, {"hook": "礙"}, {"hook": ""}, {"hook": "a\nb"}, {"hook": "a" * 101}],
)
def test_what_is_refused_as_an_event_is_none_by_it(caller: FlaskClient, change: dict[str, Any]) -> None:
    event = {"event": 1, "hook": "au.updated", "patron": 1001, **change}
    assert not validator({"$ref": "#/components/schemas/EventBody"}).is_valid(event)
    assert caller.post(f"{PREFIX}/events", json=event, headers={SECRET_HEADER: SECRET}).status_code == 400


# --- Programs that go by the description ---

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
    for path, method, _ in operations()
    if not path.startswith("/reports/") and not path.endswith((".js", ".json"))
]


@pytest.fixture
def schema(caller: FlaskClient) -> BaseSchema:
    return schemathesis.openapi.from_wsgi(f"{PREFIX}/openapi.json", caller.application)


@pytest.mark.long
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


NAME = "groups_client"
LISTING = next(
    block.text
    for block in blocks(REPOSITORY / "docs" / "http-api.md")
    if block.language == "python" and NAME in block.text
)


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


@pytest.mark.long
def test_a_generated_client_works(generated: str, caller: FlaskClient, sandbox: Sandbox, state: State) -> None:
    record_report(state, sandbox.url)
    models = import_module(f"{generated}.models")
    client = import_module(generated).AuthenticatedClient(
        base_url="http://localhost/evergreen-groups",
        token=session(sandbox.url, username="consortium_staff"),
        httpx_args={"transport": httpx.WSGITransport(app=caller.application)},
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


@pytest.mark.long
def test_a_generated_client_lists_groups_page_by_page(
    generated: str, caller: FlaskClient, sandbox: Sandbox, state: State
) -> None:
    """Its models pass ``mypy --strict``; the generator's own ``client.py`` doesn't."""
    record_report(state, sandbox.url)
    folder = Path(str(import_module(generated).__file__)).parents[1]
    (folder / "listing.py").write_text(LISTING)
    for targets in (("listing.py",), ("-p", f"{generated}.models"), ("-m", f"{generated}.api.default.groups")):
        words = (sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent", *targets)
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout
    client = import_module(generated).AuthenticatedClient(
        base_url="http://localhost/evergreen-groups",
        token=session(sandbox.url, username="consortium_staff"),
        httpx_args={"transport": httpx.WSGITransport(app=caller.application)},
    )
    every_group = import_module("listing").every_group
    numbers = [one.group for one in every_group(client, 2)]
    assert len(numbers) > 2
    assert numbers == [one.group for one in every_group(client, 500)]
