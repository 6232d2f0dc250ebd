"""Run the command: ``evergreen-groups`` and ``python -m evergreen_groups`` begin here."""

from __future__ import annotations

import sys
from typing import NoReturn

_INTERRUPTED = 130  # exit_status.INTERRUPTED, which isn't imported yet


def main() -> NoReturn:
    """Run the command and leave with its exit status; Ctrl-C ends the imports as it ends the command."""
    try:
        from evergreen_groups.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("evergreen-groups: interrupted\n")
        raise SystemExit(_INTERRUPTED) from None


if __name__ == "__main__":
    main()
