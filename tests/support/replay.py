"""Replay recorded traffic of a real Evergreen with the sandbox.

    python tests/support/replay.py [--release 3.12] [--results FILE] DATASET REPLAY EXCHANGES...

``DATASET`` has the recorded server's data. ``REPLAY`` is a program that sends the ``EXCHANGES`` to a URL and compares
the responses; its exit status is passed on. ``FILE`` gets the number of replayed exchanges and of equal responses, in
addition to those of other releases.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.services.releases import CURRENT

_SUM = re.compile(r"^(\d+) passed, (\d+) failed, \d+ skipped$", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", help="the sandbox answers as this one; the latest unless given")
    parser.add_argument("--results", type=Path, metavar="FILE")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("replay")
    parser.add_argument("exchanges", nargs="+")
    given = parser.parse_args()
    with Sandbox(dataset=given.dataset, release=given.release) as sandbox:
        command = [sys.executable, given.replay, sandbox.url, *given.exchanges, "--dataset", str(given.dataset)]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    sys.stdout.write(done.stdout)
    if given.results and (found := _SUM.search(done.stdout)):
        write_results(given.results, given.release or CURRENT, int(found[1]), int(found[2]))
    return done.returncode


def write_results(file: Path, release: str, passed: int, failed: int) -> None:
    former = json.loads(file.read_text("utf-8")) if file.exists() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**former, release: {"recorded": passed + failed, "replayed": passed}}), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
