"""``evergreen-groups results``, after the reports of two nights."""

from __future__ import annotations

import json
from pathlib import Path

from openpyxl import load_workbook
from support.command import Command
from support.follow_ups import draft, save
from support.gateways import gateway_of
from support.moved_nights import move_back

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State


def test_without_a_recorded_run(command: Command) -> None:
    assert command("results").stdout == "The report hasn't run yet.\n"
    assert json.loads(command("results", "--json").stdout)["months"] == []


def test_as_text_json_and_spreadsheet(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    assert command("-q", "report", "--history").returncode == 0
    with gateway_of(sandbox.url, "consortium_staff") as gateway, State(tmp_path / "state") as state:
        listed = json.loads(command("follow-ups", "--json").stdout)["reports"][0]["groups"]
        save(state, *(draft(one["group"]) for one in listed), url=gateway.url)
        move_back(state.database, sandbox, 70)
    assert command("-q", "report", "--history").returncode == 0
    document = json.loads(command("results", "--json").stdout)
    assert document["kind"] == "results"
    for name in ("weeks", "months"):
        assert sum(one["contacted"] for one in document[name] if one["library"] is None) == len(listed)
    text = command("results").stdout
    assert f"  Families contacted: {len(listed)}\n" in text
    file = tmp_path / "results.xlsx"
    assert command("results", "--xlsx", str(file)).returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_workbook(file).sheetnames == ["Months", "Weeks"]
    assert command("results", "--json", "--xlsx", str(file)).returncode == 2
    assert json.loads(command("results", "--report", "none", "--json").stdout)["months"] == []
