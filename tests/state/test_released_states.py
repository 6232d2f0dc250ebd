"""State databases of releases: today's code upgrades them, and reads what is in them.

``support/released_state.py`` wrote them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select
from support.postgresql import shared_cluster
from support.released_state import DUMP, FILE, RELEASED, ROWS, exported
from support.states import FILE_FIRST, columns_of

from evergreen_groups.changes import Journal
from evergreen_groups.follow_up import FollowUps, What
from evergreen_groups.state import State, examine, read_run_status, schema

RELEASES = sorted(path.name for path in RELEASED.iterdir())
URL = "http://127.0.0.1:8210"
ADDED = {"1.0": ["payments", "stays"]}
"""The tables that a release didn't have yet."""


@pytest.fixture(params=RELEASES)
def released(request: pytest.FixtureRequest) -> Path:
    return RELEASED / str(request.param)


@pytest.fixture(params=FILE_FIRST)
def state(request: pytest.FixtureRequest, released: Path, tmp_path: Path) -> Iterator[State]:
    """The database of a release, opened by today's code."""
    if request.param == "sqlite":
        (tmp_path / "state").mkdir(mode=0o700)
        shutil.copyfile(released / FILE, tmp_path / "state" / FILE)
        with State(tmp_path / "state") as state:
            yield state
        return
    cluster = shared_cluster()
    with cluster.database() as name:
        cluster.execute((released / DUMP).read_text("utf-8"), name)
        with State(tmp_path / "state", cluster.url(name)) as state:
            yield state


def test_every_row_is_as_it_was_written(state: State, released: Path) -> None:
    """A later version may add columns and tables, but loses nothing."""
    version, *rows = map(json.loads, exported(state))
    _version, *expected = map(json.loads, (released / ROWS).read_text("utf-8").splitlines())
    assert version == {"version": int(schema.VERSION)} or version == {"version": 1}
    assert [missing for missing in expected if not any(missing.items() <= row.items() for row in rows)] == []
    with state.database.reading() as connection:
        counts = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in schema.metadata.sorted_tables
        }
    assert sorted(name for name in counts if not counts[name]) == ADDED[released.name]
    examine(state.database, thoroughly=True)


def test_it_has_the_tables_of_a_new_one(state: State, tmp_path: Path) -> None:
    with state.database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        upgraded = columns_of(connection.engine)
    with ExitStack() as stack:
        if state.database.path is None:
            cluster = shared_cluster()
            new = State(tmp_path / "new", cluster.url(stack.enter_context(cluster.database())))
        else:
            new = State(tmp_path / "new")
        stack.enter_context(new)
        with new.database.reading() as connection:
            assert columns_of(connection.engine) == upgraded


def test_it_is_understood(state: State) -> None:
    undo, change = Journal(state.database).entries(URL)
    assert (change.action, undo.action, undo.undoes) == ("remove", "undo", change.id)
    assert [step.state.value for entry in (change, undo) for step in entry.steps] == ["done", "done"]
    found = FollowUps(state.database, URL).of_report("")
    assert found is not None
    (agreed,) = [one for one in found.by_group.values() if one.entries]
    assert [(entry.what, entry.note) for entry in agreed.entries] == [(What.PROMISED, "by Friday")]
    status: Any = read_run_status(state.database)
    assert (status.outcome.value, status.groups) == ("partial", 8)
