"""What is wrong with a command line, in the reader's language.

Click says it in English, and ready-made. What it says oftenest is in the catalogue: its sentences are recognised, and
said anew. Others, and those that another release of Click words otherwise, stay English.
"""

from __future__ import annotations

import re

import click

from evergreen_groups.cli import logs
from evergreen_groups.language import gettext
from evergreen_groups.message import Message

_SENTENCES = (
    Message("Invalid value for {parameter}: {message}"),
    Message("Invalid value: {message}"),
    Message("No such option {name}."),
    Message("No such option {name}. Did you mean {other}?"),
    Message("No such option {name}. (Did you mean one of: {others}?)"),
    Message("No such command {name}."),
    Message("No such command {name}. Did you mean {other}?"),
    Message("No such command {name}. (Did you mean one of: {others}?)"),
    Message("Missing command."),
    Message("Missing option {name}."),
    Message("Missing option {name}. Choose from: {choices}"),
    Message("Missing argument {name}."),
    Message("Option {name} requires an argument."),
    Message("Option {name} does not take a value."),
    Message("Got unexpected extra argument ({arguments})"),
    Message("Got unexpected extra arguments ({arguments})"),
    Message("{value} is not one of {choices}."),
    Message("{value} is not a valid integer."),
    Message("{value} is not a valid float."),
    Message("{value} is not in the range {range}."),
    Message("File {file} does not exist."),
    Message("File {file} is a directory."),
    Message("File {file} is not readable."),
    Message("Directory {file} does not exist."),
    Message("Directory {file} is a file."),
)


_HELP_ALONE = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What a command raises that shows its help because it was given nothing; Click 8.1 shows it, and raises nothing."""


def usage_error(message: Message) -> click.UsageError:
    """What is wrong with the command line of the command that runs."""
    return click.UsageError(message, click.get_current_context(silent=True))


def show_usage_error(problem: click.ClickException) -> None:
    """Write what is wrong on standard error, and where it is about the command line, how to get help."""
    if isinstance(problem, _HELP_ALONE):
        problem.show()
        return
    logs.emit(described(problem), error=True)
    context = getattr(problem, "ctx", None)
    if context is not None:
        click.echo(context.get_usage(), err=True)
        click.echo(gettext("Try '{command}' for help.", command=f"{context.command_path} --help"), err=True)


def described(problem: click.ClickException) -> str:
    """What is wrong, in a sentence of the reader's language."""
    own = gettext(problem.message) if isinstance(problem.message, Message) else ""
    return _translated(problem.format_message(), str(problem.message) if own else "", own)


def _translated(text: str, inner: str, translation: str) -> str:
    """A sentence of Click's; the ``inner`` one is what this package says in it."""
    if inner and text == inner:
        return translation
    for sentence in _SENTENCES:
        found = re.fullmatch(_pattern(sentence), text, re.DOTALL)
        if found:
            values = found.groupdict()
            if "message" in values:
                values["message"] = _translated(values["message"], inner, translation)
            return gettext(sentence, **values)
    return text


def _pattern(sentence: str) -> str:
    return re.sub(r"\\\{([a-z]+)\\\}", r"(?P<\1>.+?)", re.escape(sentence))
