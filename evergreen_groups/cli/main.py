"""The top of the command: global options, the list of commands, and errors turned into one line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from evergreen_groups import __version__
from evergreen_groups.cli import (
    audit_command,
    change_commands,
    check_command,
    doctor_command,
    exit_codes,
    init_command,
    journal_command,
    logs,
    report_command,
    sandbox_command,
    serve_command,
    show_command,
    status_command,
)
from evergreen_groups.cli.session import Session
from evergreen_groups.errors import EvergreenGroupsError


class _Commands(click.Group):
    """The commands; Ctrl-C is an event like others where events are JSON, without the empty line that click writes."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if logs.as_json():
                raise click.Abort from None
            raise


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=exit_codes.explained(),
)
@click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file (TOML). Otherwise $EVERGREEN_GROUPS_CONFIG, ~/.config/evergreen-groups/config.toml or "
    "/etc/evergreen-groups/config.toml.",
)
@click.option("--sandbox", is_flag=True, help="Use an embedded sandbox with made-up families instead of a gateway.")
@click.option("-v", "--verbose", count=True, help="Say what is being done; twice: every call.")
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    default="text",
    show_default=True,
    envvar="EVERGREEN_GROUPS_LOG_FORMAT",
    help="Say it as text, or as one JSON object a line (also $EVERGREEN_GROUPS_LOG_FORMAT).",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress and no notes; errors only.")
@click.version_option(__version__, "--version", prog_name="evergreen-groups")
@click.pass_context
def cli(context: click.Context, config: Path | None, sandbox: bool, verbose: int, log_format: str, quiet: bool) -> None:
    """Patron groups for the Evergreen library system.

    Shows what the members of a group (mostly a family) owe together, for information only: nobody is blocked for the
    fines of others.
    """
    logs.configure(verbosity=verbose, quiet=quiet, log_format=log_format)
    context.obj = Session(config_file=config, use_sandbox=sandbox, quiet=quiet)


for _command in (
    report_command.command,
    status_command.command,
    show_command.command,
    check_command.command,
    doctor_command.command,
    init_command.command,
    audit_command.command,
    change_commands.move,
    change_commands.remove,
    change_commands.merge,
    change_commands.lead,
    change_commands.batch,
    journal_command.command,
    change_commands.undo,
    serve_command.command,
    sandbox_command.command,
):
    cli.add_command(_command)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Leave through the same doors as Ctrl-C: log out, remove the temporary file."""
    raise SystemExit(exit_codes.TERMINATED)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and leave with its exit status (``exit_codes``)."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and give back its exit status."""
    status: object
    try:
        status = cli.main(args=arguments, prog_name="evergreen-groups", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as problem:
        if not logs.as_json():
            problem.show()
        else:
            logs.say(problem.format_message(), error=True)
        status = problem.exit_code
    except (click.Abort, KeyboardInterrupt):
        logs.say("interrupted", error=True)
        status = exit_codes.INTERRUPTED
    except EvergreenGroupsError as error:
        logs.say(str(error), error=True)
        status = exit_codes.for_error(error)
    except BrokenPipeError:
        # Whoever read the output has gone (`| head`); nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = exit_codes.FAILED
    except OSError as error:
        logs.say(f"cannot read or write: {error.strerror or error}", error=True)
        status = exit_codes.FAILED
    return status if isinstance(status, int) else exit_codes.DONE
