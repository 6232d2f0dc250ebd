"""The report as a table for a terminal.

On a wide terminal, each value has its own column. At 80 columns, members' barcodes share a column with the counts,
changes go below the group, and marks replace remarks. Long texts are wrapped within their column, never cut off.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment, Segments
from rich.style import Style
from rich.text import Text

from evergreen_groups import language
from evergreen_groups.batches import batched
from evergreen_groups.groups import StandingDifference
from evergreen_groups.language import gettext, ngettext, pgettext
from evergreen_groups.message import Message
from evergreen_groups.render import printable
from evergreen_groups.render import wording as texts
from evergreen_groups.render.column import Column
from evergreen_groups.render.columns import EMPTY, PLAIN, Cell, Columns, console_for, wrapped
from evergreen_groups.render.report import columns, wording
from evergreen_groups.render.report.columns import MemberRow, member_row
from evergreen_groups.render.text import sentence
from evergreen_groups.report import ChangeKind, Changes, GroupChange, Totals
from evergreen_groups.values import Total

if TYPE_CHECKING:
    from rich.console import Console

    from evergreen_groups.groups import Group, Member
    from evergreen_groups.report import GroupItems, Report

WIDE = 116
"""The width (in terminal cells) from which each value has its own column."""

NO_LEAD_MARK = "*"
"""Follows the name of a lead who isn't marked as group lead, on a terminal too narrow for remarks."""

BOLD = Style(bold=True)
FAINT = Style(dim=True)
BLOCKED = Style(bold=True, color="red")
"""Red is used for blocks only."""
REMARKABLE = Style(bold=True, color="yellow")

MEMBER_INDENT = 2

OVER = Message("over", context="the limit")
OVER_AND_BLOCKED = Message("blocked", context="member")
BLOCKED_ALONE = Message("(blocked)", context="member")
"""For narrow terminals. The last is in parentheses because the rule wouldn't block."""

Row = list[Cell]


def _empty(_row: object) -> Cell:
    return EMPTY


class TableColumn(NamedTuple):
    """A column whose values are the cells of groups, with those of members and of the totals."""

    column: Column[Any]
    member: Callable[[MemberRow], Cell] = _empty
    sums: Callable[[Totals], Cell] = _empty


def table_columns(report: Report, width: int) -> list[TableColumn]:
    """Choose the columns for a terminal of ``width`` cells."""
    wide = width >= WIDE
    number_column = TableColumn(
        Column("", lambda group: Cell(str(group.number), BOLD), Message("Group"), "id"),
        lambda row: (
            Cell(pgettext("remark about a member", "lead"), FAINT) if row.member.group_lead and not wide else EMPTY
        ),
    )
    name = TableColumn(
        Column(
            "", lambda group: Cell(_name(group.lead, mark=not wide), BOLD), Message("Name"), least=16 if wide else 12
        ),
        lambda row: Cell(_name(row.member), indent=MEMBER_INDENT),
        lambda totals: Cell(ngettext("Total, {count} group", "Total, {count} groups", totals.group_count), BOLD),
    )
    library = _column("library", "library", least=7)
    fines = _column("group_fines", style=BOLD)
    highest = _column("highest_own_fines")._replace(
        member=lambda row: Cell(language.price(row.member.own_fines), BOLD if row.member.over_limit else PLAIN)
    )
    over = TableColumn(
        Column("", _over_count, Message("Over limit"), "number"),
        _over if wide else _over_or_blocked,
        lambda totals: Cell(language.describe_total(totals.over_limit_count, short=True), BOLD),
    )
    if not wide:
        counts_or_barcode = TableColumn(
            Column("", lambda group: Cell(_counts(group)), Message("Members"), least=8),
            lambda row: _barcode(row.member),
            lambda totals: Cell(_counts(totals), BOLD),
        )
        return [number_column, name, library, counts_or_barcode, fines, highest, over]
    changes = wording.compared_changes(report)
    return [
        number_column,
        name,
        TableColumn(
            Column("", lambda group: _barcode(group.lead), Message("Barcode"), least=10),
            lambda row: _barcode(row.member),
        ),
        library,
        _column("member_count"),
        _column("owing_count"),
        fines,
        *_item_columns(report),
        *([_change_column(changes)] if changes else []),
        highest,
        over,
        *(_column(column.name, least=7) for column in columns.GROUP if column.table),
        *(_column(member=column.name, least=7) for column in columns.MEMBER if column.table),
        TableColumn(Column("", _group_remarks, Message("Remarks"), least=12), _remarks),
    ]


