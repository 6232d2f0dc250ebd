"""``evergreen-groups install``."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evergreen_groups import cli, exit_status
from evergreen_groups.language import gettext
from evergreen_groups.message import Message
from evergreen_groups.settings import values

if TYPE_CHECKING:
    from evergreen_groups.installation import InstallationPlan, Machine, RemovalPlan

PARTS = ("nightly", "serve", "apache", "cron", "backup")
"""The names of the parts. Repeated here because ``--help`` must not import the installation package."""
_SHOWN = (*PARTS, "balancer", "permissions", "events", "wsgi", "alerts", "dashboard", "all")
_ROOT = click.option(
    "--root", type=click.Path(path_type=Path, file_okay=False), help="Use this directory as /, and run no commands."
)
_RUN_NOW = "systemctl start evergreen-groups-report"
_NIGHTLY = Message("The report runs every night between 3:15 and 3:45. Useful commands:")
_WITH_BACKUP = {"nightly", "serve"}
"""The parts that fill the database, so that they also install its daily backup. The crontab makes one itself."""
_NEXT_STEPS: dict[str, tuple[Message, tuple[str, ...]]] = {
    "nightly": (_NIGHTLY, (_RUN_NOW, "evergreen-groups status")),
    "serve": (
        Message("Test the service, then configure Apache:"),
        ("curl http://{address}/evergreen-groups/healthz", "evergreen-groups install apache"),
    ),
    "backup": (
        Message("The database is backed up every day, to {directory}. To make a backup now:"),
        ("systemctl start evergreen-groups-backup",),
    ),
    "apache": (
        Message(
            "Add the line `Include evergreen-groups.conf` to the HTTPS virtual host, below `Include eg_vhost.conf`. "
            "Then run:"
        ),
        ("apache2ctl configtest && systemctl restart apache2",),
    ),
    "cron": (
        _NIGHTLY,
        ("evergreen-groups status", "runuser -u evergreen-groups -- env STATE_DIRECTORY={state} {program} doctor"),
    ),
}
"""Notes and commands to show after installing a part."""
_NEXT_STEPS_WITHOUT_SYSTEMD: dict[str, tuple[Message, tuple[str, ...]]] = {
    "nightly": (
        Message(
            "Nothing was started, because systemd isn't running here. Run the first line where it runs, or the second "
            "if this machine doesn't use systemd:"
        ),
        (
            "systemctl daemon-reload && systemctl enable --now evergreen-groups-report.timer",
            "evergreen-groups uninstall nightly && evergreen-groups install cron",
        ),
    ),
    "serve": (
        Message("Nothing was started, because systemd isn't running here. To start it:"),
        ("systemctl daemon-reload && systemctl enable --now evergreen-groups{further}",),
    ),
    "backup": (
        Message("The database is backed up every day, to {directory}, where systemd runs. To start the timer:"),
        ("systemctl daemon-reload && systemctl enable --now evergreen-groups-backup.timer",),
    ),
}


@click.command("install")
@click.argument("parts", nargs=-1, type=click.Choice(PARTS), metavar="{nightly|serve|apache|cron|backup}...")
@click.option(
    "--show", "show", type=click.Choice(_SHOWN), help="Print the files of this part, filled in, and install nothing."
)
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@click.option(
    "--instances",
    type=cli.CheckedType(values.whole_number(1, 100)),
    help="serve: run this many processes, on as many ports, and have Apache share the requests among them. By default, "
    "as many as are installed, at first 1.",
)
@click.option("--no-start", is_flag=True, help="Only write the files; run no commands.")
@_ROOT
@click.option(
    "--program",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The program that the files start, by default this one.",
)
@click.pass_obj
def install_command(
    session: cli.Invocation,
    /,
    *,
    parts: tuple[str, ...],
    show: str | None,
    yes: bool,
    instances: int | None,
    no_start: bool,
    root: Path | None,
    program: Path | None,
) -> int:
    """Install one or more parts: nightly (the report; without systemd, cron), serve (the web service), or apache.

    With nightly and serve comes backup, the daily backup of the database.

    Shows the files, filled in for this machine and its configuration, and writes them after you confirm. Needs root.
    Files that were changed on this machine are skipped; the exit status is 1 then. `uninstall` removes what was
    written.
    """
    from evergreen_groups.installation import plan_installation, refuse_private_program, render_files, this_machine

    if bool(parts) == bool(show):
        raise cli.one_required(*PARTS, "--show")
    if instances is not None and "serve" not in parts:
        raise cli.needs_option("--instances", "serve")
    if _WITH_BACKUP & set(parts):
        parts = (*parts, "backup")
    machine = this_machine(session.config_file, os.environ, root=root or Path("/"), program=program)
    if show:
        click.echo(render_files(show, machine), nl=False)
        return exit_status.DONE
    _require_root(machine)
    if root is None and program is None:
        refuse_private_program(machine)
    if "serve" in parts and root is None:
        from evergreen_groups.cli.commands.serve import refuse_without_server

        refuse_without_server()
    plan = plan_installation(machine, dict.fromkeys(parts), starts=not no_start, instances=instances)
    _show_plan(plan)
    if plan.changes_anything:
        if not yes and not cli.confirmed(gettext("Continue?")):
            raise click.Abort
        _remove(plan.surplus)
        for path in plan.write():
            cli.logs.emit(Message("written: {path}", values={"path": path}))
        _run_commands(plan.commands)
        _show_notes(plan, parts)
    return exit_status.FAILED if plan.left or plan.surplus.left else exit_status.DONE


def _require_root(machine: Machine) -> None:
    """Require root for changes to the system."""
    from evergreen_groups.errors import ConfigurationError

    if machine.root == Path("/") and os.geteuid() != 0:
        raise ConfigurationError(
            "only root can install and uninstall",
            advice="use `sudo {program}`",
            code="not-root",
            values={"program": machine.program},
        )


def _run_commands(commands: Iterable[tuple[str, ...]]) -> None:
    """Announce and run each command, stopping at the first failure."""
    from evergreen_groups.installation import run_command

    for command in commands:
        cli.logs.emit(Message("running: {command}", values={"command": shlex.join(command)}))
        run_command(command)


def _show_modified_file(path: Path, advice: str) -> None:
    """Name a modified file that was left alone, with advice."""
    click.echo(gettext("skipped, because it was changed: {file}", file=path))
    click.echo(f"    {advice}")


def _show_plan(plan: InstallationPlan) -> None:
    """Show each file: a new one without comments and blank lines, an existing one with the differences."""
    from evergreen_groups.installation import without_digest

    for file in plan.files:
        if file.is_up_to_date:
            click.echo(gettext("unchanged: {file}", file=file.path))
        elif file.is_left:
            advice = gettext(
                "To replace it, move it first: mv {file} {file}.bak. For your own changes, use `systemctl edit` or the "
                "configuration.",
                file=file.path,
            )
            _show_modified_file(file.path, advice)
        elif file.current is None:
            click.echo(gettext("new: {file}", file=file.path))
        else:
            click.echo(gettext("updated: {file}", file=file.path))
        if file.is_wanted or file.is_left:
            lines = file.text.splitlines()
            if file.current is None:
                shown = [line for line in lines if line and not line.lstrip().startswith("#")]
            else:
                former = without_digest(file.current).splitlines()
                shown = list(difflib.unified_diff(former, lines, "there", "wanted", lineterm="", n=1))
            click.echo("\n".join(f"    {line}".rstrip() for line in shown))
    _show_removal(plan.surplus)
    if plan.wanted and plan.commands:
        _show_commands(gettext("Commands that will run:"), map(shlex.join, plan.commands))


def _show_removal(plan: RemovalPlan) -> None:
    """Show the files to remove, those left because they were changed, and the commands to run before."""
    for path in plan.left:
        _show_modified_file(path, gettext("To remove it: rm {file}", file=path))
    for path in (*plan.files, *plan.purged):
        click.echo(gettext("to be removed: {file}", file=plan.machine.below_root(path)))
    if plan.before:
        _show_commands(gettext("Commands that will run:"), map(shlex.join, plan.before))


def _remove(plan: RemovalPlan) -> None:
    _run_commands(plan.before)
    for path in plan.remove():
        cli.logs.emit(Message("removed: {file}", values={"file": path}))
    _run_commands(plan.after)


def _show_notes(plan: InstallationPlan, parts: Iterable[str]) -> None:
    """Show what isn't carried over, permissions to set, and the next steps."""
    from evergreen_groups.installation import (
        BALANCER,
        directories_elsewhere,
        has_cron,
        runs_systemd,
        service_address,
        uncarried_variables,
    )
    from evergreen_groups.state import backup

    machine = plan.machine
    click.echo()
    if variables := uncarried_variables(os.environ):
        names = ", ".join(variables)
        click.echo(gettext("Set in your environment, but not for the installed units: {names}.", names=names))
    for path in directories_elsewhere(machine) if {"nightly", "cron"} & set(parts) else ():
        text = gettext(
            "The user evergreen-groups must be able to write reports to {path}. If it exists, systemd uses this user "
            "instead of a dynamic one:",
            path=path,
        )
        _show_commands(text, ("useradd --system evergreen-groups", f"chown evergreen-groups {path}"))
    if "cron" in parts and not has_cron():
        _show_commands(gettext("cron isn't installed. To install it:"), ("apt install cron",))
    services = [file.path.stem for file in plan.files if "@" in file.path.name and file.path.suffix == ".service"]
    if BALANCER in {*(file.path for file in plan.files), *plan.surplus.files}:
        text = gettext("Restart Apache, which shares the requests among the instances:")
        _show_commands(text, ("apache2ctl configtest && systemctl restart apache2",))
    known = {
        "address": service_address(machine.settings),
        "state": str(machine.state_directory),
        "directory": str(machine.state_directory / backup.BACKUPS),
        "further": "".join(f" {name}" for name in services),
        "program": str(machine.program),
    }
    notes = _NEXT_STEPS if runs_systemd(machine) else {**_NEXT_STEPS, **_NEXT_STEPS_WITHOUT_SYSTEMD}
    for part in dict.fromkeys(parts):
        message, commands = notes[part]
        _show_commands(
            gettext(message, directory=known["directory"]), [command.format_map(known) for command in commands]
        )


