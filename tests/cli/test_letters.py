"""``evergreen-groups letters``: what it writes where, who is left out, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import re
import stat
from pathlib import Path
from typing import Any

import lxml.html
import pytest
from support.command import Command, one_line
from support.follow_ups import draft, save
from support.gateways import gateway_of
from support.letters import CHILDREN, FAMILY, IN_COLLECTIONS, LEAD, change, penalize

from evergreen_groups.follow_up import What
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State


@pytest.fixture
def command(command: Command) -> Command:
    command.environ["EVERGREEN_GROUPS_REPORT_CONTACT"] = "true"
    return command


def document_of(command: Command, *words: str) -> dict[str, Any]:
    done = command("letters", "--json", *words)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def written_to(command: Command, *words: str) -> list[int]:
    return [one["group"] for one in document_of(command, *words)["written"]]


def test_it_needs_contact_data_and_says_so(command: Command) -> None:
    command.environ.pop("EVERGREEN_GROUPS_REPORT_CONTACT")
    done = command("letters")
    assert (done.returncode, done.stdout) == (3, "")
    assert one_line(done.stderr)
    assert "set [report] contact = true" in done.stderr


def test_a_document_for_its_owner_alone_and_who_gets_no_letter(
    command: Command, sandbox: Sandbox, tmp_path: Path
) -> None:
    penalize(sandbox, CHILDREN[0], IN_COLLECTIONS)
    file = tmp_path / "letters.html"
    done = command("letters", "--output", str(file))
    assert (done.returncode, done.stdout) == (0, "")
    assert f"No letter: in collections (group {FAMILY})\n" in done.stderr
    first, *_lines = done.stderr.splitlines()
    assert first == "6 letters cover $158.80 of $290.35"
    assert "No letter: no valid address (group 1003)\n" in done.stderr
    about = "Lindqvist, Åsa · group 1002 · $20.00 of $25.00 in 1 letter\n"
    assert f"{about}  Lindqvist, Björn: $5.00, no valid address\n" in done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    articles = lxml.html.document_fromstring(file.read_text("utf-8")).xpath("//article")
    found = document_of(command)
    assert (found["version"], found["kind"]) == (1, "letters")
    assert len(articles) == len(found["written"]) > 3
    assert {"group": FAMILY, "reason": "in-collections"} in found["left_out"]
    assert {"group": 1003, "patron": 1013, "owed": "31.50", "reason": "no-address"} in found["left_out"]
    covered = {one["group"]: (one["covered"], one["owed"], one["follow_up"]) for one in found["families"]}
    assert (covered[FAMILY], covered[1003]) == (("0.00", "28.10", None), ("0.00", "33.50", None))
    assert command("letters", "-q").stderr == ""


def test_only_groups_whose_follow_up_is_to_do(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    done = command("letters", "--due")
    assert done.returncode == 1
    assert "no report has been recorded yet" in done.stderr
    command("-q", "report", "--history")
    every = written_to(command)
    assert written_to(command, "--due") == every
    with State(tmp_path / "state") as state, gateway_of(sandbox.url, "consortium_staff") as gateway:
        save(state, draft(FAMILY, What.PROMISED), url=gateway.url)
    assert written_to(command, "--due") == [group for group in every if group != FAMILY]
    families = document_of(command)["families"]
    assert [one["group"] for one in families if one["follow_up"] == "waiting"] == [FAMILY]
    assert f"No letter: waiting for a promise or reminder (group {FAMILY})\n" in command("letters").stderr
    assert FAMILY not in written_to(command)
    included = command("letters", "--include", str(FAMILY)).stderr
    assert re.search("  Waiting: .*, by phone · Promised to pay\n", included)
    assert f"(group {FAMILY})" not in included


def test_only_a_library_and_only_its_own_patrons(command: Command, sandbox: Sandbox) -> None:
    assert FAMILY in written_to(command, "--org", "HARBOR")
    assert FAMILY not in written_to(command, "--org", "MILL")
    change(sandbox, LEAD, home_ou=12)
    left_out = document_of(command, "--org", "HARBOR")["left_out"]
    assert {"group": FAMILY, "reason": "withheld"} in left_out


def test_a_mail_merge_file(command: Command, sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox._store.insert("aus", {"usr": LEAD, "name": "circ.collections.exempt", "value": "true"})
    command("letters", "--output", str(tmp_path / "people.csv"), "--min-own", "4.90")
    done = command("letters", "--format", "csv", "--collections", "--min-own", "4.90")
    assert f"People left out: exempt from collections (group {FAMILY})\n" in done.stderr
    text = (tmp_path / "people.csv").read_text("utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["own_fines"] for row in rows if row["group"] == str(FAMILY)} == {"4.90"}
    assert text == command("letters", "--format", "csv", "--min-own", "4.90", "--owing-since", "1").stdout
    found = document_of(command, "--format", "csv", "--collections", "--min-own", "4.90")
    assert found["kind"] == "people-who-owe"
    about = {"group": FAMILY, "patron": LEAD, "owed": "4.90", "reason": "exempt-from-collections"}
    assert about in found["left_out"]
    assert LEAD not in [one["patron"] for one in found["written"]]


def test_a_letter_to_the_leads_address_this_once(command: Command) -> None:
    done = command("letters", "--lead-address", "1013")
    assert done.stderr.startswith("8 letters cover $213.65 of $290.35\n")
    assert "Ibáñez Ortega, Rosario · group 1003 · $31.50 of $33.50 in 1 letter\n" in done.stderr
    sheets = lxml.html.document_fromstring(done.stdout).xpath("//article")
    (sheet,) = (one for one in sheets if "$31.50" in one.text_content())
    assert sheet.xpath("string(.//address/span[1])") == "Joaquín Ibáñez Ortega"
    assert {"group": 1003, "contact": 1013, "owed": "31.50"} not in document_of(command)["written"]


def test_the_smallest_debt_to_write_about(command: Command) -> None:
    assert 1003 not in written_to(command)
    assert {"group": 1003, "contact": 1012, "owed": "2.00"} in document_of(command, "--min-own", "2")["written"]
    assert written_to(command, "--min-own", "23.36").count(FAMILY) == 0


def test_one_letter_as_it_would_be(command: Command, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[[letters.texts]]\nnumber = 2\nopening = "Again"\n')
    for words, again in ((("--preview",), False), (("--preview", "2"), True)):
        done = command("--config", str(config), "letters", *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("<article") == 1
        assert ("Again" in done.stdout) is again
    refused = command("letters", "--preview", "--min-own", "5000")
    assert (refused.returncode, "the report has no family to write to" in refused.stderr) == (1, True)


@pytest.mark.parametrize("words", [("--owing-since", "60"), ("--collections",)])
def test_letters_do_not_take_the_options_of_the_file(command: Command, words: tuple[str, ...]) -> None:
    done = command("letters", *words)
    assert done.returncode == 2
    assert "needs --format csv" in done.stderr


@pytest.mark.parametrize("words", [("--preview",), ("--include", "1001"), ("--lead-address", "1013")])
def test_the_file_does_not_take_the_options_of_letters(command: Command, words: tuple[str, ...]) -> None:
    done = command("letters", "--format", "csv", *words)
    assert (done.returncode, "needs --format html" in done.stderr) == (2, True)
