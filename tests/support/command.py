"""The command in a separate process, also as the web service."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.gateways import environ_of
from support.loaded_program import loaded_program

from evergreen_groups.settings.reading import CONFIG_VARIABLE


class Command:
    """Runs the command in a separate process, with nothing configured but the arguments."""

    def __init__(self, directory: Path, url: str | None, account: str = "consortium_staff") -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EVERGREEN_", "XDG_"))}
        self.config = directory / "command.toml"  # without this, the machine's configuration would apply
        self.config.touch()
        # Without its own place, root's state would be that of a program that is installed here.
        places = {"HOME": str(directory), "XDG_STATE_HOME": str(directory / ".local" / "state")}
        self.environ = {**kept, **places, "COLUMNS": "80", CONFIG_VARIABLE: str(self.config)}
        if url is not None:
            self.environ |= environ_of(url, account)

    def arguments(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "evergreen_groups", *words]

    def __call__(self, *words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        status, output, errors, _steps = loaded_program()(words, self.environ, answer)
        return subprocess.CompletedProcess(self.arguments(*words), status, output, errors)


def one_line(text: str) -> bool:
    return text.startswith("evergreen-groups: ") and text.count("\n") == 1


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


def clock_ahead(seconds: int) -> dict[str, str]:
    """Return the environment of a program whose clock is ahead by so many seconds, or behind, by libfaketime.

    The program's forks inherit the library, and each can set ``FAKETIME`` for itself.
    """
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise RuntimeError("wrong clocks need libfaketime: apt install faketime")
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME": f"{seconds:+d}",
        "FAKETIME_NO_CACHE": "1",  # FAKETIME is reread each time, so a fork has its own clock at once
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # it slows down threads that wait for each other
    }
