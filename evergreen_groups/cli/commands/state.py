"""``evergreen-groups state``: manage the database between runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evergreen_groups.cli import CheckedType, json_option, usage_error, write_json
from evergreen_groups.language import gettext, ngettext
from evergreen_groups.message import Message
from evergreen_groups.settings import values

if TYPE_CHECKING:
    from evergreen_groups.cli import Invocation

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group("state")
def state_command() -> None:
    """Look after what is kept between runs: the journal, the history, follow-ups, events, and mails that wait."""


@state_command.command("upgrade")
@click.option("--sql", "dialect", type=click.Choice(["postgresql", "sqlite"]), help="Only print the SQL that makes it.")
@json_option
@click.pass_obj
def upgrade_command(invocation: Invocation, dialect: str | None, as_json: bool) -> None:
    """Bring the database to this release's schema.

    Whatever else needs the database does so by itself, where the user may; with --sql an administrator can read before
    what an empty database gets.
    """
    from evergreen_groups.state import statements

    if dialect is not None:
        click.echo(statements(dialect), nl=False)
        return
    with invocation.state() as state:
        with state.database.reading():
            pass
        where = state.database.where
    if as_json:
        write_json({"version": 1, "kind": "state-upgrade", "where": where})
    else:
        click.echo(gettext("The database {where} is up to date.", where=where))


@state_command.command("check")
@json_option
@click.pass_obj
def check_command(invocation: Invocation, as_json: bool) -> None:
    """Look the database through: whether it is whole, what is kept, since when, and how large it is."""
    from evergreen_groups.render import examination_document, write_examination
    from evergreen_groups.state import examine

    with invocation.state() as state:
        found = examine(state.database, thoroughly=True) if state.database.is_there else None
    if as_json:
        write_json(examination_document(found))
    elif found is None:
        click.echo(gettext("Nothing is kept yet."))
    else:
        write_examination(found, sys.stdout)


@state_command.command("backup")
@click.argument("file", type=_FILE)
@json_option
@click.pass_obj
def backup_command(invocation: Invocation, file: Path, as_json: bool) -> None:
    """Write everything into a new FILE, while others may go on working.

    It is an SQLite file, whichever engine is in use, and readable by its owner alone.
    """
    from evergreen_groups.formats import is_document
    from evergreen_groups.state import back_up

    if is_document(file):
        raise usage_error(Message("A backup is an SQLite file: let its name end in .sqlite3, .backup or nothing."))
    with invocation.state() as state:
        rows = back_up(state.database, file)
    if as_json:
        write_json({"version": 1, "kind": "state-backup", "file": str(file), "rows": rows})
    else:
        click.echo(ngettext("{count} row is in {file}.", "{count} rows are in {file}.", rows, file=file))


@state_command.command("restore")
@click.argument("file", type=_FILE)
@json_option
@click.pass_obj
def restore_command(invocation: Invocation, file: Path, as_json: bool) -> None:
    """Fill a database that has nothing in it yet from the backup FILE.

    To move from a file to PostgreSQL, set [state] database and restore the former state.sqlite3 (or a backup of it).
    """
    from evergreen_groups.state import restore

    with invocation.state() as state:
        rows, where = restore(state.database, file), state.database.where
    if as_json:
        write_json({"version": 1, "kind": "state-restore", "where": where, "rows": rows})
    else:
        click.echo(ngettext("{count} row is in {where} now.", "{count} rows are in {where} now.", rows, where=where))


@state_command.command("export")
@click.pass_obj
def export_command(invocation: Invocation) -> None:
    """Write all that is kept to standard output, a line of JSON for each row.

    Patrons stand in it with their ids; mails that wait may have names in them.
    """
    from evergreen_groups.state import export

    with invocation.state() as state:
        export(state.database, sys.stdout)


@state_command.command("forget")
@click.argument("patron", type=CheckedType(values.whole_number(1, 2**31 - 1), "PATRON_ID"), metavar="PATRON_ID")
@json_option
@click.pass_obj
def forget_command(invocation: Invocation, patron: int, as_json: bool) -> None:
    """Remove what is kept of one patron, by the id that the ILS has for them (not the barcode).

    Changes of theirs can't be taken back any more. Follow-up entries that were saved while they were the person to
    contact go too, with their notes; where staff is forgotten, entries lose the id. Notes of other entries may still
    name them. It is refused while a change is open. Logs and written reports have lives of their own, and a mail that
    waits is gone when it is sent.
    """
    from evergreen_groups.state import forget

    with invocation.state() as state:
        gone = forget(state.database, patron)
        log_emptied = state.database.empty_log()
    if as_json:
        counts = {"steps": gone.steps, "events": gone.events, "groups": gone.groups, "entries": gone.entries}
        write_json({"version": 1, "kind": "state-forget", "removed": counts, "log_emptied": log_emptied})
        return
    text = gettext(
        "Steps of changes removed: {steps:,}; events removed: {events:,}; listed groups that named the patron: "
        "{groups:,}; follow-up entries removed: {entries:,}.",
        steps=gone.steps,
        events=gone.events,
        groups=gone.groups,
        entries=gone.entries,
    )
    click.echo(text)
    if not log_emptied:
        text = gettext(
            "The removed rows are still in the database's write-ahead log, because another process is reading it. Run "
            "this command again in a moment."
        )
        click.echo(text)
