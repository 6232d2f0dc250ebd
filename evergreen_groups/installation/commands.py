"""Running the commands that an installation ends with."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence

from evergreen_groups.errors import EvergreenGroupsError

_MOST = 300


def run_command(command: Sequence[str]) -> None:
    """Run a command, and wait for it.

    Raises:
        EvergreenGroupsError: it isn't there, or ends with another status than 0.
    """
    try:
        done = subprocess.run(  # noqa: S603 - the words are this program's own, and it was asked
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
        reason = "" if done.returncode == 0 else (done.stderr or done.stdout).strip()[-_MOST:] or str(done.returncode)
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise EvergreenGroupsError(
            "{command} failed: {reason}",
            advice="the files are written; run that command again when the reason is gone",
            code="command-failed",
            values={"command": shlex.join(command), "reason": reason},
        )
