"""The report as a table for a terminal.

On a wide screen each thing has a column of its own. On one of 80 columns the members' barcodes share one with the
counts, what changed stands under the group, and marks take the place of remarks. Nothing is cut off: long texts are
wrapped in their column.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.segment import Segment, Segments
from rich.text import Text

from evergreen_groups.language import (
    describe_difference,
    gettext,
    minute,
    moment_with_zone,
    ngettext,
    pgettext,
)
from evergreen_groups.render import (
    NOTHING_FOUND,
    PLUS,
    TITLE,
    Columns,
    describe_incomplete,
    explain_no_member_over_limit,
    information_only,
    listed,
    printable,
    wrapped,
)
from evergreen_groups.render.report.change_wording import (
    CLEARED,
    change_sentence,
    compared,
    counts,
    explain_cleared,
    remarks,
)
from evergreen_groups.render.report.details_wording import describe_group_details, describe_member_details
from evergreen_groups.render.report.table_layout import (
    BLOCKED_ALONE,
    BOLD,
    FAINT,
    MEMBER_INDENT,
    OVER,
    OVER_AND_BLOCKED,
    REMARKABLE,
    STANDS_IN,
    WIDE,
    Row,
    cleared_grid,
    layout_for,
    with_changes,
)
from evergreen_groups.total import Total

if TYPE_CHECKING:
    from rich.style import Style

    from evergreen_groups.groups import Group
    from evergreen_groups.message import Message
    from evergreen_groups.report import Report, ReportDetails

NARROWEST = 72
"""A narrower screen (terminal cells) gets lines of this length, which the terminal wraps."""

SEGMENTS_AT_ONCE = 5000
"""How many pieces of text are styled at a time."""


def write_table(
    report: Report, stream: TextIO, *, details: bool = True, width: int | None = None, color: bool = False
) -> None:
    """Write the table, ``width`` columns wide (None: as wide as the terminal, or 80).

    Control characters in names become visible marks, so that no name can steer the terminal. What the stream's
    encoding doesn't have becomes a question mark.
    """
    width = max(width or shutil.get_terminal_size().columns, NARROWEST)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    rule = "─" if "─".encode(encoding, "replace") != b"?" else "-"
    buffer = io.StringIO()
    console = _console(buffer, width, color)
    for _ in _parts(console, report, details, rule):
        stream.write(buffer.getvalue().encode(encoding, "replace").decode(encoding))
        buffer.seek(0)
        buffer.truncate()


def _parts(console: Console, report: Report, details: bool, rule: str) -> Iterator[None]:
    """Print the table in parts, so that a large one is never in memory as a whole."""
    _print_head(console, report)
    yield
    if report.groups:
        lines = _grid(report, details, console.width, rule)
        while part := list(islice(lines, SEGMENTS_AT_ONCE)):
            console.print(Segments(part), soft_wrap=True, end="")
            yield
    else:
        console.print(gettext(NOTHING_FOUND), style=BOLD)
    _print_changes(console, report)
    yield
    _print_foot(console, report)
    yield


def _console(buffer: io.StringIO, width: int, color: bool) -> Console:
    """A console that takes texts as they are: no markup, no emoji codes, no guessing."""
    return Console(
        file=buffer,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        markup=False,
        emoji=False,
        highlight=False,
    )


def _print_head(console: Console, report: Report) -> None:
    title = gettext(TITLE)
    heading = Text(gettext("{title}, for information only", title=title))
    heading.highlight_words([title], BOLD)
    console.print(heading)
    for line in wrapped(information_only(report.criteria.limit), console.width):
        console.print(line, style=FAINT, soft_wrap=True)
    console.print()
    facts = {
        gettext("Listed"): listed(report.criteria),
        gettext("Data as of"): moment_with_zone(report.generated_at),
        gettext("Gateway"): printable(report.gateway),
    }
    indent = max(12, *(cell_len(label) + 2 for label in facts))
    for label, fact in facts.items():
        first, *others = wrapped(fact, console.width - indent)
        console.print(f"{set_cell_size(label, indent)}{first}", soft_wrap=True)
        for line in others:
            console.print(f"{'':{indent}}{line}", soft_wrap=True)
    console.print()


def _grid(report: Report, details: bool, width: int, rule: str) -> Iterator[Segment]:
    """The heading, the groups and the sums, set in columns."""
    layout = layout_for(width, details)
    changes = compared(report)
    describe_change = change_sentence
    if changes and width >= WIDE:
        layout, describe_change = with_changes(layout, changes), remarks

    def rows(group: Group) -> Iterator[Row]:
        yield layout.group(group)
        if details:
            yield from (layout.member(member, report.standing(member)) for member in group.members)

    sums = layout.sums(report.totals)
    # Made twice, once to measure and once to write: they take far more room than the groups themselves.
    columns = Columns(layout.columns, chain([sums], chain.from_iterable(map(rows, report.groups))), width)
    line = [Segment(rule * columns.width, FAINT), Segment.line()]
    yield from columns.heading(BOLD)
    yield from line
    for number, group in enumerate(report.groups):
        if number and details:
            yield Segment.line()
        changed = describe_change(changes.by_group.get(group.number)) if changes else ""
        yield from _group(group, rows(group), changed, columns, report.details)
    yield from line
    yield from columns.row(sums)


def _group(
    group: Group, rows: Iterable[Row], changed: str, columns: Columns, details: ReportDetails | None
) -> Iterator[Segment]:
    """A group's rows, with what changed and what is owed for under the first one, and what is missing under all."""
    for number, row in enumerate(rows):
        yield from columns.row(row)
        if number == 0 and changed:
            yield from _across(changed, columns, FAINT)
        if details is None:
            continue
        if number == 0:
            yield from _across(describe_group_details(details.of_group(group)), columns, FAINT)
        elif about := describe_member_details(details.of(group.members[number - 1])):
            yield from _across(about, columns, FAINT, indent=MEMBER_INDENT)
    if not group.complete:
        yield from _across(describe_incomplete(group), columns, REMARKABLE)


