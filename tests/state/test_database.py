"""The journal and the audit trail: whole, of a format that is known, and never begun anew unnoticed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from evergreen_groups.changes import Journal
from evergreen_groups.errors import StateError
from evergreen_groups.events.log import AuditTrail
from evergreen_groups.state import opened

FILES: dict[str, Callable[[Path], Journal | AuditTrail]] = {
    "journal": Journal,
    "events": lambda directory: AuditTrail(directory, "https://ils.example"),
}


@pytest.fixture(params=FILES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def failure(directory: Path, name: str) -> StateError:
    with pytest.raises(StateError) as caught:
        FILES[name](directory)
    return caught.value


def test_no_room_to_make_one_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to move away then, and moving a journal away would lose what is open in it."""

    def full(*_anything: object) -> NoReturn:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr("evergreen_groups.state.database._make_whole", full)
    with pytest.raises(StateError, match="make room on the disk"):
        opened(tmp_path, "journal", "journal", "CREATE TABLE entries (id);", ["entries"], version=1)


def test_it_says_which_format_it_has(tmp_path: Path, name: str) -> None:
    FILES[name](tmp_path).close()
    with closing(sqlite3.connect(tmp_path / f"{name}.sqlite3")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)


def test_one_of_the_first_release_is_taken_on(tmp_path: Path, name: str) -> None:
    """That release wrote no version."""
    FILES[name](tmp_path).close()
    path = tmp_path / f"{name}.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=0")
    FILES[name](tmp_path).close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)


def test_one_of_a_newer_release_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    FILES[name](tmp_path).close()
    path = tmp_path / f"{name}.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=7")
    error = failure(tmp_path, name)
    assert (error.code, error.values["version"]) == ("state-of-newer-release", 7)
    assert "was written by a newer release, in its format 7; use that release" in str(error)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (7,)


def test_an_empty_file_is_not_taken_for_a_new_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.sqlite3"
    path.touch()
    assert "it is empty, which it never is" in str(failure(tmp_path, name))
    assert path.stat().st_size == 0


def test_another_database_is_left_alone(tmp_path: Path, name: str) -> None:
    with closing(sqlite3.connect(tmp_path / f"{name}.sqlite3")) as database:
        database.execute("CREATE TABLE recipes (id)")
    assert "it is another database" in str(failure(tmp_path, name))
    with closing(sqlite3.connect(tmp_path / f"{name}.sqlite3")) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]
