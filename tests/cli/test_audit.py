"""``evergreen-groups audit``: formats, files, and the fix that asks for confirmation."""

from __future__ import annotations

import csv
import io
import json
import re
import stat
from pathlib import Path

import pytest
from support.change_ids import listed_id
from support.command import Command
from support.family_moves import RETRIEVE, lacking
from support.fault_proxy import Fault, FaultProxy
from support.recalculations import METHOD, penalties

from evergreen_groups.audit import FindingKind
from evergreen_groups.sandbox import Sandbox

pytestmark = pytest.mark.long

HOSTILE = "=<script>alert('x')</script>\u202e\x1b[31m"


def test_no_name_can_do_harm_in_any_format(run: Command, sandbox: Sandbox) -> None:
    sandbox._store.update("au", 1030, {"family_name": HOSTILE})
    page = run("audit", "--format", "html").stdout
    assert page.count("<script") == 1
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert not {"\x1b", "\u202e"} & set(run("audit").stdout)
    rows = csv.DictReader(io.StringIO(run("audit", "--format", "csv").stdout))
    assert next(row["member_name"] for row in rows if row["member_id"] == "1030").startswith("'=")
    document = json.loads(run("audit", "--format", "json").stdout)
    assert HOSTILE in document["people"][0]["member"]["name"]


def test_an_audit_that_finds_nothing_says_so(run: Command) -> None:
    words = ("audit", "--org", "BUS")
    assert all("Nothing found." in run(*words, "--format", name).stdout for name in ("table", "html"))
    assert json.loads(run(*words, "--format", "json").stdout)["people"] == []
    assert run(*words, "--format", "csv").stdout.count("\n") == 1


def test_the_audit_in_words(run: Command) -> None:
    done = run("audit")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Over the limit, not blocked: Evergreen hasn't recalculated (3)" in done.stdout
    assert "Kowalczyk, Łukasz (20000000001030), MILL, group 1007" in done.stdout
    assert "Group 1007: 2 members; no lead" in done.stdout


def test_a_file_is_readable_by_its_owner_alone_and_its_ending_chooses_the_format(run: Command, tmp_path: Path) -> None:
    for ending, begins in (("html", "<!DOCTYPE html>"), ("json", "{"), ("csv", "kind,")):
        target = tmp_path / f"audit.{ending}"
        done = run("audit", "--output", str(target))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        assert target.read_text(encoding="utf-8").startswith(begins)


def test_the_limit_and_the_library_on_the_command_line(run: Command) -> None:
    document = json.loads(run("audit", "--limit", "9.99", "--org", "MILL", "--format", "json").stdout)
    assert document["criteria"] == {"orgs": ["MILL"], "limit": {"amount": "9.99", "comparison": "exceeds"}, "top": None}
    over = [found["member"]["id"] for found in document["people"] if found["kind"] == FindingKind.NOT_BLOCKED.value]
    assert over == [1030]


def test_what_is_to_be_kept_is_remembered(run: Command) -> None:
    done = run("audit", "--keep", "1006", "--keep", "1016")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Not listed again until the members change: group 1006, group 1016." in done.stderr
    assert (
        "Marked to be kept, so not listed: 1006 and 1016. To list them again: audit --list-again."
        in run("audit").stdout
    )
    document = json.loads(run("audit", "--format", "json").stdout)
    assert document["groups_to_keep"] == [1006, 1016]
    assert [found["group"] for found in document["groups"]] == [1007]
    assert "Marks removed: 1 of 1 (group 1016)." in run("audit", "--list-again", "1016").stderr
    page = run("audit", "--format", "html").stdout
    assert ">1016<" in page
    assert ">1006<" not in page


def test_the_work_list_in_every_format(run: Command, sandbox: Sandbox) -> None:
    address = f"{sandbox.url}/evergreen-groups/patrons/1054/group?client=eg&select=1056"
    table = run("audit").stdout
    assert "accidental: high (50 of 100). Evidence: 1 adult shares nothing with another adult (+35)" in table
    assert "Suggested split. Stay: Pine Hill School, Office; Sandoval, Greta. Leave: Petrov, Omar." in table
    assert address in table
    rows = {row["member_id"]: row for row in csv.DictReader(io.StringIO(run("audit", "--format", "csv").stdout))}
    assert [rows[id]["split"] for id in ("1054", "1055", "1056")] == ["stay", "stay", "out 1"]
    assert (rows["1056"]["confidence"], rows["1056"]["page"]) == ("high (50)", address)
    assert rows["1056"]["evidence"].startswith("1 adult shares nothing with another adult (+35); ")
    document = json.loads(run("audit", "--format", "json").stdout)
    (school,) = (one for one in document["groups"] if one["group"] == 1016)
    assert school["confidence"]["evidence"][0]["code"] == "strangers"
    assert (school["split"], school["page"]) == ({"stay": [1054, 1055], "leave": [[1056]]}, address)
    assert school["reason_codes"] == ["stranger"]
    page = run("audit", "--format", "html").stdout
    assert re.search(r'href="[^"]*/patrons/1054/group\?client=eg2?&amp;select=1056">1016</a>', page)


