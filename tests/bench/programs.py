"""The command as programs of their own, for benches: started, found by its address, and weighed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ACCOUNT = "consortium_staff"
PASSWORD = "sandbox"
API = "/evergreen-groups/api/v1"
PATRONS = [number for number in range(1001, 1054) if number not in (1031, 1048)]
"""The built-in patrons, but for one who is deleted and one without a card."""


@contextlib.contextmanager
def command(*words: str, environ: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """The command, running in a process of its own."""
    arguments = [sys.executable, "-m", "evergreen_groups", *words]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            yield process
        finally:
            process.terminate()


def address_in(process: subprocess.Popen[str]) -> str:
    """The first address that it prints."""
    assert process.stdout is not None
    for line in process.stdout:
        for word in line.split():
            if word.startswith("http://"):
                return word
    raise SystemExit("it did not start")


def family_of(process: subprocess.Popen[str]) -> list[int]:
    """The numbers of a process and of its children."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [process.pid, *map(int, children)]


def megabytes(process: subprocess.Popen[str]) -> float:
    """Memory in use by a process and its children, what they share counted once (the proportional set)."""
    rolled = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in family_of(process)]
    return sum(int(text.split("\nPss:")[1].split()[0]) for text in rolled) / 1024


def processor_seconds(process: subprocess.Popen[str]) -> float:
    """Processor time that a process and its children have used."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in family_of(process)]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")
