"""What changed since the run before, in the terminal table: a column, and a list of the groups that are cleared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.segment import Segment
from rich.style import Style

from evergreen_groups.changes import Changes, GroupChange, Kind
from evergreen_groups.models import NOTHING
from evergreen_groups.render.change_words import cleared_lead, cleared_now, cleared_remarks, signed
from evergreen_groups.render.columns import EMPTY, Cell, Column, Columns
from evergreen_groups.render.table_layout import BOLD, COMBINED_FINES, FAINT, OVER, Layout
from evergreen_groups.render.wording import amount, printable

_LESS = Style(color="green")
_STYLES = {Kind.NEW: OVER, Kind.WORSE: OVER, Kind.BETTER: _LESS, Kind.UNCHANGED: FAINT}
_UNSURE = "?"

Item = TypeVar("Item")


def with_changes(layout: Layout, changes: Changes) -> Layout:
    """The layout with one more column beside the combined fines."""
    place = 1 + [column.heading for column in layout.columns].index(COMBINED_FINES)

    def widened(items: Sequence[Item], item: Item) -> list[Item]:
        return [*items[:place], item, *items[place:]]

    return Layout(
        columns=tuple(widened(layout.columns, Column("Change", right=True))),
        group=lambda group: widened(layout.group(group), _cell(changes.by_group.get(group.group))),
        member=lambda member: widened(layout.member(member), EMPTY),
        sums=lambda totals: widened(layout.sums(totals), Cell(signed(changes.difference), BOLD)),
    )


def _cell(change: GroupChange | None) -> Cell:
    if change is None:
        return EMPTY
    words = "new" if change.kind is Kind.NEW else signed(change.difference)
    return Cell(words if change.certain else words + _UNSURE, _STYLES[change.kind])


def cleared_grid(changes: Changes, width: int) -> Iterator[Segment]:
    """A line for each cleared group."""
    columns = (
        Column("Group", right=True),
        Column("Lead", least=12),
        Column("Library", least=7),
        Column("Owed before", right=True),
        Column("Owes now", right=True),
        Column("Remarks", least=10),
    )
    rows = [_cleared_row(change) for change in changes.cleared]
    grid = Columns(columns, rows, width)
    yield from grid.heading(BOLD)
    for row in rows:
        yield from grid.row(row)


def _cleared_row(change: GroupChange) -> list[Cell]:
    return [
        Cell(str(change.group), BOLD),
        Cell(cleared_lead(change)),
        Cell(printable(change.library)),
        Cell(amount(change.before or NOTHING)),
        Cell(cleared_now(change)),
        Cell(cleared_remarks(change), FAINT),
    ]
