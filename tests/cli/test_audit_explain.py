"""``evergreen-groups audit --explain``: one patron, step by step, for people and for programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.circulators import take_away
from support.command import Command
from support.debts import owe
from support.fault_proxy import Call, FaultProxy

from evergreen_groups.sandbox import Sandbox

BARCODE, PATRON = "20000000001030", 1030
NORTH, HARBOR, MILL = 2, 11, 21
STEPS = (
    "1. Penalty for fines",
    "2. Threshold",
    "3. Bills that count",
    "4. Effect of recalculating",
    "5. Penalties now",
    "6. Rule",
)


def document(run: Command, *words: str) -> dict[str, object]:
    done = run("audit", "--explain", BARCODE, "--format", "json", *words)
    assert done.stderr == ""
    read = json.loads(done.stdout)
    assert read["schema"] == "evergreen-groups/block-explanation/1"
    return dict(read)


def test_each_step_in_words(run: Command) -> None:
    done = run("audit", "--explain", BARCODE)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if line in STEPS] == list(STEPS)
    for sentence in (
        "Kowalczyk, Łukasz (20000000001030), MILL, profile Adult, own fines $10.40",
        "     MILL      Adult    none\n",
        "     LAKELAND  Users    $5.01  <-\n",
        "Bills at, above and below LAKELAND count: all libraries",
        "     4 May 2026  overdue materials  MILL     $10.40  yes\n",
        "The bills reach the threshold: recalculating sets PATRON_EXCEEDS_FINES at LAKELAND.",
        "PATRON_EXCEEDS_FINES: set when Evergreen recalculates (audit --fix)",
        "Over the limit: own fines of $10.40 exceed the limit of $5.00.\n   Source of the limit: configuration\n",
        "Evergreen disagrees with the rule until it recalculates.",
        "keep it confidential",
    ):
        assert sentence in done.stdout


def test_what_is_billed_elsewhere_does_not_count(run: Command, sandbox: Sandbox) -> None:
    sandbox._store.insert("pgpt", {"org_unit": MILL, "grp": 1, "penalty": 1, "threshold": "5.00"})
    owe(sandbox, PATRON, (MILL, "4.99"), (HARBOR, "30.00"), (1, "-1.00"))
    words = run("audit", "--explain", BARCODE).stdout
    assert re.search(r" HARBOR +\$30\.00 +no\n", words)
    assert "don't reach the threshold: recalculating removes PATRON_EXCEEDS_FINES at MILL if set." in words
    assert "Total: $3.99\n" in words
    assert "Evergreen disagrees with the rule: see evergreen-groups doctor." in words


def test_the_limit_on_the_command_line_is_the_rule(run: Command) -> None:
    rule = document(run, "--limit", "20.00")["rule"]
    assert rule == {
        "over_limit": False,
        "counted": "10.40",
        "limit": {"amount": "20.00", "comparison": "exceeds", "origin": "configuration"},
    }


def test_no_titles_are_asked_for_and_no_call_is_made_for_others(proxy: FaultProxy, tmp_path: Path) -> None:
    calls: list[Call] = []
    proxy.before_answer = calls.append
    assert Command(tmp_path, proxy.url)("audit", "--explain", BARCODE).returncode == 0
    assert len([call for call in calls if call.method]) <= 40
    assert not [call for call in calls if "search.acp" in call.method or "search.mvr" in call.method]


def test_an_account_that_may_not_see_thresholds_gets_the_status_for_incomplete(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    take_away(sandbox, "VIEW_GROUP_PENALTY_THRESHOLD")
    done = Command(tmp_path, sandbox.url)("audit", "--explain", BARCODE)
    assert done.returncode == 7
    assert "Not known: the account lacks VIEW_GROUP_PENALTY_THRESHOLD." in done.stdout
    assert "4. Effect of recalculating\n   not known\n" in done.stdout


@pytest.mark.parametrize("words", [["--fix"], ["--org", "MILL"], ["--format", "csv"], ["--format", "html"]])
def test_options_that_do_not_go_with_it(run: Command, words: list[str]) -> None:
    done = run("audit", "--explain", BARCODE, *words)
    assert (done.returncode, done.stdout) == (2, "")
