"""The history: whole or not at all, private, bounded, and one line when it can't be used."""

from __future__ import annotations

import pickle
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from support.report_samples import ORG_UNITS, large_report, member, report_of, sample_report

from evergreen_groups.errors import HistoryError
from evergreen_groups.groups import Group
from evergreen_groups.policy import Limit
from evergreen_groups.report import ChangeKind, Changes, Criteria, History, Report
from evergreen_groups.report.history import FILE_NAME, TREND, recorded_runs

URL = "https://ils.example.org/osrf-gateway-v1"
TONIGHT = datetime(2026, 8, 14, 3, 15, 7, 250_000, tzinfo=UTC)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


def report(*fines: str, night: int = 0, criteria: Criteria | None = None) -> Report:
    """A report of groups 1, 2, … that owe so much, so many nights after the first."""
    groups = [
        Group(number, (member(number * 10, f"Secret{number}, Name", amount), member(number * 10 + 1, "N", "0.00")))
        for number, amount in enumerate(fines, 1)
    ]
    found = report_of(groups, criteria=criteria)
    return replace(found, generated_at=TONIGHT + timedelta(days=night), org_units=ORG_UNITS)


def record(directory: Path, *reports: Report, url: str = URL, keep_days: int = 400) -> None:
    for one in reports:
        with History(directory, url, keep_days=keep_days) as history:
            history.record(one)


def compare(directory: Path, one: Report, url: str = URL) -> Changes:
    with History(directory, url) as history:
        return history.compare(one)


def kinds(found: Changes) -> dict[int, ChangeKind]:
    return {number: change.kind for number, change in found.by_group.items()}


def rows(directory: Path, table: str) -> int:
    with closing(sqlite3.connect(directory / FILE_NAME)) as database:
        (count,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)


def test_the_first_run_compares_with_nothing_and_makes_no_file(directory: Path) -> None:
    found = compare(directory, report("30.00"))
    assert not found.compared
    assert not directory.exists()
    assert [(totals.group_count, totals.combined_fines) for totals in found.trend] == [(1, Decimal("30.00"))]
    assert recorded_runs(directory) is None


def test_what_was_recorded_is_compared_with(directory: Path) -> None:
    record(directory, report("30.00", "40.00", "50.00"))
    found = compare(directory, report("30.00", "40.01", night=1))
    assert found.since == TONIGHT
    assert kinds(found) == {1: ChangeKind.UNCHANGED, 2: ChangeKind.WORSE}
    assert [(change.group, change.before, change.library) for change in found.cleared] == [(3, Decimal("50.00"), "BR1")]
    assert found.cleared[0].members == {30, 31}


def test_everything_about_a_group_survives(directory: Path) -> None:
    """Compared with itself a report is unchanged, incomplete groups and all."""
    record(directory, sample_report())
    found = compare(directory, sample_report())
    assert set(kinds(found).values()) == {ChangeKind.UNCHANGED}
    assert [group for group, change in found.by_group.items() if not change.certain] == [31007]
    assert {change.joined_count + change.left_count for change in found.by_group.values()} == {0}


def test_hidden_libraries_are_remembered(directory: Path) -> None:
    record(directory, replace(report(), hidden_libraries=frozenset({"BR1"})))
    [change] = compare(directory, report("30.00", night=1)).by_group.values()
    assert (change.kind, change.certain) == (ChangeKind.NEW, False)


def test_comparing_records_nothing(directory: Path) -> None:
    record(directory, report("30.00"))
    for _ in range(2):
        assert compare(directory, report("35.00", night=1)).since == TONIGHT
    assert recorded_runs(directory) == 1


@pytest.mark.parametrize(
    ("criteria", "same"),
    [
        (Criteria(top=1), True),
        (Criteria(sort="name"), True),
        (Criteria(limit=Limit(None)), True),
        (Criteria(min_total=Decimal("25")), True),
        (Criteria(min_total=Decimal("20.00")), False),
        (Criteria(min_members=3), False),
        (Criteria(orgs=("BR1",)), False),
    ],
)
def test_what_is_listed_decides_on_the_series(directory: Path, criteria: Criteria, same: bool) -> None:
    record(directory, report("30.00", criteria=Criteria(min_total=Decimal("25.00"))))
    assert compare(directory, report("30.00", criteria=criteria)).compared == same


def test_org_units_are_the_same_in_whatever_order_and_case(directory: Path) -> None:
    record(directory, report("30.00", criteria=Criteria(orgs=("BR1", "br2"))))
    assert compare(directory, report("30.00", criteria=Criteria(orgs=("BR2", "Br1", "BR1")))).compared


def test_gateways_have_series_of_their_own(directory: Path) -> None:
    record(directory, report("30.00"))
    assert not compare(directory, report("30.00"), url="https://other.example.org/osrf-gateway-v1").compared


