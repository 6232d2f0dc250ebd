"""Which columns the terminal table has, and what a group, a member and the sums put into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from rich.style import Style

from evergreen_groups.groups import StandingDifference
from evergreen_groups.money import NOTHING, amount
from evergreen_groups.render import DIFFERENCES, EMPTY, Cell, Columns, TextColumn, counted, printable, signed
from evergreen_groups.render.report.change_wording import cleared_lead, cleared_now, cleared_remarks
from evergreen_groups.report import ChangeKind, Changes, GroupChange, Totals

if TYPE_CHECKING:
    from rich.segment import Segment

    from evergreen_groups.groups import Group, Member, Standing

WIDE = 116
"""From this width on (terminal cells), each thing has a column of its own."""

COMBINED_FINES = "Combined fines"

STANDS_IN = "*"
"""Follows the name of a lead who isn't a group lead, where there is no column for remarks."""

BOLD = Style(bold=True)
FAINT = Style(dim=True)
BLOCKED = Style(bold=True, color="red")
"""Red is for a block of one's own."""
REMARKABLE = Style(bold=True, color="yellow")

MEMBER_INDENT = 2

OVER, OVER_AND_BLOCKED, BLOCKED_ALONE = "over", "blocked", "(blocked)"
"""What a member's own fines and the ILS's blocks come to, on a narrow screen."""

Row = list[Cell]


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns, and how each kind of row fills them."""

    columns: tuple[TextColumn, ...]
    group: Callable[[Group], Row]
    member: Callable[[Member, Standing | None], Row]
    sums: Callable[[Totals], Row]


def layout_for(width: int, details: bool) -> Layout:
    """Choose the layout for a screen of ``width`` cells."""
    if width >= WIDE:
        return Layout(_wide_columns(details), _wide_group, _wide_member, _wide_sums)
    return Layout(_narrow_columns(details), _narrow_group, _narrow_member, _narrow_sums)


def _wide_columns(details: bool) -> tuple[TextColumn, ...]:
    return (
        TextColumn("Group", right=True),
        TextColumn("Lead and members" if details else "Lead", least=16),
        TextColumn("Barcode", least=10),
        TextColumn("Library", least=7),
        TextColumn("Members", right=True),
        TextColumn("Owing", right=True),
        TextColumn(COMBINED_FINES, right=True),
        TextColumn("Highest own fines", right=True),
        TextColumn("Over limit", right=True),
        TextColumn("Remarks", least=12),
    )


def _wide_group(group: Group) -> Row:
    remarks = [] if group.lead.group_lead else ["no group lead"]
    if group.no_member_over_limit:
        remarks.append("no member over the limit")
    return [
        Cell(str(group.number), BOLD),
        _name(group.lead, BOLD),
        _barcode(group.lead),
        Cell(printable(group.library)),
        Cell(f"{group.member_count:,}"),
        Cell(f"{group.owing_count:,}"),
        Cell(amount(group.combined_fines), BOLD),
        Cell(amount(group.highest_own_fines)),
        _over_count(group),
        Cell(", ".join(remarks)),
    ]


def _wide_member(member: Member, standing: Standing | None) -> Row:
    return [
        EMPTY,
        _name(member, indent=MEMBER_INDENT),
        _barcode(member),
        Cell(printable(member.library)),
        EMPTY,
        EMPTY,
        EMPTY,
        _own_fines(member),
        Cell(OVER, BOLD) if member.over_limit else EMPTY,
        _remarks(member, standing),
    ]


def _wide_sums(totals: Totals) -> Row:
    return [
        EMPTY,
        Cell(f"Total, {counted(totals.group_count, 'group')}", BOLD),
        EMPTY,
        EMPTY,
        Cell(f"{totals.member_count:,}", BOLD),
        Cell(f"{totals.owing_count:,}", BOLD),
        Cell(amount(totals.combined_fines), BOLD),
        EMPTY,
        Cell(f"{totals.over_limit_count:,}", BOLD),
        EMPTY,
    ]


def _narrow_columns(details: bool) -> tuple[TextColumn, ...]:
    return (
        TextColumn("Group", right=True),
        TextColumn("Lead and members" if details else "Lead", least=12),
        TextColumn("Library", least=7),
        TextColumn("Members or barcode" if details else "Members", least=8),
        TextColumn(COMBINED_FINES, right=True),
        TextColumn("Highest own fines", right=True),
        TextColumn("Over limit", right=True),
    )


def _narrow_group(group: Group) -> Row:
    name = _name(group.lead, BOLD)
    if not group.lead.group_lead:
        name = name._replace(text=f"{name.text} {STANDS_IN}")
    return [
        Cell(str(group.number), BOLD),
        name,
        Cell(printable(group.library)),
        Cell(f"{group.member_count:,}, {group.owing_count:,} owe"),
        Cell(amount(group.combined_fines), BOLD),
        Cell(amount(group.highest_own_fines)),
        _over_count(group),
    ]


def _narrow_member(member: Member, standing: Standing | None) -> Row:
    return [
        Cell("lead", FAINT) if member.group_lead else EMPTY,
        _name(member, indent=MEMBER_INDENT),
        Cell(printable(member.library)),
        _barcode(member),
        EMPTY,
        _own_fines(member),
        _over_or_blocked(member, standing),
    ]


def _narrow_sums(totals: Totals) -> Row:
    return [
        EMPTY,
        Cell(f"Total, {counted(totals.group_count, 'group')}", BOLD),
        EMPTY,
        Cell(f"{totals.member_count:,}, {totals.owing_count:,} owe", BOLD),
        Cell(amount(totals.combined_fines), BOLD),
        EMPTY,
        Cell(f"{totals.over_limit_count:,}", BOLD),
    ]


def _name(member: Member, style: Style | None = None, indent: int = 0) -> Cell:
    return Cell(printable(member.name), style or Style.null(), indent)


def _barcode(member: Member) -> Cell:
    return Cell("no card" if member.barcode is None else printable(member.barcode), FAINT)


def _own_fines(member: Member) -> Cell:
    return Cell(amount(member.own_fines), BOLD if member.over_limit else Style.null())


def _remarks(member: Member, standing: Standing | None) -> Cell:
    lead = ["group lead"] if member.group_lead else []
    if standing is None or not (standing.blocked_for_fines or standing.difference):
        return Cell("".join(lead), FAINT)
    words = "blocked in Evergreen" if standing.difference is None else DIFFERENCES[standing.difference]
    if standing.difference is StandingDifference.NOT_YET_BLOCKED:
        words = "not yet blocked in Evergreen"  # the other half stands in a column of its own
    return Cell(", ".join([*lead, words]), BLOCKED if standing.blocked_for_fines else REMARKABLE)


def _over_or_blocked(member: Member, standing: Standing | None) -> Cell:
    """One word where there is room for one; the table's foot says what each means."""
    if standing is not None and standing.blocked_for_fines:
        return Cell(OVER_AND_BLOCKED if member.over_limit else BLOCKED_ALONE, BLOCKED)
    return Cell(OVER, BOLD) if member.over_limit else EMPTY


