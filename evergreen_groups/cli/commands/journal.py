"""``evergreen-groups journal``."""

from __future__ import annotations

import sys

import click

from evergreen_groups.cli import ENTRY_NUMBER, Invocation


@click.command("journal")
@click.argument("entry", type=ENTRY_NUMBER, required=False)
@click.pass_obj
def journal_command(session: Invocation, entry: int | None) -> None:
    """List the changes made from here, the latest first, or show ENTRY with each of its steps."""
    from evergreen_groups.changes import Journal
    from evergreen_groups.render import write_entries, write_entry

    with session.state() as state:
        journal = Journal(state.database)
        if entry is None:
            write_entries(journal.entries(), sys.stdout)
        else:
            write_entry(journal.entry(entry), sys.stdout)
