"""Run the command in processes forked from one that has loaded the package.

Importing takes most commands longer than their work. Each still runs in a separate process, from ``python -m
evergreen_groups`` to the end of the interpreter; only the imports are done already.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
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
from typing import Any, NoReturn

_LONGEST_ORDER = 1 << 20
_SECONDS = 300  # a command that takes longer hangs


class LoadedProgram:
    """The program that forks. It ends with the process that started it, because that closes the socket."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            # Its standard streams are pipes, as those of the commands are: Python notes once whether it can seek there.
            self._complaints, pipe = os.pipe()
            streams = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe}
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environ, **streams)
            os.close(pipe)

    def begin(
        self,
        words: Sequence[str],
        environ: Mapping[str, str],
        streams: Sequence[int],
        *,
        seconds: int = _SECONDS,
        world: Mapping[str, Any] | None = None,
    ) -> int:
        """Start the command with three standard streams, which are closed here; kill it after ``seconds`` (0: never).

        Returns a pipe with its process id, the number of its steps in a ``world``, and in the end its exit status.
        """
        ended, theirs = os.pipe()
        place = {"environ": dict(environ), "directory": str(Path.cwd())}
        order = json.dumps({"words": words, **place, "seconds": seconds, "world": world})
        try:
            socket.send_fds(self._orders, [order.encode()], [*streams, theirs])
        except ConnectionError:
            raise AssertionError(os.read(self._complaints, 1 << 16).decode()) from None
        for stream in (*streams, theirs):
            os.close(stream)
        return ended

    def __call__(
        self, words: Sequence[str], environ: Mapping[str, str], answer: str = "", world: Mapping[str, Any] | None = None
    ) -> tuple[int, str, str, int]:
        """Run the command, in a :class:`support.killable.World` if given.

        Returns its exit status (negative if ended by a signal), output and errors, and the number of steps in a world.
        """
        (given, answers), (output, its_output), (errors, its_errors) = (os.pipe() for _ in range(3))
        os.write(answers, answer.encode())
        os.close(answers)
        ended = self.begin(words, environ, (given, its_output, its_errors), world=world)
        *said, numbers = _read_all([output, errors, ended])
        _process, *steps, status = map(int, numbers.split())
        return (
            status,
            *(text.decode().replace("\r\n", "\n") for text in said),
            sum(steps),
        )  # line ends as subprocess has them

    def close(self) -> None:
        """Let the program end."""
        self._orders.close()
        self._process.wait()
        os.close(self._complaints)


def _read_all(pipes: list[int]) -> list[bytes]:
    """Read from several pipes, in any order."""
    content = dict.fromkeys(pipes, b"")
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _events in selector.select():
                portion = os.read(key.fd, 1 << 16)
                content[key.fd] += portion
                if not portion:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return list(content.values())


@cache
def loaded_program() -> LoadedProgram:
    return LoadedProgram()


def load_package() -> None:
    """Import what a command may need; the imports don't depend on the environment."""
    package = importlib.import_module("evergreen_groups")
    for module in pkgutil.walk_packages(package.__path__, "evergreen_groups."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:  # Alembic runs those
            importlib.import_module(module.name)


def _watch(command: int, ended: int, seconds: int) -> None:
    """Wait for the command's process and write down how it ended."""

    def kill(_number: int, _frame: FrameType | None) -> None:
        os.kill(command, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill)
    signal.alarm(seconds)
    _, status = os.waitpid(command, 0)
    os.write(ended, f" {os.waitstatus_to_exitcode(status)}".encode())
    os._exit(0)


def _serve(orders: socket.socket) -> tuple[dict[str, Any], int] | None:
    """Fork for each order; returns it in the process that must run it, with the pipe to write to; None at the end."""
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
    *standard, ended = streams
    order = json.loads(message)
    if command := os.fork():
        _watch(command, ended, order["seconds"])
    os.write(ended, str(os.getpid()).encode())
    for number, stream in enumerate(standard):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(order["environ"])
    os.chdir(order["directory"])
    return order, ended


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
    served = _serve(socket.socket(fileno=int(sys.argv[1])))
    if served is None:
        return
    order, ended = served
    if order["world"] is not None:
        from support.killable import run_in_world

        run_in_world(order, ended)
    os.close(ended)
    sys.argv[1:] = order["words"]
    _run()


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())  # where `python -m` looks first
    main()
