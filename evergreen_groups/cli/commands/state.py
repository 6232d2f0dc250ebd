"""``evergreen-groups state``: manage the database between runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evergreen_groups import cli, exit_status
from evergreen_groups.language import gettext, ngettext
from evergreen_groups.message import Message
from evergreen_groups.settings import values

if TYPE_CHECKING:
    from evergreen_groups.mail import Delivery
    from evergreen_groups.state import State

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group("state")
def state_command() -> None:
    """Manage the database: journal, history, follow-ups, events and queued mails."""


def _report(kind: str, text: str, *, as_json: bool, **values: object) -> None:
    """Say what was done: in a sentence, or as JSON."""
    if as_json:
        cli.write_json({"version": 1, "kind": f"state-{kind}", **values})
    else:
        click.echo(text)


@state_command.command("upgrade")
@click.option("--sql", "dialect", type=click.Choice(["postgresql", "sqlite"]), help="Only print the SQL.")
@cli.json_option
@click.pass_obj
def upgrade_command(invocation: cli.Invocation, dialect: str | None, as_json: bool) -> None:
    """Bring the database to this release's schema.

    Other commands do this automatically if the user has the rights. --sql prints what an empty database gets.
    """
    from evergreen_groups.state import statements

    if dialect is not None:
        click.echo(statements(dialect), nl=False)
        return
    with invocation.state() as state:
        with state.database.reading():
            pass
        where = state.database.where
    _report("upgrade", gettext("The database {where} is up to date.", where=where), as_json=as_json, where=where)


@state_command.command("check")
@cli.json_option
@click.pass_obj
def check_command(invocation: cli.Invocation, as_json: bool) -> None:
    """Check the database for damage, and show what it contains."""
    from evergreen_groups.render import doctor
    from evergreen_groups.state import examine

    with invocation.state() as state:
        where = state.database.where
        found = examine(state.database, thoroughly=True) if state.database.is_there else None
    if as_json:
        cli.write_json(doctor.examination_document(found))
    elif found is None:
        click.echo(gettext("{path} doesn't exist yet: the first run creates it", path=where))
    else:
        doctor.write_examination(found, sys.stdout)


@state_command.command("backup")
@click.argument("file", type=_FILE, required=False)
@cli.json_option
@click.pass_obj
def backup_command(invocation: cli.Invocation, file: Path | None, as_json: bool) -> None:
    """Back up the database to a new FILE, while it is in use.

    Without FILE, write the backup of today to the directory "backups" of the state directory, and leave the latest 14
    there ([state] backups). A timer does this every day.

    The backup is an SQLite file, also with PostgreSQL, and readable only by its owner.
    """
    from evergreen_groups.formats import is_document
    from evergreen_groups.state import backup

    if file is not None and is_document(file):
        raise cli.usage_error(Message("a backup is an SQLite file: use the extension .sqlite3 or .backup"))
    with invocation.state() as state:
        if file is None:
            file, rows = backup.back_up_today(state.database, state.directory, invocation.settings.state.backups)
        else:
            rows = backup.back_up(state.database, file)
    text = ngettext("{count} row written to {place}.", "{count} rows written to {place}.", rows, place=file)
    _report("backup", text, as_json=as_json, file=str(file), rows=rows)


@state_command.command("restore")
@click.argument("file", type=_FILE)
@cli.json_option
@click.pass_obj
def restore_command(invocation: cli.Invocation, file: Path, as_json: bool) -> None:
    """Restore the backup FILE into an empty database.

    To move from SQLite to PostgreSQL, set [state] database, and restore the old state.sqlite3 or a backup of it.

    Queued mails are held until you run `evergreen-groups state mails send` or `drop`: they may have been sent after
    the backup.
    """
    from evergreen_groups.mail import Outbox
    from evergreen_groups.state import backup

    with invocation.state() as state:
        rows, where = backup.restore(state.database, file), state.database.where
        held = Outbox(state.database).held()
    text = ngettext("{count} row written to {place}.", "{count} rows written to {place}.", rows, place=where)
    if held.count:
        text += f"\n{gettext(held.message)}"
    _report("restore", text, as_json=as_json, where=where, rows=rows, held_mails=held.count)


@state_command.command("mails")
@click.argument("decision", type=click.Choice(["send", "drop"]), required=False, metavar="[send|drop]")
@cli.json_option
@click.pass_obj
def mails_command(invocation: cli.Invocation, decision: str | None, as_json: bool) -> int:
    """Show how many mails are queued; send or drop those held since a restore.

    After `state restore`, the queued mails of the backup are held, because they may have been sent after the backup.
    Mails that are written later are sent as usual. "send" sends all held and queued mails now, "drop" deletes the held
    ones.

    Exit status 8: a mail couldn't be sent, and is queued for the next run of the report.
    """
    from evergreen_groups.mail import Outbox
    from evergreen_groups.nightly import note_sent

    with invocation.state() as state:
        outbox = Outbox(state.database)
        if decision == "send":
            return _send_held(invocation, state, as_json=as_json)
        if decision == "drop":
            dropped = outbox.drop_held()
            if not len(outbox):
                note_sent(state.database)
            text = ngettext("{count} mail deleted.", "{count} mails deleted.", dropped)
            _report("mails", text, as_json=as_json, dropped=dropped)
            return exit_status.DONE
        queued, held = len(outbox), outbox.held()
    text = gettext("Mails queued for the next run of the report: {count:,}.", count=queued)
    if held.count:
        text += f"\n{gettext(held.message)}"
    _report("mails", text, as_json=as_json, queued=queued, held=held.count)
    return exit_status.DONE


def _send_held(invocation: cli.Invocation, state: State, *, as_json: bool) -> int:
    from evergreen_groups.mail import Mailer, Outbox
    from evergreen_groups.nightly import note_sent
    from evergreen_groups.settings import passwords

    settings = invocation.settings.mail
    password = passwords.password(settings, os.environ) if settings.username else None
    with state.report_lease() as lease:  # only its holder may send
        mailer = Mailer(settings, password, Outbox(lease))
        mailer.outbox.release_held()
        delivery: Delivery = mailer.deliver()
        if delivery.is_complete:
            note_sent(lease)
    sums = {"sent": delivery.sent, "queued": delivery.queued, "dropped": delivery.dropped}
    text = gettext("mails sent: {sent:,}, queued: {queued:,}, given up: {dropped:,}", **sums)
    _report("mails", text, as_json=as_json, **sums)
    if delivery.is_complete:
        return exit_status.DONE
    if delivery.reason:
        invocation.emit(delivery.reason, error=True)
    return exit_status.UNSENT


@state_command.command("export")
@click.pass_obj
def export_command(invocation: cli.Invocation) -> None:
    """Write the whole database to standard output, one JSON object per row.

    Patrons are identified by id; queued mails may contain names.
    """
    from evergreen_groups.state import backup

    with invocation.state() as state:
        backup.export(state.database, sys.stdout)


@state_command.command("forget")
@click.argument("patron", type=cli.CheckedType(values.whole_number(1, 2**31 - 1), "PATRON_ID"), metavar="PATRON_ID")
@cli.json_option
@click.pass_obj
def forget_command(invocation: cli.Invocation, patron: int, as_json: bool) -> None:
    """Remove what the database has on one patron.

    PATRON_ID is Evergreen's id, not the barcode. The patron's changes can't be undone any more. Follow-ups saved while
    the patron was the contact are removed with their notes. If the patron is also staff, their changes, approvals and
    follow-ups stay, without their id; changes made with commands keep the name of their account. Notes of other
    follow-ups may still name them. Refused while a change is open. Logs, written reports, queued mails and backups
    aren't changed.
    """
    from evergreen_groups.state import backup, forget

    with invocation.state() as state:
        gone = forget(state.database, patron)
        log_emptied = state.database.empty_log()
    counts = {"steps": gone.steps, "events": gone.events, "groups": gone.groups, "entries": gone.entries}
    text = gettext(
        "Removed steps of changes: {steps:,}; events: {events:,}; listed groups: {groups:,}; follow-up entries: "
        "{entries:,}.",
        **counts,
    )
    if older := backup.daily_backups(state.directory):
        text += "\n" + gettext("Backups in {directory} still have what was removed.", directory=older[0].parent)
    backups = [str(file) for file in older]
    _report("forget", text, as_json=as_json, removed=counts, log_emptied=log_emptied, backups=backups)
    if not (log_emptied or as_json):
        text = gettext(
            "Another process is reading the database, so its write-ahead log still has the removed rows. Run this "
            "command again."
        )
        click.echo(text)


@state_command.command("move-address")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--yes", is_flag=True, help="Move the records; without it, only show them.")
@cli.json_option
@click.pass_obj
def move_address_command(invocation: cli.Invocation, old: str, new: str, yes: bool, as_json: bool) -> None:
    """Move all records from the gateway's OLD address to its NEW one, for example from http to https.

    Every record belongs to an address. After a new [gateway] url, follow-ups, undo and the report's history need this
    command. It moves open changes too. It refuses if changes or follow-ups were already made under NEW: OLD and NEW may
    be a server for tests and the real one. Before you use --yes, stop the service, and compare the patrons' ids.
    """
    from evergreen_groups.gateway import Address
    from evergreen_groups.state import move_address, records_at

    old, new = (Address.parse(address).base for address in (old, new))
    with invocation.state() as state:
        if yes:
            found = move_address(state.database, old, new)
        else:
            with state.database.reading() as connection:
                found = records_at(connection, old)
    counts = {
        "changes": found.changes,
        "open_steps": found.open_steps,
        "entries": found.entries,
        "events": found.events,
        "nights": found.nights,
        "groups_to_keep": found.groups_to_keep,
    }
    text = gettext(
        "{address}: changes: {changes:,}, of which steps open: {open_steps:,}; follow-up entries: {entries:,}; events: "
        "{events:,}; nights of reports: {nights:,}; groups to keep: {groups_to_keep:,}.",
        address=old,
        **counts,
    )
    if found.patrons:
        text += "\n" + gettext("Some of the patrons' ids: {ids}.", ids=", ".join(map(str, found.patrons)))
    text += "\n" + (gettext("Moved to {address}.", address=new) if yes else gettext("To move them, add --yes."))
    _report(
        "move-address", text, as_json=as_json, old=old, new=new, moved=yes, records=counts, patrons=list(found.patrons)
    )
