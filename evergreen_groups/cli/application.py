"""The top-level command: global options, the list of commands, and error handling."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from evergreen_groups import exit_status
from evergreen_groups.cli.usage import accept_global_options, global_options, rewrite_sandbox_option
from evergreen_groups.language import ENGLISH, Language, catalogue, use_language


def repair_standard_streams() -> None:
    """Open closed standard streams (``>&-``), and keep unencodable characters from failing.

    The first file opened would get the descriptor of a closed stream, and then receive what is written to that stream.
    A closed standard input becomes empty; writing to a closed standard output fails; output to a closed standard error
    is discarded.
    """
    modes = (os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)  # writing to a read-only standard output is an error
    for number, mode in enumerate(modes):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)  # gets the lowest free number, which is this one
            os.set_inheritable(opened, True)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


COMPLETION_VARIABLE = "_EVERGREEN_GROUPS_COMPLETE"
"""Set by completion scripts, and read by Click's ``main``."""
COMMANDS = {
    "report": "List groups with high combined fines.",
    "status": "Show how the last run of the report ended, for monitoring.",
    "show": "Show all members of a patron's group.",
    "slip": "List what a family has out and can pick up, to print for the parents.",
    "check": "Show whether a patron is over the limit, and why.",
    "help": "Show what a command does, and its options.",
    "doctor": "Check the installation, with advice.",
    "config": "Show or check the configuration, or print an example.",
    "init": "Create a configuration, testing each answer.",
    "install": "Install the nightly report and the service on this machine.",
    "uninstall": "Remove what install has written.",
    "follow-ups": "List the groups of the report with their follow-ups.",
    "letters": "Write letters to the families of the report, or a mail-merge file.",
    "results": "Show what the work with the families of the report achieved.",
    "audit": "List blocks and groups that don't fit the rule.",
    "move": "Move patrons into another patron's group.",
    "remove": "Remove patrons from their group, each into a new one.",
    "merge": "Move all members of one group into another.",
    "lead": "Make a patron a group lead, or no longer one.",
    "batch": "Make the changes in a CSV file.",
    "journal": "List the changes that were made.",
    "undo": "Undo a change.",
    "completion": "Print a shell completion script.",
    "state": "Manage the database: check, back up, forget a patron.",
    "serve": "Run the web service.",
    "sandbox": "Run a stand-in for an Evergreen gateway, with sample data.",
}
"""The commands with their summaries for ``--help``."""
_MODULES = {
    "changes": ("move", "remove", "merge", "lead", "batch", "journal", "undo"),
    "help": ("completion",),
    "install": ("uninstall",),
    "show": ("check", "slip"),
}
"""The modules with commands of other names. Every other command has a module with its name."""


class _Commands(click.Group):
    """Imports each command on first use, so that ``--help`` and short commands start fast."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = next((module for module, names in _MODULES.items() if cmd_name in names), cmd_name)
        module = import_module(f"evergreen_groups.cli.commands.{name.replace('-', '_')}")
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        accept_global_options(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command named by the first argument, or suggest a similar one."""
        if args[0] not in COMMANDS:
            from evergreen_groups.settings import closest_name

            meant = closest_name(args[0], COMMANDS)
            if meant is not None:
                raise click.UsageError(f"No such command {args[0]!r}. Did you mean {meant!r}?", ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the global options. Without arguments, show the help."""
        return super().parse_args(ctx, rewrite_sandbox_option(args) or ["--help"])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. With JSON events, turn Ctrl-C into an event, without Click's empty line."""
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
    epilog=exit_status.help_text(),
)
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Patron groups for the Evergreen library system.

    Shows what the members of a group, usually a family, owe together. This is for information only: patrons are never
    blocked for the fines of others.
    """
    from evergreen_groups.cli.invocation import Invocation

    context.obj = Invocation.of(**options)


def _refuse_broken_completion() -> None:
    """Refuse a completion request that lacks variables, which would crash Click."""
    shell, _, asked = os.environ.get(COMPLETION_VARIABLE, "").partition("_")
    place = os.environ.get("COMP_CWORD", "")
    is_whole = "COMP_WORDS" in os.environ and "COMP_CWORD" in os.environ and (shell == "fish" or place.isdecimal())
    if asked == "complete" and not is_whole:
        raise click.UsageError(f"{COMPLETION_VARIABLE} is for completion scripts, which set COMP_WORDS too: unset it")


def _replace_broken_timezone() -> None:
    """Treat a TZ that names an invalid file as UTC, like the C library. With such a TZ, Babel fails to import."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if not name or not os.path.lexists(name):  # usually unset, or the name of a time zone
        return
    from zoneinfo import ZoneInfo

    try:
        with Path(name).open("rb") as file:
            ZoneInfo.from_file(file)
    except Exception:  # not a time zone file, or unreadable
        os.environ["TZ"] = "UTC"


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Exit like Ctrl-C does, so that the session is logged out and temporary files are removed."""
    raise SystemExit(exit_status.TERMINATED)


_INTERRUPTIONS, _INTERVAL = 5, 0.1  # more than one, for a machine under load


def interrupt_waits() -> None:
    """Have every signal end a wait of the main thread.

    Python runs a signal's handler once the main thread is back from C. A signal that arrives just before the thread
    begins to wait for a socket doesn't end that wait, so the handler would run only when the gateway's timeout is over:
    with an Evergreen that hangs, in one run of eight. So each signal is followed by others that only interrupt.
    """
    written, interruption = os.pipe(), signal.SIGURG  # by default ignored, and used by nothing else
    os.set_blocking(written[1], False)
    signal.signal(interruption, lambda _signal, _frame: None)
    signal.set_wakeup_fd(written[1], warn_on_full_buffer=False)
    main_thread = threading.get_ident()

    def follow() -> None:
        while number := os.read(written[0], 1):
            for _ in range(_INTERRUPTIONS if number[0] != interruption else 0):
                time.sleep(_INTERVAL)
                signal.pthread_kill(main_thread, interruption)

    threading.Thread(target=follow, name="signals", daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its status (:mod:`evergreen_groups.exit_status`)."""
    repair_standard_streams()
    interrupt_waits()
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    _replace_broken_timezone()
    # Use the terminal's language at first. If the terminal has none, reading the settings sets the configured one.
    with use_language(Language(catalogue.terminal_language(os.environ) or ENGLISH.tag)):
        try:
            _refuse_broken_completion()
            status: object = cli.main(args=arguments, prog_name="evergreen-groups", standalone_mode=False)
            sys.stdout.flush()
        except BaseException as error:  # Ctrl-C included; what isn't an error, such as SystemExit, is raised again
            from evergreen_groups.cli.failure import report_failure

            status = report_failure(error)
        return status if isinstance(status, int) else exit_status.DONE
