"""Generate the manual pages, shell completion scripts and command reference from the commands' declarations.

``hatch_build.py`` writes pages and scripts for each build. The macros are those of man(7), which both groff and mandoc
support. ``python -m evergreen_groups.cli.manual > docs/cli.md`` updates the reference.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from click.shell_completion import ShellComplete, get_completion_class

from evergreen_groups import __version__, exit_status
from evergreen_groups.cli.application import COMMANDS, COMPLETION_VARIABLE, cli


def contexts(
    width: int | None = None, command: click.Command = cli, parent: click.Context | None = None
) -> Iterator[click.Context]:
    """Yield the context of each command, in the order of ``--help``; ``width`` is the number of columns for text."""
    name = command.name if parent else "evergreen-groups"
    context = click.Context(
        command, parent, name, terminal_width=width, max_content_width=width, **command.context_settings
    )
    yield context
    if isinstance(command, click.Group):
        for inner in filter(None, (command.get_command(context, name) for name in command.list_commands(context))):
            yield from contexts(width, inner, context)


_VERBATIM = "\b"
"""Click's marker for a paragraph that must not be rewrapped."""
_ESCAPES = {"\\": r"\e", "-": r"\-", "~": r"\(ti", "^": r"\(ha", "`": r"\(ga", '"': r"\(dq", "'": r"\(aq"}
"""Characters that roff would interpret, or print as a typographic variant that can't be copied and pasted."""
_FILES = {
    "/etc/evergreen-groups/config.toml": "The system's configuration, for users without one.",
    "~/.config/evergreen-groups/config.toml": "A user's configuration.",
    "~/.local/state/evergreen-groups": "The database with journal and history, without $STATE_DIRECTORY.",
}
_ENVIRONMENT = {
    "EVERGREEN_GROUPS_CONFIG": "The configuration file.",
    "EVERGREEN_GROUPS_SECTION_NAME": "A setting of the configuration, such as EVERGREEN_GROUPS_GATEWAY_URL for url in "
    "[gateway].",
    "EVERGREEN_GROUPS_LOG_FORMAT": "text or json, as --log-format.",
    "STATE_DIRECTORY, CACHE_DIRECTORY": "The directories of database and cache; set by systemd.",
    "LC_ALL, LC_MESSAGES, LANG, LANGUAGE": "The language of messages.",
}


def write_pages(directory: Path) -> list[Path]:
    """Write all pages into a directory and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for context in contexts():
        path = directory / f"{_name(context)}.1"
        path.write_text(page(context), encoding="utf-8")
        written.append(path)
    return written


def page(context: click.Context) -> str:
    """Return the manual page of a command."""
    name = _name(context)
    pieces = " ".join(_escaped(piece) for piece in context.command.collect_usage_pieces(context))
    lines = [
        f'.TH {_escaped(name.upper())} 1 "{_day()}" "evergreen\\-groups {__version__}" "User Commands"',
        ".nh",  # no hyphenation, so that names and addresses can be copied
        ".SH NAME",
        f"{_escaped(name)} \\- {_escaped(_summary(context))}",
        ".SH SYNOPSIS",
        f"\\fB{_escaped(context.command_path)}\\fR {pieces}",
        *_description(context),
        *_closing_sections(context),
    ]
    return "\n".join(lines) + "\n"


def _name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _day() -> str:
    """Return the date of SOURCE_DATE_EPOCH. Without one there is no date, so that builds are reproducible."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return f"{datetime.fromtimestamp(int(epoch), UTC):%Y-%m-%d}" if epoch else ""


def _summary(context: click.Context) -> str:
    """Return a command's summary on one line, without a period."""
    in_the_list = COMMANDS.get(str(context.command.name)) if context.parent and not context.parent.parent else None
    return (in_the_list or _paragraphs(context.command.help)[0]).rstrip(".")


def _description(context: click.Context) -> Iterator[str]:
    yield ".SH DESCRIPTION"
    yield from _text(_paragraphs(context.command.help))
    records = (parameter.get_help_record(context) for parameter in context.command.get_params(context))
    # Arguments have no text; the description explains them.
    if options := [(names, text) for names, text in filter(None, records) if text]:
        yield ".SH OPTIONS"
        for names, text in options:
            yield ".TP"
            yield _option(names)
            yield from _text(_paragraphs(text))
    if isinstance(context.command, click.Group):
        yield ".SH COMMANDS"
        for inner in _within(context):
            yield from (".TP", f"\\fB{_escaped(_name(inner))}\\fR(1)", f"{_escaped(_summary(inner))}.")


