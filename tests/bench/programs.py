"""The command in separate processes, for benches: started, and found by its URL."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

ACCOUNT = "consortium_staff"
PASSWORD = "sandbox"


@contextlib.contextmanager
def command(*words: str, environ: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-m", "evergreen_groups", *words]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            yield process
        finally:
            process.terminate()


def address_in(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        for word in line.split():
            if word.startswith("http://"):
                return word
    raise SystemExit("it did not start")
