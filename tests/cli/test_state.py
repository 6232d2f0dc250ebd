"""``evergreen-groups state``, as an administrator uses it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from support.change_ids import listed_id
from support.command import Command, one_line
from support.postgresql import shared_cluster

from evergreen_groups import exit_status
from evergreen_groups.state import State, schema


@pytest.fixture
def database() -> Iterator[str]:
    """A database of a server, for the configuration."""
    cluster = shared_cluster()
    with cluster.database() as name:
        yield f'[state]\ndatabase = "{cluster.url(name)}"\n'


def told(command: Command, *words: str) -> str:
    done = command(*words)
    assert (done.returncode, done.stderr) == (exit_status.DONE, "")
    return done.stdout


def test_nothing_is_kept_yet(command: Command, tmp_path: Path) -> None:
    assert told(command, "state", "check").endswith("state.sqlite3 doesn't exist yet: the first run creates it\n")
    assert not (tmp_path / "state").exists()


@pytest.mark.long
def test_from_a_file_to_a_server_with_one_command(command: Command, tmp_path: Path, database: str) -> None:
    told(command, "-q", "report")
    told(command, "-q", "remove", "20000000001052", "--yes")
    kept = told(command, "state", "export")
    checked = told(command, "state", "check")
    assert "1  report runs" in checked
    assert "1  changes" in checked
    journal = told(command, "journal")
    command.config.write_text(database)
    restored = told(command, "state", "restore", str(tmp_path / "state" / "state.sqlite3"))
    assert re.fullmatch(r"\d+ rows written to test_\w+@\w+\.\n", restored)
    assert told(command, "state", "export") == kept
    assert told(command, "journal") == journal
    told(command, "-q", "undo", listed_id(command, 1), "--yes")
    told(command, "-q", "report")
    again = command("state", "restore", str(tmp_path / "state" / "state.sqlite3"))
    assert again.returncode == exit_status.FAILED
    assert one_line(again.stderr)
    assert "2  changes" in told(command, "state", "check")


def test_the_sql_can_be_read_before(command: Command, tmp_path: Path) -> None:
    printed = told(command, "state", "upgrade", "--sql", "postgresql")
    assert "CREATE TABLE steps" in printed
    assert "steps_open_once" in printed
    assert not (tmp_path / "state").exists()
    assert told(command, "state", "upgrade") == f"The database {tmp_path}/state/state.sqlite3 is up to date.\n"


def test_forget(command: Command) -> None:
    told(command, "-q", "remove", "20000000001052", "--yes")
    assert told(command, "state", "forget", "1052") == (
        "Removed steps of changes: 1; events: 0; listed groups: 0; follow-up entries: 0.\n"
    )
    assert told(command, "journal") == told(command, "journal")
    assert "1052" not in told(command, "state", "export")
    assert command("state", "forget", "2147483647").returncode == exit_status.DONE
    for too_large in ("2147483648", "20000000001052"):
        assert command("state", "forget", too_large).returncode == exit_status.USAGE


def test_daily_backups(command: Command, tmp_path: Path) -> None:
    backups = tmp_path / "state" / "backups"
    told(command, "-q", "remove", "20000000001052", "--yes")
    command.config.write_text("[state]\nbackups = 2\n")
    told(command, "state", "backup")
    (today,) = backups.iterdir()
    for older in ("2026-01-01", "2026-01-02"):
        (backups / f"state-{older}.sqlite3").touch()
    (backups / "mine.sqlite3").touch()
    assert json.loads(told(command, "state", "backup", "--json"))["file"] == str(today)
    assert {path.name for path in backups.iterdir()} == {"mine.sqlite3", "state-2026-01-02.sqlite3", today.name}
    assert (today.stat().st_mode & 0o777, backups.stat().st_mode & 0o777) == (0o600, 0o700)
    assert f"Backups in {backups} still have what was removed." in told(command, "state", "forget", "1052")
    for file in (tmp_path / "state").glob("state.sqlite3*"):
        file.unlink()
    told(command, "state", "restore", str(today))
    assert listed_id(command, 1)


@pytest.mark.long  # forgetting waits ten seconds for the reader
def test_forget_leaves_nothing_in_the_write_ahead_log(command: Command, tmp_path: Path) -> None:
    patron, now = 987654321, datetime(2026, 8, 14, 12, tzinfo=UTC)
    plan = {"gateway": "g", "staff": 1, "at": now, "expires": now, "action": "move"}

    def is_kept() -> bool:
        return any(str(patron).encode() in path.read_bytes() for path in (tmp_path / "state").glob("state.sqlite3*"))

    with State(tmp_path / "state") as serving:
        with serving.database.writing() as connection:
            connection.execute(schema.plans.insert().values(**plan, id="x", content=json.dumps({"patron": patron})))
        assert is_kept()
        with serving.database.reading() as connection:
            connection.execute(select(schema.plans)).all()
            assert "its write-ahead log still has the removed rows" in told(command, "state", "forget", str(patron))
        assert json.loads(told(command, "state", "forget", str(patron), "--json"))["log_emptied"] is True
        assert not is_kept()


@pytest.mark.long
def test_an_unreachable_server_does_not_cost_the_report(command: Command, tmp_path: Path) -> None:
    command.config.write_text('[state]\ndatabase = "postgresql://me@127.0.0.1:1/x"\n')
    done = command("report", "--output", str(tmp_path / "report.json"))
    assert done.returncode == exit_status.FAILED
    assert all(line.startswith("evergreen-groups: ") for line in done.stderr.splitlines())
    assert "try again when PostgreSQL is running and reachable from this machine" in done.stderr
    assert len(json.loads((tmp_path / "report.json").read_text("utf-8"))["groups"]) == 8
    for words in (["status"], ["journal"], ["state", "check"], ["remove", "20000000001052", "--yes"]):
        done = command(*words)
        assert done.returncode == exit_status.FAILED
        assert "try again when PostgreSQL is running" in done.stderr