def _over_count(group: Group) -> Cell:
    if group.no_member_over_limit:
        return Cell("none", REMARKABLE)
    return Cell(f"{group.over_limit_count:,}")


_LESS = Style(color="green")
_STYLES = {ChangeKind.NEW: BOLD, ChangeKind.WORSE: BOLD, ChangeKind.BETTER: _LESS, ChangeKind.UNCHANGED: FAINT}
_UNSURE = "?"

Item = TypeVar("Item")


def with_changes(layout: Layout, changes: Changes) -> Layout:
    """The layout with one more column beside the combined fines."""
    place = 1 + [column.heading for column in layout.columns].index(COMBINED_FINES)

    def widened(items: Sequence[Item], item: Item) -> list[Item]:
        return [*items[:place], item, *items[place:]]

    return Layout(
        columns=tuple(widened(layout.columns, TextColumn("Change", right=True))),
        group=lambda group: widened(layout.group(group), _cell(changes.by_group.get(group.number))),
        member=lambda member, standing: widened(layout.member(member, standing), EMPTY),
        sums=lambda totals: widened(layout.sums(totals), Cell(signed(changes.listed_difference), BOLD)),
    )


def _cell(change: GroupChange | None) -> Cell:
    if change is None:
        return EMPTY
    words = "new" if change.kind is ChangeKind.NEW else signed(change.difference)
    return Cell(words if change.certain else words + _UNSURE, _STYLES[change.kind])


def cleared_grid(changes: Changes, width: int) -> Iterator[Segment]:
    """A line for each cleared group."""
    columns = (
        TextColumn("Group", right=True),
        TextColumn("Lead", least=12),
        TextColumn("Library", least=7),
        TextColumn("Owed before", right=True),
        TextColumn("Owes now", right=True),
        TextColumn("Remarks", least=10),
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
