"""Killed at any moment: confirmed work is stored, the journal is correct, and the next run does the rest.

``nightly/test_killed_runs.py`` kills the report.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from support.command import Command
from support.fault_proxy import FaultProxy
from support.killable import KILLED, ORDINARY, Killable, Run, World
from support.watched_library import Target, WatchedLibrary

from evergreen_groups import exit_status
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import upgrade
from evergreen_groups.state.database import FILE_NAME
from evergreen_groups.state.schema import VERSION

MOVERS = ("20000000001052", "20000000001053")
MOVE = ("move", *MOVERS, "--to", "20000000001007", "--yes")
MOVED: Target = {(1052, "usrgroup"): 1002, (1053, "usrgroup"): 1002}
TAKEN_BACK: Target = {(1052, "usrgroup"): 1015, (1053, "usrgroup"): 1015}
BATCH = """action,barcode,target
move,20000000001052,20000000001007
remove,20000000001053,
lead,20000000001008,on
"""
BATCHED: Target = {(1052, "usrgroup"): 1002, (1053, "usrgroup"): None, (1008, "master_account"): 1}
OFTEN = [pytest.param(25, marks=pytest.mark.long, id="often")]
"""Number of kills of each kind."""
LATER_MIGRATION = f"""
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "later", "{VERSION}", None, None

def upgrade():
    op.create_table("planted", sa.Column("id", sa.Integer, primary_key=True))
    op.add_column("changes", sa.Column("planted", sa.Text, server_default=""))
    op.execute("UPDATE changes SET planted = action")
    op.create_index("changes_planted", "changes", ["planted"])
"""


@pytest.fixture(scope="module")
def killable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killable]:
    with Killable(Command(tmp_path_factory.mktemp("home"), None).environ) as killable:
        yield killable


@pytest.fixture
def library(killable: Killable, sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path) -> Iterator[WatchedLibrary]:
    """A library in memory if possible: hundreds of runs would wait for the disk."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as directory:
        yield WatchedLibrary(killable, sandbox, proxy, Path(directory))


def killed_at_every_step(library: WatchedLibrary, words: tuple[str, ...]) -> Iterator[Run]:
    """Kill a command before each of its steps, each time from the same starting point."""
    step = 1
    while True:
        library.again()
        run = library.run(*words, world=World(kill_at=step))
        if run.status != KILLED:
            assert run.status == exit_status.DONE
            return
        yield run
        step += 1


def killed_runs(library: WatchedLibrary, words: tuple[str, ...], kills: int, world: World = ORDINARY) -> Iterator[Run]:
    """Kill a command ``kills`` times from the same starting point, at reproducible random steps.

    Every other kill is in the last two fifths, where most writes happen.
    """
    chance, steps = Random(f"{words[0]} {kills}"), 0
    for _warm in (False, True):  # the first run may fill caches
        library.again()
        whole = library.run(*words, world=world)
        assert whole.status == exit_status.DONE, whole
        steps = whole.steps
    for number in range(kills):
        library.again()
        first = 1 + number % 2 * (steps * 3 // 5)
        run = library.run(*words, world=replace(world, kill_at=chance.randint(first, steps)))
        while run.status != KILLED:  # an answer came in fewer chunks, so the run finished earlier
            assert run.status == exit_status.DONE, run
            library.again()
            run = library.run(*words, world=replace(world, kill_at=chance.randint(1, run.steps)))
        yield run


@pytest.mark.parametrize("kills", OFTEN)
@pytest.mark.parametrize(
    ("before", "words", "target"),
    [
        (("journal",), MOVE, MOVED),
        (("journal",), ("batch", "{directory}/batch.csv", "--yes"), BATCHED),
        (MOVE, ("undo", "#1", "--yes"), TAKEN_BACK),
        ((), MOVE, MOVED),  # the database doesn't exist yet
    ],
    ids=["move", "batch", "undo", "first"],
)
def test_a_change(
    library: WatchedLibrary, before: tuple[str, ...], words: tuple[str, ...], target: Target, kills: int
) -> None:
    (library.directory / "batch.csv").write_text(BATCH)
    words = tuple(word.format(directory=library.directory) for word in words)
    if before:
        library.prepare(*before)
    else:
        library.keep()
    for number, run in enumerate(killed_runs(library, words, kills)):
        library.check_whole()
        library.check_journal(run, target)
        library.check_next_run(words, target, ahead=(1800.0, 0.0)[number // 2 % 2])


@pytest.mark.long
def test_a_database_that_is_being_made_at_every_step(library: WatchedLibrary) -> None:
    """The steps include the moment when the file gets its final name."""
    library.keep()
    words = ("state", "upgrade")
    for run in killed_at_every_step(library, words):
        assert (library.state / FILE_NAME).exists() or "is up to date" not in run.output
        assert library.run(*words).status == exit_status.DONE
        library.check_whole()
        library.check_names()


@pytest.mark.parametrize("kills", OFTEN)
def test_an_upgrade_of_the_schema(library: WatchedLibrary, kills: int) -> None:
    migrations = library.directory / "migrations"
    shutil.copytree(upgrade._MIGRATIONS, migrations)
    (migrations / "versions" / "later.py").write_text(LATER_MIGRATION)
    later = World(migrations=str(migrations), version="later")
    words = ("state", "upgrade")
    library.prepare(*MOVE)
    for run in killed_runs(library, words, kills, later):
        assert upgraded(library.state / FILE_NAME) or "is up to date" not in run.output
        assert library.run(*words, world=later).status == exit_status.DONE
        assert upgraded(library.state / FILE_NAME)
        library.check_names()


def upgraded(path: Path) -> bool:
    """Return whether the later migration was applied. Check that it was applied completely or not at all."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        [(version,)] = database.execute("SELECT version_num FROM alembic_version").fetchall()
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        columns = [row[1] for row in database.execute("PRAGMA table_info(changes)")]
        found = {"planted" in names, "changes_planted" in names, "planted" in columns}
        assert found == {version == "later"}
        if version == "later":
            assert database.execute("SELECT action, planted FROM changes").fetchall() == [("move", "move")]
        assert database.execute("SELECT count(*) FROM steps WHERE state = 'done'").fetchone() == (2,)
    return bool(version == "later")
