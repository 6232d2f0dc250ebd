"""The web service in a separate process, started like by systemd."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from support.command import Command


@contextmanager
def serving(command: Command, *words: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Yield the process as it serves, its output, and the base URL of the service."""
    arguments = command.arguments(*words)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(arguments, env=command.environ, text=True, **pipes) as process:  # type: ignore[call-overload]  # both are pipes
        try:
            printed = ""
            for line in process.stdout:
                printed += line
                if line.startswith("Serving at "):
                    break
            assert "Serving at " in printed, process.stderr.read()
            yield process, printed, printed.split()[-1].removesuffix("/evergreen-groups/")
        finally:
            process.kill()