_OF_GROUP = {column.name: column for column in columns.GROUP}
_OF_MEMBER = {column.name: column for column in columns.MEMBER}


def _column(group: str = "", member: str = "", style: Style = PLAIN, least: int | None = None) -> TableColumn:
    """Return the declared column of groups, with that of members below, and the total if there is one."""
    of_group, of_member = _OF_GROUP.get(group), _OF_MEMBER.get(member)
    column = of_group or _OF_MEMBER[member]
    below = _cells(of_member)
    return TableColumn(
        replace(column, value=_cells(of_group, style), least=least),
        _empty if of_member is None else lambda row: below(row.member),
        _cells(replace(column, value=attrgetter(group)) if hasattr(Totals, group) else None, BOLD),
    )


def _cells(column: Column[Any] | None, style: Style = PLAIN) -> Callable[[Any], Cell]:
    if column is None:
        return _empty
    write, value_of = column.writer(short=True), column.value
    return lambda row: Cell(write(value_of(row)), style)


def _counts(of: Group | Totals) -> str:
    """Say how many members there are and how many of them owe."""
    owing, members = of.owing_count, of.member_count
    count = language.describe_total(owing, short=True)
    return ngettext(
        "{members:,} ({count} owes)", "{members:,} ({count} owe)", owing.at_least, members=members, count=count
    )


def _name(member: Member, *, mark: bool = False) -> str:
    name = printable(member.name)
    return f"{name} {NO_LEAD_MARK}" if mark and not member.group_lead else name


def _barcode(member: Member) -> Cell:
    return Cell(gettext("no card") if member.barcode is None else printable(member.barcode), FAINT)


def _group_remarks(group: Group) -> Cell:
    remarks = [] if group.lead.group_lead else [gettext("no group lead")]
    if group.no_member_over_limit:
        remarks.append(gettext("no member over the limit"))
    return Cell(", ".join(remarks))


def _over(row: MemberRow) -> Cell:
    return Cell(gettext(OVER), BOLD) if row.member.over_limit else EMPTY


def _remarks(row: MemberRow) -> Cell:
    standing = row.standing
    lead = [gettext("group lead")] if row.member.group_lead else []
    if standing is None or not (standing.blocked_for_fines or standing.difference):
        return Cell("".join(lead), FAINT)
    words = gettext(texts.DIFFERENCES[standing.difference]) if standing.difference else gettext("blocked in Evergreen")
    return Cell(", ".join([*lead, words]), BLOCKED if standing.blocked_for_fines else REMARKABLE)


def _over_or_blocked(row: MemberRow) -> Cell:
    """Return one word; the notes below the table explain it."""
    if row.standing is not None and row.standing.blocked_for_fines:
        return Cell(gettext(OVER_AND_BLOCKED if row.member.over_limit else BLOCKED_ALONE), BLOCKED)
    return _over(row)


def _over_count(group: Group) -> Cell:
    if group.no_member_over_limit:
        return Cell(pgettext("members", "none"), REMARKABLE)
    return Cell(language.describe_total(group.over_limit_count, short=True))


_LESS = Style(color="green")
_STYLES = {
    **dict.fromkeys((ChangeKind.NEW, ChangeKind.WORSE, ChangeKind.MORE_ITEMS), BOLD),
    **dict.fromkeys((ChangeKind.BETTER, ChangeKind.FEWER_ITEMS), _LESS),
    ChangeKind.UNCHANGED: FAINT,
}


def _change_column(changes: Changes) -> TableColumn:
    def cell(group: Group) -> Cell:
        change = changes.by_group.get(group.number)
        if change is None:
            return EMPTY
        is_new = change.kind is ChangeKind.NEW
        by_items = change.kind in (ChangeKind.MORE_ITEMS, ChangeKind.FEWER_ITEMS)
        words = gettext(wording.KINDS[change.kind])
        if not (is_new or by_items):
            words = language.describe_difference(change.difference)
        return Cell(f"{words}?" if is_new and not change.certain else words, _STYLES[change.kind])

    def sums(_totals: Totals) -> Cell:
        return Cell(language.describe_difference(changes.difference), BOLD)

    return TableColumn(Column("", cell, Message("Change"), "change"), sums=sums)


