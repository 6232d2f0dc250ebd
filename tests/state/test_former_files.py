"""What release 0.1 kept is taken over: the files here were written by 0.1.0, on its sandbox."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, select
from support.former_release import ALL, KEPT, counts, lay_out

from evergreen_groups.errors import StateError
from evergreen_groups.state import State, run_status, schema
from evergreen_groups.state.backup import back_up, restore
from evergreen_groups.state.database import FILE_NAME

pytestmark = pytest.mark.long  # together they take longer than plain pytest has time for

GATEWAY = "http://127.0.0.1:18765"


def rows(state: State, table: Table, *columns: str) -> list[tuple[Any, ...]]:
    with state.database.reading() as connection:
        order = list(table.primary_key.columns)
        found = connection.execute(select(*(table.c[name] for name in columns)).order_by(*order))
        return [tuple(row) for row in found]


def test_all_of_it_comes_over_once(state: State) -> None:
    lay_out(state.directory)
    before = {path: path.read_bytes() for path in state.directory.rglob("*.*")}
    assert counts(state) == ALL
    state.close()
    assert counts(state) == ALL
    assert {path: path.read_bytes() for path in before} == before


def test_the_journal_as_it_stood(state: State) -> None:
    lay_out(state.directory)
    assert rows(state, schema.changes, "id", "action", "account", "undoes") == [
        (1, "move", "consortium_staff", None),
        (2, "remove", "consortium_staff", None),
        (3, "undo", "consortium_staff", 1),
        (4, "remove", "consortium_staff", None),
        (5, "remove", "consortium_staff", None),
    ]
    assert rows(state, schema.steps, "id", "change", "gateway", "patron", "before", "after", "state", "value") == [
        (1, 1, GATEWAY, 1052, 1015, 1002, "done", 1002),
        (2, 2, GATEWAY, 1019, 1005, None, "done", 1100),
        (3, 3, GATEWAY, 1052, 1002, 1015, "done", 1015),
        (4, 4, GATEWAY, 900, 5, None, "planned", None),
        (5, 4, GATEWAY, 901, 5, None, "planned", None),
        (6, 5, GATEWAY, 900, 5, None, "sending", None),
    ]
    assert rows(state, schema.steps, "touched_at")[0][0] == datetime(2026, 11, 25, 23, 53, 31, 519_000, UTC)


def test_the_next_change_has_a_number_of_its_own(state: State) -> None:
    lay_out(state.directory)
    with state.database.writing() as connection:
        key = connection.execute(
            schema.changes.insert().values(
                gateway=GATEWAY, account="a", at=datetime.now(UTC), action="move", step_count=1
            )
        ).inserted_primary_key
    assert key is not None
    assert key[0] == 6


def test_history_events_status_and_mails(state: State) -> None:
    lay_out(state.directory)
    assert {fines for (fines,) in rows(state, schema.run_totals, "combined_fines")} >= {Decimal("288.85")}
    assert rows(state, schema.events, "event", "done", "blocked", "recalculated") == [
        (11, True, True, True),
        (12, False, None, False),
    ]
    status = run_status.read(state.database)
    assert status is not None
    assert status.exit_code == 8
    assert len({number for (number,) in rows(state, schema.mails, "message_id")}) == 2
    contents = {content for (content,) in rows(state, schema.mails, "content")}
    assert contents == {file.read_bytes() for file in (KEPT / "mail").iterdir()}


def test_two_open_steps_of_one_patron_become_one(state: State) -> None:
    lay_out(state.directory)
    with closing(sqlite3.connect(state.directory / "journal.sqlite3")) as database, database:
        database.execute("INSERT INTO events (step, at, state) VALUES (4, '2026-11-25T23:53:50+00:00', 'sending')")
    found = dict(rows(state, schema.steps, "id", "state"))
    assert (found[4], found[6]) == ("failed", "sending")
    reasons = dict(rows(state, schema.steps, "id", "reason"))
    assert "before it was known what became of this one" in reasons[4]


@pytest.mark.parametrize("name", ["journal.sqlite3", "history.sqlite3", "events.sqlite3"])
def test_one_that_is_damaged_is_named_and_nothing_is_taken_over(state: State, name: str) -> None:
    lay_out(state.directory)
    whole = (state.directory / name).read_bytes()
    (state.directory / name).write_bytes(whole[:100] + b"?" * (len(whole) - 100))
    with pytest.raises(StateError, match=f"{name} of release 0.1 can't be taken over.*move the file away") as caught:
        counts(state)
    assert "\n" not in str(caught.value)
    if state.database.path is not None:
        assert not state.database.path.exists()
        assert [path.name for path in state.directory.iterdir() if path.name.startswith(f".{FILE_NAME}")] == []
    state.close()
    (state.directory / name).write_bytes(whole)
    assert counts(state) == ALL


def test_a_spool_elsewhere(tmp_path: Path) -> None:
    lay_out(tmp_path / "old")
    with State(tmp_path / "new", former_spool=tmp_path / "old" / "mail") as state:
        assert counts(state)["mails"] == 2


@pytest.mark.parametrize("state", ["postgresql"], indirect=True)
def test_a_second_machine_brings_its_own(state: State, tmp_path: Path) -> None:
    lay_out(state.directory)
    assert counts(state) == ALL
    lay_out(tmp_path / "other")
    with State(tmp_path / "other", state.database.url_text) as other:
        # Runs of one series; the same mails and events are there once, and the status is the same.
        assert counts(other) == ALL | {
            "changes": 10,
            "steps": 12,
            "runs": 6,
            "run_totals": 44,
            "run_groups": 22,
            "events": 3,
        }
        assert max(id for (id,) in rows(other, schema.changes, "id")) == 10


def test_a_backup_is_restored_beside_them(state: State) -> None:
    """They stay where they are: neither do they stand in a backup's way, nor come in a second time."""
    lay_out(state.directory)
    with State(state.directory) as file:
        back_up(file.database, state.directory / "backup")
    (state.directory / FILE_NAME).rename(state.directory / "broken")
    restore(state.database, state.directory / "backup")
    assert counts(state) == ALL
    with State(state.directory, state.database.url_text) as another:
        assert counts(another) == ALL
