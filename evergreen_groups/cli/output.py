"""Standard output with a pager, questions and progress on standard error."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from typing import TextIO

import click

from evergreen_groups import exit_status
from evergreen_groups.language import gettext, number, pgettext
from evergreen_groups.message import Message, Progress, silent


def standard_output(output_format: str) -> TextIO:
    """Return standard output: in the terminal's encoding for tables, as UTF-8 with unchanged line ends for programs."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        if output_format == "table":
            sys.stdout.reconfigure(errors="replace")
        else:
            # A path that isn't UTF-8 contains lone surrogates, and backslashreplace writes them as JSON escapes do.
            errors = "backslashreplace" if output_format in ("json", "jsonl") else "strict"
            sys.stdout.reconfigure(encoding="utf-8", errors=errors, newline="")
    return sys.stdout


def write_json(document: Mapping[str, object]) -> None:
    """Write one JSON object to standard output, indented for human readers."""
    stream = standard_output("json")
    json.dump(document, stream, indent=2, ensure_ascii=False)
    stream.write("\n")
    stream.flush()


_PAGER_DEFAULTS = {"LESS": "FRX", "LV": "-c"}
"""Defaults for pagers unless the user has set their own: keep colors, and leave the text on the screen."""


@contextmanager
def output_in_pages(output_format: str, *, wanted: bool) -> Iterator[TextIO]:
    """Open standard output. If ``wanted``, a table longer than the terminal goes through ``$PAGER``.

    If the user quits the pager early, that isn't an error.
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
    if text.count("\n") < shutil.get_terminal_size().lines or not _run_pager(command, text, stream):
        stream.write(text)
        stream.flush()


def _pager(environ: Mapping[str, str]) -> list[str]:
    """Return the pager's command; empty if none is wanted or available."""
    if environ.get("NO_PAGER") or environ.get("TERM") == "dumb":
        return []
    try:
        words = shlex.split(environ.get("PAGER", "less" if shutil.which("less") else "more"))
    except ValueError:  # unbalanced quotes
        return []
    found = bool(words) and words[0] != "cat" and shutil.which(words[0]) is not None
    return words if found else []


def _run_pager(command: list[str], text: str, stream: TextIO) -> bool:
    """Run the pager until the user quits. Return False if it can't be run."""
    stream.flush()
    try:
        pager = subprocess.Popen(  # noqa: S603 - the command is the user's own
            command,
            stdin=subprocess.PIPE,
            env={**_PAGER_DEFAULTS, **os.environ},
            encoding=stream.encoding,
            errors="replace",
        )
    except OSError:
        return False
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the pager handles Ctrl-C itself
    try:
        pager.communicate(text)
    except BaseException:
        pager.terminate()
        raise
    finally:
        signal.signal(signal.SIGINT, former)
    return True


ASKING = Message("asking the gateway …")
_UNANSWERED = Message("nothing was changed: there is no terminal to answer the question; use --yes")


class UnansweredError(click.ClickException):
    """A question without a terminal or input to answer it. Nothing is changed."""

    exit_code = exit_status.USAGE

    def __init__(self, text: str = _UNANSWERED) -> None:
        super().__init__(text)


def confirmed(question: str) -> bool:
    """Ask a yes-or-no question on standard error; the default is no. English answers are accepted in any language."""
    yes = set(map(_normalized, ("y", "yes", pgettext("answer", "y"), pgettext("answer", "yes"))))
    no = set(map(_normalized, ("", "n", "no", pgettext("answer", "n"), pgettext("answer", "no"))))
    text = f"{question} {pgettext('answers, no is taken for none', '[y/N]')}"
    while True:
        answer = _normalized(_read_answer(text))
        if answer in yes or answer in no:
            return answer in yes


def _read_answer(question: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(question, default="", show_default=False, prompt_suffix=after_question(), err=True))
    line = sys.stdin.readline()  # read first, so that the question isn't shown without an answer
    if not line:
        raise UnansweredError
    click.echo(f"{question}{after_question()}", err=True)
    return line


def after_question() -> str:
    """Return the colon and space after a question: Click's own has no space before it, as French does."""
    return gettext("{label}:", label="") + " "


def _normalized(answer: str) -> str:
    """Return an answer in lower case, without accents and surrounding spaces, as people type it.

    >>> _normalized(" SÍ ")
    'si'
    """
    letters = unicodedata.normalize("NFD", answer.strip().casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def terminal_width() -> int:
    """Return the terminal's number of columns; $COLUMNS or 100 without a terminal."""
    return shutil.get_terminal_size((100, 24)).columns


@contextmanager
def terminal_progress(*, quiet: bool, doing: str = ASKING) -> Iterator[Progress]:
    """Show one line with current activity, progress and remaining time, on terminals only.

    ``doing`` is shown until the first report.
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
        task = display.add_task(_translated(doing), total=None, count="")
        doing_now = ""

        def show(doing: str, done: int, total: int | None = None) -> None:
            nonlocal doing_now
            if doing != doing_now:
                doing_now = doing
                display.reset(task)
            count = gettext("{done:,} of {total:,}", done=min(done, total), total=total) if total else number(done)
            display.update(task, description=_translated(doing), completed=done, total=total, count=count)

        yield show


def _translated(doing: str) -> str:
    return gettext(doing) if isinstance(doing, Message) else doing
