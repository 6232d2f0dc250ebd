"""A night on which the payments can't be read: the run goes on and says so, and the next one makes up for it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.command import Command
from support.fault_proxy import fault_proxy
from support.follow_ups import draft, save
from support.gateways import gateway_of
from support.moved_nights import move_back
from support.payments import pay

from evergreen_groups.follow_up import What
from evergreen_groups.report import Criteria, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State

pytestmark = pytest.mark.long
SERVICE_FAILS = 500, "osrfMethodException : it failed"


def told(command: Command, group: int) -> tuple[Any, Any, bool]:
    """Return the outcome of a group's promise, what was paid, and whether the list says it is broken."""
    [report] = json.loads(command("follow-ups", "--json").stdout)["reports"]
    [found] = [one for one in report["groups"] if one["group"] == group]
    return found["entries"][-1]["outcome"], found["entries"][-1]["paid"], found["broken"]


def month(command: Command) -> tuple[int, int, int, Any, Any]:
    """Return the sums of all months: contacted, kept, broken; what was paid in 30 days, and at least."""
    months = [one for one in json.loads(command("results", "--json").stdout)["months"] if one["library"] is None]
    [paid] = [one["paid"][0] for one in months if one["contacted"]]
    counts = [sum(one["promises"][name] for one in months) for name in ("kept", "broken")]
    return sum(one["contacted"] for one in months), *counts, paid["contacted"], paid["contacted_at_least"]


def test_the_run_goes_on_and_nothing_false_is_shown(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    with fault_proxy(sandbox.url) as proxy:
        command.environ["EVERGREEN_GROUPS_GATEWAY_URL"] = proxy.url
        with gateway_of(proxy.url, "consortium_staff") as gateway:
            groups = build_report(gateway, Criteria()).groups
        family = next(one for one in groups if one.complete and one.hidden_fines is not None)
        assert command("-q", "report", "--history").returncode == 0
        with State(tmp_path / "state") as state:
            now = state.database.now()
            promise = replace(draft(family.number, What.PROMISED), pay_by=now.date(), amount=Decimal("1.00"))
            save(state, promise, url=proxy.url)
            move_back(state.database, sandbox, 70)
        debtor = next(member for member in family.members if member.own_fines >= 1)
        pay(sandbox, debtor.id, "1.00", at=now - timedelta(60))

        proxy.refuse = lambda call: SERVICE_FAILS if call.method == "open-ils.pcrud.search.mp.atomic" else None
        done = command("report", "--history")
        assert done.returncode == 0
        assert "the payments since promises couldn't be read: " in done.stderr
        assert "the payments of listed families couldn't be read: " in done.stderr
        assert str(debtor.id) not in done.stderr
        assert told(command, family.number) == (None, None, False)
        assert month(command) == (1, 0, 0, None, "0.00")

        proxy.heal()
        assert command("report", "--history").returncode == 0
        assert told(command, family.number) == ("kept", "1.00", False)
        assert month(command) == (1, 1, 0, "1.00", "1.00")
