"""The status of the last run: the recorded data, and what `status` reports."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.state_files import reporting, write_last_run

from evergreen_groups import exit_status
from evergreen_groups.cli.application import run
from evergreen_groups.state import RunOutcome, RunStatus, State, read_run_status, write_run_status
from evergreen_groups.state.database import FILE_NAME
from evergreen_groups.state.files import REPORT_LOCK

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set ``NOW`` per test: pytest may have imported this file a quarter of an hour earlier."""
    monkeypatch.setitem(globals(), "NOW", datetime.now(UTC))


@pytest.fixture
def status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def ask(*words: str) -> tuple[int, str]:
        ended_with = run(["status", "--state-directory", str(tmp_path), *words])
        return ended_with, capsys.readouterr().out

    return ask


Ask = Callable[..., tuple[int, str]]


def ended(hours_ago: float = 1, **fields: object) -> RunStatus:
    finished = NOW - timedelta(hours=hours_ago)
    values = {"outcome": RunOutcome.DONE, "exit_code": 0, "groups": 1_234, "members": 4_321, **fields}
    return RunStatus(started=finished - timedelta(seconds=12.34), finished=finished, **values)  # type: ignore[arg-type]


def leave_a_note(directory: Path, since: datetime, start_tick: int) -> None:
    """Leave in the lock what a killed run leaves."""
    note = {"pid": os.getpid(), "since": since.isoformat(), "start_tick": start_tick}
    (directory / REPORT_LOCK).write_text(json.dumps(note))


@pytest.mark.parametrize(
    "written",
    [
        ended(),
        ended(outcome=RunOutcome.FAILED, exit_code=4, error="UnreachableError", groups=None, members=None),
        ended(outcome=RunOutcome.PARTIAL, exit_code=7),
    ],
)
def test_what_is_written_is_read_again(state: State, written: RunStatus) -> None:
    write_run_status(state.database, ended(hours_ago=30))
    write_run_status(state.database, written)
    assert read_run_status(state.database) == written
    assert written.seconds == 12.3
    assert set(written.document()) == {
        "version", "outcome", "started", "finished", "seconds", "groups", "members", "exit_code", "error"
    }  # fmt: skip


def none_yet(directory: Path) -> str:
    return (
        f"No scheduled run has ended yet (looked in {directory / FILE_NAME}). Under systemd, start one: "
        "systemctl start evergreen-groups-report\n"
    )


def test_no_run_yet(tmp_path: Path, status: Ask) -> None:
    assert status() == (exit_status.STALE, none_yet(tmp_path))
    ended_with, text = status("--json")
    assert ended_with == exit_status.STALE
    assert json.loads(text) == {
        "exit_status": exit_status.STALE,
        "verdict": "never run",
        "age_seconds": None,
        "last_run": None,
        "last_manual_run": None,
        "under_way": None,
        "killed": None,
        "held_mails": 0,
    }


def test_a_run_that_went_well(tmp_path: Path, status: Ask) -> None:
    write_last_run(tmp_path, ended(hours_ago=3))
    ended_with, text = status()
    assert ended_with == exit_status.DONE
    assert re.fullmatch(
        r"Last run: done, ended \d+ [A-Z][a-z]+ \d{4}, \d\d:\d\d \(3 hours ago\), took 12\.3 s; "
        r"groups listed: 1,234, members: 4,321\.\n",
        text,
    )
    ended_with, text = status("--json")
    told = json.loads(text)
    assert (ended_with, told["exit_status"], told["verdict"]) == (0, 0, "done")
    assert 3 * 3600 <= told["age_seconds"] < 3 * 3600 + 600
    assert told["last_run"] == ended(hours_ago=3).document()


@pytest.mark.parametrize(
    ("hours", "words", "verdict", "says"),
    [
        (25, (), "done", ""),
        (27, (), "too old", "Too old"),
        (27, ("--max-age", "30"), "done", ""),
        (-0.05, (), "done", ""),  # clocks differ a little
        (-48, (), "in the future", "in the future"),
    ],
)
def test_the_age_of_the_last_run(
    tmp_path: Path, status: Ask, hours: float, words: tuple[str, ...], verdict: str, says: str
) -> None:
    write_last_run(tmp_path, ended(hours_ago=hours))
    ended_with, text = status(*words)
    assert ended_with == (exit_status.DONE if verdict == "done" else exit_status.STALE)
    assert [word for word in ("Too old", "in the future") if word in text] == [says] * bool(says)
    assert json.loads(status(*words, "--json")[1])["verdict"] == verdict
    if hours < -1:
        leave_a_note(tmp_path, NOW, start_tick=1)  # a run that began, by the clock, before the last one did
        assert json.loads(status("--json")[1])["verdict"] == "killed"


