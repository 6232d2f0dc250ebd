"""Runs started at a terminal: they make the report, but later reports aren't compared with them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.command import Command
from support.state_files import count_runs, last_run
from support.terminals import on_a_terminal

pytestmark = pytest.mark.long


def at_a_terminal(command: Command, *words: str) -> str:
    """Run the command with a terminal as standard error, and return the terminal's output."""
    status, said = on_a_terminal(command, *words)
    assert status == 0
    return said


def test_it_is_not_recorded_unless_it_says_so(command: Command, tmp_path: Path) -> None:
    state, page = tmp_path / "state", tmp_path / "report.html"
    command.config.write_text(f'[report]\noutput = "{page}"\n')
    said = at_a_terminal(command, "report")
    assert "tonight's report won't be compared with it" in said
    assert page.exists(), "what is configured is written"
    assert re.search(rf"written: {page} \([0-9]+ groups\)\r\n$", said), "and it is said in one line"
    assert last_run(state) is None
    assert command("report").returncode == 0  # as the timer does
    assert count_runs(state) == 1
    night = last_run(state)
    at_a_terminal(command, "report")
    assert (count_runs(state), last_run(state)) == (1, night)
    assert "compared with" not in at_a_terminal(command, "report", "--history")
    assert (count_runs(state), last_run(state)) == (2, night), "it is compared with, and is not the scheduled one"
    at_a_terminal(command, "report", "--scheduled")
    assert last_run(state) != night, "whoever makes up for a night can say so"


def test_no_summary_if_quiet_or_without_a_terminal(command: Command, tmp_path: Path) -> None:
    page = str(tmp_path / "report.html")
    assert at_a_terminal(command, "--quiet", "report", "--output", page) == ""
    assert "written:" not in command("report", "--output", page).stderr
    assert at_a_terminal(command, "audit", "--output", page).endswith(f"written: {page}\r\n")


def test_a_directory_is_summed_up(command: Command, tmp_path: Path) -> None:
    said = at_a_terminal(command, "report", "--split", "library", "--output", str(tmp_path / "reports"))
    assert re.search(r"written: .*/reports \([0-9]+ groups, [0-9]+ libraries and [0-9]+ files\)", said)


def test_a_run_without_a_terminal_can_be_a_manual_one(command: Command, tmp_path: Path) -> None:
    assert command("report", "--manual").returncode == 0
    assert (count_runs(tmp_path / "state"), last_run(tmp_path / "state")) == (0, None)
    assert "Last manual run (doesn't count): done" in command("status").stdout


@pytest.mark.long
def test_hours_between_runs_are_those_of_the_nights(command: Command, tmp_path: Path) -> None:
    command.config.write_text(f'[report]\noutput = "{tmp_path / "report.json"}"\nhours_between_runs = 12\n')
    at_a_terminal(command, "report")
    assert command("report").returncode == 0
    assert count_runs(tmp_path / "state") == 1, "tonight's is made all the same"
    (tmp_path / "report.json").unlink()
    at_a_terminal(command, "report")
    assert (tmp_path / "report.json").exists(), "who asks for one gets it"
