"""What an examination of the database found, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from rich.cells import cell_len

from evergreen_groups.language import day, decimal, gettext, ngettext, number
from evergreen_groups.message import Message
from evergreen_groups.render.text_columns import aligned

if TYPE_CHECKING:
    from evergreen_groups.state import Examination

_NAMES = {
    "history": Message("runs of the report"),
    "journal": Message("changes"),
    "events": Message("events"),
    "mails": Message("mails that wait"),
}
_ROWS_WIDTH = 9


def examination_document(found: Examination | None) -> dict[str, Any]:
    """The same for programs, version 1; ``found`` None where nothing is kept yet, and so nothing can be wrong."""
    amounts = found.amounts if found else ()
    return {
        "version": 1,
        "kind": "state",
        "where": found.where if found else None,
        "bytes": found.size if found else 0,
        "open_steps": found.open_steps if found else 0,
        "kept": {
            amount.name: {"rows": amount.rows, "since": amount.since.isoformat() if amount.since else None}
            for amount in amounts
        },
    }


def write_examination(found: Examination, stream: TextIO) -> None:
    """Write what is kept, since when, and how large the database is."""
    print(
        gettext("The database {where} is whole: {size} MB.", where=found.where, size=decimal(found.size / 1_000_000)),
        file=stream,
    )
    names = {amount.name: gettext(_NAMES[amount.name]) for amount in found.amounts}
    width = max(map(cell_len, names.values()), default=0)
    for amount in found.amounts:
        rows = aligned(number(amount.rows), _ROWS_WIDTH, right=True)
        since = gettext("since {day}", day=day(amount.since)) if amount.since else ""
        print(f"  {rows}  {aligned(names[amount.name], width)}  {since}".rstrip(), file=stream)
    if found.open_steps:
        text = ngettext(
            "Open: {count} change of which it isn't known yet what became of it.",
            "Open: {count} changes of which it isn't known yet what became of them.",
            found.open_steps,
        )
        print(text, file=stream)
