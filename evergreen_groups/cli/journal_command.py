"""``evergreen-groups journal``."""

from __future__ import annotations

import os
import sys

import click


@click.command("journal", short_help="List the changes that were made.")
@click.argument("entry", type=click.IntRange(min=1), required=False)
def command(entry: int | None) -> None:
    """List the changes made from this machine, the latest first, or show ENTRY with each of its steps."""
    from contextlib import closing

    from evergreen_groups import state
    from evergreen_groups.journal import Journal
    from evergreen_groups.render.plan import write_entries, write_entry

    with closing(Journal(state.directory(os.environ))) as journal:
        if entry is None:
            write_entries(journal.entries(), sys.stdout)
        else:
            write_entry(journal.entry(entry), sys.stdout)
