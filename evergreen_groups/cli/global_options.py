"""The global options: before the command, and after it as well, where they don't show in its ``--help``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from evergreen_groups import __version__
from evergreen_groups.formats import LOG_FORMAT_VARIABLE, LOG_FORMATS

if TYPE_CHECKING:
    from evergreen_groups.cli.invocation import Invocation

_FILE_OPTION = "--sandbox-file"
"""What ``--sandbox=FILE`` is to Click, which couldn't tell whether ``report`` in ``--sandbox report`` were the file."""


class _SandboxOption(click.Option):
    """``--sandbox``, which may have a file after an equals sign."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return record and (f"{record[0]}[=FILE]", record[1])


class _SandboxFileOption(click.Option):
    """The file of ``--sandbox=FILE``, called so in messages."""

    def get_error_hint(self, _ctx: click.Context | None) -> str:
        return "'--sandbox=FILE'"


def global_options() -> list[click.Option]:
    """The options anew, in the order of ``--help``; their names are those of :class:`Invocation`'s fields."""
    return [
        click.Option(
            ["--config", "config_file"],
            type=click.Path(path_type=Path, dir_okay=False),
            help="Configuration file (TOML). Otherwise $EVERGREEN_GROUPS_CONFIG, "
            "~/.config/evergreen-groups/config.toml or /etc/evergreen-groups/config.toml.",
        ),
        _SandboxOption(
            ["--sandbox", "use_sandbox"],
            is_flag=True,
            help="Use an embedded sandbox with sample data instead of a gateway. With a FILE it is kept there, with "
            "its journal and history, and the next command finds it as this one leaves it.",
        ),
        _SandboxFileOption(
            [_FILE_OPTION, "sandbox_file"], type=click.Path(path_type=Path, dir_okay=False), hidden=True
        ),
        click.Option(["-v", "--verbose", "verbosity"], count=True, help="Say what is being done; twice: every call."),
        click.Option(
            ["--log-format", "log_format"],
            type=click.Choice(LOG_FORMATS),
            default="text",
            show_default=True,
            envvar=LOG_FORMAT_VARIABLE,
            help="Say it as text, or as one JSON object a line (also $EVERGREEN_GROUPS_LOG_FORMAT).",
        ),
        click.Option(["-q", "--quiet", "quiet"], is_flag=True, help="No progress and no notes; errors only."),
        click.Option(
            ["--no-pager", "no_pager"],
            is_flag=True,
            help="Don't show long output page by page on a terminal (also $NO_PAGER).",
        ),
        click.Option(
            ["-V", "--version", "version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version and exit.",
        ),
    ]


def file_after_equals(arguments: Sequence[str]) -> list[str]:
    """The arguments with ``--sandbox=FILE`` as Click knows it; what comes after ``--`` is no option."""
    found = list(arguments)
    end = found.index("--") if "--" in found else len(found)
    for place, word in enumerate(found[:end]):
        if word.startswith("--sandbox="):
            found[place] = f"{_FILE_OPTION}{word.removeprefix('--sandbox')}"
    return found


def accept_after(command: click.Command) -> None:
    """Let a command, and those within it, take the global options as well, but for those that it has itself."""
    taken = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    command.params.extend(_hidden(taken))
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            accept_after(inner)


def _hidden(taken: set[str]) -> Iterator[click.Option]:
    for option in global_options():
        names = [name for name in option.opts if name not in taken]
        if not names:
            continue
        option.opts = names
        option.hidden = True
        option.envvar = None
        if option.callback is None:
            option.callback = _take
        option.expose_value = False
        option.name = f"global_{option.name}"  # a command may have a parameter of the same name
        yield option


def _take(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Put what is said after the command in the place of what was said before it."""
    if context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE:
        invocation: Invocation = context.obj
        context.obj = invocation.with_option(str(option.name).removeprefix("global_"), value)


def _show_version(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        click.echo(f"evergreen-groups, version {__version__}")
        context.exit()