def _within(context: click.Context) -> Iterator[click.Context]:
    return (inner for inner in contexts() if inner.parent and inner.parent.command is context.command)


def _closing_sections(context: click.Context) -> Iterator[str]:
    if context.parent is None:
        yield ".SH EXIT STATUS"
        yield from _list({str(status): f"{meaning}." for status, meaning in exit_status.MEANINGS.items()})
        yield ".SH ENVIRONMENT"
        yield from _list(_ENVIRONMENT)
        yield ".SH FILES"
        yield from _list(_FILES)
        return
    yield ".SH EXIT STATUS"
    yield "See \\fBevergreen\\-groups\\fR(1), which also lists the global options."
    yield from (".SH SEE ALSO", ".ad l")
    others = [_name(inner) for inner in _within(context.parent) if inner.command is not context.command]
    yield ",\n".join(f"\\fB{_escaped(name)}\\fR(1)" for name in (_name(context.parent), *others))


def _list(entries: dict[str, str]) -> Iterator[str]:
    for term, text in entries.items():
        yield from (".TP", f"\\fB{_escaped(term)}\\fR", *_text([text]))


def _option(names: str) -> str:
    """Return the names in bold, and their values in roman: ``-v, --verbose``, ``--sort [total|age]``."""
    parts = re.split(r"(?<![\w-])(--?[a-z][\w-]*)", names)
    bold = (f"\\fB{_escaped(part)}\\fR" if index % 2 else _escaped(part) for index, part in enumerate(parts))
    return "".join(bold).replace("|", "|\\:")  # allow line breaks in long lists of choices


def _paragraphs(text: str | None) -> list[str]:
    """Return the paragraphs of a help text. Click's marker, if any, stays in front."""
    return [paragraph.strip("\n") for paragraph in re.split(r"\n{2,}", inspect.cleandoc(text or ""))]


def _text(paragraphs: list[str]) -> Iterator[str]:
    for index, paragraph in enumerate(paragraphs):
        if index:
            yield ".sp"
        if paragraph.startswith(_VERBATIM):
            yield from (".nf", *map(_line, paragraph.removeprefix(_VERBATIM).strip("\n").splitlines()), ".fi")
        else:
            yield _line(" ".join(paragraph.split()))


def _line(text: str) -> str:
    """Return a line that roff can't mistake for a macro."""
    escaped = _escaped(text)
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(sign, sign) for sign in text)


PROGRAM = "evergreen-groups"
PLACES = {
    "bash": f"share/bash-completion/completions/{PROGRAM}",
    "fish": f"share/fish/vendor_completions.d/{PROGRAM}.fish",
    "zsh": f"share/zsh/site-functions/_{PROGRAM}",
}
"""Where each shell looks for completion scripts."""
SHELLS = tuple(sorted(PLACES))


def completion_script(shell: str) -> str:
    """Return the completion script for a shell, one of ``PLACES``."""
    found = get_completion_class(shell)
    if found is None:
        raise ValueError(f"Click knows no shell {shell}")
    # Click's source() for bash runs bash to check its version, but a build machine may not have bash.
    return ShellComplete.source(found(cli, {}, PROGRAM, COMPLETION_VARIABLE)).strip() + "\n"


_REFERENCE_WIDTH = 88


def reference() -> str:
    """Return the reference in Markdown: the help of all commands, in the order of ``--help``."""
    heading = "# Command reference\n\nWritten from `--help` by `python -m evergreen_groups.cli.manual`.\n"
    return heading + "".join(
        f"\n## `{context.command_path}`\n\n```text\n{context.command.get_help(context).rstrip()}\n```\n"
        for context in contexts(_REFERENCE_WIDTH)
    )


def write_scripts(directory: Path) -> list[Path]:
    """Write the scripts of all shells below a directory and return their paths."""
    written = []
    for shell, place in PLACES.items():
        path = directory / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(completion_script(shell), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    click.echo(reference(), nl=False)
