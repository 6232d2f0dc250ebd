"""Programs that load the package once, and fork a process for each order.

An order is a line of JSON; so is the answer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class ForkingProgram:
    """A module of the tests as a program that forks, until the end of the block. Safe to share between threads."""

    def __init__(self, module: str, environ: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, order: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            print(json.dumps(order), file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())

    def kill(self, process: int) -> None:
        self.ask({"kill": process})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()


def fork_and_kill(work: Callable[[dict[str, Any]], None]) -> None:
    """Fork a process that does the work of each order, or kill one, and answer with its id."""
    running: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if "kill" in order:
            process = order["kill"]
            running.discard(process)
            _end(process)
        else:
            process = os.fork()
            if process == 0:
                try:
                    work(order)
                finally:
                    os._exit(1)
            running.add(process)
        print(process, flush=True)
    for process in running:
        _end(process)


def _end(process: int) -> None:
    # The child hasn't been waited for, so its id can't have been reused, even if it has ended.
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
