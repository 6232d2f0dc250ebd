"""``evergreen-groups journal``."""

from __future__ import annotations

import os
import sys

import click

from evergreen_groups.cli import ENTRY_NUMBER


@click.command("journal")
@click.argument("entry", type=ENTRY_NUMBER, required=False)
def journal_command(entry: int | None) -> None:
    """List the changes made from this machine, the latest first, or show ENTRY with each of its steps."""
    from contextlib import closing

    from evergreen_groups.changes import Journal
    from evergreen_groups.render import write_entries, write_entry
    from evergreen_groups.state import find_state_directory

    with closing(Journal(find_state_directory(os.environ))) as journal:
        if entry is None:
            write_entries(journal.entries(), sys.stdout)
        else:
            write_entry(journal.entry(entry), sys.stdout)
