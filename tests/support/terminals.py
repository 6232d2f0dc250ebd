"""Run a program with a terminal as standard error, or as all standard streams."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.command import Command


class Terminal:
    """A program on a new terminal, and the user who types there. ``shown`` is all that the program has written."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str], directory: Path | None = None) -> None:
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(directory or ".")
            os.execvpe(arguments[0], arguments, environ)
        self._unread = self.shown = ""

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def wait_for(self, pattern: str) -> str:
        """Read until the pattern has come, and return what came up to its end."""
        while not (found := re.search(pattern, self._unread)):
            assert self._read(), f"it ended without {pattern!r}: {self.shown}"
        self._unread = self._unread[found.end() :]
        return found.string[: found.end()]

    def answer(self, question: str, *lines: str) -> None:
        """Wait for a question, and answer it."""
        self.wait_for(re.escape(question))
        self.type("".join(f"{line}\n" for line in lines))

    def interrupt(self) -> int:
        """Press Ctrl-C and return the exit status. Python misses one that comes just before it waits for input."""
        for _ in range(30):
            self.type("\x03")
            while select.select([self._terminal], [], [], 3)[0]:
                if not self._read():
                    return self.end()
        raise AssertionError(f"it goes on: {self.shown}")

    def end(self) -> int:
        """Wait for the end and return the exit status."""
        while self._read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def close(self) -> None:
        """Hang up, which ends the program."""
        os.close(self._terminal)

    def _read(self) -> str:
        assert select.select([self._terminal], [], [], 120)[0], f"it says nothing more: {self.shown}"
        try:
            portion = os.read(self._terminal, 65536).decode(errors="replace")
        except OSError:  # how Linux says that the other side has closed
            return ""
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", portion)
        self.shown += text
        self._unread += text
        return portion


@contextmanager
def terminal_of(command: Command, *words: str) -> Iterator[Terminal]:
    """Run the command on a terminal at which a user answers its questions."""
    terminal = Terminal(command.arguments(*words), command.environ)
    try:
        yield terminal
    finally:
        terminal.close()


def on_a_terminal(command: Command, *words: str, **environ: str) -> tuple[int, str]:
    """Run the command with a terminal as standard error, and return its exit status and the terminal's output."""
    return _run(command, words, environ, stdout=subprocess.DEVNULL)


def at_a_terminal(command: Command, *words: str, answer: str = "", lines: int = 100, **environ: str) -> tuple[int, str]:
    """Run the command in a terminal with so many lines, and return its exit status and the terminal's output.

    ``answer`` is typed there.
    """
    return _run(command, words, {"TERM": "xterm", **environ}, answer, lines)


def _run(
    command: Command, words: Sequence[str], environ: Mapping[str, str], answer: str = "", lines: int = 0, **streams: int
) -> tuple[int, str]:
    """Read the output while the command runs, because a terminal holds little, and a long run shows much progress."""
    ours, theirs = pty.openpty()
    if lines:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 80, 0, 0))
        streams = {"stdin": theirs, "stdout": theirs, "start_new_session": True}
    environ = {**command.environ, **environ}
    process = subprocess.Popen(command.arguments(*words), env=environ, stderr=theirs, **streams)
    os.write(ours, answer.encode())
    os.close(theirs)
    said = b""
    try:
        while portion := os.read(ours, 65536):
            said += portion
    except OSError:
        pass  # the other side has closed: there is no more
    finally:
        os.close(ours)
    return process.wait(), said.decode()
