"""Writes the manual pages, ``man evergreen-groups`` and one for each command, from the declarations of ``--help``.

``python -m evergreen_groups.cli.manual DIRECTORY`` writes them there, as ``hatch_build.py`` does for each build.
The macros are those of man(7), which groff and mandoc both read.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from click.shell_completion import ShellComplete, get_completion_class

from evergreen_groups import __version__, exit_status
from evergreen_groups.cli.application import COMMANDS, COMPLETION_VARIABLE, cli


def contexts(width: int | None = None) -> Iterator[click.Context]:
    """The context of each command, in the order of ``--help``; ``width`` is how many columns a text may take."""
    yield from _contexts(cli, None, width)


def _contexts(command: click.Command, parent: click.Context | None, width: int | None) -> Iterator[click.Context]:
    context = click.Context(
        command,
        info_name=command.name if parent else "evergreen-groups",
        parent=parent,
        terminal_width=width,
        max_content_width=width,
        **command.context_settings,
    )
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from _contexts(found, context, width)


_AS_IT_STANDS = "\b"
"""Click's mark of a paragraph whose lines stay as they are."""
_SIGNS = {"\\": r"\e", "-": r"\-", "~": r"\(ti", "^": r"\(ha", "`": r"\(ga", '"': r"\(dq", "'": r"\(aq"}
"""What roff would take for something else, or print as another sign than one can type."""
_FILES = {
    "/etc/evergreen-groups/config.toml": "The configuration, where the user has none of their own.",
    "~/.config/evergreen-groups/config.toml": "The configuration of one user.",
    "~/.local/state/evergreen-groups": "The journal, the history and what else is kept between runs, where "
    "$STATE_DIRECTORY doesn't say otherwise.",
}
_ENVIRONMENT = {
    "EVERGREEN_GROUPS_CONFIG": "The configuration file.",
    "EVERGREEN_GROUPS_SECTION_NAME": "A setting of the configuration, such as EVERGREEN_GROUPS_GATEWAY_URL for url in "
    "[gateway].",
    "EVERGREEN_GROUPS_LOG_FORMAT": "text or json, as --log-format.",
    "STATE_DIRECTORY, CACHE_DIRECTORY": "Where things are kept; systemd sets them.",
    "LC_ALL, LC_MESSAGES, LANG, LANGUAGE": "The language of what people read.",
}


def write_pages(directory: Path) -> list[Path]:
    """Write every page into a directory; gives back the files."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for context in contexts():
        path = directory / f"{_name(context)}.1"
        path.write_text(page(context), encoding="utf-8")
        written.append(path)
    return written


def page(context: click.Context) -> str:
    """The page of one command."""
    return "\n".join([*_heading(context), *_synopsis(context), *_description(context), *_rest(context)]) + "\n"


def _name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _heading(context: click.Context) -> Iterator[str]:
    name = _name(context)
    yield f'.TH {_escaped(name.upper())} 1 "{_day()}" "evergreen\\-groups {__version__}" "User Commands"'
    yield ".nh"  # so that a name or an address stays in one piece, and can be copied
    yield ".SH NAME"
    yield f"{_escaped(name)} \\- {_escaped(_summary(context))}"


def _day() -> str:
    """The day that a build is said to be of; else none, so that the same build is made on another day."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return f"{datetime.fromtimestamp(int(epoch), UTC):%Y-%m-%d}" if epoch else ""


def _summary(context: click.Context) -> str:
    """What the command does, in a line without a full stop."""
    in_the_list = COMMANDS.get(str(context.command.name)) if context.parent and not context.parent.parent else None
    return (in_the_list or _paragraphs(context.command.help)[0]).rstrip(".")


def _synopsis(context: click.Context) -> Iterator[str]:
    pieces = " ".join(_escaped(piece) for piece in context.command.collect_usage_pieces(context))
    yield ".SH SYNOPSIS"
    yield f"\\fB{_escaped(context.command_path)}\\fR {pieces}"


