"""The commands that change groups (``move``, ``remove``, ``merge``, ``lead``, ``batch``, ``undo``), and ``journal``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evergreen_groups import cli, exit_status
from evergreen_groups.language import ENGLISH, gettext, use_language
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen_groups.changes import JournalEntry
    from evergreen_groups.client import Client, Outcome, Plan
    from evergreen_groups.errors import EvergreenGroupsError
    from evergreen_groups.groups import PatronReference
    from evergreen_groups.state import State

_MOST_LISTED = 50
_WAIT = 10.0
"""Seconds to wait for a desk that is changing the same patrons or groups, which takes it only a moment."""


@dataclass(frozen=True)
class ChangeOptions:
    """The options common to all changes: apply without asking, only show the plan, write JSON."""

    yes: bool
    dry_run: bool
    as_json: bool


def _with_change_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of all changes, and pass them to the command as one :class:`ChangeOptions`."""

    @wraps(command)
    def with_options(*arguments: Any, yes: bool, dry_run: bool, as_json: bool, **options: Any) -> int:
        return command(*arguments, change_options=ChangeOptions(yes, dry_run, as_json), **options)

    yes = click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
    dry_run = click.option("--dry-run", is_flag=True, help="Only show what would happen.")
    return yes(dry_run(cli.json_option(with_options)))


def _change(
    session: cli.Invocation,
    make_plan: Callable[[Client], Plan],
    change_options: ChangeOptions,
    *,
    barcodes: Sequence[str] = (),
) -> int:
    """Show a plan, ask for confirmation, apply it, report the outcome, and return the exit status.

    With JSON, standard output gets one document: the journal entry if changes were made, the plan if not. ``barcodes``
    are those given on the command line; for unknown ones, suggestions are shown.
    """
    from evergreen_groups import hooks
    from evergreen_groups.render import write_draft, write_outcome

    with session.client() as client:
        if not change_options.dry_run:
            _recover(client)
        with cli.explain_unknown_barcodes(session, client.gateway, barcodes):
            plan = make_plan(client)
        shown_only = change_options.dry_run or not plan.draft.steps
        if not change_options.as_json or not (shown_only or change_options.yes):
            stream = sys.stderr if change_options.as_json else sys.stdout
            write_draft(plan.draft, stream)
            stream.flush()
        if shown_only or not (change_options.yes or cli.confirmed(gettext("Continue?"))):
            if not shown_only:
                click.echo(gettext("Nothing was changed."), err=change_options.as_json)
            if change_options.as_json:
                with use_language(ENGLISH):
                    cli.write_json(hooks.as_json(plan.draft))
            return exit_status.DONE
        with session.progress() as progress:
            outcome = plan.apply(progress, timeout=_WAIT)
        if change_options.as_json and outcome.entry is not None:
            cli.write_json(_entry_document(client.state, client.changes.entry(outcome.entry)))
        else:
            write_outcome(outcome, sys.stdout)
    return _status(outcome)


def _entry_document(state: State, entry: JournalEntry) -> dict[str, Any]:
    """Return the hooks' document of a journal entry, with what only the command line has: who made it, and where."""
    from evergreen_groups import hooks
    from evergreen_groups.changes import Change

    is_under_way = bool(entry.undecided) and state.is_being_changed(entry.gateway, entry.undecided)
    # Changes without a staff user's id come from the command line.
    change = Change(entry, is_under_way=is_under_way, is_own=entry.operator.staff is None)
    with use_language(ENGLISH):
        document = hooks.as_json(change)
    who = entry.operator.terminal_user  # None for changes made at a desk or by earlier releases
    names = ("user", "login_user", "terminal", "host")
    return {
        **document,
        "account": entry.operator.account,
        "command_line": None if who is None else {name: getattr(who, name) for name in names},
        "gateway": entry.gateway,
        "missing_step_count": entry.missing_step_count,
    }


def _recover(client: Client) -> None:
    """Look up the outcome of changes that earlier runs left open, and report how many there are."""
    ended = client.changes.recover()
    if ended:
        text = Message(
            "{count} unfinished change of an earlier run was checked: see `journal`.",
            plural="{count} unfinished changes of earlier runs were checked: see `journal`.",
            values={"count": len(ended)},
        )
        cli.logs.emit(text)
    left = client.changes.open_steps()
    if left:
        text = Message(
            "{count} earlier change is still open: it may arrive late, or this account can't see the patron.",
            plural="{count} earlier changes are still open: they may arrive late, or this account can't see "
            "the patrons.",
            values={"count": len(left)},
        )
        cli.logs.emit(text)


def _status(outcome: Outcome) -> int:
    """Return the exit status: of the error that stopped the changes, else done, permission or failed."""
    if outcome.stopped is not None:
        return cli.logs.emit_interruption(outcome.stopped)
    if outcome.done:
        return exit_status.DONE
    statuses = [exit_status.for_error(step.error) for step in outcome.steps if step.error is not None]
    return exit_status.PERMISSION if exit_status.PERMISSION in statuses else exit_status.FAILED


def _list_problems(file: Path, error: EvergreenGroupsError, change_options: ChangeOptions) -> int:
    """List the errors in a file of changes by line, and return the exit status."""
    problems: Sequence[Message] = error.values["problems"]  # type: ignore[assignment]  # set for batch-broken
    if change_options.as_json:
        listed = [{"line": problem.values["line"], "problem": str(problem.values["text"])} for problem in problems]
        cli.write_json({"version": 1, "kind": "batch-problems", "problems": listed})
    if cli.logs.as_json():
        raise error
    summary = Message(
        "nothing was changed: {count} line of {file} is wrong",
        plural="nothing was changed: {count} lines of {file} are wrong",
        values={"count": len({problem.values["line"] for problem in problems}), "file": file},
    )
    cli.logs.emit(summary, error=True)
    if not change_options.as_json:
        for problem in problems:
            click.echo(f"  {gettext(problem)}", err=True)
    return exit_status.for_error(error)


