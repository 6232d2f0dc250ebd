"""Patrons who were found by name, as a numbered list for a terminal: no more than it takes to tell them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from evergreen_groups.language import gettext, pgettext
from evergreen_groups.render.safe_text import printable
from evergreen_groups.render.text_columns import PLAIN, Cell, Columns, TextColumn

if TYPE_CHECKING:
    from evergreen_groups.desk import FoundPatron, Lookup


def write_found_patrons(found: Lookup, stream: TextIO, *, width: int) -> None:
    """Write a row for each patron, numbered from 1, and whether there are more than these."""
    rows = [_row(number, one) for number, one in enumerate(found.patrons, 1)]
    columns = Columns(_columns(), rows, width)
    stream.write("".join(segment.text for segment in columns.heading(PLAIN)))
    for row in rows:
        stream.write("".join(segment.text for segment in columns.row(row)))
    if found.more:
        text = gettext("There are more than these {most}: type more of the name.", most=len(found.patrons))
        stream.write(f"{text}\n")


def _columns() -> tuple[TextColumn, ...]:
    return (
        TextColumn("", right=True),
        TextColumn(gettext("Name"), least=14),
        TextColumn(gettext("Barcode"), least=14),
        TextColumn(gettext("Library")),
        TextColumn(gettext("Profile"), least=10),
        TextColumn("", least=10),
    )


def _row(number: int, one: FoundPatron) -> list[Cell]:
    patron = one.patron
    notes = [pgettext("remark about a member", "juvenile")] if one.juvenile else []
    if one.note is not None:
        notes.append(gettext(one.note))
    texts = (patron.name, patron.barcode or "–", patron.home_library.shortname, one.profile, "; ".join(notes))
    return [Cell(f"{number}"), *(Cell(printable(text)) for text in texts)]
