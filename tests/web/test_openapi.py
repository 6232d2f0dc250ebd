"""The service's OpenAPI description lists every route, and the answers conform to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from support.change_ids import UNKNOWN
from support.description import DOCUMENT, check_answer, check_body, resolved, validator
from support.web_caller import SECRET, MakeApp, bearer, client_of, events_settings, session, settings_of

from evergreen_groups.errors import ConfigurationError, DataError, ServerError, TimedOutError, UnreachableError
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.web import PREFIX, problems
from evergreen_groups.web.api import SECRET_HEADER

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
            ("desk_pages.", "letters.", "worklist.")
        )  # for people: see docs/desk.md, docs/report.md, docs/letters.md
        for method in rule.methods - {"HEAD"}
    }
    assert {(DOCUMENT["servers"][0]["url"] + path, method) for path, method, _ in operations()} == routes


def test_every_problem_that_a_session_or_an_event_can_get_is_described() -> None:
    common = {str(problems.read_problem(error).status) for error in FAILURES}
    assert common == {str(problems.event_problem(error).status) for error in FAILURES} == {"500", "502", "503", "504"}
    for path, _, operation in operations():
        if operation["security"] and key_of(operation) != "metricsToken":  # metrics make no calls to the ILS
            assert common | {"403", "404"} <= operation["responses"].keys(), path


def test_every_schema_is_one() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_the_parameters_of_a_path_are_described() -> None:
    for path, item in DOCUMENT["paths"].items():
        named = {resolved(parameter)["name"] for parameter in item.get("parameters", [])}
        assert named == set(re.findall(r"{(\w+)}", path))


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


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/api/v1/patrons/{patron}/summary", "1001"),
        ("/api/v1/patrons/{patron}/group", "1001"),
        ("/api/v1/patrons/{patron}/block", "1053"),
        ("/api/v1/patrons/by-barcode/{barcode}/block", "20000000001001"),
        ("/api/v1/groups/{group}", "1001"),
    ],
)
def test_answers_and_problems_keep_to_it(caller: FlaskClient, sandbox: Sandbox, path: str, value: str) -> None:
    headers = bearer(session(sandbox.url, username="consortium_staff"))
    for status, answer in (
        (200, caller.get(address(path, value), headers=headers)),
        (400, caller.get(address(path, "%20"), headers=headers)),
        (401, caller.get(address(path, value))),
        (404, caller.get(address(path, "999999999"), headers=headers)),
    ):
        assert answer.status_code == status
        assert answer.content_type == ("application/json" if status == 200 else "application/problem+json")
        check_answer("GET", path, status, answer.get_json(force=True))


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
