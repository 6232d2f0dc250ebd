"""Read and write a state directory from outside."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import func, select

from evergreen_groups.state import Holder, RunStatus, State, read_run_status, schema, write_run_status


def last_run(directory: Path) -> RunStatus | None:
    with State(directory) as state:
        return read_run_status(state.database)


def write_last_run(directory: Path, status: RunStatus) -> None:
    with State(directory) as state:
        write_run_status(state.database, status)


def reporter(directory: Path) -> Holder | None:
    """Return the run in progress, or the one that was killed."""
    with State(directory) as state:
        return state.report_holder()


@contextmanager
def reporting(directory: Path) -> Iterator[None]:
    with State(directory) as state, state.report_lease():
        yield


def count_runs(directory: Path) -> int | None:
    """Return the number of runs in the history, or None without one."""
    with State(directory) as state:
        if not state.database.is_there:
            return None
        with state.database.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(schema.runs)).scalar_one())


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Let no file become larger than ``size`` bytes; the kernel refuses as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