def _show_commands(text: str, commands: Iterable[str]) -> None:
    """Show a sentence and commands to copy, each on its own line."""
    click.echo(text)
    for command in commands:
        click.echo(f"    {command}")


@click.command("uninstall")
@click.argument("parts", nargs=-1, type=click.Choice(PARTS), metavar="[nightly|serve|apache|cron|backup]...")
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@click.option(
    "--purge",
    is_flag=True,
    help="Also remove configuration, passwords, and the state directory with history and journal.",
)
@_ROOT
@click.pass_obj
def uninstall_command(
    _session: cli.Invocation, parts: tuple[str, ...], yes: bool, purge: bool, root: Path | None
) -> int:
    """Remove what `install` has written: everything, or only these parts.

    Files that were changed since are skipped and listed. Configuration, passwords, reports and the state directory stay
    unless --purge is given. A PostgreSQL database always stays.
    """
    from evergreen_groups.installation import Machine, plan_removal

    if purge and parts:
        raise cli.conflicting_options("--purge", parts[0])
    machine = Machine(root=(root or Path("/")).absolute())
    _require_root(machine)
    plan = plan_removal(machine, dict.fromkeys(parts or PARTS), purges=purge)
    _show_removal(plan)
    if not (plan.files or plan.purged):
        click.echo(gettext("Nothing to remove."))
        return exit_status.DONE
    if not yes and not cli.confirmed(gettext("Continue?")):
        raise click.Abort
    _remove(plan)
    return exit_status.DONE
