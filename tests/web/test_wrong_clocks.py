"""Servers with wrong clocks share a PostgreSQL: stored times come from the database's clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from support.command import Command
from support.desk_caller import NEW_GROUP, plan_body
from support.fault_proxy import Fault, FaultProxy
from support.postgresql import shared_cluster
from support.service_process import serving
from support.web_caller import API, bearer, session
from support.wrong_clocks import clock_ahead

from evergreen_groups.sandbox import Sandbox

pytestmark = pytest.mark.long  # services in processes of their own, which take long to start

AHEAD, BEHIND = 3 * 24 * 3600, -20 * 60


class Desk:
    """A desk that can send each request to either server."""

    def __init__(self, ahead: str, behind: str, token: str) -> None:
        self.ahead, self.behind, self._headers = ahead, behind, bearer(token)

    def plan(self, server: str, action: str, *patrons: int) -> str:
        return str(self._send(server, "plans", plan_body(action, *patrons))["id"])

    def apply(self, server: str, plan: str) -> dict[str, Any]:
        return self._send(server, "changes", {"plan": plan}, plan)

    def states(self, server: str, change: int) -> list[str]:
        answer = requests.get(f"{server}{API}/changes/{change}", headers=self._headers, timeout=60)
        return [step["state"] for step in answer.json()["steps"]]

    def _send(self, server: str, path: str, body: object, key: str = "") -> dict[str, Any]:
        headers = {**self._headers, "Idempotency-Key": key}
        answer = requests.post(f"{server}{API}/{path}", json=body, headers=headers, timeout=60)
        assert answer.ok, answer.text
        return dict(answer.json())


@pytest.fixture
def desk(sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path) -> Iterator[Desk]:
    cluster = shared_cluster()
    with cluster.database() as name, ExitStack() as stack:
        servers = []
        for seconds in (AHEAD, BEHIND):
            directory = tmp_path / str(seconds)
            directory.mkdir()
            command = Command(directory, proxy.url)
            command.config.write_text(f'[state]\ndatabase = "{cluster.url(name)}"\n')
            command.environ |= {"STATE_DIRECTORY": str(directory / "state"), **clock_ahead(seconds)}
            _, _, address = stack.enter_context(serving(command, "serve", "--port", "0"))
            servers.append(address)
        yield Desk(*servers, session(sandbox.url, username="consortium_staff"))


@pytest.mark.parametrize("sender", ["ahead", "behind"])
def test_a_removal_that_comes_in_late_is_not_sent_twice(desk: Desk, proxy: FaultProxy, sender: str) -> None:
    first, second = (desk.ahead, desk.behind) if sender == "ahead" else (desk.behind, desk.ahead)
    proxy.decide = lambda call: Fault.HELD_REQUEST if call.method == NEW_GROUP else Fault.NONE
    change = desk.apply(first, desk.plan(first, "remove", 1052))
    proxy.decide = lambda call: Fault.NONE
    assert desk.states(second, change["id"])[0] == "sending"
    again = desk.apply(second, desk.plan(second, "remove", 1052))
    assert again["steps"][0]["state"] == "not done"
    proxy.let_go()
    assert desk.states(second, change["id"])[0] == "done"
    assert desk.states(first, change["id"])[0] == "done"
    assert proxy.seen.count(NEW_GROUP) == 1


def test_a_sender_that_is_behind_knows_its_own_change(desk: Desk, proxy: FaultProxy) -> None:
    proxy.decide = lambda call: Fault.DROP_ANSWER if call.method == NEW_GROUP else Fault.NONE
    change = desk.apply(desk.behind, desk.plan(desk.behind, "remove", 1052))
    assert change["steps"][0]["state"] == "done"


def test_plans_outlive_a_plan_of_a_server_that_is_ahead(desk: Desk) -> None:
    plan = desk.plan(desk.behind, "lead", 1052)
    desk.plan(desk.ahead, "lead", 1002)
    assert desk.apply(desk.ahead, plan)["done"]
