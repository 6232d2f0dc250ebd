"""What a command that failed prints, and its exit status. Loaded only then, so that ``--help`` starts fast."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress

import click

from evergreen_groups import exit_status
from evergreen_groups.cli import logs
from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.language import describe_error, gettext
from evergreen_groups.message import Message, system_reason

_CLICK_MESSAGES = (
    Message("Invalid value for {parameter}: {message}"),
    Message("Invalid value: {message}"),
    Message("No such option {name}."),
    Message("No such option {name}. Did you mean {other}?"),
    Message("No such option {name}. (Did you mean one of: {others}?)"),
    Message("No such command {name}."),
    Message("No such command {name}. Did you mean {other}?"),
    Message("Missing command."),
    Message("Missing option {name}."),
    Message("Missing argument {name}."),
    Message("Option {name} requires an argument."),
    Message("Option {name} does not take a value."),
    Message("Got unexpected extra argument ({arguments})"),
    Message("Got unexpected extra arguments ({arguments})"),
    Message("{value} is not one of {choices}."),
    Message("File {file} does not exist."),
    Message("File {file} is a directory."),
    Message("File {file} is not readable."),
    Message("Directory {file} is a file."),
)


_HELP_ONLY = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""Raised by Click 8.2 and later for a command without arguments. Click 8.1 shows the help without raising."""


def report_failure(error: BaseException) -> int:
    """Write one line about what ended a command to standard error, and return the exit status.

    Raises what isn't an error, such as SystemExit.
    """
    match error:
        case click.ClickException():
            if logs.as_json():
                logs.emit(str(error.format_message()), error=True)
            else:
                show_usage_error(error)
            return error.exit_code
        case click.Abort() | KeyboardInterrupt():
            logs.emit(exit_status.MEANINGS[exit_status.INTERRUPTED], error=True)
            return exit_status.INTERRUPTED
        case EvergreenGroupsError():
            logs.emit(str(error) if logs.as_json() else describe_error(error), error=True, code=error.code)
            return exit_status.for_error(error)
        case BrokenPipeError():
            discard_standard_output()  # the reader has exited (`| head`)
        case OSError():
            discard_standard_output()  # the rest of the buffer would fail again at exit
            logs.emit(Message("cannot read or write: {reason}", values={"reason": system_reason(error)}), error=True)
        case MemoryError():
            logs.emit(
                Message("not enough memory; end other programs, or give this one more, then run the command again"),
                error=True,
                code="not-enough-memory",
            )
        case Exception():  # a bug. Don't show a traceback, and don't log the text, which may be about patrons.
            logs.report_bug(error)
        case _:
            raise error
    return exit_status.FAILED


def discard_standard_output() -> None:
    """Discard what is still buffered for standard output, so that flushing at exit doesn't fail again."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def show_usage_error(problem: click.ClickException) -> None:
    """Write an error to standard error; for errors about the command line, also the usage."""
    if isinstance(problem, _HELP_ONLY):
        problem.show()
        return
    logs.emit(describe_usage_error(problem), error=True)
    context = getattr(problem, "ctx", None)
    if context is not None:
        click.echo(context.get_usage(), err=True)
        click.echo(gettext("Try '{command}' for help.", command=f"{context.command_path} --help"), err=True)


def describe_usage_error(problem: click.ClickException) -> str:
    """Return the error in the reader's language."""
    own = gettext(problem.message) if isinstance(problem.message, Message) else ""
    return _translated(problem.format_message(), str(problem.message) if own else "", own)


def _translated(text: str, inner: str, translation: str) -> str:
    """Translate one of Click's messages. ``inner`` is this package's message within, and ``translation`` its
    translation.
    """
    if inner and text == inner:
        return translation
    for sentence in _CLICK_MESSAGES:
        pattern = re.sub(r"\\\{([a-z]+)\\\}", r"(?P<\1>.+?)", re.escape(sentence))
        found = re.fullmatch(pattern, text, re.DOTALL)
        if found:
            values = found.groupdict()
            if "message" in values:
                values["message"] = _translated(values["message"], inner, translation)
            return gettext(sentence, **values)
    return text
