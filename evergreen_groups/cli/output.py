"""Standard output, for people and for programs."""

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
from evergreen_groups.cli import logs
from evergreen_groups.language import gettext, number, pgettext
from evergreen_groups.message import Message
from evergreen_groups.progress import Progress, silent


def standard_output(output_format: str) -> TextIO:
    """Standard output: in the terminal's own encoding for people, UTF-8 with untouched line ends for programs."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        if output_format == "table":
            sys.stdout.reconfigure(errors="replace")
        else:
            # A path that isn't UTF-8 has half surrogate pairs, of which this makes the escapes that JSON has for them.
            errors = "backslashreplace" if output_format in ("json", "jsonl") else "strict"
            sys.stdout.reconfigure(encoding="utf-8", errors=errors, newline="")
    return sys.stdout


def write_json(document: Mapping[str, object]) -> None:
    """Write one JSON object to standard output, indented, for programs and for people who look into it."""
    stream = standard_output("json")
    json.dump(document, stream, indent=2, ensure_ascii=False)
    stream.write("\n")
    stream.flush()


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


_UNSET_WIDTH = 100
ASKING = Message("asking the gateway …")


def at_terminal() -> bool:
    """Whether somebody seems to sit there: one of the standard streams is a terminal.

    What a timer or a crontab starts has none, and who redirects all three has said so.
    """
    return any(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


class UnansweredError(click.ClickException):
    """A question where nobody is to answer it: nothing is done."""

    exit_code = exit_status.USAGE

    def __init__(self) -> None:
        super().__init__(Message("there is nobody to answer the question, and nothing was done; use --yes"))


def confirmed(question: str) -> bool:
    """Ask on standard error, and take an answer in the reader's language, or in English; nothing is a no.

    Raises:
        click.Abort: whoever sits there breaks off.
        UnansweredError: nobody sits there, and no answer comes from elsewhere.
    """
    yes = set(map(_plain, ("y", "yes", pgettext("answer", "y"), pgettext("answer", "yes"))))
    no = set(map(_plain, ("", "n", "no", pgettext("answer", "n"), pgettext("answer", "no"))))
    text = gettext(
        "{question} {answers}", question=question, answers=pgettext("answers, no is taken for none", "[y/N]")
    )
    while True:
        answer = _plain(_answer(text))
        if answer in yes or answer in no:
            return answer in yes
        logs.emit(Message("answer with y or n"))


def _answer(question: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(question, default="", show_default=False, err=True))
    line = sys.stdin.readline()  # before the question, which would stand there alone where nobody answers
    if not line:
        raise UnansweredError
    click.echo(f"{question}: ", err=True)
    return line


def _plain(answer: str) -> str:
    """An answer without what people leave out when they type: capitals, accents, spaces around it.

    >>> _plain(" SÍ ")
    'si'
    """
    letters = unicodedata.normalize("NFD", answer.strip().casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def terminal_width() -> int:
    """How many columns the terminal has; $COLUMNS or 100 where there is none."""
    return shutil.get_terminal_size((_UNSET_WIDTH, 24)).columns


@contextmanager
def terminal_progress(*, quiet: bool, doing: str = ASKING) -> Iterator[Progress]:
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
        task = display.add_task(_shown(doing), total=None, count="")
        doing_now = ""

        def show(doing: str, done: int, total: int | None = None) -> None:
            nonlocal doing_now
            if doing != doing_now:
                doing_now = doing
                display.reset(task)
            count = gettext("{done:,} of {total:,}", done=min(done, total), total=total) if total else number(done)
            display.update(task, description=_shown(doing), completed=done, total=total, count=count)

        yield show


def _shown(doing: str) -> str:
    return gettext(doing) if isinstance(doing, Message) else doing
