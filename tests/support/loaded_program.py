"""Run the command in processes forked from one that has loaded the package.

Importing takes most commands longer than their work. Each still runs in a separate process, from ``python -m
evergreen_groups`` to the end of the interpreter; only the imports are done already.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

_LONGEST_ORDER = 1 << 20
_SECONDS = 300  # a command that takes longer hangs


class LoadedProgram:
    """The program that forks. It ends with the process that started it, because that closes the socket."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def __call__(self, words: Sequence[str], environ: Mapping[str, str], answer: str) -> tuple[int, str, str]:
        """Run the command; returns its exit status (negative if ended by a signal), output and errors."""
        order = {"words": list(words), "environ": dict(environ), "directory": str(Path.cwd())}
        with _memory() as given, _memory() as output, _memory() as errors:
            given.write(answer.encode())
            given.seek(0)
            ended, theirs = os.pipe()
            streams = [given.fileno(), output.fileno(), errors.fileno(), theirs]
            socket.send_fds(self._orders, [json.dumps(order).encode()], streams)
            os.close(theirs)
            with os.fdopen(ended) as told:
                status = int(told.read())
            return status, _text(output), _text(errors)


@cache
def loaded_program() -> LoadedProgram:
    return LoadedProgram()


def _memory() -> IO[bytes]:
    """Return a file in memory; unlike a pipe, it takes any amount without being read."""
    return os.fdopen(os.memfd_create("stream"), "w+b", buffering=0)


def _text(file: IO[bytes]) -> str:
    """Return the output as text, with converted line ends, like ``subprocess``."""
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


def load_package() -> None:
    """Import what a command may need; the imports don't depend on the environment."""
    package = importlib.import_module("evergreen_groups")
    for module in pkgutil.walk_packages(package.__path__, "evergreen_groups."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:  # Alembic runs those
            importlib.import_module(module.name)


def _watch(command: int, ended: int) -> None:
    """Wait for the command's process and write down how it ended."""

    def kill(_number: int, _frame: FrameType | None) -> None:
        os.kill(command, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill)
    signal.alarm(_SECONDS)
    _, status = os.waitpid(command, 0)
    os.write(ended, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _serve(orders: socket.socket) -> list[str] | None:
    """Fork for each order; returns its arguments in the process that must run them, and None at the end."""
    while True:
        message, streams, _flags, _address = socket.recv_fds(orders, _LONGEST_ORDER, 4)
        if not message:
            return None
        if os.fork() == 0:
            break
        for stream in streams:
            os.close(stream)
    orders.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if command := os.fork():
        _watch(command, streams.pop())
    order = json.loads(message)
    for number, stream in enumerate(streams[:3]):
        os.dup2(stream, number)
    for stream in streams:
        os.close(stream)
    os.environ.clear()
    os.environ.update(order["environ"])
    os.chdir(order["directory"])
    words: list[str] = order["words"]
    return words


def _run() -> NoReturn:
    """Run the command to its end like the interpreter, except for tearing down all modules, which takes the longest."""
    status: object = 0
    try:
        runpy.run_module("evergreen_groups", run_name="__main__", alter_sys=True)
    except SystemExit as ending:
        status = ending.code
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for other threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def main() -> None:
    """Load the package, then fork for each order from the socket whose number is the argument."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # watching processes aren't waited for
    load_package()
    gc.freeze()  # so that collecting garbage doesn't copy shared memory
    words = _serve(socket.socket(fileno=int(sys.argv[1])))
    if words is None:
        return
    sys.argv[1:] = words
    _run()


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())  # where `python -m` looks first
    main()
