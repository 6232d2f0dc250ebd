"""The command in separate processes, for benches: started, found by its URL, and measured."""

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


@contextlib.contextmanager
def command(*words: str, environ: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-m", "evergreen_groups", *words]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextlib.contextmanager
def serve(gateway: str, state: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a service without a rate limit in front of a gateway. Yield its address and its process."""
    own = {"GATEWAY_URL": gateway, "SERVE_THREADS": "8", "SERVE_RATE_LIMIT": "1000000"}
    environ = {f"EVERGREEN_GROUPS_{name}": value for name, value in own.items()}
    with command("serve", "--port", "0", environ={**os.environ, **environ, "STATE_DIRECTORY": state}) as service:
        yield address_in(service).removesuffix("/evergreen-groups/"), service


def address_in(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        for word in line.split():
            if word.startswith("http://"):
                return word
    raise SystemExit("it did not start")


def family_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [process.pid, *map(int, children)]


def megabytes(process: subprocess.Popen[str]) -> float:
    """Return the memory of a process and its children, counting shared memory once (the proportional set size)."""
    rolled = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in family_of(process)]
    return sum(int(text.split("\nPss:")[1].split()[0]) for text in rolled) / 1024


def processor_seconds(process: subprocess.Popen[str]) -> float:
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in family_of(process)]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")
