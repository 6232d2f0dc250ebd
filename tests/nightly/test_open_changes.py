"""The nightly run looks up the outcome of open changes: it only reads, and the report doesn't depend on it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.change_ids import change_id
from support.command import Command
from support.fault_proxy import Fault, FaultProxy
from support.states import journal_in, state_in

from evergreen_groups import exit_status
from evergreen_groups.changes import StepState
from evergreen_groups.state.database import FILE_NAME

pytestmark = pytest.mark.long  # too slow together for a plain pytest run

PATRON, CARD = 1052, "20000000001052"
NEW_GROUP, RETRIEVE = "open-ils.actor.usergroup.new", "open-ils.actor.user.retrieve.authoritative"


@pytest.fixture
def run(proxy: FaultProxy, tmp_path: Path) -> Command:
    """The command, after a removal whose request arrived late."""
    run = Command(tmp_path, proxy.url)
    proxy.decide = lambda call: Fault.HELD_REQUEST if call.method == NEW_GROUP else Fault.NONE
    proxy.before_answer = lambda call: proxy.let_go() if call.method == RETRIEVE else None  # arrives after the read
    assert run("remove", CARD, "--yes").returncode == 1
    proxy.decide = lambda call: Fault.NONE
    proxy.seen.clear()
    return run


def state_of(directory: Path) -> StepState:
    journal = journal_in(state_directory(directory))
    return journal.entry(change_id(journal, 1)).steps[0].state


def state_directory(directory: Path) -> Path:
    (found,) = {path.parent for path in directory.rglob(FILE_NAME)}
    return found


def test_a_report_finds_out_what_became_of_it(run: Command, proxy: FaultProxy, tmp_path: Path) -> None:
    assert run("report").returncode == 0
    assert state_of(tmp_path) is StepState.DONE
    assert RETRIEVE in proxy.seen
    assert not {NEW_GROUP, "open-ils.actor.patron.update"} & set(proxy.seen)


def test_one_that_only_looks_leaves_the_journal_alone(run: Command, tmp_path: Path) -> None:
    assert run("report", "--no-history").returncode == 0
    assert state_of(tmp_path) is StepState.SENDING


def test_the_report_does_not_wait_for_a_run_that_changes_something(
    run: Command, proxy: FaultProxy, tmp_path: Path
) -> None:
    with state_in(state_directory(tmp_path)).change_lease(proxy.url, [PATRON]):
        assert run("report").returncode == 0
    assert state_of(tmp_path) is StepState.SENDING
    with state_in(state_directory(tmp_path)).change_lease(proxy.url, [1001], [1001, 1015]):  # another patron's change
        assert run("report").returncode == 0
    assert state_of(tmp_path) is StepState.DONE


def test_the_report_does_not_fail_for_it(run: Command, proxy: FaultProxy, tmp_path: Path) -> None:
    proxy.decide = lambda call: Fault.DROP_REQUEST if call.method == RETRIEVE else Fault.NONE
    done = run("--verbose", "report", "--format", "csv")
    assert done.returncode == 0
    assert done.stdout.count("\n") > 1
    assert state_of(tmp_path) is StepState.SENDING


@pytest.mark.parametrize(
    ("damage", "status"),
    [("DROP TABLE steps", exit_status.FAILED), ("UPDATE steps SET before = 'somebody'", exit_status.DONE)],
)
def test_a_damaged_journal_does_not_cost_the_report(run: Command, tmp_path: Path, damage: str, status: int) -> None:
    with closing(sqlite3.connect(state_directory(tmp_path) / FILE_NAME)) as database, database:
        database.execute(damage)
    done = run("report", "--format", "csv")
    assert done.returncode == status
    assert done.stdout.count("\n") > 1
    if status:
        advice = "restore a backup, or move the database away to start a new one"
        assert done.stderr.splitlines()[-1].endswith(f"can't be used (no such table: steps); {advice}")
    assert "Traceback" not in done.stderr


def test_where_nothing_was_ever_changed_nothing_is_asked(proxy: FaultProxy, tmp_path: Path) -> None:
    assert Command(tmp_path, proxy.url)("report").returncode == 0
    assert RETRIEVE not in proxy.seen
