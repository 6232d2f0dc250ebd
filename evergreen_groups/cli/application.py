"""The top of the command: global options, the list of commands, and errors turned into one line."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from evergreen_groups import exit_status
from evergreen_groups.cli.options import accept_after, file_after_equals, global_options
from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.language import ENGLISH, Language, terminal_language, use_language
from evergreen_groups.message import Message, system_reason


def prepare_standard_streams() -> None:
    """Make something of streams that are closed (``>&-``), and let none fail for a letter that it doesn't know.

    The first file that is opened would get the number of a closed stream, and what is written to the stream would get
    into it. A closed standard input is empty; what is written to a closed standard output is an error; nothing is
    written to a closed standard error.
    """
    modes = (os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)  # one that can only be read makes an error of what is written
    for number, mode in enumerate(modes):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)  # the lowest number that is free: this one
            os.set_inheritable(opened, True)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def give_up_standard_output() -> None:
    """Let what is still to be written to standard output get lost, at exit as well."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


COMPLETION_VARIABLE = "_EVERGREEN_GROUPS_COMPLETE"
"""What Click's ``main`` looks for to know that a shell asks."""
COMMANDS = {
    "report": "List the groups whose members together owe a lot.",
    "status": "How the last run of the report ended, for monitoring.",
    "show": "Show all members of a patron's group.",
    "check": "Show who is over the limit with own fines, and why.",
    "help": "Show what a command does, and its options.",
    "doctor": "Say whether everything is right, and what to do.",
    "config": "Show, check or begin the configuration.",
    "init": "Set up: ask, try each answer, write the configuration.",
    "install": "Install the nightly report and the service on this machine.",
    "uninstall": "Take back what install has written.",
    "audit": "List blocks and groups that don't fit the rule.",
    "move": "Move patrons into the group of another.",
    "remove": "Give patrons new groups of their own.",
    "merge": "Move everyone of one group into another.",
    "lead": "Mark a patron as group lead, or no longer.",
    "batch": "Make the changes in a CSV file.",
    "journal": "List the changes that were made.",
    "undo": "Take back a change that the journal has.",
    "completion": "Print what completes commands in a shell.",
    "state": "Look after what is kept: check, backup, forget and more.",
    "serve": "Serve group fines to the staff client and to other systems.",
    "sandbox": "Serve an embedded stand-in for an Evergreen gateway.",
}
"""The commands, each with what it does in a line, for ``--help``."""


class _Commands(click.Group):
    """The commands, each imported when it is asked for, so that ``--help`` and a short command start fast."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        commands = import_module("evergreen_groups.cli.commands")
        command: click.Command = getattr(commands, f"{cmd_name}_command")
        accept_after(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names; where none does, the one that may be meant is named."""
        if args[0] not in COMMANDS:
            from evergreen_groups.settings import closest_name

            meant = closest_name(args[0], COMMANDS)
            if meant is not None:
                raise click.UsageError(f"No such command {args[0]!r}. Did you mean {meant!r}?", ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the global options; nothing at all is a question for help."""
        return super().parse_args(ctx, file_after_equals(args) or ["--help"])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C is an event like others where events are JSON, without click's empty line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            from evergreen_groups.cli import logs

            if logs.as_json():
                raise click.Abort from None
            raise


@click.group(
    cls=_Commands,
    params=global_options(),
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=exit_status.explained(),
)
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Patron groups for the Evergreen library system.

    Shows what the members of a group (mostly a family) owe together, for information only: nobody is blocked for the
    fines of others.
    """
    from evergreen_groups.cli.invocation import Invocation

    context.obj = Invocation.of(**options)


def _refuse_broken_completion() -> None:
    """Refuse a shell's question at Tab that lacks what is to be completed, over which Click would fail."""
    shell, _, asked = os.environ.get(COMPLETION_VARIABLE, "").partition("_")
    place = os.environ.get("COMP_CWORD", "")
    is_whole = "COMP_WORDS" in os.environ and "COMP_CWORD" in os.environ and (shell == "fish" or place.isdecimal())
    if asked == "complete" and not is_whole:
        from evergreen_groups.cli.options import usage_error

        raise usage_error(
            Message(
                "{variable} is for completion scripts, which also set COMP_WORDS and COMP_CWORD: unset it",
                values={"variable": COMPLETION_VARIABLE},
            )
        )


def _replace_broken_timezone() -> None:
    """Take a TZ that names a file without a time zone for UTC, as the C library does: Babel can't be imported then."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if not name or not os.path.lexists(name):  # mostly it isn't set, or names a time zone
        return
    from zoneinfo import ZoneInfo

    try:
        with Path(name).open("rb") as file:
            ZoneInfo.from_file(file)
    except Exception:  # broken in whatever way
        os.environ["TZ"] = "UTC"


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Leave through the same doors as Ctrl-C: log out, remove the temporary file."""
    raise SystemExit(exit_status.TERMINATED)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and leave with its exit status (``exit_status``)."""
    prepare_standard_streams()
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and give back its exit status."""
    _replace_broken_timezone()
    # The terminal's language, until the settings say which it is where the terminal asks for none.
    with use_language(Language(terminal_language(os.environ) or ENGLISH.tag)):
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    status: object
    try:
        _refuse_broken_completion()
        status = cli.main(args=arguments, prog_name="evergreen-groups", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as problem:
        _show(problem)
        status = problem.exit_code
    except (click.Abort, KeyboardInterrupt):
        _emit_error(Message("interrupted"))
        status = exit_status.INTERRUPTED
    except EvergreenGroupsError as error:
        _emit_error(_in_a_line(error), error.code)
        status = exit_status.for_error(error)
    except BrokenPipeError:
        give_up_standard_output()  # whoever read the output has gone (`| head`)
        status = exit_status.FAILED
    except OSError as error:
        give_up_standard_output()  # what is left of it would fail again at exit
        _emit_error(Message("cannot read or write: {reason}", values={"reason": system_reason(error)}))
        status = exit_status.FAILED
    except Exception as error:  # a mistake of ours; nobody is to see a traceback, and what it says may be of patrons
        _report(error)
        status = exit_status.FAILED
    return status if isinstance(status, int) else exit_status.DONE


def _in_a_line(error: EvergreenGroupsError) -> str:
    """An error as the reader of standard error has it: a person in their language, a program in English."""
    from evergreen_groups.cli import logs
    from evergreen_groups.language import describe_error

    return str(error) if logs.as_json() else describe_error(error)


def _emit_error(message: str, code: str = "") -> None:
    """Write one line about an error; ``code`` is for programs."""
    from evergreen_groups.cli import logs

    logs.emit(message, error=True, code=code)


def _report(error: Exception) -> None:
    """Write one line about something unforeseen, and its kind and place, but not its words, into the log."""
    from evergreen_groups.cli import logs

    logs.report_unforeseen(error)


def _show(problem: click.ClickException) -> None:
    """Show what was wrong with the command line: to people in their language, or as an event where events are JSON."""
    from evergreen_groups.cli import logs

    if logs.as_json():
        logs.emit(str(problem.format_message()), error=True)
        return
    from evergreen_groups.cli.options import show_usage_error

    show_usage_error(problem)
