"""The spreadsheet's first sheet: what the report says before its first group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from evergreen_groups.language import gettext, minute, moment_with_zone, pgettext
from evergreen_groups.message import Message
from evergreen_groups.render import (
    CONFIDENTIAL,
    ColumnKind,
    Formats,
    Value,
    cell_text,
    information_only,
    listed,
    set_direction,
    title_of,
    write_cell,
)
from evergreen_groups.render.report.change_wording import compared
from evergreen_groups.render.report.workbook_details import known
from evergreen_groups.report import ChangeKind

if TYPE_CHECKING:
    from evergreen_groups.report import Report

_GROUPS_OF_KIND = {
    ChangeKind.NEW: Message("Groups new"),
    ChangeKind.WORSE: Message("Groups worse"),
    ChangeKind.BETTER: Message("Groups better"),
    ChangeKind.UNCHANGED: Message("Groups unchanged"),
    ChangeKind.CLEARED: Message("Groups no longer listed"),
    ChangeKind.HIDDEN: Message("Groups hidden"),
}


def write_summary(sheet: Any, report: Report, formats: Formats) -> None:
    """Write what the report says before its first group: rule, facts, totals, changes and notes."""
    sheet.set_column(0, 0, 44)
    sheet.set_column(1, 1, 80)
    sheet.hide_gridlines(2)
    sheet.write_string(0, 0, cell_text(title_of(report.criteria, report.name)), formats.title)
    sheet.write_string(1, 0, gettext("For information only"), formats.label)
    sheet.write_string(1, 1, information_only(report.criteria.limit), formats.fact("text"))
    row = 3
    for label, kind, value in _facts(report):
        if label:
            sheet.write_string(row, 0, label, formats.label)
            write_cell(sheet, row, 1, value, formats.fact(kind))
        row += 1
    sheet.set_portrait()
    sheet.fit_to_pages(1, 0)
    set_direction(sheet)


def _facts(report: Report) -> Iterator[tuple[str, ColumnKind, Value]]:
    """Label, kind and value of each line of the summary; without a label, an empty line."""
    totals = report.totals
    yield gettext("Listed"), "text", listed(report.criteria)
    yield gettext("Data as of"), "text", moment_with_zone(report.generated_at)
    yield gettext("Gateway"), "text", report.gateway
    yield "", "text", None
    yield gettext("Groups"), "number", totals.group_count
    yield gettext("Members"), "number", totals.member_count
    yield gettext("Members who owe"), "number", known(totals.owing_count)
    yield pgettext("of all groups", "Combined fines"), "money", known(totals.combined_fines)
    yield gettext("Members over the limit"), "number", known(totals.over_limit_count)
    if (blocks := report.block_totals) is not None:
        yield gettext("Members blocked in Evergreen"), "number", known(blocks.blocked)
        yield gettext("Over the limit, not yet blocked in Evergreen"), "number", known(blocks.not_yet_blocked)
        yield gettext("Blocked in Evergreen, own fines within the limit"), "number", known(blocks.now_within_limit)
    yield gettext("Groups with no member over the limit"), "number", known(totals.groups_without_member_over_limit)
    yield gettext("Incomplete groups"), "number", totals.incomplete_group_count
    if (changes := compared(report)) and changes.since:
        yield "", "text", None
        yield gettext("Compared with data as of"), "text", minute(changes.since)
        for kind in ChangeKind:
            yield gettext(_GROUPS_OF_KIND[kind]), "number", changes.count(kind)
        yield gettext("Difference"), "change", known(changes.difference)
    yield "", "text", None
    for note in report.notes:
        yield gettext("Please note"), "text", gettext(note)
    yield gettext("Confidential"), "text", gettext(CONFIDENTIAL)
