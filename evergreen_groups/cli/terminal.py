"""Progress on standard error, when that is a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from evergreen_groups.progress import Progress, silent

_UNSET_WIDTH = 100


def terminal_width() -> int:
    """How many columns the terminal has; $COLUMNS or 100 where there is none."""
    return shutil.get_terminal_size((_UNSET_WIDTH, 24)).columns


@contextmanager
def terminal_progress(*, quiet: bool, doing: str = "asking the gateway …") -> Iterator[Progress]:
    """Show one line: what is being done, how far it is, about how long it takes; nothing where nobody sees it.

    ``doing`` stands there until more is reported.
    """
    if quiet or not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(20),
        TextColumn("{task.fields[count]}", markup=False),
        TimeRemainingColumn(compact=True),
    )
    with Display(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task(doing, total=None, count="")
        doing_now = ""

        def show(doing: str, done: int, total: int | None = None) -> None:
            nonlocal doing_now
            if doing != doing_now:
                doing_now = doing
                display.reset(task)
            count = f"{min(done, total):,} of {total:,}" if total else f"{done:,}"
            display.update(task, description=doing, completed=done, total=total, count=count)

        yield show