def _description(context: click.Context) -> Iterator[str]:
    yield ".SH DESCRIPTION"
    yield from _text(_paragraphs(context.command.help))
    if options := list(_options(context)):
        yield ".SH OPTIONS"
        for names, text in options:
            yield ".TP"
            yield _option(names)
            yield from _text(_paragraphs(text))
    if isinstance(context.command, click.Group):
        yield ".SH COMMANDS"
        for inner in contexts():
            if inner.parent and inner.parent.command is context.command:
                yield ".TP"
                yield f"\\fB{_escaped(_name(inner))}\\fR(1)"
                yield f"{_escaped(_summary(inner))}."


def _options(context: click.Context) -> Iterator[tuple[str, str]]:
    """Each option's names and text; an argument has none, the description says what it is."""
    for parameter in context.command.get_params(context):
        names, text = parameter.get_help_record(context) or ("", "")
        if text:
            yield names, text


def _rest(context: click.Context) -> Iterator[str]:
    if context.parent is None:
        yield ".SH EXIT STATUS"
        yield from _list({str(status): f"{meaning}." for status, meaning in exit_status.MEANINGS.items()})
        yield ".SH ENVIRONMENT"
        yield from _list(_ENVIRONMENT)
        yield ".SH FILES"
        yield from _list(_FILES)
        return
    yield ".SH EXIT STATUS"
    yield "Those of the whole program; \\fBevergreen\\-groups\\fR(1) lists them, as it does the options that go before"
    yield "the command."
    yield from (".SH SEE ALSO", ".ad l")
    others = [inner for inner in contexts() if inner.parent and inner.parent.command is context.parent.command]
    names = [_name(context.parent), *(_name(inner) for inner in others if inner.command is not context.command)]
    yield ",\n".join(f"\\fB{_escaped(name)}\\fR(1)" for name in names)


def _list(entries: dict[str, str]) -> Iterator[str]:
    for term, text in entries.items():
        yield from (".TP", f"\\fB{_escaped(term)}\\fR", *_text([text]))


def _option(names: str) -> str:
    """The names in bold, and what they take as it is: ``-v, --verbose``, ``--sort [total|age]``."""
    parts = re.split(r"(?<![\w-])(--?[a-z][\w-]*)", names)
    bold = (f"\\fB{_escaped(part)}\\fR" if place % 2 else _escaped(part) for place, part in enumerate(parts))
    return "".join(bold).replace("|", "|\\:")  # where a long list of choices may be broken


def _paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a help text; one whose lines are to stay begins with Click's mark."""
    return [paragraph.strip("\n") for paragraph in re.split(r"\n{2,}", inspect.cleandoc(text or ""))]


def _text(paragraphs: list[str]) -> Iterator[str]:
    for place, paragraph in enumerate(paragraphs):
        if place:
            yield ".sp"
        if paragraph.startswith(_AS_IT_STANDS):
            yield from (".nf", *map(_line, paragraph.removeprefix(_AS_IT_STANDS).strip("\n").splitlines()), ".fi")
        else:
            yield _line(" ".join(paragraph.split()))


def _line(text: str) -> str:
    """A line that no macro is taken from."""
    escaped = _escaped(text)
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def _escaped(text: str) -> str:
    return "".join(_SIGNS.get(sign, sign) for sign in text)


if __name__ == "__main__":
    for _path in write_pages(Path(sys.argv[1])):
        click.echo(_path)


PROGRAM = "evergreen-groups"
PLACES = {
    "bash": f"share/bash-completion/completions/{PROGRAM}",
    "fish": f"share/fish/vendor_completions.d/{PROGRAM}.fish",
    "zsh": f"share/zsh/site-functions/_{PROGRAM}",
}
"""Where each shell finds the script by itself."""
SHELLS = tuple(sorted(PLACES))


def completion_script(shell: str) -> str:
    """The script for a shell, one of ``PLACES``."""
    found = get_completion_class(shell)
    if found is None:
        raise ValueError(f"Click knows no shell {shell}")
    # Click's own source() for bash starts one to see how old it is, and there may be none where packages are built.
    return ShellComplete.source(found(cli, {}, PROGRAM, COMPLETION_VARIABLE)).strip() + "\n"


def write_scripts(directory: Path) -> list[Path]:
    """Write every script below a directory; gives back the files."""
    written = []
    for shell, place in PLACES.items():
        path = directory / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(completion_script(shell), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for _path in write_scripts(Path(sys.argv[1])):
        click.echo(_path)
