"""A run that is killed, or finds its history locked, leaves everything usable behind it.

``state/test_full_disk.py`` has the runs without room on the disk.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from support.command import Command
from support.gateways import environ_of
from support.killable import KILLED, Killable, Run, World
from support.state_files import count_runs, last_run, reporter

from evergreen_groups import exit_status
from evergreen_groups.client import Client
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import RunOutcome
from evergreen_groups.state.database import FILE_NAME


@pytest.fixture(scope="module")
def killable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killable]:
    with Killable(Command(tmp_path_factory.mktemp("home"), None).environ) as killable:
        yield killable


class Nights:
    """A library with a report of last night; since then a family has got another member, who owes 0.35."""

    def __init__(self, killable: Killable, client: Client, directory: Path, url: str) -> None:
        self._killable = killable
        self._directory = directory
        self.environ = environ_of(url)
        self.state = directory / "night" / "state"
        self.target = directory / "night" / "reports"
        self.target.mkdir(parents=True)
        assert self.run().status == exit_status.DONE
        client.move(["20000000001052"], to="20000000001007").apply()
        self._kept = directory / "kept"
        self.keep()

    def keep(self) -> None:
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(self._directory / "night", self._kept, symlinks=True)

    def again(self) -> None:
        """Go back to what was kept: the morning after the first night."""
        shutil.rmtree(self._directory / "night")
        shutil.copytree(self._kept, self._directory / "night", symlinks=True)

    def run(self, *words: str, kill_at: int | None = None) -> Run:
        return self._killable(
            *("report", "--output", str(self.target / "report.json"), *words),
            environ={**self.environ, "STATE_DIRECTORY": str(self.state)},
            world=World(kill_at=kill_at),
        )

    def report(self) -> Any:
        return json.loads((self.target / "report.json").read_text(encoding="utf-8"))

    def change_of_the_family(self) -> tuple[str, str] | None:
        """Kind and difference in the report that is there; None where it says that they aren't known."""
        report = self.report()
        [change] = [group["change"] for group in report["groups"] if group["group"] == 1002]
        if change is None:
            assert any("aren't known" in note for note in report["notes"])
            return None
        return change["kind"], change["difference"]

    def report_is_new(self) -> bool:
        kept = self._kept / "reports" / "report.json"
        return (self.target / "report.json").read_bytes() != kept.read_bytes()

    def recorded(self) -> int:
        return count_runs(self.state) or 0

    def told(self) -> bool:
        return last_run(self.state) != last_run(self._kept / "state")

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.target.iterdir() if path.name != "report.json")

    def check_usable(self) -> None:
        """The report is whole, last night's or tonight's, and so are the status and the history."""
        if self.report_is_new():
            assert self.change_of_the_family() in (("worse", "0.35"), ("unchanged", "0.00"), None)
        assert last_run(self.state) is not None
        with closing(sqlite3.connect(self.state / FILE_NAME)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    def check_next_run(self) -> None:
        """The next run compares with the last that is in the history, and nothing is left lying about."""
        recorded = self.recorded()
        run = self.run()
        assert (run.status, run.errors) == (exit_status.DONE, "")
        assert self.change_of_the_family() == {1: ("worse", "0.35"), 2: ("unchanged", "0.00")}[recorded]
        assert len(self.report()["changes"]["trend"]) == recorded + 1
        status = last_run(self.state)
        assert status is not None
        assert (status.outcome, status.groups) == (RunOutcome.DONE, len(self.report()["groups"]))
        assert reporter(self.state) is None
        assert self.leftovers() == []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: hundreds of runs would wait for the disk."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as directory:
        yield Path(directory)


@pytest.fixture
def nights(killable: Killable, sandbox: Sandbox, client: Client, place: Path) -> Nights:
    return Nights(killable, client, place, sandbox.url)


@pytest.mark.long
def test_killed_at_every_other_step(nights: Nights) -> None:
    steps = nights.run().steps
    stages = set()
    # Every one of the last, which come after the status was written.
    for step in (*range(1, steps - 8, 2), *range(steps - 8, steps + 1)):
        nights.again()
        run = nights.run(kill_at=step)
        if run.status != KILLED:  # it was done in a step less than the run that was counted
            assert run.status == exit_status.DONE, run
            continue
        nights.check_usable()
        stages.add((nights.report_is_new(), nights.recorded(), nights.told()))
        nights.check_next_run()
    # The report is written first, then history and status together.
    assert stages == {(False, 1, False), (True, 1, False), (True, 2, True)}


def moment_of(edition: Path) -> str | None:
    """Return when the data of a directory of reports was read, None if there is none. It must be whole."""
    if not os.path.lexists(edition):
        return None
    documents = [json.loads(path.read_text("utf-8")) for path in edition.glob("*.json")]
    assert len(documents) == 8
    assert (edition / "index.html").read_text("utf-8").endswith("</html>\n")
    [moment] = {document["generated_at"] for document in documents}
    return str(moment)


@pytest.mark.long
@pytest.mark.parametrize("same_day", [True, False])
def test_killed_while_it_publishes(nights: Nights, same_day: bool) -> None:
    """Readers find the old reports or the new ones, whole, and the next run leaves nothing else."""
    reports = nights.target / "libraries"
    nights.environ["EVERGREEN_GROUPS_REPORT_FORMATS"] = "json"
    words = ("--split", "library", "--output", str(reports))
    assert nights.run(*words).status == exit_status.DONE
    today = reports / (reports / "latest").readlink()
    if not same_day:
        today.rename(reports / "2026-01-01")
        (reports / "latest").unlink()
        (reports / "latest").symlink_to("2026-01-01")
    nights.keep()
    old, steps, seen = moment_of(reports / "latest"), nights.run(*words).steps, set()
    for step in range(steps // 3, steps * 3 // 4, 2):  # before, it reads; later, it records
        nights.again()
        if nights.run(*words, kill_at=step).status != KILLED:
            continue
        seen.add(tuple(moment and moment == old for moment in map(moment_of, (reports / "latest", today))))
        assert nights.run(*words).status == exit_status.DONE
        assert moment_of(reports / "latest") == moment_of(today) != old
        assert len([path for path in (reports / ".editions").iterdir() if path.is_dir()]) == 2 - same_day
    assert seen == ({(True, True)} if same_day else {(True, None), (True, False)}) | {(False, False)}


@pytest.mark.long  # it is waited for twice
def test_a_locked_database(nights: Nights) -> None:
    with closing(sqlite3.connect(nights.state / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        run = nights.run("--deadline", "2")
    assert run.status == exit_status.DEADLINE
    assert all(line.startswith("evergreen-groups: ") for line in run.errors.splitlines())
    nights.check_usable()
    nights.check_next_run()
