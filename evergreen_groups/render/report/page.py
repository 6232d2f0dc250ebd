"""The report as one self-contained HTML file, with its style, script and charts embedded.

Without JavaScript the page still shows everything; only finding, sorting and folding are missing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO
from urllib.parse import quote

from markupsafe import escape

from evergreen_groups import language
from evergreen_groups.language import gettext, ngettext, pgettext
from evergreen_groups.message import Message
from evergreen_groups.render import printable, sentence, template_text
from evergreen_groups.render.chart import Chart, Line, Value
from evergreen_groups.render.pages import RowTemplate, environment
from evergreen_groups.render.report import columns, wording
from evergreen_groups.render.report.columns import group_row, member_row
from evergreen_groups.render.report.worklist import replaceable_row
from evergreen_groups.render.wording import describe_limit, report_title
from evergreen_groups.report import AgeSum, ChangeKind

if TYPE_CHECKING:
    from evergreen_groups.follow_up import FollowUpState
    from evergreen_groups.groups import Group, Member
    from evergreen_groups.ils import BillKind
    from evergreen_groups.language import Language
    from evergreen_groups.render import StaffClient
    from evergreen_groups.render.column import Column
    from evergreen_groups.report import AgeBand, Changes, Report, RunTotals, libraries

_CACHE_SIZE = 4096
"""Cache this many formatted values of each kind."""


def _page_columns(report: Report, *some: tuple[Column[Any], ...]) -> list[Column[Any]]:
    return [column for column in columns.shown_columns(report, *some) if column.page]


def _group_columns(report: Report) -> list[Column[Any]]:
    """Return the columns of groups: as many in a report by items, so that the page is laid out alike."""
    found = _page_columns(report, columns.GROUP, columns.GROUP_DETAILS, columns.CHANGE)
    if report.items is None:
        return found
    first, *others = _asked_items(report)
    order = ["group", "name", "library", "members", "owing", first, "total", *(others or ["over"])]
    named = {column.page: column for column in found}
    return [named[name] for name in (*order, "overdue_since", "replacement_price", "change") if name in named]


def _asked_items(report: Report) -> list[str]:
    """Return which items the report lists groups by, in the order in which it sorts by them."""
    asked = {"overdue": report.criteria.min_overdue, "lost": report.criteria.min_lost}
    return [name for name, least in asked.items() if least]


def _sorted_by(report: Report) -> str:
    criteria = report.criteria
    by_items = report.items is not None and criteria.sort == "total" and not criteria.min_total
    return _asked_items(report)[0] if by_items else criteria.sort


Cells = list[tuple[Callable[[Any], Any], list[Callable[[Any], str]], str]]


def _cells(macros: Any, some: Iterable[Column[Any]]) -> Cells:
    """Return the functions that return cells, together for adjacent columns about the same part of a row.

    The first returns that part, and the text is that of the cells without it.
    """
    found: Cells = []
    for part, about in groupby(some, lambda column: column.part):
        cells = [_cell(macros, column) for column in about]
        found.append((attrgetter(part), cells, str(macros.empty_cell()) * len(cells)))
    return found


def _cell(macros: Any, column: Column[Any]) -> Callable[[Any], str]:
    """Return a function that returns a row's cell: a text, or what the column's macro makes of its arguments."""
    if column.cell is not None:
        name, arguments = column.cell
        cached_macro = _cached(getattr(macros, name))
        return lambda row: cached_macro(*arguments(row))
    form, write, value_of = RowTemplate(macros.cell_form), column.writer(), column.shown or column.value
    cached = lru_cache(maxsize=_CACHE_SIZE)(lambda value: form.filled({"text": escape(write(value))}))
    return lambda row: cached(value_of(row))


def _joined(cells: Cells, row: Any) -> str:
    return "".join(
        [
            without if (one := part_of(row)) is None else "".join([cell(one) for cell in some])
            for part_of, some, without in cells
        ]
    )


def _cached(write: Callable[..., str]) -> Callable[..., str]:
    """Return a cached version of ``write`` whose result is escaped HTML."""
    return lru_cache(maxsize=_CACHE_SIZE)(lambda *values: str(escape(write(*values))))


def _count_of_members(visible: int, count: int) -> str:
    """Say how many members a group has and, if some are hidden, how many are visible."""
    if visible == count:
        return ngettext("{count} member", "{count} members", count)
    return ngettext("{visible:,} of {count} member", "{visible:,} of {count} members", count, visible=visible)


_FILTERS = {
    "over": Message("with a member over the limit"),
    "within": Message("with no member over the limit"),
    "blocked": Message("with a member blocked in Evergreen"),
    "items": Message("with items overdue"),
    "collections": Message("with a member in collections"),
    **{kind.value: wording.KINDS[kind] for kind in ChangeKind if kind not in (ChangeKind.CLEARED, ChangeKind.HIDDEN)},
    "incomplete": Message("incomplete", context="groups"),
}


class GroupMarks:
    """The marks by which the page's script filters groups, and the kinds of bills they owe for.

    Each kind of bill gets a short number as its mark, to keep pages small.
    """

    def __init__(self, report: Report) -> None:
        counts: Counter[BillKind] = Counter()
        self._groups: dict[int, tuple[tuple[str, ...], frozenset[BillKind]]] = {}
        # Thousands of groups share a few combinations, so equal ones are stored once.
        alike: dict[object, tuple[tuple[str, ...], frozenset[BillKind]]] = {}
        for group in report.groups:
            kinds: frozenset[BillKind] = frozenset()
            if report.details is not None:
                kinds = report.details.of_group(group).owed_kinds
                counts.update(kinds)
            found = (_marks_of(group, report), kinds)
            self._groups[group.number] = alike.setdefault(found, found)
        most_first = sorted(counts, key=lambda kind: (-counts[kind], kind))
        self._marks = {kind: str(index) for index, kind in enumerate(most_first)}
        self._written = {
            (marks, kinds): (" ".join(marks), " ".join(sorted((self._marks[kind] for kind in kinds), key=int)))
            for marks, kinds in alike.values()
        }

    @property
    def with_kinds(self) -> bool:
        """Whether the groups owe for more than one known kind."""
        return len(self._marks) > 1

    def of(self, group: Group) -> tuple[str, str]:
        """Return a group's marks, and the marks of the kinds it owes for."""
        return self._written[self._groups[group.number]]

    def offered_kinds(self) -> list[tuple[str, str]]:
        """Return mark and name of each kind that groups owe for, the most frequent first."""
        return [(mark, kind.describe()) for kind, mark in self._marks.items()]

    def offered_filters(self) -> list[tuple[str, str]]:
        """Return mark and label of each filter that selects some groups but not all."""
        each = [set(marks) for marks, _kinds in self._written]
        some = set().union(*each)
        every = set.intersection(*each) if each else set()
        return [(mark, gettext(words)) for mark, words in _FILTERS.items() if mark in some - every]