def test_a_threshold_is_one_line_in_every_format_and_nothing_to_fix(run: Command, sandbox: Sandbox) -> None:
    """1030 owes 12.00. 1036 and 1034 owe less than Evergreen's 10.00, so Evergreen doesn't block them."""
    (threshold,) = sandbox._store.rows("pgpt", {"penalty": 1})
    sandbox._store.update("pgpt", threshold["id"], {"threshold": "10.00"})
    table = run("audit").stdout
    assert "Over the limit, not blocked: Evergreen's threshold is higher (1)\n" in table
    line = "2 patrons: Evergreen blocks at $10.00 (Users at LAKELAND); limit: more than $5.00"
    assert table.count(line) == 1
    document = json.loads(run("audit", "--format", "json").stdout)
    (found,) = document["thresholds"]
    assert (found["threshold"], found["profile"], found["patron_count"]) == ("10.00", "Users", 2)
    lines = map(json.loads, run("audit", "--format", "jsonl").stdout.splitlines())
    assert [one for one in lines if one.get("kind") == "threshold-above-limit"] == [found]
    rows = csv.DictReader(io.StringIO(run("audit", "--format", "csv").stdout))
    (row,) = (row for row in rows if row["kind"] == "threshold-above-limit")
    assert (row["threshold"], row["patron_count"], row["member_id"]) == ("10.00", "2", "")
    page = run("audit", "--format", "html").stdout
    assert page.count("Evergreen blocks at $10.00 (Users at LAKELAND)") == 1
    over = [one["member"]["id"] for one in document["people"] if one["kind"] == "over-limit-not-blocked"]
    assert over == [1030]
    plan = run("audit", "--fix", "--dry-run").stderr
    assert "Refresh the penalties of 2 patrons" in plan  # the other one has a stale block
    assert "20000000001030" in plan
    assert "20000000001036" not in plan


def test_adults_on_the_command_line(run: Command) -> None:
    document = json.loads(run("audit", "--max-adults", "2", "--format", "json").stdout)
    found = [one for one in document["groups"] if one["kind"] == "several-adults"]
    assert [one["group"] for one in found] == [1005, 1014, 1016]
    assert found[0]["reasons"] == ["4 adults, more than 2"]


def test_an_account_that_cannot_see_everybody_gets_the_status_for_incomplete(sandbox: Sandbox, tmp_path: Path) -> None:
    done = Command(tmp_path, sandbox.url, "north_manager")("audit")
    assert done.returncode == 7
    assert "Incomplete" in done.stdout


def test_a_dry_run_or_a_no_changes_nothing(run: Command) -> None:
    for words, answer in ((["--dry-run"], ""), ([], "n\n")):
        done = run("audit", "--fix", *words, answer=answer)
        assert done.returncode == 0
        assert "Refresh the penalties of 4 patrons" in done.stderr
        assert done.stderr.endswith("Nothing was changed.\n")
        assert done.stdout == ""  # the other findings have nothing to do with it
    assert json.loads(run("audit", "--format", "json").stdout)["kinds"][0]["count"] == 3


def test_fixing_after_a_yes_and_without_being_asked(run: Command) -> None:
    done = run("audit", "--fix", answer="y\n")
    assert done.returncode == 0
    assert "Findings resolved: 4 of 4." in done.stderr
    again = run("audit", "--fix", "--yes", "--format", "json")
    assert [kind["count"] for kind in json.loads(again.stdout)["kinds"]] == [0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 1]
    assert again.stderr == "No penalties to refresh.\n"
    journal = run("journal", listed_id(run, 1)).stdout
    assert re.search(r"Refresh penalties, 4 of 4 done", journal)
    assert "patron 1042: penalties set by Evergreen: 1, then 0 (done" in journal


