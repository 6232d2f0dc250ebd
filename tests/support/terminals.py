"""A command with a terminal as its standard error, or as everything."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios

from support.command import Command


def on_a_terminal(command: Command, *words: str, **environ: str) -> tuple[int, str]:
    """Run the command, and give its exit status and all that came to the terminal.

    It is read meanwhile, for a terminal holds little, and where a run takes long its progress is much.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command.arguments(*words), env={**command.environ, **environ}, stdout=subprocess.DEVNULL, stderr=theirs
    )
    return _read(process, ours, theirs)


def at_a_terminal(command: Command, *words: str, answer: str = "", lines: int = 100, **environ: str) -> tuple[int, str]:
    """Run the command wholly at a terminal of so many lines, and give its exit status and all that came there.

    Somebody types the ``answer`` there.
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
    """The exit status, and what was read from our side of the terminal, which is closed; so is the command's side."""
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
