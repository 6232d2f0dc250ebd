"""Options declared by settings, and options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from evergreen_groups.cli.usage import conflicting_options
from evergreen_groups.formats import AUDIT_FORMATS
from evergreen_groups.message import Message
from evergreen_groups.settings import (
    Option,
    Setting,
    Settings,
    declared,
    default_of,
    replacing,
    values,
    with_values,
)

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from evergreen_groups.policy import Limit

if TYPE_CHECKING:
    Converted = click.ParamType[object]
else:
    Converted = click.ParamType  # not generic at run time in Click 8.1 and 8.2, which Debian has

Command = TypeVar("Command", bound=Callable[..., Any])


def expected(problem: values.NotAllowedError) -> Message:
    """Describe what is allowed instead of a value."""
    return Message("expected {allowed}", values={"allowed": problem.allowed})


class CheckedType(Converted):
    """A parameter type that validates like a setting; ``name`` replaces the kind's name in ``--help``."""

    def __init__(self, kind: values.Kind[Any], name: str = "") -> None:
        self.name = name or kind.name
        self._kind = kind

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Validate and convert a value, or fail with the allowed values."""
        try:
            return self._kind(value)
        except values.NotAllowedError as problem:
            self.fail(expected(problem), param, ctx)

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer files for paths, and nothing for other kinds."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")] if self._kind in (values.PATH, values.EXISTING_FILE) else []


def _read_entry_id(value: str) -> str:
    from evergreen_groups.state import record_ids

    if not record_ids.is_record_id(value):
        raise ValueError
    return value


_AN_ID = Message("a change's id such as 2-k7q4tz (see `journal`)")
ENTRY_ID = CheckedType(values.Kind("id", _AN_ID, str, _read_entry_id))
"""The id of a journal entry."""


def setting_options(command: str, *, checked: bool = True) -> Callable[[Command], Command]:
    """Add the options that a command has for settings, in the order of the settings.

    An unused option is None or an empty tuple, so that the configuration applies. With ``checked`` False, settings that
    have a question are passed unvalidated: the interview validates them like other answers.
    """
    options = {
        option.flag: _click_option(setting, option, checked=checked)
        for setting in declared(Settings)
        if (option := setting.option(command)) is not None
    }

    def decorate(function: Command) -> Command:
        for option in reversed(options.values()):
            function = option(function)
        return function

    return decorate


def with_command_line(context: click.Context, settings: Settings) -> Settings:
    """Return the settings overridden by the command line.

    A limit given as an option applies to everyone, so configured limits for some patrons are dropped.
    """
    changes: dict[str, Any] = {}
    for setting in declared(Settings):
        option = setting.option(str(context.command.name))
        if option is not None and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            changes[setting.key] = context.params[option.name]
    report = {key.removeprefix("report."): value for key, value in changes.items() if key.startswith("report.")}
    changes |= {f"report.{name}": value for name, value in replacing(report).items()}
    if "policy.limit" in changes:
        changes["policy.limits"] = ()
    return with_values(settings, changes)


def shared_limit(settings: Settings) -> Limit | None:
    """Return the limit that applies to everyone, None if limits differ."""
    return settings.policy.as_limit() if settings.policy.uniform else None


def json_option(command: Command) -> Command:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Output JSON.")(command)


def requested_format(as_json: bool, output_format: str | None) -> str | None:
    """Return the format requested by ``--json`` or ``--format``, None without either."""
    if as_json and output_format not in (None, "json"):
        raise conflicting_options("--json", f"--format {output_format}")
    return "json" if as_json else output_format


def output_options(command: Command) -> Command:
    """Add ``--format``, ``--json`` and ``--output`` to a command that writes an audit."""
    output_format = click.option(
        "--format", "output_format", type=click.Choice(AUDIT_FORMATS), help="Output format.  [default: table]"
    )
    return output_format(json_option(output_option(command)))


def output_option(command: Command) -> Command:
    """Add ``--output``."""
    return click.option(
        "--output",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Write to this file, readable only by its owner, instead of standard output. Without --format, its "
        "extension determines the format.",
    )(command)


def _click_option(setting: Setting, option: Option, *, checked: bool) -> Callable[[Command], Command]:
    kind = option.kind or setting.kind
    default = default_of(setting).strip('"')
    text = option.help or f"{setting.summary}."
    if default not in ("", setting.kind.empty, "false"):
        text = f"{text}  [default: {default}]"
    if kind is values.BOOLEAN:
        return click.option(option.flag, option.name, is_flag=True, default=None, help=text)
    if kind.several:
        return click.option(option.flag, option.name, multiple=True, metavar=kind.name.upper(), help=text)
    if not checked and setting.question is not None:
        return click.option(option.flag, option.name, metavar=kind.name.upper(), help=text)
    kind_of_parameter = click.Choice(kind.choices) if kind.choices else CheckedType(kind)
    return click.option(option.flag, option.name, type=kind_of_parameter, help=text)
