"""A client that openapi-python-client generates from the service's description reads, changes and undoes."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from support.desk_caller import new_key
from support.follow_ups import note_run
from support.gateways import gateway_of
from support.web_caller import MakeApp, session, settings_of

from evergreen_groups.report import Criteria, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import ServeSettings
from evergreen_groups.state import State
from evergreen_groups.web.api import description

pytestmark = pytest.mark.long

NAME = "generated_evergreen_groups"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Generate the client, and return the name of its package."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(description()))
    program = Path(sys.executable).with_name("openapi-python-client")
    command = [
        program,
        "generate",
        "--path",
        "openapi.json",
        "--meta",
        "none",
        "--output-path",
        NAME,
        "--fail-on-warning",
    ]
    environ = {"PATH": str(program.parent)}  # the generator looks for ruff there
    subprocess.run(command, cwd=folder, env=environ, check=True, timeout=300)
    sys.path.insert(0, str(folder))
    return NAME


def operation(generated: str, name: str) -> ModuleType:
    return import_module(f"{generated}.api.default.{name}")


def test_a_generated_client_works(generated: str, make_app: MakeApp, sandbox: Sandbox, tmp_path: Path) -> None:
    with State(tmp_path / "state") as state, gateway_of(sandbox.url, "consortium_staff") as gateway:
        note_run(state, build_report(gateway, Criteria()))
    app = make_app(settings_of(sandbox.url, serve=ServeSettings(port=0, rate_limit=1_000_000)))
    models = import_module(f"{generated}.models")
    client = import_module(generated).AuthenticatedClient(
        base_url="http://localhost/evergreen-groups",
        token=session(sandbox.url, username="consortium_staff"),
        httpx_args={"transport": httpx.WSGITransport(app=app)},
    )

    def call(name: str, **arguments: Any) -> Any:
        return operation(generated, name).sync(client=client, **arguments)

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