@click.command("move")
@click.argument("barcodes", metavar="BARCODE...", nargs=-1)
@click.option("--name", "names", multiple=True, help='A patron to move, by name: "Okonkwo, A". You choose from a list.')
@click.option("--to", metavar="BARCODE", help="A patron in the group to move to.")
@click.option("--to-name", metavar="NAME", help="The same, by name.")
@_with_change_options
@click.pass_obj
def move_command(
    session: cli.Invocation,
    *,
    barcodes: tuple[str, ...],
    names: tuple[str, ...],
    to: str | None,
    to_name: str | None,
    change_options: ChangeOptions,
) -> int:
    """Move the patrons with these barcodes into another patron's group.

    Shows who moves, and what both groups owe before and after; then asks.
    """
    if not barcodes and not names:
        raise cli.one_required("BARCODE...", "--name")
    if (to is None) == (to_name is None):
        raise cli.one_required("--to", "--to-name")

    def plan(client: Client) -> Plan:
        moving: list[PatronReference] = [*barcodes, *(cli.choose_patron(client, name) for name in names)]
        target = cli.choose_patron(client, to_name) if to_name is not None else to or ""
        return client.move(moving, to=target)

    return _change(session, plan, change_options, barcodes=[*barcodes, *filter(None, [to])])


@click.command("remove")
@click.argument("barcodes", metavar="BARCODE...", nargs=-1, required=True)
@click.option("--lead", is_flag=True, help="Make them leads of their new groups.")
@_with_change_options
@click.pass_obj
def remove_command(
    session: cli.Invocation, barcodes: tuple[str, ...], lead: bool, *, change_options: ChangeOptions
) -> int:
    """Remove the patrons with these barcodes from their group, each into a new one.

    They become group leads only with --lead.
    """
    return _change(session, lambda client: client.remove(barcodes, lead=lead), change_options, barcodes=barcodes)


@click.command("merge")
@click.option("--from", "source", required=True, metavar="BARCODE", help="A patron in the group that moves.")
@click.option("--to", required=True, metavar="BARCODE", help="A patron in the group to move to.")
@_with_change_options
@click.pass_obj
def merge_command(session: cli.Invocation, source: str, to: str, *, change_options: ChangeOptions) -> int:
    """Move all members of one group into another."""
    return _change(session, lambda client: client.merge(source, to=to), change_options, barcodes=[source, to])


@click.command("lead")
@click.argument("barcode")
@click.option("--off", is_flag=True, help="Make the patron no longer a group lead.")
@_with_change_options
@click.pass_obj
def lead_command(session: cli.Invocation, barcode: str, off: bool, *, change_options: ChangeOptions) -> int:
    """Make the patron with BARCODE a group lead, or with --off no longer one."""
    return _change(session, lambda client: client.set_lead(barcode, lead=not off), change_options, barcodes=[barcode])


@click.command("batch")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_with_change_options
@click.pass_obj
def batch_command(session: cli.Invocation, file: Path, *, change_options: ChangeOptions) -> int:
    """Make the changes in a CSV FILE with the columns action,barcode,target.

    \b
    move,BARCODE,TARGET     into the group of the patron with barcode TARGET
    remove,BARCODE,         into a new group (target "lead": as its lead)
    merge,BARCODE,TARGET    all members of one group into another
    lead,BARCODE,on         group lead ("off": no longer)

    The whole file is checked before anything is sent. After an interruption, run the same file again: changes are
    never made twice.
    """
    from evergreen_groups.errors import PlanError

    try:
        return _change(session, lambda client: client.batch(file), change_options)
    except PlanError as error:
        if error.code != "batch-broken":
            raise
        return _list_problems(file, error, change_options)


@click.command("undo")
@click.argument("entry", type=cli.ENTRY_ID)
@_with_change_options
@click.pass_obj
def undo_command(session: cli.Invocation, entry: str, *, change_options: ChangeOptions) -> int:
    """Undo the journal's ENTRY: patrons who are still where it put them go back; the others are listed.

    Exit status 1 if there is nothing to undo, for example because ENTRY is already undone.
    """
    return _change(session, lambda client: client.undo(entry), change_options)


@click.command("journal")
@click.argument("entry", type=cli.ENTRY_ID, required=False)
@click.option("--all", "every", is_flag=True, help="List all changes instead of the last 50.")
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="List the changes since this date.")
@cli.json_option
@click.pass_obj
def journal_command(
    session: cli.Invocation, entry: str | None, every: bool, since: datetime | None, as_json: bool
) -> None:
    """List the last 50 changes made with this program, latest first, or show ENTRY with all its steps."""
    from evergreen_groups.changes import Journal
    from evergreen_groups.hooks import as_json as hook_document
    from evergreen_groups.render import write_entries, write_entry

    with session.state() as state:
        journal = Journal(state.database)
        if entry is not None:
            found = [journal.entry(entry)]
        elif every or since is not None:
            found = journal.entries(since=since and since.astimezone())
        else:
            found = journal.entries(most=_MOST_LISTED + 1)
            if len(found) > _MOST_LISTED:
                del found[_MOST_LISTED:]
                click.echo(gettext("There are older changes: --all lists them."), err=True)
        if as_json:
            documents = [_entry_document(state, one) for one in found]
            cli.write_json({**hook_document([]), "changes": documents} if entry is None else documents[0])
            return
    with session.output("table") as stream:
        if entry is None:
            write_entries(found, stream)
        else:
            write_entry(found[0], stream)
