"""The report as a letter: a summary with the worst groups by number, in plain text and as HTML.

There is no name of a patron in it unless that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

from evergreen_groups import __version__
from evergreen_groups.money import amount, plain_amount
from evergreen_groups.render import (
    NOTHING_FOUND,
    TITLE,
    counted,
    element,
    information_only,
    listed,
    local_time,
    opening,
    printable,
)
from evergreen_groups.render.report.change_wording import compared, counts, signed, since
from evergreen_groups.report import ChangeKind, Changes, GroupChange, Report

if TYPE_CHECKING:
    from evergreen_groups.groups import Group

_WORST = 10
_WIDTH = 72
_NUMBERS = (0, 2, 3)
"""The columns of the worst groups that are set to the right: group, members and fines."""


@dataclass(frozen=True, slots=True)
class LetterOptions:
    """How a letter is to be: with names of patrons or without, and where the whole report is to be found.

    ``places`` are the short names of the libraries that it's about (none: all); ``links`` are addresses with a word
    for each.
    """

    names: bool = False
    places: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()


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
    lines = [f"{TITLE}: {_places(options.places)}", ""]
    lines += [fill(f"For information only. {information_only(report.criteria.limit)}", _WIDTH), ""]
    facts = list(_facts(report))
    indent = " " * (max(len(term) for term, _ in facts) + 2)
    lines += [
        fill(f"{term:{len(indent)}}{value}", _WIDTH, subsequent_indent=indent, break_long_words=False)
        for term, value in facts
    ]
    heading, rows = _worst(report, options)
    if rows:
        widths = [max(len(row[column]) for row in (heading, *rows)) for column in range(len(heading))]
        lines += ["", f"The worst {counted(len(rows), 'group')}:", ""]
        lines += [_aligned(row, widths) for row in (heading, *rows)]
    else:
        lines += ["", NOTHING_FOUND]
    for note in report.notes:
        lines += ["", fill(printable(note), _WIDTH)]
    if options.links:
        lines += ["", "The whole report:", *(f"{word}: {address}" for word, address in options.links)]
    return "\n".join([*lines, "", f"-- \nevergreen-groups {__version__}", ""])


def html_letter(report: Report, options: LetterOptions) -> str:
    """The same letter as HTML, without styles or anything that would have to be fetched."""
    facts = [element("tr", element("th", term, align="left"), element("td", value)) for term, value in _facts(report)]
    body = [
        element("h1", f"{TITLE}: {_places(options.places)}"),
        element("p", element("strong", "For information only."), " ", information_only(report.criteria.limit)),
        element("table", *facts, cellpadding="3"),
    ]
    heading, rows = _worst(report, options)
    if rows:
        sides = ["right" if column in _NUMBERS else "left" for column in range(len(heading))]
        head = element("tr", *(element("th", name, align=side) for name, side in zip(heading, sides, strict=True)))
        lines = [
            element("tr", *(element("td", cell, align=side) for cell, side in zip(row, sides, strict=True)))
            for row in rows
        ]
        body += [element("h2", f"The worst {counted(len(rows), 'group')}")]
        body += [element("table", head, *lines, border="1", cellpadding="4", cellspacing="0")]
    else:
        body += [element("p", NOTHING_FOUND)]
    body += [element("p", printable(note)) for note in report.notes]
    if options.links:
        links = [element("li", element("a", word, href=address)) for word, address in options.links]
        body += [element("p", "The whole report:"), element("ul", *links)]
    body += [element("p", element("small", f"evergreen-groups {__version__}"))]
    head = element("head", opening("meta", charset="utf-8"), element("title", TITLE))
    return f"<!DOCTYPE html>\n{element('html', head, element('body', *body), lang='en')}\n"


def _places(places: Sequence[str]) -> str:
    return ", ".join(printable(place) for place in places) or "all libraries"


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    totals = report.totals
    yield "Listed", listed(report.criteria)
    yield "Time of the data", local_time(report.generated_at)
    yield "Groups", f"{totals.group_count:,}"
    yield "Members", f"{totals.member_count:,}, {totals.owing_count:,} of them owe"
    yield "Combined fines", amount(totals.combined_fines)
    yield "Members over the limit", f"{totals.over_limit_count:,}"
    yield "Groups with nobody over it", f"{totals.groups_nobody_over_limit:,}"
    if totals.incomplete_group_count:
        yield "Incomplete groups", f"{totals.incomplete_group_count:,} (not every member can be seen)"
    if report.changes is not None:
        yield "What changed", _changed(report.changes)


def _changed(changes: Changes) -> str:
    return f"{counts(changes)}; {since(changes)}" if changes.compared else "nothing to compare with yet"


def _worst(report: Report, options: LetterOptions) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The columns' names, and a row for each of the worst groups."""
    groups = sorted(report.groups, key=lambda group: (-group.combined_fines, group.number))[:_WORST]
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


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
