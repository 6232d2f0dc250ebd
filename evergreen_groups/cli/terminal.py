"""Progress on standard error, when that is a terminal."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

import click

from evergreen_groups import exit_status
from evergreen_groups.cli import logs
from evergreen_groups.language import gettext, number, pgettext
from evergreen_groups.message import Message
from evergreen_groups.progress import Progress, silent

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
