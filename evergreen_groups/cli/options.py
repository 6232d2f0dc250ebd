"""Global options, options declared by settings, and error messages for the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from evergreen_groups import __version__
from evergreen_groups.cli import logs
from evergreen_groups.formats import AUDIT_FORMATS, LOG_FORMAT_VARIABLE, LOG_FORMATS
from evergreen_groups.language import gettext
from evergreen_groups.message import Message
from evergreen_groups.settings import (
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

    from evergreen_groups.cli.invocation import Invocation
    from evergreen_groups.policy import Limit

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


def _read_entry_id(value: object) -> str:
    from evergreen_groups.changes import is_change_id

    if not is_change_id(str(value)):
        raise ValueError
    return str(value)


ENTRY_ID = CheckedType(values.Kind("id", Message("a change's id such as 2-k7q4tz (see `journal`)"), _read_entry_id))
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
