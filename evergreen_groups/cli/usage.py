"""Global options, and errors about the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from evergreen_groups import __version__
from evergreen_groups.formats import LOG_FORMAT_VARIABLE, LOG_FORMATS
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.cli.invocation import Invocation

_FILE_OPTION = "--sandbox-file"
"""The internal form of ``--sandbox=FILE``. With an optional value, Click would take ``report`` in ``--sandbox report``
for the file.
"""


class _SandboxOption(click.Option):
    """``--sandbox``, whose help mentions the optional file."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return record and (f"{record[0]}[=FILE]", record[1])


class _SandboxFileOption(click.Option):
    """The file of ``--sandbox=FILE``, named like that in error messages."""

    def get_error_hint(self, _ctx: click.Context | None) -> str:
        return "'--sandbox=FILE'"


def global_options() -> list[click.Option]:
    """Build fresh option objects, in ``--help`` order. Parameters are named like the fields of :class:`Invocation`."""
    return [
        click.Option(
            ["--config", "config_file"],
            type=click.Path(path_type=Path, dir_okay=False),
            help="Configuration file (TOML). Default: $EVERGREEN_GROUPS_CONFIG, "
            "~/.config/evergreen-groups/config.toml or /etc/evergreen-groups/config.toml.",
        ),
        _SandboxOption(
            ["--sandbox", "use_sandbox"],
            is_flag=True,
            help="Use an embedded sandbox with sample data instead of a gateway. With FILE, keep its data, journal and "
            "history there for the next command.",
        ),
        _SandboxFileOption(
            [_FILE_OPTION, "sandbox_file"], type=click.Path(path_type=Path, dir_okay=False), hidden=True
        ),
        click.Option(["-v", "--verbose", "verbosity"], count=True, help="Show progress messages; twice: every call."),
        click.Option(
            ["--log-format", "log_format"],
            type=click.Choice(LOG_FORMATS),
            default="text",
            show_default=True,
            envvar=LOG_FORMAT_VARIABLE,
            help="Format of messages: text, or one JSON object per line (also $EVERGREEN_GROUPS_LOG_FORMAT).",
        ),
        click.Option(["-q", "--quiet", "quiet"], is_flag=True, help="Show only errors."),
        click.Option(
            ["--no-pager", "no_pager"], is_flag=True, help="Don't use a pager for long output (also $NO_PAGER)."
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


def rewrite_sandbox_option(arguments: Sequence[str]) -> list[str]:
    """Replace ``--sandbox=FILE`` by its internal form, except after ``--``."""
    found = list(arguments)
    end = found.index("--") if "--" in found else len(found)
    for index, word in enumerate(found[:end]):
        if word.startswith("--sandbox="):
            found[index] = f"{_FILE_OPTION}{word.removeprefix('--sandbox')}"
    return found


def accept_global_options(command: click.Command) -> None:
    """Let a command and its subcommands accept the global options, except those with a name they use themselves."""
    taken = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for option in global_options():
        names = [name for name in option.opts if name not in taken]
        if not names:
            continue
        option.opts = names
        option.hidden = True
        option.envvar = None
        if option.callback is None:
            option.callback = _override
        option.expose_value = False
        option.name = f"global_{option.name}"  # a command may have a parameter of the same name
        command.params.append(option)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            accept_global_options(inner)


def _override(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Let an option given after the command override the same option given before."""
    if context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE:
        invocation: Invocation = context.obj
        context.obj = invocation.with_option(str(option.name).removeprefix("global_"), value)


def _show_version(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        click.echo(f"evergreen-groups, version {__version__}")
        context.exit()


def usage_error(message: Message) -> click.UsageError:
    """Return an error about the command line of the running command."""
    return click.UsageError(message, click.get_current_context(silent=True))


def needs_option(option: str, other: str) -> click.UsageError:
    """Return an error about an option that only makes sense with another."""
    return usage_error(Message("{option} needs {other}", values={"option": option, "other": other}))


def conflicting_options(option: str, other: str) -> click.UsageError:
    """Return an error about two options that exclude each other."""
    return usage_error(Message("{option} can't be combined with {other}", values={"option": option, "other": other}))


def one_required(*choices: str) -> click.UsageError:
    """Return an error about alternatives of which exactly one must be given."""
    return usage_error(Message("give one of: {choices}", values={"choices": ", ".join(choices)}))
