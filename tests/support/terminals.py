"""A command with a terminal as its standard error, or as everything."""

from __future__ import annotations

import os
import pty
import subprocess

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
