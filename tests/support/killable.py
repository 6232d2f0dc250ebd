"""Runs the command in processes of their own that can be killed at any step which touches the disk.

Started as a program it loads the command once, and forks for each run; :class:`Killable` is what tests use. A step is
a call of the operating system or of SQLite that may change something. The process is killed before it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import FrameType, TracebackType
from typing import Any, Self

_SYSTEM_CALLS = {
    "open", "replace", "rename", "fsync", "mkdir", "symlink", "unlink", "remove", "rmdir", "ftruncate", "pwrite", "link"
}  # fmt: skip
_SQL_CALLS = {"execute", "executemany", "executescript", "commit", "close"}


@dataclass(frozen=True)
class Run:
    """How a run ended: its exit status (-9 where it was killed), what it said, and how many steps it did."""

    status: int
    errors: str
    steps: int


class Killable:
    """The program that forks, for as long as a test module needs it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], env=dict(environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(
        self,
        *words: str,
        environ: Mapping[str, str],
        kill_at: int | None = None,
        file_limit: int | None = None,
    ) -> Run:
        """Run the command. ``file_limit`` is how large, in bytes, a file may grow, as on a disk that is nearly full."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"words": words, "environ": dict(environ), "kill_at": kill_at, "file_limit": file_limit}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return Run(**json.loads(self._process.stdout.readline()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()


class _Steps:
    """Counts the steps of a run, and kills it before one of them."""

    def __init__(self, kill_at: int | None) -> None:
        self.count = 0
        self._kill_at = kill_at

    def __call__(self, frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and _is_step(function):
            self.count += 1
            if self.count == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def _is_step(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    if owner is sys.modules["posix"]:
        return function.__name__ in _SYSTEM_CALLS
    return isinstance(owner, sqlite3.Connection | sqlite3.Cursor) and function.__name__ in _SQL_CALLS


def _child(order: dict[str, Any], errors: int, count: int) -> None:
    from evergreen_groups.cli.application import run

    os.environ.update(order["environ"])
    os.dup2(errors, 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    if order["file_limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_limit"], order["file_limit"]))
    steps = _Steps(order["kill_at"])
    sys.setprofile(steps)
    status = run(order["words"])
    sys.setprofile(None)
    sys.stderr.flush()
    os.write(count, str(steps.count).encode())
    os._exit(status)


def _run(order: dict[str, Any]) -> Run:
    errors, count = os.pipe(), os.pipe()
    process = os.fork()
    if process == 0:
        _child(order, errors[1], count[1])
    os.close(errors[1])
    os.close(count[1])
    with os.fdopen(errors[0]) as said, os.fdopen(count[0]) as counted:
        text, steps = said.read(), int(counted.read() or 0)
    _, status = os.waitpid(process, 0)
    return Run(os.waitstatus_to_exitcode(status), text, steps)


def main() -> None:
    """Fork for each order that comes as a line of JSON, and answer with a line of JSON."""
    for line in sys.stdin:
        print(json.dumps(asdict(_run(json.loads(line)))), flush=True)


if __name__ == "__main__":
    # What a run would import by itself, once and before the fork.

    main()
