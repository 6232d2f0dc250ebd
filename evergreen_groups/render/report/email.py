"""The report as a letter, plain and as HTML: a summary, and by number the groups whose combined fines are highest.

There is no name of a patron in it unless that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

from evergreen_groups.money import amount, plain_amount
from evergreen_groups.render import TITLE, listed, local_time, printable, signed, template_text
from evergreen_groups.render.report.change_wording import compared, counts, since
from evergreen_groups.report import BlockTotals, ChangeKind, Changes, GroupChange, Report

if TYPE_CHECKING:
    from evergreen_groups.groups import Group
    from evergreen_groups.render import StaffClient

_MOST = 10
_WIDTH = 72
_NUMBERS = (0, 2, 3)
"""The columns of the groups that are set to the right: group, members and fines."""


@dataclass(frozen=True, slots=True)
class LetterOptions:
    """How a letter is to be: with names of patrons or without, and where the whole report is to be found.

    ``places`` are the short names of the libraries that it's about (none: all); ``links`` are addresses with a word
    for each. Names lead into the staff ``client`` where one is given.
    """

    names: bool = False
    places: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    client: StaffClient | None = None


def subject_line(template: str, report: Report, places: Sequence[str]) -> str:
    """Fill in the template of a subject: ``{date}``, ``{groups}``, ``{members}``, ``{total}`` and ``{libraries}``."""
    return template.format(
        date=local_time(report.generated_at)[:10],
        groups=report.totals.group_count,
        members=report.totals.member_count,
        total=plain_amount(report.totals.combined_fines),
        libraries=_places(places),
    )


def plain_letter(report: Report, options: LetterOptions) -> str:
    """The letter as plain text of 72 columns."""
    return template_text("mail.txt", **_values(report, options), filled=_filled, aligned=_aligned)


def html_letter(report: Report, options: LetterOptions) -> str:
    """The same letter as HTML, without styles or anything that would have to be fetched."""
    return template_text("mail.html", **_values(report, options))


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the groups; ``width`` (characters) is that of its longest text."""

    heading: str
    is_number: bool
    width: int

    @property
    def side(self) -> str:
        """The side that its texts are set to."""
        return "right" if self.is_number else "left"


def _values(report: Report, options: LetterOptions) -> dict[str, object]:
    facts = list(_facts(report))
    groups = sorted(report.groups, key=lambda group: (-group.combined_fines, group.number))[:_MOST]
    headings, rows = _highest(groups, report, options)
    client = options.client if options.names else None
    columns = [
        _Column(heading, place in _NUMBERS, max(len(row[place]) for row in (headings, *rows)))
        for place, heading in enumerate(headings)
    ]
    return {
        "title": TITLE,
        "places": _places(options.places),
        "report": report,
        "facts": facts,
        "facts_indent": max(len(term) for term, _ in facts) + 2,
        "columns": columns,
        "rows": rows,
        "addresses": [(client.group_page(group.lead.id), client.patron_page(group.lead.id)) for group in groups]
        if client
        else [],
        "links": options.links,
    }


def _filled(text: str, before: str = "") -> str:
    """A text in lines, those after the first indented by as much as what stands ``before``."""
    indent = " " * len(before)
    return fill(f"{before}{text}", _WIDTH, subsequent_indent=indent, break_long_words=False)


def _places(places: Sequence[str]) -> str:
    return ", ".join(printable(place) for place in places) or "all libraries"


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    totals = report.totals
    yield "Listed", listed(report.criteria)
    yield "Data as of", local_time(report.generated_at)
    yield "Groups", f"{totals.group_count:,}"
    yield "Members", f"{totals.member_count:,}, {totals.owing_count:,} of them owe"
    yield "Combined fines", amount(totals.combined_fines)
    yield "Members over the limit", f"{totals.over_limit_count:,}"
    if (blocks := report.block_totals) is not None:
        yield "Members blocked in Evergreen", _blocked(blocks)
    yield "Groups, none over the limit", f"{totals.groups_without_member_over_limit:,}"
    if totals.incomplete_group_count:
        yield "Incomplete groups", f"{totals.incomplete_group_count:,} (not every member can be seen)"
    if report.changes is not None:
        yield "What changed", _changed(report.changes)


def _blocked(blocks: BlockTotals) -> str:
    """How many, and of how many that differs from the rule."""
    words = [f"{blocks.blocked:,}"]
    if blocks.now_within_limit:
        words.append(f"{blocks.now_within_limit:,} of them with own fines now within the limit")
    if blocks.not_yet_blocked:
        words.append(f"{blocks.not_yet_blocked:,} over the limit, not yet blocked")
    return "; ".join(words)


def _changed(changes: Changes) -> str:
    return f"{counts(changes)}; {since(changes)}" if changes.compared else "nothing to compare with yet"


def _highest(
    groups: Sequence[Group], report: Report, options: LetterOptions
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The columns' names, and a row for each of the groups."""
    names = ("Lead",) if options.names else ()
    changes = compared(report)
    change = ("Change",) if changes is not None else ()
    heading = ("Group", "Library", "Members", "Fines", *change, *names)
    return heading, [_row(group, changes, names=options.names) for group in groups]


def _row(group: Group, changes: Changes | None, *, names: bool) -> tuple[str, ...]:
    cells = (str(group.number), printable(group.library), str(group.member_count), amount(group.combined_fines))
    change = () if changes is None else (_change(changes.by_group.get(group.number)),)
    return (*cells, *change, *((printable(group.lead.name),) if names else ()))


def _change(change: GroupChange | None) -> str:
    if change is None:
        return ""
    differs = change.kind in (ChangeKind.WORSE, ChangeKind.BETTER)
    return f"{change.kind.value} {signed(change.difference)}" if differs else change.kind.value


def _aligned(row: Iterable[str], columns: Sequence[_Column]) -> str:
    cells = [
        cell.rjust(column.width) if column.is_number else cell.ljust(column.width)
        for cell, column in zip(row, columns, strict=True)
    ]
    return "  ".join(cells).rstrip()