def _band_mark(band: AgeBand) -> str:
    return f"days-{band.least}"


def _marks_of(group: Group, report: Report) -> tuple[str, ...]:
    """Return the marks of the filters that select a group."""
    over = group.over_limit_count
    found = ["over"] if over.at_least else ["within"] if over.exact else []
    if report.blocks is not None and any(report.blocks.standing(one).blocked_for_fines for one in group.members):
        found.append("blocked")
    counted = report.details or report.items
    if counted is not None and counted.of_group(group).returnable:
        found.append("items")
    if report.contacts is not None and report.contacts[group.number].in_collections:
        found.append("collections")
    if report.details is not None and (band := report.details.age_band(group)) is not None:
        found.append(_band_mark(band))
    if not group.complete:
        found.append("incomplete")
    changes = wording.compared_changes(report)
    change = changes.by_group.get(group.number) if changes else None
    if change is not None:
        found.append(change.kind.value)
    return tuple(found)


def trend_chart(trend: Sequence[RunTotals]) -> tuple[Chart | None, list[tuple[str, str]]]:
    """Return a chart of the combined fines, or of the number of groups if a run's fines are unknown or always zero.

    With it, return the time and the value of each run as text. There is no chart until there are two runs.
    """
    values = [run.group_fines for run in trend if run.group_fines is not None]
    name, written = pgettext("of all groups", "Group Fines"), language.price
    if len(values) < len(trend) or not any(values):  # unknown, or a report by items where nobody owes anything
        values = [Decimal(run.group_count) for run in trend]
        name, written = gettext("Groups"), lambda value: language.number(int(value))
    texts = [(language.minute(run.at), written(value)) for run, value in zip(trend, values, strict=True)]
    line = Line(name, [Value(value, text) for value, (_moment, text) in zip(values, texts, strict=True)])
    return Chart.of(name, [language.day(run.at) for run in trend], [line]), texts