def _item_columns(report: Report) -> Iterator[TableColumn]:
    """Yield columns with the numbers of items by which the report lists groups."""
    items, totals = report.items, report.item_totals
    if items is None or totals is None:
        return

    def column(name: str, heading: Message) -> TableColumn:
        def cell(of: GroupItems, style: Style = PLAIN) -> Cell:
            return Cell(language.describe_total(getattr(of, name), short=True), style)

        shown: Column[Group] = Column("", lambda group: cell(items.of_group(group)), heading, "number")
        return TableColumn(shown, sums=lambda _totals: cell(totals, BOLD))

    if report.criteria.min_overdue:
        yield column("overdue", Message("Items overdue"))
    if report.criteria.min_lost:
        yield column("lost", Message("Items lost"))


_CLEARED: tuple[Column[GroupChange], ...] = (
    Column("", lambda change: Cell(str(change.group), BOLD), Message("Group"), "id"),
    Column("", lambda change: Cell(wording.cleared_lead(change)), Message("Name"), least=12),
    Column("", lambda change: Cell(printable(change.library)), Message("Library"), least=7),
    Column("", lambda change: Cell(language.describe_total(change.known_before)), Message("Owed before"), "money"),
    Column("", lambda change: Cell(wording.cleared_now(change)), Message("Owes now"), "money"),
    Column("", lambda change: Cell(wording.cleared_remarks(change), FAINT), Message("Remarks"), least=10),
)


def cleared_grid(changes: Changes, width: int) -> Iterator[Segment]:
    rows = [[column.value(change) for column in _CLEARED] for change in changes.cleared]
    grid = Columns(_CLEARED, rows, width)
    yield from grid.heading(BOLD)
    for row in rows:
        yield from grid.row(row)


NARROWEST = 72
"""The minimum width (in terminal cells). A narrower terminal wraps the lines itself."""

SEGMENTS_AT_ONCE = 5000
"""The number of styled pieces of text to print at once."""


def write_table(
    report: Report, stream: TextIO, *, details: bool = True, width: int | None = None, color: bool = False
) -> None:
    """Write the table, ``width`` columns wide (None: the terminal's width, or 80).

    Control characters in names become visible marks, so that no name can control the terminal. Characters missing from
    the stream's encoding become question marks.
    """
    width = max(width or shutil.get_terminal_size().columns, NARROWEST)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    rule = "─" if "─".encode(encoding, "replace") != b"?" else "-"
    buffer = io.StringIO()
    console = console_for(buffer, color=color, width=width)
    for _ in _print_parts(console, report, details, rule):
        stream.write(buffer.getvalue().encode(encoding, "replace").decode(encoding))
        buffer.seek(0)
        buffer.truncate()


def _print_parts(console: Console, report: Report, details: bool, rule: str) -> Iterator[None]:
    """Print the table in parts, so that a large one is never in memory as a whole."""
    title = texts.report_heading(report.criteria)
    heading = Text(gettext("{title}, for information only", title=title))
    heading.highlight_words([title], BOLD)
    console.print(heading)
    for line in wrapped(texts.information_only(report.criteria.limit), console.width):
        console.print(line, style=FAINT, soft_wrap=True)
    console.print()
    facts = {
        gettext("Listed"): texts.describe_criteria(report.criteria),
        gettext("Data as of"): language.time_with_zone(report.generated_at),
        gettext("Evergreen server"): printable(report.gateway),
    }
    indent = max(12, *(cell_len(label) + 2 for label in facts))
    for label, fact in facts.items():
        first, *others = wrapped(fact, console.width - indent)
        console.print(f"{set_cell_size(label, indent)}{first}", soft_wrap=True)
        for line in others:
            console.print(f"{'':{indent}}{line}", soft_wrap=True)
    console.print()
    yield
    if report.groups:
        lines = _grid(report, details, console.width, rule)
        for part in batched(lines, SEGMENTS_AT_ONCE):
            console.print(Segments(part), soft_wrap=True, end="")
            yield
    else:
        console.print(gettext(texts.NOTHING_FOUND), style=BOLD)
    _print_changes(console, report)
    notes = [Text(note) for note in _notes(report, wide=console.width >= WIDE)]
    notes += [Text(note, style=REMARKABLE) for note in _warnings(report)]
    if notes:
        console.print()
    for note in notes:
        console.print(note, overflow="fold")
    yield


