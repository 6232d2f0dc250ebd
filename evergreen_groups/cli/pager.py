"""Long output page by page on a terminal, as git and man do it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from typing import TextIO

from evergreen_groups.cli.output import standard_output

_LESS = {"LESS": "FRX", "LV": "-c"}
"""What pagers are told where the user tells them nothing: keep colours, and leave on the screen what was read."""


@contextmanager
def output_in_pages(output_format: str, *, wanted: bool) -> Iterator[TextIO]:
    """Standard output; a table that doesn't fit on the terminal goes through ``$PAGER`` where that is ``wanted``.

    A pager that ends early has shown what was wanted: nothing is wrong then.
    """
    stream = standard_output(output_format)
    command = _pager(os.environ) if wanted and output_format == "table" and stream.isatty() else []
    if not command:
        yield stream
        stream.flush()
        return
    written = StringIO()
    yield written
    text = written.getvalue()
    if text.count("\n") < shutil.get_terminal_size().lines or not _shown_in_pages(command, text, stream):
        stream.write(text)
        stream.flush()


def _pager(environ: Mapping[str, str]) -> list[str]:
    """The pager's command; nothing where there is to be none, or there is none."""
    if environ.get("NO_PAGER") or environ.get("TERM") == "dumb":
        return []
    try:
        words = shlex.split(environ.get("PAGER", "less" if shutil.which("less") else "more"))
    except ValueError:  # a quotation mark is missing
        return []
    found = bool(words) and words[0] != "cat" and shutil.which(words[0]) is not None
    return words if found else []


def _shown_in_pages(command: list[str], text: str, stream: TextIO) -> bool:
    """Run the pager until whoever reads leaves it; False where it can't be run."""
    stream.flush()
    try:
        pager = subprocess.Popen(  # noqa: S603 - the command is the user's own
            command,
            stdin=subprocess.PIPE,
            env={**_LESS, **os.environ},
            encoding=stream.encoding,
            errors="replace",
        )
    except OSError:
        return False
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as long as the pager runs, Ctrl-C is a key of its own
    try:
        pager.communicate(text)
    except BaseException:
        pager.terminate()
        raise
    finally:
        signal.signal(signal.SIGINT, former)
    return True
