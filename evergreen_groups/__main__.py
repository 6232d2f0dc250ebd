"""Entry point of ``evergreen-groups`` and ``python -m evergreen_groups``."""

from __future__ import annotations

import sys
from typing import NoReturn

_INTERRUPTED = 130  # exit_status.INTERRUPTED; importing exit_status takes time in which Ctrl-C could be pressed


def main() -> NoReturn:
    """Run the command and exit with its status. Ctrl-C during the imports exits the same way as in the command."""
    try:
        from evergreen_groups.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("evergreen-groups: interrupted\n")
        raise SystemExit(_INTERRUPTED) from None


if __name__ == "__main__":
    main()
