"""``evergreen-groups follow-ups``, after the report of a night."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.command import Command
from support.follow_ups import draft, save
from support.gateways import gateway_of

from evergreen_groups.follow_up import How, What
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State

SECRET = "SECRET note"


def told(command: Command, *words: str) -> str:
    done = command(*words)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def report_of(command: Command, *words: str) -> dict[str, Any]:
    document = json.loads(told(command, "follow-ups", "--json", *words))
    assert document["kind"] == "follow-ups-of-reports"
    (report,) = document["reports"]
    return dict(report)


def test_without_a_recorded_run(command: Command) -> None:
    assert told(command, "follow-ups") == "The report hasn't run yet.\n"
    assert report_of(command)["groups"] == []


def test_listed_as_text_and_json(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    told(command, "-q", "report", "--history")
    first, second, *others = [one["group"] for one in report_of(command)["groups"]]
    with State(tmp_path / "state") as state:
        entries = draft(first, What.PROMISED, note=SECRET), draft(second, What.CLOSED)
        save(state, *entries, url=gateway_url(sandbox))
    text = told(command, "follow-ups")
    assert f"To do: {len(others)}\n" in text
    assert ", by phone · Promised to pay" in text
    assert SECRET not in text
    due = told(command, "follow-ups", "--due")
    assert "Waiting: 1\nClosed: 1\n" in due
    assert f"Group {first} " not in due
    assert f"Group {others[0]} " in due
    found = report_of(command, "--due")
    assert [one["group"] for one in found["groups"]] == others
    assert found["counts"] == {"to-do": len(others), "waiting": 1, "closed": 1}
    assert SECRET in json.dumps(report_of(command))


@pytest.mark.parametrize("language", ["C", "fr_CA", "es", "cs"])
def test_it_fits_eighty_columns(command: Command, sandbox: Sandbox, tmp_path: Path, language: str) -> None:
    told(command, "-q", "report", "--history")
    with State(tmp_path / "state") as state:
        remind_on = state.database.now().date() + timedelta(300)
        longest = (What.PROMISED, What.CONTACTED, What.NO_ANSWER)
        drafts = (draft(1001 + place, what, how=How.IN_PERSON) for place, what in enumerate(longest))
        save(state, *(replace(one, remind_on=remind_on) for one in drafts), url=gateway_url(sandbox))
    command.environ["LC_ALL"] = f"{language}.UTF-8"
    lines = told(command, "follow-ups").splitlines()
    assert len([line for line in lines if re.match(r" {4}\S", line)]) == len(longest)
    assert [line for line in lines if len(line) > 80] == []


def test_each_named_report(command: Command, sandbox: Sandbox) -> None:
    told(command, "-q", "report", "--history")
    command.config.write_text('[[reports]]\nname = "elm"\noutput = "elm.html"\n')
    assert told(command, "follow-ups").endswith("elm:\nThe report hasn't run yet.\n")
    unnamed, named = json.loads(told(command, "follow-ups", "--json", "--due"))["reports"]
    assert (unnamed["report"], named["report"], named["as_of"], named["groups"]) == ("", "elm", None, [])
    assert unnamed["groups"]


def gateway_url(sandbox: Sandbox) -> str:
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        return gateway.url
