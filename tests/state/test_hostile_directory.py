"""In a directory that others can write to, no planted name makes us truncate, delete or wait for their files."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.state import State, new_edition, schema, write_atomically
from evergreen_groups.state.database import FILE_NAME
from evergreen_groups.state.files import REPORT_LOCK

DAY = date(2026, 8, 14)
NOBODY = 65534
Plant = Callable[[Path, Path], object]


def symbolic_link(place: Path, victim: Path) -> None:
    place.symlink_to(victim)


def hard_link(place: Path, victim: Path) -> None:
    place.hardlink_to(victim)


def pipe(place: Path, _victim: Path) -> None:
    os.mkfifo(place)


def somebody_elses(place: Path, _victim: Path, make: Callable[[Path], None] = Path.touch) -> None:
    if os.geteuid():
        pytest.skip("takes root, to give a file away")
    make(place)
    os.chown(place, NOBODY, NOBODY)


def somebody_elses_directory(place: Path, victim: Path) -> None:
    somebody_elses(place, victim, Path.mkdir)


PLANTS = pytest.mark.parametrize("plant", [symbolic_link, hard_link, pipe, somebody_elses])


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Fail a test that would block on a pipe."""

    def expired(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file outside the directory that belongs to another user."""
    file = tmp_path / "outside" / "precious"
    file.parent.mkdir()
    file.write_text('{"pid": 1, "since": "2026-08-14T00:00:00+00:00"}')
    file.chmod(0o644)
    return file


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o777)
    return directory


def unharmed(victim: Path) -> bool:
    return victim.read_text().startswith('{"pid": 1') and victim.stat().st_mode & 0o777 == 0o644


@PLANTS
def test_something_that_looks_abandoned(shared: Path, victim: Path, plant: Plant) -> None:
    planted = shared / ".evergreen-groups.x.part"
    plant(planted, victim)
    with write_atomically(shared / "report.csv") as stream:
        stream.write("new")
    assert (shared / "report.csv").read_text() == "new"
    assert os.path.lexists(planted)
    assert unharmed(victim)


def publish(directory: Path) -> None:
    with new_edition(directory, DAY) as create, create("index.html") as stream:
        stream.write(b"names of patrons")


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (symbolic_link, "already exists"),
        (somebody_elses_directory, "already exists"),
        (lambda place, _victim: (place.mkdir(), place.chmod(0o777)), "other users can write to it"),
    ],
)
def test_editions_are_kept_in_no_other_directory(shared: Path, victim: Path, plant: Plant, reason: str) -> None:
    plant(shared / ".editions", victim.parent)
    with pytest.raises(ConfigurationError, match=reason):
        publish(shared)
    assert unharmed(victim)
    assert {path.name for path in (shared / ".editions").iterdir()} <= {"precious"}


def use(directory: Path) -> None:
    with State(directory) as state, state.database.writing() as connection:
        connection.execute(schema.series.insert().values(gateway="g", settings="s"))


@PLANTS
def test_no_state_is_kept_there(shared: Path, victim: Path, plant: Plant) -> None:
    plant(shared / FILE_NAME, victim)
    plant(shared / REPORT_LOCK, victim)
    with pytest.raises(ConfigurationError, match="other users can write to it"):
        use(shared)
    with pytest.raises(ConfigurationError, match="other users can write to it"), State(shared).report_lease():
        pass
    assert unharmed(victim)


def test_no_state_is_kept_in_somebody_elses_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    with pytest.raises(ConfigurationError, match="other users can write to it"):
        use(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to work in somebody else's directory")
def test_files_that_root_makes_belong_to_the_directorys_owner(tmp_path: Path) -> None:
    """The service can still write if root runs a command before the service's first start."""
    directory = tmp_path / "state"
    directory.mkdir(0o700)
    os.chown(directory, NOBODY, NOBODY)
    with State(directory) as state, state.report_lease() as lease, lease.writing() as connection:
        connection.execute(schema.series.insert().values(gateway="g", settings="s"))
        assert len(list(directory.iterdir())) > 2, "SQLite's own are there as well"
        assert {path.stat().st_uid for path in directory.iterdir()} == {NOBODY}