def shared_values(report: Report) -> dict[str, object]:
    """Return the template values that report and index share: the changes since the last run, and the trend."""
    trend = report.changes.trend if report.changes else ()
    changes = wording.compared_changes(report)
    chart, trend_texts = trend_chart(trend)
    return {
        "report": report,
        "changes": changes,
        "change_remark": _change_remark(report, changes) if changes else "",
        "trend": trend,
        "chart": chart,
        "trend_texts": trend_texts,
    }


def link_to(way: str, text: str) -> str:
    """Return the address that calls a phone number or writes an e-mail, empty if there is none.

    >>> link_to("day_phone", "(555) 123-4567 ext. 8"), link_to("day_phone", "none"), link_to("email", "a@b.example")
    ('tel:5551234567;ext=8', '', 'mailto:a@b.example')
    """
    if way == "email":
        return f"mailto:{quote(text, safe='@')}" if re.fullmatch(r"[^@\s]+@[^@\s]+", text) else ""
    number_, _word, extension = re.match(r"([^a-zA-Z#]*)([a-zA-Z.#\s]*)(\d*)", text).groups()  # type: ignore[union-attr]
    digits = re.sub(r"(?!^\+)\D", "", number_.strip())
    if len(digits) < 5:
        return ""
    return f"tel:{digits};ext={extension}" if extension else f"tel:{digits}"


def _change_remark(report: Report, changes: Changes) -> str:
    """Say what changed since when, and by how much the list changed if its groups weren't the same before."""
    remark = wording.explain_difference(changes)
    of_list, listed = changes.list_difference, changes.listed_difference
    # The trend has groups that aren't in the changes: those left out, and those that are hidden now.
    if None in (of_list, listed) or report.left_out_count or changes.hidden:
        return remark
    if of_list == listed:
        return remark
    moved = gettext(
        "{difference} in the list's total, because groups moved here or away",
        difference=language.describe_difference(of_list),
    )
    return f"{remark}; {moved}"


_FIRST_GROUPS = 200
"""So many groups are elements when the page opens. The page's script adds the rest."""
_GROUPS = "\0"
"""Placeholder for the groups. No page contains this character."""


def write_page(
    report: Report,
    stream: TextIO,
    *,
    details: bool = True,
    client: StaffClient | None = None,
    index: str = "",
    follow_ups: Mapping[int, FollowUpState] = MappingProxyType({}),
) -> None:
    """Write the page. With ``details``, the members of each group can be unfolded, and are printed if unfolded.

    Each group has its follow-up at the time of writing. The service puts the current one in its place (worklist.py).

    With a staff ``client``, names link to patrons. ``index`` is the address of the index that a library's page links
    to.
    """
    rows = GroupRows(report, details, client, follow_ups)
    page = template_text(
        "report.html",
        **shared_values(report),
        title=report_title(report.criteria, report.name),
        details=details,
        client=client,
        index=index,
        wording=wording,
        sentence=sentence,
        columns=[(column.page, column.title, _sort_kind(column)) for column in rows.columns],
        sorted_by=_sorted_by(report),
        filters=rows.marks.offered_filters(),
        owed_for=rows.marks.offered_kinds(),
        age_sums=[(_band_mark(one.band), wording.describe_age_sum(one)) for one in AgeSum.of(report)],
        cleared=report.changes.cleared if report.changes else (),
        cleared_heading=wording.change_heading(ChangeKind.CLEARED),
        is_hidden=bool(report.criteria.orgs) and report.hidden_libraries.issuperset(report.criteria.orgs),
        table=rows.macros.table(),
        groups=_GROUPS,
        has_rest=len(report.groups) > _FIRST_GROUPS,
    )
    head, _place, tail = page.partition(_GROUPS)
    stream.write(head)
    for count, group in enumerate(report.groups):
        if count == _FIRST_GROUPS:
            stream.write(rows.macros.rest_start())
        stream.write(rows.group(group))
    stream.write(tail)


