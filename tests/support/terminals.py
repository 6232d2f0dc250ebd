"""Run a command with a terminal as standard error, or as all standard streams."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios

from support.command import Command


def on_a_terminal(command: Command, *words: str, **environ: str) -> tuple[int, str]:
    """Run the command, and return its exit status and the terminal's output.

    The output is read while the command runs, because a terminal holds little, and a long run shows much progress.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command.arguments(*words), env={**command.environ, **environ}, stdout=subprocess.DEVNULL, stderr=theirs
    )
    return _read(process, ours, theirs)


def at_a_terminal(command: Command, *words: str, answer: str = "", lines: int = 100, **environ: str) -> tuple[int, str]:
    """Run the command in a terminal with so many lines, and return its exit status and the terminal's output.

    ``answer`` is typed there.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 80, 0, 0))
    process = subprocess.Popen(
        command.arguments(*words),
        env={**command.environ, "TERM": "xterm", **environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    if answer:
        os.write(ours, answer.encode())
    return _read(process, ours, theirs)


def _read(process: subprocess.Popen[bytes], terminal: int, theirs: int) -> tuple[int, str]:
    """Return the exit status and the output; both sides of the terminal are closed."""
    os.close(theirs)
    said = b""
    try:
        while portion := os.read(terminal, 65536):
            said += portion
    except OSError:
        pass  # the other side has closed: there is no more
    finally:
        os.close(terminal)
    return process.wait(), said.decode()
