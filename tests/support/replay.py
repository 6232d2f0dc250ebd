"""Replays recorded traffic of a real Evergreen against the sandbox.

    python tests/support/replay.py DATASET REPLAY EXCHANGES

``DATASET`` is what the recorded server held, ``REPLAY`` the program that sends the ``EXCHANGES`` to an address and
compares the answers; its exit status is this one's.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from evergreen_groups.sandbox import Sandbox


def main(dataset: str, replay: str, exchanges: str) -> int:
    with Sandbox(dataset=Path(dataset)) as sandbox:
        return subprocess.run([sys.executable, replay, sandbox.url, exchanges], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