@pytest.mark.parametrize(
    ("outcome", "exit_code", "error", "says"),
    [
        (RunOutcome.FAILED, exit_status.LOGIN, "LoginRefusedError", "Exit status 5: login refused"),
        (RunOutcome.FAILED, exit_status.DEADLINE, "DeadlineError", "Exit status 9: not finished before the deadline"),
        (RunOutcome.PARTIAL, exit_status.UNSENT, None, "Exit status 8: report written, but a mail couldn't be sent"),
        (RunOutcome.FAILED, 99, "OfTheFutureError", "Exit status 99: ? (OfTheFutureError)"),
    ],
)
def test_a_run_that_did_not_go_well(
    tmp_path: Path, status: Ask, outcome: RunOutcome, exit_code: int, error: str | None, says: str
) -> None:
    write_last_run(tmp_path, ended(outcome=outcome, exit_code=exit_code, error=error))
    ended_with, text = status()
    assert ended_with == exit_code
    assert says in text
    assert json.loads(status("--json")[1])["verdict"] == outcome.value


def test_a_run_that_was_killed(tmp_path: Path, status: Ask) -> None:
    leave_a_note(tmp_path, NOW, start_tick=1)
    assert status()[0] == exit_status.STALE
    assert f"{none_yet(tmp_path)}A later run was killed (process" in status()[1]
    write_last_run(tmp_path, ended(hours_ago=2))
    ended_with, text = status()
    assert ended_with == exit_status.STALE
    assert "A later run was killed (" in text
    told = json.loads(status("--json")[1])
    assert (told["verdict"], told["killed"]["pid"], told["under_way"]) == ("killed", os.getpid(), None)


def test_a_run_that_was_killed_after_it_had_told_how_it_went(tmp_path: Path, status: Ask) -> None:
    last = ended()
    write_last_run(tmp_path, last)
    leave_a_note(tmp_path, last.started, start_tick=1)
    assert status()[0] == exit_status.DONE
    assert "killed" not in status()[1]


def test_a_run_that_is_under_way(tmp_path: Path, status: Ask) -> None:
    write_last_run(tmp_path, ended(hours_ago=5))
    with reporting(tmp_path):
        ended_with, text = status()
        told = json.loads(status("--json")[1])
    assert ended_with == exit_status.DONE
    assert f"A run is in progress (process {os.getpid()}, since " in text
    under_way = told["under_way"]
    assert (under_way["host"], under_way["pid"]) == (socket.gethostname(), os.getpid())
    assert (told["killed"], told["verdict"]) == (None, "done")
    assert "under way" not in status()[1]


class TestManualRuns:
    """Manual runs are listed next to the scheduled run and never replace it."""

    @staticmethod
    def write(directory: Path, found: RunStatus) -> None:
        with State(directory) as state:
            write_run_status(state.database, found, manual=True)

    def test_a_later_one_is_mentioned_and_does_not_count(self, tmp_path: Path, status: Ask) -> None:
        write_last_run(tmp_path, ended(30))
        self.write(tmp_path, ended(1, outcome=RunOutcome.FAILED, exit_code=4))
        ended_with, text = status()
        assert ended_with == exit_status.STALE
        assert "Last run: done" in text
        assert "Last manual run (doesn't count): failed, ended" in text
        document = json.loads(status("--json")[1])
        assert document["last_run"]["exit_code"] == 0
        assert document["last_manual_run"]["exit_code"] == 4

    def test_an_earlier_one_is_no_news(self, tmp_path: Path, status: Ask) -> None:
        write_last_run(tmp_path, ended(1))
        self.write(tmp_path, ended(2))
        ended_with, text = status()
        assert (ended_with, "manual" in text) == (exit_status.DONE, False)
