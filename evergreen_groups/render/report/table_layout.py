"""Which columns the terminal table has, and what a group, a member and the sums put into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from rich.style import Style

from evergreen_groups.groups import StandingDifference
from evergreen_groups.language import (
    describe_difference,
    describe_total,
    gettext,
    ngettext,
    number,
    pgettext,
    price,
)
from evergreen_groups.message import Message
from evergreen_groups.render import DIFFERENCES, EMPTY, Cell, Columns, TextColumn, printable
from evergreen_groups.render.report.change_wording import KINDS, cleared_lead, cleared_now, cleared_remarks
from evergreen_groups.report import ChangeKind, Changes, GroupChange, Totals

if TYPE_CHECKING:
    from rich.segment import Segment

    from evergreen_groups.groups import Group, Member, Standing

WIDE = 116
"""From this width on (terminal cells), each thing has a column of its own."""

COMBINED_FINES = Message("Combined fines")

STANDS_IN = "*"
"""Follows the name of a lead who isn't a group lead, where there is no column for remarks."""

BOLD = Style(bold=True)
FAINT = Style(dim=True)
BLOCKED = Style(bold=True, color="red")
"""Red is for a block of one's own."""
REMARKABLE = Style(bold=True, color="yellow")

MEMBER_INDENT = 2

OVER = Message("over", context="the limit")
OVER_AND_BLOCKED = Message("blocked", context="member")
BLOCKED_ALONE = Message("(blocked)", context="member")
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
        TextColumn(gettext("Group"), right=True),
        TextColumn(gettext("Lead and members") if details else pgettext("group", "Lead"), least=16),
        TextColumn(gettext("Barcode"), least=10),
        TextColumn(gettext("Library"), least=7),
        TextColumn(gettext("Members"), right=True),
        TextColumn(pgettext("members", "Owing"), right=True),
        TextColumn(gettext(COMBINED_FINES), right=True),
        TextColumn(gettext("Highest own fines"), right=True),
        TextColumn(gettext("Over limit"), right=True),
        TextColumn(gettext("Remarks"), least=12),
    )


def _wide_group(group: Group) -> Row:
    remarks = [] if group.lead.group_lead else [gettext("no group lead")]
    if group.no_member_over_limit:
        remarks.append(gettext("no member over the limit"))
    return [
        Cell(str(group.number), BOLD),
        _name(group.lead, BOLD),
        _barcode(group.lead),
        Cell(printable(group.library)),
        Cell(number(group.member_count)),
        Cell(describe_total(group.owing_count, short=True)),
        Cell(describe_total(group.combined_fines), BOLD),
        Cell(describe_total(group.highest_own_fines, short=True)),
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
        Cell(gettext(OVER), BOLD) if member.over_limit else EMPTY,
        _remarks(member, standing),
    ]


def _wide_sums(totals: Totals) -> Row:
    return [
        EMPTY,
        _total(totals),
        EMPTY,
        EMPTY,
        Cell(number(totals.member_count), BOLD),
        Cell(describe_total(totals.owing_count, short=True), BOLD),
        Cell(describe_total(totals.combined_fines), BOLD),
        EMPTY,
        Cell(describe_total(totals.over_limit_count, short=True), BOLD),
        EMPTY,
    ]


def _narrow_columns(details: bool) -> tuple[TextColumn, ...]:
    return (
        TextColumn(gettext("Group"), right=True),
        TextColumn(gettext("Lead and members") if details else pgettext("group", "Lead"), least=12),
        TextColumn(gettext("Library"), least=7),
        TextColumn(gettext("Members or barcode") if details else gettext("Members"), least=8),
        TextColumn(gettext(COMBINED_FINES), right=True),
        TextColumn(gettext("Highest own fines"), right=True),
        TextColumn(gettext("Over limit"), right=True),
    )


def _narrow_group(group: Group) -> Row:
    name = _name(group.lead, BOLD)
    if not group.lead.group_lead:
        name = name._replace(text=f"{name.text} {STANDS_IN}")
    return [
        Cell(str(group.number), BOLD),
        name,
        Cell(printable(group.library)),
        Cell(_counts(group)),
        Cell(describe_total(group.combined_fines), BOLD),
        Cell(describe_total(group.highest_own_fines, short=True)),
        _over_count(group),
    ]


