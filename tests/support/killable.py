"""Run the command in processes that can be killed at any step that touches the disk.

A step is a system call or call of SQLite that may change something, a query to PostgreSQL, a send, or the first receive
after it (the number of further receives varies between runs, and step numbers must be reproducible). The process is
killed before the step.
"""

import os
import resource
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self

from support.loaded_program import LoadedProgram

_SYSTEM_CALLS = {
    "open", "replace", "rename", "fsync", "mkdir", "symlink", "unlink", "remove", "rmdir", "ftruncate", "pwrite", "link"
}  # fmt: skip
_SQL_CALLS = {"execute", "executemany", "executescript", "commit", "close"}
_NETWORK_CALLS = {"connect", "sendall", "recv_into"}
KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Run:
    """How a run ended: its exit status (-9 if killed), standard output and error, and the number of steps."""

    status: int
    output: str
    errors: str
    steps: int


@dataclass(frozen=True)
class World:
    """The conditions of a run.

    It is killed before step number ``kill_at``. ``file_limit`` is the maximum size of files in bytes, like on a disk
    that is nearly full, and ``page_limit`` the maximum pages of a database. ``ahead`` moves the journal's clock ahead
    by seconds. ``migrations`` is a directory with other migrations than the package's, up to ``version``.
    """

    kill_at: int | None = None
    file_limit: int | None = None
    page_limit: int | None = None
    ahead: float = 0.0
    migrations: str | None = None
    version: str | None = None


ORDINARY = World()


class Killable:
    """A program that forks, for the duration of a test module. ``environ`` is the environment of it and of its runs."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._program = LoadedProgram({**environ, "PYTHONPATH": str(Path(__file__).parents[1])})

    def __call__(self, *words: str, environ: Mapping[str, str], world: World = ORDINARY) -> Run:
        return Run(*self._program(words, {**self._environ, **environ}, world=asdict(world)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._program.close()


class _Steps:
    """Counts the steps of a run, and kills it before one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.count = 0
        self._kill_at = kill_at
        self._answered = False

    def __call__(self, frame: FrameType, event: str, function: Any) -> None:
        if (event == "c_call" and _is_step(function)) or (event == "call" and _asks_postgresql(frame)):
            answered, self._answered = self._answered, getattr(function, "__name__", "") == "recv_into"
            if answered and self._answered:
                return
            self.count += 1
            if self.count == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def _is_step(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    if owner is sys.modules["posix"]:
        return function.__name__ in _SYSTEM_CALLS
    if isinstance(owner, socket.socket):
        return function.__name__ in _NETWORK_CALLS
    return isinstance(owner, sqlite3.Connection | sqlite3.Cursor) and function.__name__ in _SQL_CALLS


def _asks_postgresql(frame: FrameType) -> bool:
    # Calls inside the driver's C code can't be seen; each goes through this method.
    return frame.f_code.co_name == "wait" and frame.f_code.co_filename.endswith("psycopg/connection.py")


def _enter(world: World) -> None:
    from evergreen_groups.state import upgrade
    from evergreen_groups.state.database import Database

    if world.file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (world.file_limit, world.file_limit))
    if world.page_limit is not None:
        sqlite3.connect = _limited(sqlite3.connect, world.page_limit)
    if world.ahead:
        Database.now = lambda _: datetime.now(UTC) + timedelta(seconds=world.ahead)  # type: ignore[method-assign]
    if world.migrations is not None:
        upgrade._MIGRATIONS, upgrade.VERSION = Path(world.migrations), str(world.version)


def _limited(connect: Callable[..., sqlite3.Connection], pages: int) -> Any:
    def connected(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.execute(f"PRAGMA max_page_count={pages}")
        return connection

    return connected


def run_in_world(order: dict[str, Any], ended: int) -> NoReturn:
    """Run a command in this process, and write the number of its steps to a pipe."""
    from evergreen_groups.cli.application import run

    world = World(**order["world"])
    _enter(world)
    steps = _Steps(world.kill_at)
    sys.setprofile(steps)
    status = run(order["words"])
    sys.setprofile(None)
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(ended, f" {steps.count}".encode())
    os._exit(status)
