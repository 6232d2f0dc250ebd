"""Web services in processes forked from one that has loaded the package; they can be killed and restarted.

As a program, this module is the process that forks; tests use :class:`ForkedServers`. Each service is the command
``serve`` in a separate process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Self

from support.loaded_program import load_package


class ForkedServers:
    """Services by name, each with its environment; ``directory`` is for their output. Safe to share between threads.

    ``shared`` is added to the environment of the program that forks them, which gets its orders as lines of JSON.
    """

    def __init__(
        self, directory: Path, environs: Mapping[str, Mapping[str, str]], shared: Mapping[str, str] | None = None
    ) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.forked_servers"],
            env={**os.environ, **(shared or {}), "PYTHONPATH": str(Path(__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._errors = directory / "errors"
        self._environs = environs
        self._numbers = count()
        self._running: dict[str, int] = {}
        self.addresses: dict[str, str] = {}

    def start(self, name: str) -> None:
        """Start a service, and wait until it serves, at its own address."""
        pipe = self._errors.with_name(f"output-{next(self._numbers)}")
        os.mkfifo(pipe)
        order = {"environ": dict(self._environs[name]), "output": str(pipe), "errors": str(self._errors)}
        self._running[name] = self._ask(order)
        with pipe.open() as output:
            for line in output:
                if line.startswith("Serving at "):
                    self.addresses[name] = line.split()[-1].removesuffix("/evergreen-groups/")
                    break
            else:
                raise AssertionError(self.errors)
        pipe.unlink()

    def kill_service(self, name: str) -> None:
        self._ask({"kill": self._running.pop(name)})

    def _ask(self, order: Mapping[str, Any]) -> int:
        """Send an order, and return the id of the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            print(json.dumps(order), file=self._process.stdin, flush=True)
            return int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate()

    @property
    def errors(self) -> str:
        return self._errors.read_text() if self._errors.exists() else ""


def _serve(order: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(order["environ"])
    errors = os.open(order["errors"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(errors, 2)
    os.dup2(os.open(order["output"], os.O_WRONLY), 1)
    # Only the address is read; the service prints nothing else.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    from evergreen_groups import cli

    cli.main(["serve", "--port", "0"])


def fork_and_kill() -> None:
    """Fork a service for each order, or kill one, and answer with its id."""
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
                    _serve(order)
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


if __name__ == "__main__":
    load_package()
    fork_and_kill()
