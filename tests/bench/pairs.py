"""Ours and the floor, each in a fresh process, by turns."""

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
"""How a command ends that has written what it was to write: 7 says that members are hidden from the account."""

Found = TypeVar("Found")


def figures(program: str, arguments: Sequence[str], environ: dict[str, str]) -> dict[str, Any]:
    """What a program of this directory prints of itself, as JSON."""
    command = [sys.executable, str(HERE / program), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{program} {' '.join(arguments)} ended with status {done.returncode}\n{done.stderr}")
    return dict(json.loads(done.stdout))


class Whole(NamedTuple):
    """A command from its start to its end: the seconds, its peak memory in MB, and the little that it printed."""

    seconds: float
    peak_mb: float
    printed: str


def whole_process(command: Sequence[str], environ: dict[str, str]) -> Whole:
    """Run a command, which prints less than a pipe holds."""
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
    """What both give, so many times; one after the other, and each second time the other way round."""
    mine, others = [], []
    for first in _turns(pairs):
        if first:
            mine.append(ours())
            others.append(floor())
        else:
            others.append(floor())
            mine.append(ours())
    return mine, others


def _turns(pairs: int) -> Iterator[bool]:
    return (place % 2 == 0 for place in range(pairs))
