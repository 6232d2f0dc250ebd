"""The disk fills up at any moment: one line per error, no confirmed work lost, and a normal run afterward."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NoReturn

import pytest
from support.command import Command
from support.fault_proxy import FaultProxy
from support.killable import Killable, Run, World
from support.state_files import count_runs
from support.watched_library import Target, WatchedLibrary, check_errors

from evergreen_groups import exit_status
from evergreen_groups.errors import ConfigurationError, StateError
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State, files, lock
from evergreen_groups.state.files import NO_ROOM

MOVE = ("move", "20000000001052", "20000000001053", "--to", "20000000001007", "--yes")
MOVED: Target = {(1052, "usrgroup"): 1002, (1053, "usrgroup"): 1002}
TAKEN_BACK: Target = {(1052, "usrgroup"): 1015, (1053, "usrgroup"): 1015}
OFTEN = [pytest.param(10, marks=pytest.mark.long, id="often")]
DISK = 1_500_000
PAGE = 4096
MIDDLE = (20_000, 100_000)
"""Sizes that SQLite's files next to the database reach during a change."""
Tight = Callable[[Random, WatchedLibrary, tuple[str, ...]], Run]
"""Runs a command with little space left."""


@pytest.fixture(scope="module")
def killable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killable]:
    with Killable(Command(tmp_path_factory.mktemp("home"), None).environ) as killable:
        yield killable


@pytest.fixture
def library(killable: Killable, sandbox: Sandbox, proxy: FaultProxy) -> Iterator[WatchedLibrary]:
    """A library outside pytest's directory: pytest can't remove a mount left by a killed run, and later runs fail."""
    with TemporaryDirectory(prefix="evergreen-groups-") as directory:
        yield WatchedLibrary(killable, sandbox, proxy, Path(directory))


def small_files(chance: Random, library: WatchedLibrary, words: tuple[str, ...]) -> Run:
    return library.run(*words, world=World(file_limit=chance.choice((0, *3 * (chance.randint(*MIDDLE),)))))


def few_pages(chance: Random, library: WatchedLibrary, words: tuple[str, ...]) -> Run:
    """Let the database grow by only a few pages."""
    there = sum(path.stat().st_size for path in library.state.glob("state.sqlite3")) // PAGE
    return library.run(*words, world=World(page_limit=max(1, there + chance.randint(0, 3) if there else 20)))


def small_disk(chance: Random, library: WatchedLibrary, words: tuple[str, ...]) -> Run:
    """Put the state on a nearly full disk, or limit file sizes if mounting isn't allowed."""
    if not os.path.ismount(library.state):
        return small_files(chance, library, words)
    words = library.with_ids(words)  # SQLite can't open the database once the disk is full
    filler = library.state / "other.lock"
    free = os.statvfs(library.state).f_bavail * PAGE
    filler.write_bytes(b"x" * max(0, free - PAGE * chance.choice((0, *3 * (8 + chance.randint(*MIDDLE) // PAGE,)))))
    try:
        return library.run(*words)
    finally:
        filler.unlink()


@pytest.fixture(params=[small_files, few_pages, small_disk])
def tight(request: pytest.FixtureRequest, library: WatchedLibrary) -> Iterator[Tight]:
    mounted = request.param is small_disk and mount(library.state)
    yield request.param
    if mounted:
        subprocess.run(["umount", str(library.state)], check=True)


def mount(directory: Path) -> bool:
    """Mount a small disk in memory. Return False if that isn't allowed."""
    if os.geteuid() or shutil.which("mount") is None:
        return False
    options = f"size={DISK},mode=0700"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def tight_runs(library: WatchedLibrary, tight: Tight, words: tuple[str, ...], times: int) -> Iterator[Run]:
    """Run with little space, each time from the same starting point, and check the output of each run."""
    chance = Random(f"{words[0]} {tight.__name__} {times}")
    for _ in range(times):
        library.again()
        run = tight(chance, library, words)
        if run.status != exit_status.DONE:
            check_errors(run)
        yield run


@pytest.mark.parametrize("number", sorted(NO_ROOM))
@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (Path, "mkdir", ConfigurationError),
        (files, "NamedTemporaryFile", StateError),
        (lock, "give_to_directory_owner", ConfigurationError),
    ],
    ids=["directory", "database", "lock"],
)
def test_a_disk_without_room_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, error: type[Exception], number: int
) -> None:
    """The file system is out of inodes, so even an empty file can't be created."""

    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    def use(state: State) -> None:
        with state.database.reading():
            pass
        with state.report_lease():
            pass

    with State(tmp_path / "state") as state:
        monkeypatch.setattr(owner, name, refuse)
        with pytest.raises(error, match="free up disk space"):
            use(state)
        monkeypatch.undo()
        use(state)


@pytest.mark.parametrize("times", OFTEN)
@pytest.mark.parametrize(
    ("before", "words", "target"),
    [(("journal",), MOVE, MOVED), (MOVE, ("undo", "#1", "--yes"), TAKEN_BACK), ((), MOVE, MOVED)],
    ids=["move", "undo", "first"],
)
def test_a_change(
    library: WatchedLibrary,
    tight: Tight,
    before: tuple[str, ...],
    words: tuple[str, ...],
    target: Target,
    times: int,
) -> None:
    if before:
        library.prepare(*before)
    else:
        library.keep()
    for run in tight_runs(library, tight, words, times):
        library.check_whole()
        library.check_journal(run, target)
        library.check_next_run(words, target)


@pytest.mark.parametrize("times", OFTEN)
@pytest.mark.parametrize("before", [1, 0], ids=["later", "first"])
def test_a_report(library: WatchedLibrary, tight: Tight, before: int, times: int) -> None:
    """The first report is written if its own disk has space, even if the state's disk is full."""
    target = library.directory / "report.json"
    words = ("report", "--output", str(target))
    if before:
        library.prepare(*words)
    else:
        library.put_back = lambda: target.unlink(missing_ok=True)
        library.keep()
    for run in tight_runs(library, tight, words, times):
        library.check_whole()
        done = run.status == exit_status.DONE
        if before or tight is few_pages or os.path.ismount(library.state) or done:
            json.loads(target.read_text("utf-8"))
        recorded = count_runs(library.state) or 0
        assert recorded == before + 1 or (recorded == before and not done)
        library.check_next_run(words, {})
        assert count_runs(library.state) == recorded + 1