class GroupRows:
    """Renders the groups of :func:`write_page`, each with its members if requested."""

    def __init__(
        self, report: Report, details: bool, client: StaffClient | None, follow_ups: Mapping[int, FollowUpState]
    ) -> None:
        self._report, self._with_members, self._client, self._follow_ups = report, details, client, follow_ups
        self.marks = GroupMarks(report)
        self.columns = _group_columns(report)
        # Members' details are sentences below them.
        of_members = _page_columns(report, columns.MEMBER, columns.BLOCKS)
        values = {
            "report": report,
            "changes": wording.compared_changes(report),
            "details": details,
            "client": client,
            "owed_for": self.marks.with_kinds,
            "column_count": len(self.columns),
            "asked_items": [] if report.items is None else _asked_items(report),
            "member_headings": [column.title for column in of_members],
            "members_of_group": lambda group: gettext("Members of group {group}", group=group),
            "day_number": lambda moment: language.local(moment).date().toordinal(),  # the script sorts by it
            "wording": wording,
            "describe_limit": describe_limit,
            "link_to": link_to,
        }
        macros: Any = environment().get_template("report_groups.html").make_module(values)
        self.macros = macros
        self._group, self._member, self._about_member = map(
            RowTemplate, (macros.group_form, macros.member_form, macros.about_form)
        )
        self._incomplete, self._lead = str(macros.incomplete_mark()), str(macros.lead_mark())
        self._summary = _cached(_count_of_members)
        self._profile = lru_cache(maxsize=_CACHE_SIZE)(
            lambda name: gettext("{label}: {value}", label=gettext("Profile"), value=printable(name))
        )
        # The template has the cells of group, lead and member's name, which are links.
        self._group_cells = _cells(macros, self.columns[2:])
        self._member_cells = _cells(macros, of_members[1:])

    def group(self, group: Group) -> str:
        lead, client = group.lead, self._client
        row = group_row(self._report, group)
        marks, owed = self.marks.of(group)
        remarkable = (
            self._report.details
            or self._report.items
            or self._report.contacts
            or not group.complete
            or not lead.group_lead
            or wording.remarks(row.change)
        )
        about = str(self.macros.about(group, row.change, row.contact)) if remarkable else ""
        marked = "" if group.complete else self._incomplete
        return self._group.filled(
            {
                "marks": marks,
                "owed": owed,
                "link": escape(client.group_page(lead.id)) if client else "",
                "number": group.number,
                "lead_link": escape(client.patron_page(lead.id)) if client else "",
                "lead": escape(printable(lead.name)),
                "beside": marked if self._with_members else about,
                "cells": _joined(self._group_cells, row),
                "summary": self._summary(len(group.members), group.member_count) if self._with_members else "",
                "rest_of_line": replaceable_row(group.number, self._follow_ups.get(group.number), len(self.columns)),
                "about": about,
                "members": "".join(self._of_member(group, one) for one in group.members) if self._with_members else "",
            }
        )

    def _of_member(self, group: Group, member: Member) -> str:
        patron, client = member.patron, self._client
        row = member_row(self._report, group, member)
        return self._member.filled(
            {
                "link": escape(client.patron_page(patron.id)) if client else "",
                "name": escape(printable(patron.name)),
                "lead": self._lead if patron.group_lead else "",
                "cells": _joined(self._member_cells, row),
                "about": self._details_of(member),
            }
        )

    def _details_of(self, member: Member) -> str:
        """Return what a member owes for and has out, and the profile; empty if details weren't read."""
        if self._report.details is None:
            return ""
        found = self._report.details.of(member)
        profile = found.profile and self._profile(found.profile)
        text = "; ".join(filter(None, (wording.describe_member_details(found), profile)))
        return self._about_member.filled({"text": escape(text)}) if text else ""


def _sort_kind(column: Column[Any]) -> str:
    """Return how the script sorts a column: by numbers, by days, or (empty) by words."""
    if column.kind == "day":
        return "day"
    # A change is shown with its amount.
    return "number" if column.is_number or column.page == "change" else ""


_KINDS = (ChangeKind.NEW, ChangeKind.WORSE, ChangeKind.BETTER, ChangeKind.CLEARED)
"""The kinds of changes that have a column."""


@dataclass(frozen=True, slots=True)
class IndexedLibrary:
    """A library, its part of the report, its file names by format, and the language of the files."""

    library: libraries.ReportedLibrary
    part: Report
    files: Mapping[str, str]
    language: Language = language.ENGLISH

    @property
    def main_format(self) -> str:
        """The format that the library's name links to: HTML if available."""
        return "html" if "html" in self.files else next(iter(self.files))


def write_index(report: Report, entries: Sequence[IndexedLibrary], stream: BinaryIO) -> None:
    """Write the index of libraries as UTF-8. The sums are those of ``report``, which counts each group once."""
    title = report_title(replace(report.criteria, orgs=()), report.name)
    page = template_text(
        "library_index.html",
        **shared_values(report),
        title=gettext("{title}, by library", title=title),
        wording=wording,
        entries=entries,
        kinds=[(kind, wording.change_heading(kind)) for kind in _KINDS],
        bands=[(one.band, wording.describe_days(one.band)) for one in AgeSum.of(report)],
        age_sums=lambda part: {one.band: one.group_fines for one in AgeSum.of(part)},
    )
    stream.write(page.encode())
