"""Web services in processes forked from one that has loaded the package; they can be killed and restarted.

As a program, this module is the process that forks; tests use :class:`ForkedServers`. Each service is the command
``serve`` in a separate process.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from support.forking import ForkingProgram, fork_and_kill
from support.loaded_program import load_package


class ForkedServers(ForkingProgram):
    """Services by name, each with its environment; ``directory`` is for their output. Safe to share between threads.

    ``shared`` is added to the environment of the program that forks them.
    """

    def __init__(
        self, directory: Path, environs: Mapping[str, Mapping[str, str]], shared: Mapping[str, str] | None = None
    ) -> None:
        super().__init__("support.forked_servers", {**os.environ, **(shared or {})})
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
        self._running[name] = self.ask(order)
        with pipe.open() as output:
            for line in output:
                if line.startswith("Serving at "):
                    self.addresses[name] = line.split()[-1].removesuffix("/evergreen-groups/")
                    break
            else:
                raise AssertionError(self.errors)
        pipe.unlink()

    def kill_service(self, name: str) -> None:
        self.kill(self._running.pop(name))

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


if __name__ == "__main__":
    load_package()
    fork_and_kill(_serve)
