"""Replays recorded traffic of a real Evergreen against the sandbox.

    python tests/support/replay.py [--release 3.12] DATASET REPLAY EXCHANGES...

``DATASET`` is what the recorded server held, ``REPLAY`` the program that sends the ``EXCHANGES`` to an address and
compares the answers; its exit status is this one's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from evergreen_groups.sandbox import Sandbox


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", help="the sandbox answers as this one; the latest unless given")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("replay")
    parser.add_argument("exchanges", nargs="+")
    given = parser.parse_args()
    with Sandbox(dataset=given.dataset, release=given.release) as sandbox:
        command = [sys.executable, given.replay, sandbox.url, *given.exchanges, "--dataset", str(given.dataset)]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
