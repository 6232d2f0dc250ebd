"""A service manager that keeps the port of a service while it restarts, as systemd does with a socket unit."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from contextlib import AbstractContextManager
from types import TracebackType

from support.command import Command

# The program takes the place of this one, so that $LISTEN_PID is its own number.
_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Activation(AbstractContextManager["Activation"]):
    """Runs ``evergreen-groups serve`` on a socket of its own, and again whenever it ends. ``url`` is the address."""

    def __init__(self, command: Command, *words: str) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.url = "http://{}:{}".format(*self._listener.getsockname())
        self.process = self._start(command, words)
        self.ended: list[int] = []
        """The exit status of each process that has ended."""
        self._is_stopping = False
        self._restarting = threading.Thread(target=self._restart, args=(command, words))
        self._restarting.start()

    def _start(self, command: Command, words: tuple[str, ...]) -> subprocess.Popen[bytes]:
        file = self._listener.fileno()
        arguments = [sys.executable, "-c", _START, str(file), *command.arguments("serve", *words)]
        return subprocess.Popen(arguments, env=command.environ, pass_fds=[file], stdout=subprocess.DEVNULL)

    def _restart(self, command: Command, words: tuple[str, ...]) -> None:
        while True:
            self.ended.append(self.process.wait())
            if self._is_stopping:
                return
            self.process = self._start(command, words)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._is_stopping = True
        self.process.kill()
        self._restarting.join()
        self._listener.close()
