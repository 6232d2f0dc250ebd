"""Run the product and the floor in turns, each in a new process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

HERE = Path(__file__).resolve().parent
Found = TypeVar("Found")


def figures(program: str, arguments: Sequence[str], environ: dict[str, str]) -> dict[str, Any]:
    """Return the figures that a program of this directory prints as JSON."""
    command = [sys.executable, str(HERE / program), *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{program} {' '.join(arguments)} ended with status {done.returncode}\n{done.stderr}")
    return dict(json.loads(done.stdout))


def seconds(command: Sequence[str], environ: dict[str, str]) -> float:
    """Return how long a command takes from start to end."""
    started = time.perf_counter()
    subprocess.run(command, env=environ, capture_output=True, check=True)
    return time.perf_counter() - started


def by_turns(ours: Callable[[], Found], floor: Callable[[], Found], pairs: int) -> tuple[list[Found], list[Found]]:
    """Run both so many times, alternating the order."""
    products, floors = [], []
    for number in range(pairs):
        if number % 2:
            floors.append(floor())
        products.append(ours())
        if not number % 2:
            floors.append(floor())
    return products, floors
