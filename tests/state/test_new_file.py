"""The database file gets its name only when complete, from one process, and leftovers of others are removed."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from evergreen_groups.errors import StateError
from evergreen_groups.state.database import FILE_NAME, Database, create_atomically

LEFT = (".evergreen-groups.0123456789ab.part", ".evergreen-groups.ab12cd34ef56.part")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory in which a process was killed while creating the database."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    for name in LEFT:
        (directory / name).write_bytes(b"unfinished")
    return directory


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock the directory, as another process does while creating the database."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def use(directory: Path, wait: float = 10.0) -> None:
    database = Database(directory, wait=wait)
    try:
        with database.reading():
            pass
    finally:
        database.close()


def fill(engine: Engine) -> None:
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("CREATE TABLE filled (number INTEGER)")


def test_leftovers_of_a_killed_process_are_removed(directory: Path) -> None:
    use(directory)
    assert [path.name for path in directory.iterdir()] == [FILE_NAME]
    assert (directory / FILE_NAME).stat().st_nlink == 1


def test_files_of_a_process_still_creating_it_are_kept(directory: Path) -> None:
    with locked(directory), pytest.raises(StateError, match=r"is just being made by another process.*run again"):
        use(directory, wait=0.1)
    assert sorted(path.name for path in directory.iterdir()) == sorted(LEFT)
    use(directory)


def test_an_existing_file_is_never_recreated(directory: Path) -> None:
    path = directory / FILE_NAME
    path.write_bytes(b"somebody's")
    create_atomically(path, lambda engine: pytest.fail("it is there"), 1.0)
    assert path.read_bytes() == b"somebody's"


def test_all_of_it_is_in_the_file_itself(directory: Path) -> None:
    """No data is left in a temporary or WAL file next to the database."""
    path = directory / FILE_NAME
    create_atomically(path, fill, 1.0)
    assert [one.name for one in directory.iterdir()] == [FILE_NAME]
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("filled",)]


def test_what_could_not_be_filled_leaves_nothing(directory: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        create_atomically(directory / FILE_NAME, lambda engine: fill(engine) or 1 / 0, 1.0)  # type: ignore[arg-type]
    assert list(directory.iterdir()) == []
