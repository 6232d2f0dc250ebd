"""What is kept in a state directory, for tests that look at it from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evergreen_groups.report.history import recorded_runs
from evergreen_groups.state import Holder, RemoteHolder, RunStatus, State, run_status


def last_run(directory: Path) -> RunStatus | None:
    """How the last run of the report ended."""
    with State(directory) as state:
        return run_status.read(state.database)


def write_last_run(directory: Path, status: RunStatus) -> None:
    """Write down how it ended."""
    with State(directory) as state:
        run_status.write(state.database, status)


def reporter(directory: Path) -> Holder | RemoteHolder | None:
    """The run that is under way, or that was killed."""
    with State(directory) as state:
        return state.report_holder()


@contextmanager
def reporting(directory: Path) -> Iterator[None]:
    """Hold the lease for making the report."""
    with State(directory) as state, state.report_lease():
        yield


def count_runs(directory: Path) -> int | None:
    """How many runs are in the history; None where there is none."""
    with State(directory) as state:
        return recorded_runs(state.database)
