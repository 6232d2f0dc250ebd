"""``evergreen-groups journal``."""

from __future__ import annotations

import click

from evergreen_groups.cli import ENTRY_ID, Invocation, json_option, write_json


@click.command("journal")
@click.argument("entry", type=ENTRY_ID, required=False)
@json_option
@click.pass_obj
def journal_command(session: Invocation, entry: str | None, as_json: bool) -> None:
    """List the changes made from here, the latest first, or show ENTRY with each of its steps."""
    from evergreen_groups.changes import Journal
    from evergreen_groups.cli import entries_document, entry_document
    from evergreen_groups.render import write_entries, write_entry

    with session.state() as state:
        journal = Journal(state.database)
        found = journal.entries() if entry is None else [journal.entry(entry)]
        if as_json:
            write_json(entries_document(state, found) if entry is None else entry_document(state, found[0]))
            return
    with session.output("table") as stream:
        if entry is None:
            write_entries(found, stream)
        else:
            write_entry(found[0], stream)