def _narrow_member(member: Member, standing: Standing | None) -> Row:
    return [
        Cell(pgettext("group", "lead"), FAINT) if member.group_lead else EMPTY,
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
        _total(totals),
        EMPTY,
        Cell(_counts(totals), BOLD),
        Cell(describe_total(totals.combined_fines), BOLD),
        EMPTY,
        Cell(describe_total(totals.over_limit_count, short=True), BOLD),
    ]


def _total(totals: Totals) -> Cell:
    return Cell(ngettext("Total, {count} group", "Total, {count} groups", totals.group_count), BOLD)


def _counts(of: Group | Totals) -> str:
    """How many members there are, and how many of them owe something."""
    owing, members = of.owing_count, of.member_count
    count = describe_total(owing, short=True)
    return ngettext(
        "{members:,}, {count} owes", "{members:,}, {count} owe", owing.at_least, members=members, count=count
    )


def _name(member: Member, style: Style | None = None, indent: int = 0) -> Cell:
    return Cell(printable(member.name), style or Style.null(), indent)


def _barcode(member: Member) -> Cell:
    return Cell(gettext("no card") if member.barcode is None else printable(member.barcode), FAINT)


def _own_fines(member: Member) -> Cell:
    return Cell(price(member.own_fines), BOLD if member.over_limit else Style.null())


def _remarks(member: Member, standing: Standing | None) -> Cell:
    lead = [gettext("group lead")] if member.group_lead else []
    if standing is None or not (standing.blocked_for_fines or standing.difference):
        return Cell("".join(lead), FAINT)
    if standing.difference is StandingDifference.NOT_YET_BLOCKED:
        words = gettext("not yet blocked in Evergreen")  # the other half stands in a column of its own
    elif standing.difference is not None:
        words = gettext(DIFFERENCES[standing.difference])
    else:
        words = gettext("blocked in Evergreen")
    return Cell(", ".join([*lead, words]), BLOCKED if standing.blocked_for_fines else REMARKABLE)


def _over_or_blocked(member: Member, standing: Standing | None) -> Cell:
    """One word where there is room for one; the table's foot says what each means."""
    if standing is not None and standing.blocked_for_fines:
        return Cell(gettext(OVER_AND_BLOCKED if member.over_limit else BLOCKED_ALONE), BLOCKED)
    return Cell(gettext(OVER), BOLD) if member.over_limit else EMPTY


def _over_count(group: Group) -> Cell:
    if group.no_member_over_limit:
        return Cell(pgettext("members", "none"), REMARKABLE)
    return Cell(describe_total(group.over_limit_count, short=True))


_LESS = Style(color="green")
_STYLES = {ChangeKind.NEW: BOLD, ChangeKind.WORSE: BOLD, ChangeKind.BETTER: _LESS, ChangeKind.UNCHANGED: FAINT}
_UNSURE = "?"

Item = TypeVar("Item")


def with_changes(layout: Layout, changes: Changes) -> Layout:
    """The layout with one more column beside the combined fines."""
    place = 1 + [column.heading for column in layout.columns].index(gettext(COMBINED_FINES))

    def widened(items: Sequence[Item], item: Item) -> list[Item]:
        return [*items[:place], item, *items[place:]]

    return Layout(
        columns=tuple(widened(layout.columns, TextColumn(gettext("Change"), right=True))),
        group=lambda group: widened(layout.group(group), _cell(changes.by_group.get(group.number))),
        member=lambda member, standing: widened(layout.member(member, standing), EMPTY),
        sums=lambda totals: widened(layout.sums(totals), Cell(describe_difference(changes.listed_difference), BOLD)),
    )


def _cell(change: GroupChange | None) -> Cell:
    if change is None:
        return EMPTY
    is_new = change.kind is ChangeKind.NEW
    words = gettext(KINDS[change.kind]) if is_new else describe_difference(change.difference)
    return Cell(words + _UNSURE if is_new and not change.certain else words, _STYLES[change.kind])


def cleared_grid(changes: Changes, width: int) -> Iterator[Segment]:
    """A line for each cleared group."""
    columns = (
        TextColumn(gettext("Group"), right=True),
        TextColumn(pgettext("group", "Lead"), least=12),
        TextColumn(gettext("Library"), least=7),
        TextColumn(gettext("Owed before"), right=True),
        TextColumn(gettext("Owes now"), right=True),
        TextColumn(gettext("Remarks"), least=10),
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
        Cell(describe_total(change.known_before)),
        Cell(cleared_now(change)),
        Cell(cleared_remarks(change), FAINT),
    ]
