"""What an examination of the database found, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from evergreen_groups.render.wording import local_time

if TYPE_CHECKING:
    from evergreen_groups.state import Examination

_NAMES = {"history": "runs of the report", "journal": "changes", "events": "events", "mails": "mails that wait"}


def write_examination(found: Examination, stream: TextIO) -> None:
    """Write what is kept, since when, and how large the database is."""
    print(f"{found.where} is whole: {found.size / 1_000_000:.1f} MB.", file=stream)
    for amount in found.amounts:
        since = f"  since {local_time(amount.since)}" if amount.since else ""
        print(f"  {amount.rows:>9,}  {_NAMES[amount.name]:<18}{since}".rstrip(), file=stream)
    if found.open_steps:
        print(f"Open: {found.open_steps:,} changes of which it isn't known yet what became of them.", file=stream)
