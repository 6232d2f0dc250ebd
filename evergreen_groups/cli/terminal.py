"""Progress on standard error, when that is a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from evergreen_groups.progress import Progress, silent

_UNSET_WIDTH = 100


def width() -> int:
    """How many columns the terminal has; $COLUMNS or 100 where there is none."""
    return shutil.get_terminal_size((_UNSET_WIDTH, 24)).columns


@contextmanager
def terminal_progress(*, quiet: bool) -> Iterator[Progress]:
    """Show one line that says what is being done and how far it is; nothing where nobody would see it."""
    if quiet or not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console

    with Console(stderr=True).status("asking the gateway …") as status:

        def show(doing: str, done: int, total: int | None = None) -> None:
            status.update(f"{doing}: {min(done, total):,} of {total:,}" if total else f"{doing}: {done:,}")

        yield show
