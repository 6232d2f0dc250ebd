"""The report as a mail, in plain text and HTML: a summary, and the groups with the highest combined fines.

Patrons' names are left out unless requested.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.cells import cell_len, set_cell_size

from evergreen_groups import language
from evergreen_groups.follow_up import Agreed
from evergreen_groups.groups import StandingDifference
from evergreen_groups.language import gettext, ngettext, pgettext
from evergreen_groups.render import printable, template_text
from evergreen_groups.render.columns import aligned
from evergreen_groups.render.report.columns import CHANGE, GROUP, GROUP_LATE, group_row, shown_columns
from evergreen_groups.render.report.wording import REPLACEMENT_PRICE, describe_late, since
from evergreen_groups.render.report.worklist import DUE
from evergreen_groups.render.text import capitalized
from evergreen_groups.render.wording import DIFFERENCES, describe_criteria, report_heading

if TYPE_CHECKING:
    from evergreen_groups.follow_up import FollowUpState
    from evergreen_groups.groups import Group
    from evergreen_groups.render import StaffClient
    from evergreen_groups.render.column import Column
    from evergreen_groups.report import Report

_MOST_GROUPS = 10
_WIDTH = 72
_MOST_INDENT = 34
"""The widest label that has its value next to it. Values of wider labels go on the next line."""
_WITHOUT_NO_BREAK = {0xA0: " ", 0x202F: " "}


class DueGroups(NamedTuple):
    """The groups with a promise or a reminder whose day has come. One may be in two lists."""

    broken: Sequence[Group] = ()
    to_check: Sequence[Group] = ()
    reminders: Sequence[Group] = ()


_NOTHING_DUE = DueGroups()


def due_groups(report: Report, follow_ups: Mapping[int, FollowUpState]) -> DueGroups:
    """Return the groups of a report of which something is due. ``follow_ups`` are by group number."""
    listed = [(group, follow_ups[group.number]) for group in report.groups if group.number in follow_ups]
    return DueGroups(
        [group for group, state in listed if state.is_broken],
        [group for group, state in listed if Agreed.PROMISE in state.due and not state.is_broken],
        [group for group, state in listed if Agreed.REMINDER in state.due],
    )


@dataclass(frozen=True, slots=True)
class LetterOptions:
    """What a mail contains: ``names`` of patrons or not, and links to the whole report.

    ``places`` are the short names of the libraries covered (empty: all). ``links`` are pairs of a library's short name
    (empty: all libraries) and an address. Names link to the staff ``client`` if one is given. ``due`` are the
    follow-ups to do; ``links_to_list``: the linked pages can list just those.
    """

    names: bool = False
    places: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    client: StaffClient | None = None
    due: DueGroups = _NOTHING_DUE
    links_to_list: bool = False


def subject_line(template: str, report: Report, places: Sequence[str]) -> str:
    """Fill in the template of a subject: ``{date}``, ``{groups}``, ``{members}``, ``{total}`` and ``{libraries}``.

    The default template is translated; a configured one isn't in the catalogue and stays as it is.
    """
    subject = gettext(
        template,
        date=language.day(report.generated_at),
        groups=language.number(report.totals.group_count),
        members=language.number(report.totals.member_count),
        total=language.describe_total(report.totals.group_fines),
        libraries=_places(places),
    )
    # No-break spaces would make an ASCII header an encoded one, in which some mail programs show two blanks.
    return subject.translate(_WITHOUT_NO_BREAK)


def plain_letter(report: Report, options: LetterOptions) -> str:
    """Return the mail as plain text, 72 columns wide."""
    return template_text(
        "mail.txt",
        **_values(report, options),
        filled=_wrapped,
        fact=_fact,
    )


def html_letter(report: Report, options: LetterOptions) -> str:
    """Return the mail as HTML, with the main figures enlarged. It loads nothing from the network."""
    return template_text("mail.html", **_values(report, options))


def _values(report: Report, options: LetterOptions) -> dict[str, object]:
    start, end = ("right", "left") if language.current_language().direction == "rtl" else ("left", "right")
    facts = list(_facts(report))
    changed = gettext("What changed")
    large = (gettext("Groups"), pgettext("of all groups", "Group Fines"), gettext("Members over the limit"))
    heading, by_fines = report_heading(report.criteria), report.criteria.asks_for_fines
    groups = sorted(report.groups, key=lambda group: (-group.known_fines, group.number))
    if report.items is not None and not by_fines:
        groups.sort(key=report.items.most_first(report.criteria))
    groups = groups[:_MOST_GROUPS]
    columns = sorted(
        (
            column
            for column in shown_columns(report, GROUP, GROUP_LATE, CHANGE)
            if column.mail and (options.names or column.name != "lead_name")
        ),
        key=lambda column: column.mail,
    )
    cells = [(column.part_of, column.value, column.writer()) for column in columns]
    headings = [column.title for column in columns]
    rows = [
        ["" if (one := part_of(row)) is None else write(value_of(one)) for part_of, value_of, write in cells]
        for row in (group_row(report, group) for group in groups)
    ]
    widths = [max(map(cell_len, texts)) for texts in zip(headings, *rows, strict=True)]
    items = report.items
    about = ["" if items is None else describe_late(items.of_group(group)) for group in groups]
    client = options.client if options.names else None
    links = [
        (name if name and options.places else gettext("all libraries"), address) for name, address in options.links
    ]
    return {
        "title": heading,
        "heading": gettext("{label}: {value}", label=heading, value=_places(options.places)),
        "highest": ngettext("Highest Group Fines: {count} group", "Highest Group Fines: {count} groups", len(rows))
        if by_fines
        else ngettext("Most items: {count} group", "Most items: {count} groups", len(rows)),
        "start": start,
        "report": report,
        "first_facts": [fact for fact in facts if fact[0] in (changed, *large)],
        "changed": dict(facts).get(changed, ""),
        "figures": [(term, value) for term, value in facts if term in large],
        "other_facts": [fact for fact in facts if fact[0] not in (changed, *large)],
        "due": list(_due(options)),
        "due_links": [(name, f"{address}?status={DUE}") for name, address in links]
        if options.links_to_list and any(options.due)
        else [],
        "facts_indent": max(filter(_MOST_INDENT.__ge__, (cell_len(term) + 2 for term, _ in facts)), default=0),
        "headings": headings,
        "sides": [start, *(end if column.is_number else start for column in columns[1:])],
        "lines": [
            line
            for cells_of, text in zip((headings, *rows), ("", *about), strict=True)
            for line in (_line(cells_of, widths, columns), text and _wrapped(text, " " * (widths[0] + 2)))
            if line
        ],
        "rows": [*zip(rows, about, strict=True)],
        "addresses": [(client.group_page(group.lead.id), client.patron_page(group.lead.id)) for group in groups]
        if client
        else [],
        "links": links,
    }


def _line(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column[Any]]) -> str:
    return "  ".join(
        aligned(cell, width, right=column.is_number) for cell, width, column in zip(cells, widths, columns, strict=True)
    ).rstrip()


_MOST_NAMED = 20


def _due(options: LetterOptions) -> Iterator[tuple[str, str]]:
    """Yield what is due, and the groups: by number, and by name if the mail may have names."""
    terms = (gettext("Broken promises"), gettext("Promises to check"), gettext("Reminders due"))
    for term, groups in zip(terms, options.due, strict=True):
        if groups:
            named = [
                f"{group.number} {printable(group.lead.name)}" if options.names else str(group.number)
                for group in groups[:_MOST_NAMED]
            ]
            more = " …" if len(groups) > _MOST_NAMED else ""
            yield term, f"{language.number(len(groups))} ({'; '.join(named)}{more})"


def _wrapped(text: str, before: str = "") -> str:
    """Wrap a text that begins after ``before``, and indent the following lines by the width of ``before``."""
    indent = " " * cell_len(before)
    return fill(f"{before}{text}", _WIDTH, subsequent_indent=indent, break_long_words=False)


def _fact(term: str, value: str, indent: int) -> str:
    """Return a label with its value next to it, or below a label that is too wide."""
    if cell_len(term) + 2 <= indent:
        return _wrapped(value, set_cell_size(term, indent))
    return f"{_wrapped(term)}\n{_wrapped(value, ' ' * indent)}"


def _places(places: Sequence[str]) -> str:
    return ", ".join(printable(place) for place in places) or gettext("all libraries")


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    totals = report.totals
    # Readers look for it every morning.
    if (changes := report.changes) is not None:
        yield gettext("What changed"), since(changes) if changes.compared else gettext("nothing to compare with yet")
    yield gettext("Groups"), language.number(totals.group_count)
    yield gettext("Members"), language.number(totals.member_count)
    yield gettext("Members who owe"), language.describe_total(totals.owing_count)
    yield pgettext("of all groups", "Group Fines"), language.describe_total(totals.group_fines)
    if (items := report.item_totals) is not None:
        yield gettext("Items overdue"), language.describe_total(items.overdue)
        yield gettext("Items lost"), language.describe_total(items.lost)
        yield gettext(REPLACEMENT_PRICE), language.describe_total(items.replacement_price)
    yield gettext("Members over the limit"), language.describe_total(totals.over_limit_count)
    if (blocks := report.block_totals) is not None:
        yield gettext("Members blocked in Evergreen"), language.describe_total(blocks.blocked)
        for difference, count in (
            (StandingDifference.NOW_WITHIN_LIMIT, blocks.now_within_limit),
            (StandingDifference.NOT_YET_BLOCKED, blocks.not_yet_blocked),
        ):
            if count.at_least:
                yield capitalized(gettext(DIFFERENCES[difference])), language.describe_total(count)
    if totals.incomplete_group_count:
        yield gettext("Incomplete groups"), language.number(totals.incomplete_group_count)
    yield gettext("Listed"), describe_criteria(report.criteria)
    yield gettext("Data as of"), language.time_with_zone(report.generated_at)