def test_trend_is_of_the_last_thirty_runs_the_oldest_first(directory: Path) -> None:
    record(directory, *[report(f"{100 + night}.00", night=night) for night in range(35)])
    trend = compare(directory, report("200.00", night=35)).trend
    assert len(trend) == TREND
    assert [totals.combined_fines for totals in trend] == [*map(Decimal, range(106, 135)), Decimal("200.00")]
    assert trend[0].at == TONIGHT + timedelta(days=6)
    assert (trend[-1].group_count, trend[-1].member_count) == (1, 2)


def test_trend_of_an_org_unit_has_zeros_where_it_had_no_groups(directory: Path) -> None:
    record(directory, report("30.00"), report(night=1))
    found = compare(directory, report("40.00", night=2))
    for name in ("CONS", "SYS", "BR1"):
        assert [str(totals.combined_fines) for totals in found.library_trends[name]] == ["30.00", "0.00", "40.00"]
    assert "BR2" not in found.library_trends
    part = found.restricted([1], {"BR1"}, "SYS")
    assert part.trend == found.library_trends["SYS"]
    assert found.restricted([1], {"BR1", "BR2"}).trend == ()


def test_totals_count_the_groups_that_top_leaves_out(directory: Path) -> None:
    whole = report("30.00", "40.00")
    record(directory, replace(whole, groups=whole.groups[:1], left_out=whole.groups[1:], left_out_count=1))
    found = compare(directory, report("30.00", "40.00", night=1))
    assert kinds(found) == {1: ChangeKind.UNCHANGED, 2: ChangeKind.UNCHANGED}
    assert found.trend[0].combined_fines == Decimal("70.00")


def test_old_runs_are_forgotten_those_of_other_settings_too(directory: Path) -> None:
    record(directory, report("30.00", criteria=Criteria(min_members=3)))
    record(directory, *[report("30.00", night=night) for night in range(1, 12)], keep_days=5)
    assert recorded_runs(directory) == 6
    assert rows(directory, "series") == 1
    assert len(compare(directory, report("30.00", night=12)).trend) == 7


def test_a_run_after_a_long_pause_still_has_one_to_compare_with(directory: Path) -> None:
    record(directory, report("30.00"))
    assert compare(directory, report("31.00", night=900)).since == TONIGHT
    record(directory, report("31.00", night=900))
    assert recorded_runs(directory) == 1


