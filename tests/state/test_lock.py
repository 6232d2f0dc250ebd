"""Locks between processes: the holder is reported, and a killed holder is detected."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.states import state_in

from evergreen_groups.errors import BusyError, ConfigurationError
from evergreen_groups.state import State, schema
from evergreen_groups.state.files import REPORT_LOCK
from evergreen_groups.state.lock import hold, holder_of

HOLDING = (
    "import sys\nfrom pathlib import Path\nfrom evergreen_groups.state.lock import hold\n"
    "with hold(Path(sys.argv[1]), 'is busy'):\n    print('held', flush=True)\n    sys.stdin.read()\n"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.lock"


@contextmanager
def another_process_holds(file: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def refusal(file: Path) -> str:
    with pytest.raises(BusyError) as caught, hold(file, "another run is busy"):
        pass
    return str(caught.value)


def test_the_holder_is_noted_and_taken_out_again(file: Path) -> None:
    before = datetime.now(UTC)
    with hold(file, "another run is busy") as holder:
        assert holder.pid == os.getpid()
        assert before <= holder.since <= datetime.now(UTC)
        assert holder_of(file) == holder
        assert holder.alive
    assert holder_of(file) is None
    assert file.stat().st_mode & 0o777 == 0o600


def test_another_run_is_refused_and_told_who_holds_it(file: Path) -> None:
    with another_process_holds(file) as process:
        holder = holder_of(file)
        assert holder is not None
        assert (
            refusal(file)
            == f"another run is busy (process {process.pid}, since {holder.since.astimezone():%Y-%m-%d %H:%M})"
        )
        assert holder_of(file) == holder  # the refused process left the note alone
    with hold(file, "another run is busy"):
        pass


@pytest.mark.parametrize("text", ["", "{}", "[]", "{", '{"pid": 1, "since": "yesterday"}', "\0\0\0"])
def test_a_note_that_says_nothing(file: Path, text: str) -> None:
    with another_process_holds(file):
        file.write_text(text)
        assert holder_of(file) is None
        assert refusal(file) == "another run is busy (just started)"


def test_a_state_directory_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / REPORT_LOCK).mkdir()
    with (
        pytest.raises(ConfigurationError, match="run this as the owner of the state directory"),
        state_in(tmp_path).report_lease(),
    ):
        pass
    with pytest.raises(ConfigurationError, match="cannot read"):
        holder_of(tmp_path / REPORT_LOCK)


def test_events_get_in_the_way_of_none_but_themselves(state: State) -> None:
    with state.event_lease("one", 0.0):
        with state.change_lease("https://a.example", [1]), state.report_lease(), state.event_lease("another", 0.0):
            pass
        with pytest.raises(BusyError, match="is still handling this event"), state.event_lease("one", 0.1):
            pass
    with state.event_lease("one", 0.0):
        pass


def test_leases_of_events_leave_nothing_behind(state: State) -> None:
    """Don't keep a lock file or note for every past event."""
    for number in range(100):
        with state.event_lease(str(number), 0.0):
            pass
    with state.database.reading() as connection:
        assert connection.execute(schema.leases.select()).all() == []
    assert [path.stat().st_size for path in state.directory.glob("events*")] == [0] * (state.database.path is not None)
