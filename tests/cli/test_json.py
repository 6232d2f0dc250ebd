"""``--json``: standard output is one JSON document, as it is described, in English; what people read is elsewhere."""

from __future__ import annotations

import json
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.change_ids import number_of
from support.command import Command, one_line
from support.documents import strict

from evergreen_groups import exit_status

pytestmark = pytest.mark.long

MOVE = ("move", "20000000001014", "--to", "20000000001001")
REFUSED = "shares no surname, address, phone or e-mail with anyone in group 1001"


@pytest.fixture
def run(tmp_path: Path) -> Command:
    command = Command(tmp_path, None)
    command.environ |= {"LC_ALL": "es.UTF-8"}  # JSON is English all the same
    return command


@pytest.fixture
def there(tmp_path: Path) -> str:
    return f"--sandbox={tmp_path / 'try.sandbox'}"


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def described(done: subprocess.CompletedProcess[str], name: str) -> dict[str, Any]:
    """The document, after it was held against its schema."""
    schema = resources.files("evergreen_groups.hooks").joinpath("schemas", f"{name}.schema.json")
    found = document(done)
    jsonschema.validate(found, strict(json.loads(schema.read_text("utf-8"))))
    return found


@pytest.mark.parametrize(
    "words",
    [
        MOVE,
        ("remove", "20000000001033"),
        ("merge", "--from", "20000000001052", "--to", "20000000001007"),
        ("lead", "20000000001002"),
    ],
)
def test_a_plan_that_is_only_shown(run: Command, words: tuple[str, ...]) -> None:
    done = run("--sandbox", *words, "--dry-run", "--json")
    assert (done.returncode, done.stderr) == (exit_status.DONE, "")
    plan = described(done, "plan")
    assert (plan["action"], plan["id"]) == (words[0], None)


def test_a_change_that_is_made_listed_and_taken_back(run: Command, there: str) -> None:
    made = described(run(there, *MOVE, "--yes", "--json"), "change")
    assert (number_of(made["id"]), made["done"], made["own"], made["account"]) == (1, True, True, "consortium_staff")
    assert described(run(there, "journal", "--json"), "changes")["changes"] == [made]
    assert described(run(there, "journal", made["id"], "--json"), "change") == made
    undone = described(run(there, "undo", made["id"], "--yes", "--json"), "change")
    assert (undone["action"], undone["undoes"]) == ("undo", made["id"])
    again = run(there, "undo", made["id"], "--yes", "--json")
    assert (again.returncode, again.stdout) == (exit_status.FAILED, "")
    assert f"el cambio {made['id']} ya está deshecho" in again.stderr


@pytest.mark.parametrize("answer", ["", "n\n"])
def test_plan_and_question_are_on_standard_error(run: Command, answer: str) -> None:
    done = run("--sandbox", *MOVE, "--json", answer=answer)
    assert "20000000001014" in done.stderr
    if answer:
        assert (done.returncode, document(done)["kind"]) == (exit_status.DONE, "plan")
        assert REFUSED in document(done)["warnings"][0]["text"]
    else:
        assert (done.returncode, done.stdout) == (exit_status.USAGE, "")
        assert "--yes" in done.stderr.splitlines()[-1]


def test_a_batch(run: Command, tmp_path: Path, there: str) -> None:
    file = tmp_path / "changes.csv"
    file.write_text("action,barcode,target\nmove,20000000001014,20000000001001\njump,1,\nmove,20000000009999,1\n")
    wrong = run(there, "batch", str(file), "--yes", "--json")
    assert wrong.returncode == exit_status.FAILED
    assert one_line(wrong.stderr)
    assert document(wrong)["problems"] == [
        {"line": 3, "problem": "the action must be one of: move, remove, merge, lead"},
        {"line": 4, "problem": "no visible patron has this barcode"},
        {"line": 4, "problem": "target: no visible patron has this barcode"},
    ]
    file.write_text("action,barcode,target\nmove,20000000001014,20000000001001\n")
    assert described(run(there, "batch", str(file), "--dry-run", "--json"), "plan")["action"] == "batch"
    assert described(run(there, "batch", str(file), "--yes", "--json"), "change")["done"]


@pytest.mark.parametrize(
    "words",
    [
        ("report",),
        ("show", "20000000001013"),
        ("check", "20000000001013"),
        ("audit",),
        ("audit", "--explain", "20000000001034"),
    ],
)
def test_it_is_the_same_as_the_format(run: Command, there: str, words: tuple[str, ...]) -> None:
    short, long = run(there, *words, "--json"), run(there, *words, "--format", "json")
    assert set(document(short)) == set(document(long))
    both = run(there, *words, "--json", "--format", "csv" if words[0] in ("report", "audit") else "table")
    assert (both.returncode, both.stdout) == (exit_status.USAGE, "")


def test_what_is_kept(run: Command, there: str, tmp_path: Path) -> None:
    assert document(run(there, "state", "check", "--json"))["kept"] == {}
    assert run(there, *MOVE, "--yes").returncode == exit_status.DONE
    found = document(run(there, "state", "check", "--json"))
    assert (found["kind"], found["kept"]["journal"]["rows"], found["open_steps"]) == ("state", 1, 0)
    backup = tmp_path / "backup.sqlite3"
    written = document(run(there, "state", "backup", str(backup), "--json"))
    assert (written["kind"], written["file"]) == ("state-backup", str(backup))
    other = f"--sandbox={tmp_path / 'other.sandbox'}"
    assert document(run(other, "state", "restore", str(backup), "--json"))["rows"] == written["rows"]
    assert document(run(there, "state", "upgrade", "--json"))["kind"] == "state-upgrade"
    assert document(run(there, "state", "forget", "1014", "--json"))["removed"]["steps"] == 1