@pytest.mark.parametrize("reason", ["lost", "hidden"])
def test_a_recalculation_that_came_to_nothing_is_in_the_exit_status(
    proxy: FaultProxy, tmp_path: Path, reason: str
) -> None:
    if reason == "lost":
        proxy.decide = lambda call: (
            Fault.DROP_REQUEST if call.method == METHOD and call.parameters[1] == 1030 else Fault.NONE
        )
        says = "not known yet: the result will be known by"
    else:
        proxy.answer = lambda call: (
            lacking("VIEW_USER") if call.method == RETRIEVE and call.parameters[1] == 1030 else None
        )
        says = "not done: this patron is no longer visible"
    done = Command(tmp_path, proxy.url)("audit", "--fix", "--yes")
    assert done.returncode == 1
    assert "Findings resolved: 3 of 4." in done.stderr
    assert says in done.stderr


def test_whom_a_recalculation_would_harm_is_left_out_and_said(run: Command, sandbox: Sandbox) -> None:
    sandbox._store.insert("ausp", {"usr": 1042, "standing_penalty": 1, "org_unit": 1, "staff": 1})
    done = run("audit", "--fix", "--yes")
    assert done.returncode == 0
    assert "not done: staff set a block that recalculating might remove" in done.stderr
    assert (1, 1) in penalties(sandbox, 1042)


@pytest.mark.parametrize("words", [["--yes"], ["--dry-run"], ["--fix", "--format", "csv"], ["--keep", "1", "--fix"]])
def test_options_that_do_not_go_together(run: Command, words: list[str]) -> None:
    done = run("audit", *words)
    assert done.returncode == 2
    assert done.stdout == ""


def test_the_ils_own_thresholds_from_the_configuration(run: Command, tmp_path: Path) -> None:
    configuration = tmp_path / "config.toml"
    configuration.write_text('[policy]\nlimit = "ils"\n', encoding="utf-8")
    document = json.loads(run("--config", str(configuration), "audit", "--format", "json").stdout)
    assert document["criteria"]["limit"] is None
    assert [kind["count"] for kind in document["kinds"][:4]] == [3, 0, 1, 0]
    assert "Evergreen: threshold of" in document["people"][0]["reason"]
    assert "as configured for each patron" in run("--config", str(configuration), "audit").stdout


def test_a_file_is_in_the_configured_language_and_the_terminal_in_its_own(run: Command, tmp_path: Path) -> None:
    run.config.write_text('[language]\ndefault = "ar-XB"\n')
    run.environ["LC_ALL"] = "en_US.UTF-8"
    assert run("audit").stdout.startswith("Audit of blocks and groups, ")
    assert '<html lang="ar-XB" dir="rtl"' in run("audit", "--format", "html").stdout
    page, explanation = tmp_path / "audit.html", tmp_path / "explanation.txt"
    run("audit", "--output", str(page))
    assert '<html lang="ar-XB" dir="rtl"' in page.read_text()
    run("audit", "--explain", "20000000001030", "--format", "table", "--output", str(explanation))
    assert "Effect of recalculating" not in explanation.read_text()
    assert "Effect of recalculating" in run("audit", "--explain", "20000000001030").stdout
    assert '"title": "Groups that look accidental"' in run("audit", "--format", "json").stdout


def test_the_first_are_listed_and_the_rest_counted(run: Command) -> None:
    table = run("audit", "--top", "1").stdout
    assert "Over the limit, not blocked: Evergreen hasn't recalculated (3)\n" in table
    assert table.count("; over the limit by ") == 1
    assert "  2 more; list all with " in table
    assert "more; list" not in run("audit").stdout + run("audit", "--top", "0").stdout
    page = run("audit", "--top", "1", "--format", "html").stdout
    assert '<span class="count" data-all="3">3</span>' in page
    assert page.count('<p class="more">') == 2
    document = json.loads(run("audit", "--top", "1", "--format", "json").stdout)
    assert document["criteria"]["top"] == 1
    assert [kind["count"] for kind in document["kinds"]][:4] == [3, 0, 1, 0]
    assert [one["kind"] for one in document["people"]].count("over-limit-not-blocked") == 1
    fixed = run("audit", "--fix", "--yes", "--top", "1")
    assert "  2 more; list all with --output audit.csv or --top 0.\n" in fixed.stdout
    assert "Findings resolved: 4 of 4." in fixed.stderr, "all are fixed regardless of who is listed"


def test_json_lines_are_the_document_line_by_line(run: Command, tmp_path: Path) -> None:
    document = json.loads(run("audit", "--format", "json").stdout)
    target = tmp_path / "audit.jsonl"
    run("audit", "--output", str(target))
    head, *findings = map(json.loads, target.read_text("utf-8").splitlines())
    assert head["schema"] == "evergreen-groups/audit-lines/1"
    assert head["kinds"] == document["kinds"]
    assert findings == [*document["people"], *document["groups"]]
