"""The report as a spreadsheet (XLSX): a summary, and sheets of groups, members and cleared groups.

Group totals appear only in the group's row, and members' rows have only their own amounts, so columns can be added up.
Amounts and counts are numbers. Names and barcodes are always text: a name can't become a formula or link, and a barcode
keeps its leading zeros. Requires xlsxwriter, installed by the extra ``xlsx``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

from evergreen_groups.follow_up import FollowUpState, FollowUpStatus
from evergreen_groups.groups import StandingDifference
from evergreen_groups.language import gettext, minute, pgettext, time_with_zone
from evergreen_groups.render.column import ColumnKind, Value, known
from evergreen_groups.render.report import columns, wording
from evergreen_groups.render.report.columns import MemberRow, group_row, member_row, shown_columns
from evergreen_groups.render.sheets import (
    Formats,
    cell_text,
    fill,
    new_workbook,
    refuse_too_long,
    set_direction,
    sheet_name,
    write_cell,
)
from evergreen_groups.render.text import capitalized
from evergreen_groups.render.wording import CONFIDENTIAL, DIFFERENCES, describe_criteria, information_only, report_title
from evergreen_groups.report import AgeSum, ChangeKind, Report

if TYPE_CHECKING:
    from evergreen_groups.groups import Group
    from evergreen_groups.render import StaffClient
    from evergreen_groups.render.report.columns import GroupRow


def write_summary(sheet: Any, report: Report, formats: Formats) -> None:
    """Write the sheet with the rule, criteria, totals, changes and notes."""
    sheet.set_column(0, 0, 44)
    sheet.set_column(1, 1, 80)
    sheet.hide_gridlines(2)
    sheet.write_string(0, 0, cell_text(report_title(report.criteria, report.name)), formats.title)
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
    """Yield label, kind and value of each line of the summary; an empty label means an empty line."""
    totals = report.totals
    yield gettext("Listed"), "text", describe_criteria(report.criteria)
    yield gettext("Data as of"), "text", time_with_zone(report.generated_at)
    yield gettext("Evergreen server"), "text", report.gateway
    yield "", "text", None
    yield gettext("Groups"), "number", totals.group_count
    yield gettext("Members"), "number", totals.member_count
    yield gettext("Members who owe"), "number", known(totals.owing_count)
    yield pgettext("of all groups", "Group Fines"), "money", known(totals.group_fines)
    if (items := report.item_totals) is not None:
        yield gettext("Items overdue"), "number", known(items.overdue)
        yield gettext("Items lost"), "number", known(items.lost)
        yield gettext(wording.REPLACEMENT_PRICE), "money", known(items.replacement_price)
    yield gettext("Members over the limit"), "number", known(totals.over_limit_count)
    if (blocks := report.block_totals) is not None:
        yield gettext("Members blocked in Evergreen"), "number", known(blocks.blocked)
        for difference, count in (
            (StandingDifference.NOT_YET_BLOCKED, blocks.not_yet_blocked),
            (StandingDifference.NOW_WITHIN_LIMIT, blocks.now_within_limit),
        ):
            yield capitalized(gettext(DIFFERENCES[difference])), "number", known(count)
    yield gettext("Groups with no member over the limit"), "number", known(totals.groups_without_member_over_limit)
    yield gettext("Incomplete groups"), "number", totals.incomplete_group_count
    for one in AgeSum.of(report):
        yield wording.describe_days(one.band), "money", known(one.group_fines)
    if (changes := wording.compared_changes(report)) and changes.since:
        yield "", "text", None
        yield gettext("Compared with the report of"), "text", minute(changes.since)
        by_items = (ChangeKind.MORE_ITEMS, ChangeKind.FEWER_ITEMS)
        for kind in (kind for kind in ChangeKind if report.items is not None or kind not in by_items):
            yield (
                gettext("{label}: {value}", label=gettext("Groups"), value=wording.KINDS[kind]),
                "number",
                changes.count(kind),
            )
        yield gettext(wording.CHANGE_IN_FINES), "change", known(changes.difference)
        new, cleared = wording.KINDS[ChangeKind.NEW], wording.KINDS[ChangeKind.CLEARED]
        fines = pgettext("of all groups", "Group Fines")
        yield gettext("{label}: {value}", label=fines, value=new), "money", known(changes.new_fines)
        label = gettext("{label}: {value}", label=wording.CHANGE_IN_FINES, value=cleared)
        yield label, "change", known(changes.cleared_difference)
    yield "", "text", None
    for note in report.notes:
        yield gettext("Please note"), "text", gettext(note)
    yield gettext("Confidential"), "text", gettext(CONFIDENTIAL)


def write_workbook(
    report: Report,
    stream: BinaryIO,
    *,
    details: bool = True,
    client: StaffClient | None = None,
    follow_ups: Mapping[int, FollowUpState] = MappingProxyType({}),
) -> None:
    """Write a workbook, including a sheet of members if ``details``. Names link to the staff ``client``.

    If a group has a follow-up, all groups have columns that say how far it is, without notes.

    Raises:
        ConfigurationError: xlsxwriter isn't installed, or there are more groups or members than fit on a sheet.
    """
    refuse_too_long(len(report.groups))
    if details:
        refuse_too_long(sum(len(group.members) for group in report.groups))
    title = report_title(report.criteria, report.name)
    with new_workbook(stream, title, gettext(CONFIDENTIAL), report.generated_at) as (workbook, formats):
        write_summary(workbook.add_worksheet(sheet_name(gettext("Summary"))), report, formats)
        _write_groups(workbook.add_worksheet(sheet_name(gettext("Groups"))), report, formats, client, follow_ups)
        if details:
            _write_members(workbook.add_worksheet(sheet_name(gettext("Members"))), report, formats, client)
        if (changes := wording.compared_changes(report)) and changes.cleared:
            fill(
                workbook.add_worksheet(sheet_name(wording.change_heading(ChangeKind.CLEARED))),
                columns.CLEARED,
                lambda: changes.cleared,
                formats,
                frozen=1,
            )


def _write_groups(
    sheet: Any,
    report: Report,
    formats: Formats,
    client: StaffClient | None,
    follow_ups: Mapping[int, FollowUpState],
) -> None:
    def row(group: Group) -> GroupRow:
        found = group_row(report, group)
        waits = found.contact is not None and found.contact.in_collections
        without = FollowUpState(FollowUpStatus.WAITING if waits else FollowUpStatus.TO_DO, None)
        return found._replace(follow_up=follow_ups.get(group.number, without))

    shown = shown_columns(report, columns.GROUP, columns.GROUP_DETAILS, columns.CHANGE, columns.CONTACT)
    fill(
        sheet,
        [*(column for column in shown if column.for_sheet), *(columns.FOLLOW_UP if follow_ups else ())],
        partial(map, row, report.groups),
        formats,
        frozen=2,
        links=() if client is None else (client.group_page(group.lead.id) for group in report.groups),
    )


def _write_members(sheet: Any, report: Report, formats: Formats, client: StaffClient | None) -> None:
    """Write the sheet of members, with their limits unless one limit applies to everyone."""

    def rows(report: Report) -> Iterator[MemberRow]:
        return (member_row(report, group, member) for group in report.groups for member in group.members)

    members = (member for group in report.groups for member in group.members)
    shown = shown_columns(report, columns.MEMBER, columns.BLOCKS, columns.MEMBER_DETAILS)
    fill(
        sheet,
        [columns.GROUP[0], *(one for one in shown if one.name != "limit" or report.criteria.limit is None)],
        partial(rows, report),
        formats,
        frozen=2,
        numbers=partial(rows, replace(report, blocks=None)),  # without standings, which are slow to determine
        links=() if client is None else (client.patron_page(member.id) for member in members),
    )