def _across(sentence: str, columns: Columns, style: Style, indent: int = 0) -> Iterator[Segment]:
    """Say something about the group or member above, across the columns."""
    indent += columns.start(1) + MEMBER_INDENT
    for text in wrapped(sentence, columns.width - indent):
        yield Segment(" " * indent)
        yield Segment(text, style)
        yield Segment.line()


def _print_changes(console: Console, report: Report) -> None:
    changes = compared(report)
    if changes is None:
        return
    console.print()
    head = gettext("Changes since {moment}", moment=minute(changes.since)) if changes.since else ""
    difference = describe_difference(changes.difference)
    together = gettext("together {difference}", difference=difference)
    if changes.cleared:
        together = gettext("together {difference}, with those no longer listed", difference=difference)
    console.print(Text.assemble((head, BOLD), f": {counts(changes)}; {together}"))
    if changes.cleared:
        console.print()
        console.print(Text.assemble((gettext(CLEARED), BOLD), f". {explain_cleared(report)}"))
        console.print(Segments(cleared_grid(changes, console.width)), soft_wrap=True, end="")


def _print_foot(console: Console, report: Report) -> None:
    notes = [Text(note) for note in _notes(report, wide=console.width >= WIDE)]
    notes += [Text(note, style=REMARKABLE) for note in _warnings(report)]
    if notes:
        console.print()
    for note in notes:
        console.print(note, overflow="fold")


def _notes(report: Report, *, wide: bool) -> Iterator[str]:
    """Explain the words in the columns."""
    count = report.totals.groups_without_member_over_limit
    if count.at_least:
        yield gettext(
            "{word}: {explanation}",
            word=pgettext("members", "none"),
            explanation=explain_no_member_over_limit(report.criteria.limit, count),
        )
    yield from _block_notes(report, wide=wide)
    if not wide and not all(group.lead.group_lead for group in report.groups):
        explanation = gettext("the oldest record of a group without a group lead stands for it.")
        yield gettext("{word}: {explanation}", word=STANDS_IN, explanation=explanation)


def _warnings(report: Report) -> Iterator[str]:
    if count := report.totals.incomplete_group_count:
        yield ngettext("{count} group is incomplete.", "{count} groups are incomplete.", count)
        yield gettext(PLUS)
    for note in report.notes:
        yield gettext("Note: {note}", note=printable(gettext(note)))


def _block_notes(report: Report, *, wide: bool) -> Iterator[str]:
    """Say how many are blocked in the ILS, and of how many that differs from the rule, each with its word."""
    totals = report.block_totals
    if totals is None:
        return
    both = totals.blocked.at_least - totals.now_within_limit.at_least
    numbers = {
        OVER_AND_BLOCKED: Total(both, totals.blocked.exact),
        OVER: totals.not_yet_blocked,
        BLOCKED_ALONE: totals.now_within_limit,
    }
    for word, count in numbers.items():
        if count.at_least:
            explanation = _explain_word(word, count)
            yield explanation if wide else gettext("{word}: {explanation}", word=word, explanation=explanation)


def _explain_word(word: Message, count: Total[int]) -> str:
    if word is OVER_AND_BLOCKED:
        return ngettext(
            "{count} member is over the limit, and blocked in Evergreen.",
            "{count} members are over the limit, and blocked in Evergreen.",
            count.at_least,
            count=count,
        )
    if word is OVER:
        return ngettext(
            "{count} member is over the limit, not yet blocked in Evergreen.",
            "{count} members are over the limit, not yet blocked in Evergreen.",
            count.at_least,
            count=count,
        )
    return ngettext(
        "{count} member is blocked in Evergreen, own fines within the limit.",
        "{count} members are blocked in Evergreen, own fines within the limit.",
        count.at_least,
        count=count,
    )