def test_a_clock_that_is_decades_ahead_for_a_night_throws_nothing_away(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record(directory, *[report("30.00", night=night) for night in range(3)], keep_days=5)
    for wrong in (26_000, 26_001):
        record(directory, report("30.00", night=wrong), keep_days=5)
        assert "was a clock wrong?" in caplog.text
    assert recorded_runs(directory) == 5
    record(directory, report("30.00", night=7), keep_days=5)
    assert recorded_runs(directory) == 4, "what is too old by the right clock goes, what is to come stays"


def test_a_clock_that_was_set_back_does_not_change_which_run_was_the_last(directory: Path) -> None:
    record(directory, report("30.00", night=9), report("31.00", night=1))
    found = compare(directory, report("31.00", night=2))
    assert found.since == TONIGHT + timedelta(days=1)
    assert kinds(found) == {1: ChangeKind.UNCHANGED}
    assert [str(totals.combined_fines) for totals in found.trend] == ["30.00", "31.00", "31.00"]


def test_groups_are_kept_of_the_last_run_alone(directory: Path) -> None:
    record(directory, *[report("30.00", "40.00", night=night) for night in range(3)])
    assert rows(directory, "listings") == 2
    assert rows(directory, "runs") == 3


def test_private_and_without_names(directory: Path) -> None:
    with History(directory, URL) as history:
        history.record(report("30.00"))
        files = list(directory.iterdir())
        assert {file.name for file in files} == {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        content = b"".join(file.read_bytes() for file in files)
    assert b"[10, 11]" in content
    assert b"Secret" not in content
    assert b"29999" not in content
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_file_that_was_open_to_others_is_closed_to_them(directory: Path) -> None:
    record(directory, report("30.00"))
    (directory / FILE_NAME).chmod(0o644)
    record(directory, report("30.00", night=1))
    assert stat.S_IMODE((directory / FILE_NAME).stat().st_mode) == 0o600


@pytest.mark.long
def test_stays_small(directory: Path) -> None:
    large = large_report()
    record(directory, *[replace(large, generated_at=TONIGHT + timedelta(days=night)) for night in range(3)])
    assert (directory / FILE_NAME).stat().st_size < 2_000_000


def failure(directory: Path, call: str = "record", wait: float = 0.05) -> str:
    """The one line that it fails with."""
    with pytest.raises(HistoryError) as caught, History(directory, URL, wait=wait) as history:
        getattr(history, call)(report("31.00", night=1))
    message = str(caught.value)
    assert "\n" not in message
    assert str(directory / FILE_NAME) in message
    return message


@pytest.mark.parametrize("call", ["compare", "record"])
@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file(directory: Path, content: bytes, call: str) -> None:
    directory.mkdir()
    (directory / FILE_NAME).write_bytes(content)
    assert "move it away to begin a new one" in failure(directory, call)
    with pytest.raises(HistoryError, match="move it away"):
        recorded_runs(directory)
    assert (directory / FILE_NAME).read_bytes() == content


def test_damage_inside_is_found_by_examining(directory: Path) -> None:
    record(directory, replace(large_report(300), generated_at=TONIGHT))
    path = directory / FILE_NAME
    content = bytearray(path.read_bytes())
    content[8 * 4096 : 14 * 4096] = b"\x55" * (6 * 4096)
    path.write_bytes(content)
    with pytest.raises(HistoryError, match="damaged"):
        recorded_runs(directory)


@pytest.mark.parametrize(("column", "value"), [("combined_fines", "'many'"), ("members", "'[1'"), ("members", "7")])
def test_values_that_were_never_written(directory: Path, column: str, value: str) -> None:
    record(directory, report("30.00"))
    with closing(sqlite3.connect(directory / FILE_NAME)) as database, database:
        database.execute(f"UPDATE listings SET {column} = {value}")
    assert "never wrote" in failure(directory, "compare")


def test_a_file_of_another_release_or_another_program(directory: Path) -> None:
    directory.mkdir()
    with closing(sqlite3.connect(directory / FILE_NAME)) as database, database:
        database.execute("PRAGMA user_version=2")
    assert "another release" in failure(directory)
    with closing(sqlite3.connect(directory / FILE_NAME)) as database, database:
        database.execute("PRAGMA user_version=0")
        database.execute("CREATE TABLE recipes (id)")
    assert "isn't a history" in failure(directory)
    assert rows(directory, "recipes") == 0


def test_an_empty_file_is_begun(directory: Path) -> None:
    """A run that was killed at once leaves one."""
    directory.mkdir()
    (directory / FILE_NAME).touch()
    assert not compare(directory, report("30.00")).compared
    record(directory, report("30.00"))
    assert recorded_runs(directory) == 1


def test_something_else_in_its_place(directory: Path) -> None:
    (directory / FILE_NAME).mkdir(parents=True)
    for call in ("compare", "record"):
        assert "can't be opened: Is a directory" in failure(directory, call)


def test_a_state_directory_that_is_none(directory: Path) -> None:
    directory.touch()
    assert "Not a directory" in failure(directory, "compare")


@pytest.mark.parametrize("exists", [True, False])
def test_a_locked_file_is_waited_for_within_bounds(directory: Path, exists: bool) -> None:
    directory.mkdir()
    if exists:
        record(directory, report("30.00"))
    with closing(sqlite3.connect(directory / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE busy (id)")
        assert "held by another process for 0.05 seconds" in failure(directory)
        other.execute("ROLLBACK")
    record(directory, report("31.00", night=1))
    assert recorded_runs(directory) == 1 + exists


def test_it_can_be_compared_with_while_another_run_records(directory: Path) -> None:
    record(directory, report("30.00"))
    with closing(sqlite3.connect(directory / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM runs")
        assert compare(directory, report("31.00", night=1)).since == TONIGHT


def test_a_full_disk_leaves_the_last_run_as_it_was(directory: Path) -> None:
    record(directory, report("30.00"))
    with History(directory, URL) as history:
        history.compare(report("30.00"))
        history._file().database.execute("PRAGMA max_page_count=12")
        with pytest.raises(HistoryError, match=r"disk is full.*make room on the disk"):
            history.record(replace(large_report(400), generated_at=TONIGHT + timedelta(days=1)))
        assert history.compare(report("30.00", night=1)).since == TONIGHT
    assert kinds(compare(directory, report("35.00", night=2))) == {1: ChangeKind.WORSE}
    assert (recorded_runs(directory), rows(directory, "listings")) == (1, 1)


KILLED = """
import os, pickle, sys
from pathlib import Path
from evergreen_groups.report import History
report, statement = pickle.load(sys.stdin.buffer)
seen = 0
def kill(sql):
    global seen
    seen += 1
    if seen == statement:
        os.kill(os.getpid(), 9)
with History(Path(sys.argv[1]), sys.argv[2]) as history:
    history.compare(report)
    history._file().database.set_trace_callback(kill)
    history.record(report)
"""


def killed_at(directory: Path, one: Report, statements: Iterable[int]) -> list[int]:
    """Record ``one`` in a process that kills itself at a statement, for each of them: how the processes ended."""
    ended = []
    for statement in statements:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(directory), URL],
            input=pickle.dumps((one, statement)),
            check=False,
        )
        ended.append(done.returncode)
    return ended


def test_a_run_that_is_killed_while_it_records_leaves_no_half_entry(directory: Path) -> None:
    record(directory, report("30.00", "40.00"))
    tonight = report("30.00", "41.00", "26.00", night=1)
    statements = (2, 4, 6, 11, 15)  # the last one is the commit
    assert killed_at(directory, tonight, statements) == [-signal.SIGKILL] * len(statements)
    assert (recorded_runs(directory), rows(directory, "listings")) == (1, 2)
    found = compare(directory, tonight)
    assert (found.since, found.difference) == (TONIGHT, Decimal("27.00"))
    record(directory, tonight)
    assert compare(directory, report("30.00", "41.00", "26.00", night=2)).difference == 0
