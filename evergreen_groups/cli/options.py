"""Options, made from the declarations of the settings that they stand for, and checked by the same kinds of values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from evergreen_groups.cli.usage_errors import usage_error
from evergreen_groups.formats import AUDIT_FORMATS
from evergreen_groups.message import Message
from evergreen_groups.settings import (
    Kind,
    NotAllowedError,
    Option,
    Setting,
    Settings,
    declared,
    default_of,
    values,
    with_values,
)

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from evergreen_groups.policy import Limit

    Converted = click.ParamType[object]
else:
    Converted = click.ParamType  # click 8.1 and 8.2, which Debian has, can't say of what it is one

Command = TypeVar("Command", bound=Callable[..., Any])


class Checked(Converted):
    """A parameter type made from a kind of value; ``name`` stands for it in ``--help`` in place of the kind's own."""

    def __init__(self, kind: Kind[Any], name: str = "") -> None:
        self.name = name or kind.name
        self._kind = kind

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Check and convert, or say what is allowed."""
        try:
            return self._kind(value)
        except NotAllowedError as problem:
            values = {"value": repr(value), "allowed": problem.allowed}
            self.fail(Message("{value} isn't allowed; it takes {allowed}", values=values), param, ctx)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - as click calls it
        param: click.Parameter,  # noqa: ARG002 - as click calls it
        incomplete: str,
    ) -> list[CompletionItem]:
        """What a shell offers at Tab: files, where it takes one."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")] if self._kind in (values.PATH, values.EXISTING_FILE) else []


def _read_entry_id(value: object) -> str:
    from evergreen_groups.changes import is_change_id

    if not is_change_id(str(value)):
        raise ValueError
    return str(value)


ENTRY_ID = Checked(Kind("id", Message("an entry's id such as 2-k7q4tz (`journal` lists them)"), _read_entry_id))
"""The id of an entry of the journal."""


def setting_options(
    command: str, schema: type[Settings] = Settings, *, checked: bool = True
) -> Callable[[Command], Command]:
    """The options of a command that stand for settings, in the order of the settings.

    Each gives None (or an empty tuple) where it isn't used, so that the configuration counts. ``checked`` False
    leaves the values of settings that are asked for as they were typed: whoever asks checks them like other answers.
    """
    options = {
        option.flag: _click_option(setting, option, checked=checked)
        for setting in declared(schema)
        if (option := setting.option(command)) is not None
    }

    def decorate(function: Command) -> Command:
        for option in reversed(options.values()):
            function = option(function)
        return function

    return decorate


def given(context: click.Context, schema: type[Settings] = Settings) -> dict[str, Any]:
    """What the command line says about settings, by their keys (``report.min_total``)."""
    found = {}
    for setting in declared(schema):
        option = setting.option(str(context.command.name))
        if option is not None and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            found[setting.key] = context.params[option.name]
    return found


def with_given(context: click.Context, settings: Settings) -> Settings:
    """The settings with what the command line says in their place.

    An amount for the limit is for everybody: it takes the place of the limits for some patrons as well.
    """
    changes = given(context, type(settings))
    if "policy.limit" in changes:
        changes["policy.limits"] = ()
    return with_values(settings, changes)


def one_limit(settings: Settings) -> Limit | None:
    """The one limit for everybody; None where there are several."""
    return settings.policy.as_limit() if settings.policy.uniform else None


def json_option(command: Command) -> Command:
    """``--json``, which every command has that shows something."""
    return click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")(command)


def format_given(as_json: bool, output_format: str | None) -> str | None:
    """The format that was asked for with ``--json`` or ``--format``, None where neither was.

    Raises:
        click.UsageError: they contradict each other.
    """
    if as_json and output_format not in (None, "json"):
        raise usage_error(Message("--json and --format contradict each other: give one of them"))
    return "json" if as_json else output_format


def output_options(command: Command) -> Command:
    """The options of a command that writes an audit: ``--format``, ``--json`` and ``--output``."""
    output_format = click.option(
        "--format", "output_format", type=click.Choice(AUDIT_FORMATS), help="Output format (table)."
    )
    output = click.option(
        "--output",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Write to this file, readable by its owner alone, instead of standard output. Its ending chooses the "
        "format where --format doesn't.",
    )
    return output_format(json_option(output(command)))


def _click_option(setting: Setting, option: Option, *, checked: bool) -> Callable[[Command], Command]:
    kind = option.kind or setting.kind
    default = default_of(setting).strip('"')
    text = option.help or (f"{setting.summary} ({{default}})." if default else f"{setting.summary}.")
    text = text.replace("{default}", default)
    if kind is values.BOOLEAN:
        return click.option(option.flag, option.name, is_flag=True, default=None, help=text)
    if kind.several:
        return click.option(option.flag, option.name, multiple=True, metavar=kind.name.upper(), help=text)
    if not checked and setting.question is not None:
        return click.option(option.flag, option.name, metavar=kind.name.upper(), help=text)
    kind_of_parameter = click.Choice(kind.choices) if kind.choices else Checked(kind)
    return click.option(option.flag, option.name, type=kind_of_parameter, help=text)
