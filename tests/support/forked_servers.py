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
from types import TracebackType
from typing import Any, Self


class ForkedServers:
    """Services by name, each with its environment; ``directory`` is for their output. Safe to share between threads.

    ``shared`` is added to the environment of the program that forks them.
    """

    def __init__(
        self, directory: Path, environs: Mapping[str, Mapping[str, str]], shared: Mapping[str, str] | None = None
    ) -> None:
        self._directory = directory
        self._environs = environs
        self._lock = threading.Lock()
        self._numbers = count()
        self._running: dict[str, int] = {}
        self.addresses: dict[str, str] = {}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **(shared or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, name: str) -> None:
        """Start a service, and wait until it serves, at its own address."""
        pipe = self._directory / f"output-{next(self._numbers)}"
        os.mkfifo(pipe)
        order = {"environ": dict(self._environs[name]), "output": str(pipe)}
        self._running[name] = self._ask(order)
        with pipe.open() as output:
            for line in output:
                if line.startswith("Serving at "):
                    self.addresses[name] = line.split()[-1].removesuffix("/evergreen-groups/")
                    break
            else:
                raise AssertionError((self._directory / "errors").read_text())
        pipe.unlink()

    def kill(self, name: str) -> None:
        """Kill a service with SIGKILL."""
        self._ask({"signal": int(signal.SIGKILL), "process": self._running.pop(name)})

    @property
    def errors(self) -> str:
        """Return what the services have logged."""
        file = self._directory / "errors"
        return file.read_text() if file.exists() else ""

    def _ask(self, order: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            print(
                json.dumps({**order, "errors": str(self._directory / "errors")}), file=self._process.stdin, flush=True
            )
            return int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()


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


def _fork(order: dict[str, Any]) -> int:
    process = os.fork()
    if process == 0:
        try:
            _serve(order)
        finally:
            os._exit(1)
    return process


def main() -> None:
    """Fork or kill for each line of JSON, and respond with the process id."""
    from support.loaded_program import load_package

    load_package()
    running: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if "signal" in order:
            process = order["process"]
            running.discard(process)
            _end(process)
        else:
            process = _fork(order)
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
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
