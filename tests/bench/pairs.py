"""Run the product and the floor in turns, each in a new process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

HERE = Path(__file__).resolve().parent
WRITTEN = (0, 7)
"""Exit statuses of a command that has written its output; 7 means that members are hidden from the account."""

Found = TypeVar("Found")


def figures(program: str, arguments: Sequence[str], environ: dict[str, str]) -> dict[str, Any]:
    """Return the figures that a program of this directory prints as JSON."""
    command = [sys.executable, str(HERE / program), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{program} {' '.join(arguments)} ended with status {done.returncode}\n{done.stderr}")
    return dict(json.loads(done.stdout))


class Whole(NamedTuple):
    """A command from start to end: seconds, peak memory in MB, and its short output."""

    seconds: float
    peak_mb: float
    printed: str


def whole_process(command: Sequence[str], environ: dict[str, str]) -> Whole:
    """Run a command that prints less than a pipe holds."""
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _pid, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    printed, complaint = process.communicate()
    if process.returncode not in WRITTEN:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}\n{complaint}")
    return Whole(seconds, usage.ru_maxrss / 1024, printed)


def by_turns(ours: Callable[[], Found], floor: Callable[[], Found], pairs: int) -> tuple[list[Found], list[Found]]:
    """Run both so many times, alternating the order."""
    products, floors = [], []
    for first in _turns(pairs):
        if first:
            products.append(ours())
            floors.append(floor())
        else:
            floors.append(floor())
            products.append(ours())
    return products, floors


def _turns(pairs: int) -> Iterator[bool]:
    return (index % 2 == 0 for index in range(pairs))
