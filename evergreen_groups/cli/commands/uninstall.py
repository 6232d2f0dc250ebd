"""``evergreen-groups uninstall``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evergreen_groups import exit_status
from evergreen_groups.cli import Invocation, confirmed, logs
from evergreen_groups.cli.commands.install import INSTALLED, may_change_system, run_all, show_left
from evergreen_groups.language import gettext
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.installation import RemovalPlan


@click.command("uninstall")
@click.argument("parts", nargs=-1, type=click.Choice(INSTALLED), metavar="[nightly|serve|apache|cron]...")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@click.option(
    "--purge",
    is_flag=True,
    help="Remove configuration, passwords, the state directory with history and journal, and the cache as well.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    help="The directory that stands for /; no command is run then.",
)
@click.pass_obj
def uninstall_command(_session: Invocation, parts: tuple[str, ...], yes: bool, purge: bool, root: Path | None) -> int:
    """Take back what `install` has written: all of it, or only these parts.

    Files that were changed since stay, and are named. Configuration, passwords, reports and what is kept between runs
    stay, unless --purge is added; a PostgreSQL database stays in any case.
    """
    from evergreen_groups.installation import Machine, plan_removal

    if purge and parts:
        raise click.UsageError("--purge is about everything: name no part with it")
    machine = Machine(root=(root or Path("/")).absolute())
    may_change_system(machine)
    plan = plan_removal(machine, dict.fromkeys(parts or INSTALLED), purges=purge)
    _show_plan(plan)
    if plan.is_empty:
        click.echo(gettext("There is nothing to remove."))
        return exit_status.DONE
    if not yes and not confirmed(gettext("Remove these files?")):
        raise click.Abort
    run_all(plan.before)
    for path in plan.remove():
        logs.emit(Message("removed: {file}", values={"file": path}))
    run_all(plan.after)
    return exit_status.DONE


def _show_plan(plan: RemovalPlan) -> None:
    for path in plan.left:
        show_left(path, gettext("If nobody needs it any more: rm {file}", file=path))
    for path in (*plan.files, *plan.purged):
        click.echo(gettext("to be removed: {file}", file=plan.machine.below_root(path)))
    if plan.before:
        click.echo(gettext("Commands that are run before that:"))
        for command in plan.before:
            click.echo(f"    {shlex.join(command)}")