def _grid(report: Report, details: bool, width: int, rule: str) -> Iterator[Segment]:
    layout = table_columns(report, width)
    changes = wording.compared_changes(report)
    describe_change = wording.remarks if width >= WIDE else wording.change_sentence

    def rows(group: Group) -> Iterator[Row]:
        yield [one.column.value(group) for one in layout]
        for member in group.members if details else ():
            row = member_row(report, group, member)
            yield [one.member(row) for one in layout]

    sums = [one.sums(report.totals) for one in layout]
    # Rows are made twice, to measure and to write. Keeping them would take far more memory than the groups.
    headed = [one.column for one in layout]
    grid = Columns(headed, chain([sums], chain.from_iterable(map(rows, report.groups))), width)
    line = [Segment(rule * grid.width, FAINT), Segment.line()]
    yield from grid.heading(BOLD)
    yield from line
    for index, group in enumerate(report.groups):
        if index and details:
            yield Segment.line()
        changed = describe_change(changes.by_group.get(group.number)) if changes else ""
        yield from _group(group, rows(group), changed, grid, report)
    yield from line
    yield from grid.row(sums)


def _group(group: Group, rows: Iterable[Row], changed: str, grid: Columns, report: Report) -> Iterator[Segment]:
    """Yield a group's rows, with changes and details below the first row, and a note on hidden members at the end."""
    details = report.details
    for index, row in enumerate(rows):
        yield from grid.row(row)
        if index == 0:
            for about in filter(None, (changed, wording.describe_group(report, group))):
                yield from _spanning_row(about, grid, FAINT)
        elif details is not None and (about := wording.describe_member_details(details.of(group.members[index - 1]))):
            yield from _spanning_row(about, grid, FAINT, indent=MEMBER_INDENT)
    if not group.complete:
        yield from _spanning_row(texts.describe_incomplete(group), grid, REMARKABLE)


def _spanning_row(sentence: str, grid: Columns, style: Style, indent: int = 0) -> Iterator[Segment]:
    """Yield a text about the group or member above, across all grid."""
    indent += grid.start(1) + MEMBER_INDENT
    for text in wrapped(sentence, grid.width - indent):
        yield Segment(" " * indent)
        yield Segment(text, style)
        yield Segment.line()


def _print_changes(console: Console, report: Report) -> None:
    changes = wording.compared_changes(report)
    if changes is None:
        return
    console.print()
    head = gettext("Changes since {moment}", moment=language.minute(changes.since)) if changes.since else ""
    head = gettext("{label}:", label=head)
    console.print(Text.assemble((head, BOLD), f" {wording.counts(changes)}"))
    change = gettext(
        "{label}: {value}", label=wording.CHANGE_IN_FINES, value=language.describe_difference(changes.difference)
    )
    for line in wrapped("; ".join(filter(None, (change, wording.not_included(changes)))), console.width):
        console.print(line, soft_wrap=True)
    if changes.cleared:
        console.print()
        console.print(
            Text.assemble(
                (wording.change_heading(ChangeKind.CLEARED), BOLD), f". {gettext(wording.CLEARED_EXPLANATION)}"
            )
        )
        console.print(Segments(cleared_grid(changes, console.width)), soft_wrap=True, end="")


def _notes(report: Report, *, wide: bool) -> Iterator[str]:
    """Explain the words used in the columns."""
    count = report.totals.groups_without_member_over_limit
    if count.at_least:
        yield f"{pgettext('members', 'none')} = {texts.explain_no_member_over_limit(count)}"
    yield from _block_notes(report, wide=wide)
    if not wide and not all(group.lead.group_lead for group in report.groups):
        yield f"{NO_LEAD_MARK} = {gettext('no group lead')}"


def _warnings(report: Report) -> Iterator[str]:
    if count := report.totals.incomplete_group_count:
        yield gettext("{label}: {value}", label=gettext("Incomplete groups"), value=language.number(count))
        yield gettext(texts.LOWER_BOUND_NOTE)
    for note in report.notes:
        yield gettext("{label}: {value}", label=gettext("Note"), value=printable(gettext(note)))


def _block_notes(report: Report, *, wide: bool) -> Iterator[str]:
    """Say how many members are over the limit, blocked or both, with the word used in the table."""
    totals = report.block_totals
    if totals is None:
        return
    both = totals.blocked.at_least - totals.now_within_limit.at_least
    numbers = (
        (OVER_AND_BLOCKED, Message("over the limit, blocked in Evergreen"), Total(both, totals.blocked.exact)),
        (OVER, texts.DIFFERENCES[StandingDifference.NOT_YET_BLOCKED], totals.not_yet_blocked),
        (BLOCKED_ALONE, texts.DIFFERENCES[StandingDifference.NOW_WITHIN_LIMIT], totals.now_within_limit),
    )
    for word, meaning, count in numbers:
        if count.at_least:
            members = ngettext("{count} member", "{count} members", count.at_least, count=count)
            explanation = f"{gettext(meaning)} ({members})"
            yield sentence(explanation) if wide else f"{gettext(word)} = {explanation}"
