"""Runs the command in processes that are forked from one which has loaded the whole package.

A command of the suite spends longer on imports than on its work. Each still runs in a process of its own, from
``python -m evergreen_groups`` to the end of the interpreter; only what has been imported before it is already there.
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
    """The program that forks. It ends with the process that started it, for its end of the socket is closed then."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def __call__(self, words: Sequence[str], environ: Mapping[str, str], answer: str) -> tuple[int, str, str]:
        """Run the command; returns its exit status (negative where a signal ended it), output and errors."""
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
    """The one of this test process."""
    return LoadedProgram()


def _memory() -> IO[bytes]:
    """A file in memory, in which nothing is lost however much is written: a pipe has to be read meanwhile."""
    return os.fdopen(os.memfd_create("stream"), "w+b", buffering=0)


def _text(file: IO[bytes]) -> str:
    """What was written, with the line ends that a text has, as ``subprocess`` gives it."""
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


def load_package() -> None:
    """Import what a command may need. Nothing is computed from the environment while it is imported."""
    package = importlib.import_module("evergreen_groups")
    for module in pkgutil.walk_packages(package.__path__, "evergreen_groups."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:  # those are run by Alembic
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
    """Fork for each order; returns its words in the process that is to run them, and None when nobody orders."""
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
    """Run the command to its end, as the interpreter does, but for taking all modules apart: that takes the longest."""
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
    """Load the package, then fork for each order that comes through the socket whose number is the argument."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those who watch are waited for by nobody
    load_package()
    gc.freeze()  # what forks share is left alone
    words = _serve(socket.socket(fileno=int(sys.argv[1])))
    if words is None:
        return
    sys.argv[1:] = words
    _run()


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())  # where `python -m` looks first
    main()
