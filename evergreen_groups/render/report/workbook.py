"""The report as a spreadsheet (XLSX): a summary, and sheets of groups, members and cleared groups.

Group totals appear only in the group's row, and members' rows have only their own amounts, so columns can be added up.
Amounts and counts are numbers. Names and barcodes are always text: a name can't become a formula or link, and a barcode
keeps its leading zeros. Requires xlsxwriter, installed by the extra ``xlsx``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, NamedTuple, TypeVar

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.language import (
    day,
    describe_total,
    gettext,
    local,
    minute,
    pgettext,
    time_with_zone,
)
from evergreen_groups.message import Message
from evergreen_groups.render.report.wording import (
    CLEARED,
    KINDS,
    NOT_KNOWN,
    cleared_lead,
    compared_changes,
    describe_kinds,
    describe_state,
    remarks,
)
from evergreen_groups.render.report.writers import Part, part_indexes
from evergreen_groups.render.sheets import (
    ColumnKind,
    Formats,
    LongSheet,
    Mark,
    RowWriter,
    SpreadsheetColumn,
    StreamedWorkbook,
    Value,
    cell_text,
    fill,
    set_direction,
    write_cell,
)
from evergreen_groups.render.wording import (
    CONFIDENTIAL,
    DIFFERENCES,
    describe_criteria,
    describe_limit,
    describe_penalty,
    information_only,
    report_title,
)
from evergreen_groups.report import ChangeKind, Changes, GroupChange, Report

if TYPE_CHECKING:
    from datetime import date, datetime

    from evergreen_groups.groups import Group, Member, Standing
    from evergreen_groups.render import StaffClient
    from evergreen_groups.report import MemberDetails, ReportDetails, SummedDetails
    from evergreen_groups.total import Total


class MemberRow(NamedTuple):
    """A member with their group, and standing and details if they were read."""

    group: Group
    member: Member
    standing: Standing | None
    details: MemberDetails | None = None


def yes_or_no(truth: bool) -> str:
    return gettext("yes") if truth else gettext("no")


def known(total: Total[int] | Total[Decimal] | Decimal | None) -> Value:
    """Return a total for a cell: a number only if exact, so that sums of the column are right."""
    if total is None or isinstance(total, Decimal):
        return describe_total(None) if total is None else total
    return total.at_least if total.exact else describe_total(total)


def group_detail_columns(details: ReportDetails) -> list[SpreadsheetColumn[Group]]:
    """Return the columns for groups' details."""

    def of_group(get: Callable[[SummedDetails], Value]) -> Callable[[Group], Value]:
        return lambda group: get(details.of_group(group))

    return [
        SpreadsheetColumn(gettext("Owed for"), "text", of_group(lambda one: describe_kinds(one.kinds) or None)),
        SpreadsheetColumn(gettext("Not known for what"), "money", of_group(lambda one: known(one.not_known) or None)),
        SpreadsheetColumn(gettext("Owing since"), "day", of_group(lambda one: _day(one.owing_since))),
        SpreadsheetColumn(gettext("Last payment"), "day", of_group(lambda one: _day(one.last_payment))),
        SpreadsheetColumn(gettext("Items overdue"), "number", of_group(lambda one: known(one.overdue))),
        SpreadsheetColumn(gettext("Items lost"), "number", of_group(lambda one: known(one.lost))),
        SpreadsheetColumn(
            gettext("Can still be returned"), "text", of_group(lambda one: yes_no_or_not_known(one.returnable))
        ),
    ]


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else local(moment).date()


def yes_no_or_not_known(truth: bool | None) -> str:
    return gettext(NOT_KNOWN) if truth is None else yes_or_no(truth)


def _of_details(get: Callable[[MemberDetails], Value]) -> Callable[[MemberRow], Value]:
    return lambda row: None if row.details is None else get(row.details)


def _kinds(details: MemberDetails) -> str | None:
    return gettext(NOT_KNOWN) if details.kinds is None else describe_kinds(details.kinds) or None


def member_detail_columns() -> list[SpreadsheetColumn[MemberRow]]:
    """Return the columns for members' details."""
    return [
        SpreadsheetColumn(gettext("Owed for"), "text", _of_details(_kinds)),
        SpreadsheetColumn(gettext("Owing since"), "day", _of_details(lambda one: _day(one.owing_since))),
        SpreadsheetColumn(gettext("Last payment"), "day", _of_details(lambda one: _day(one.last_payment))),
        SpreadsheetColumn(
            gettext("Items overdue"),
            "number",
            _of_details(lambda one: gettext(NOT_KNOWN) if one.items is None else one.items.overdue),
        ),
        SpreadsheetColumn(
            gettext("Items lost"),
            "number",
            _of_details(lambda one: gettext(NOT_KNOWN) if one.items is None else one.items.lost),
        ),
        SpreadsheetColumn(gettext("Record"), "text", _of_details(lambda one: describe_state(one) or None)),
        SpreadsheetColumn(gettext("Profile"), "text", _of_details(lambda one: one.profile)),
    ]


_KIND_MARKS: dict[ChangeKind, Mark] = {ChangeKind.NEW: "notable", ChangeKind.WORSE: "notable"}


def group_columns(report: Report) -> list[SpreadsheetColumn[Group]]:
    """Return the columns of the sheet of groups."""
    columns: list[SpreadsheetColumn[Group]] = [
        SpreadsheetColumn(gettext("Group"), "id", lambda group: group.number),
        SpreadsheetColumn(pgettext("group", "Lead"), "text", lambda group: group.lead.name),
        SpreadsheetColumn(gettext("Barcode of the lead"), "text", lambda group: group.lead.barcode),
        SpreadsheetColumn(gettext("Library"), "text", lambda group: group.library),
        SpreadsheetColumn(gettext("Members"), "number", lambda group: group.member_count),
        SpreadsheetColumn(pgettext("members", "Owing"), "number", lambda group: known(group.owing_count)),
        SpreadsheetColumn(
            gettext("Combined fines"),
            "money",
            lambda group: known(group.combined_fines),
            lambda group: "notable" if group.hidden_fines is None else "",
        ),
        SpreadsheetColumn(gettext("Highest own fines"), "money", lambda group: known(group.highest_own_fines)),
        SpreadsheetColumn(
            gettext("Over the limit"),
            "number",
            lambda group: known(group.over_limit_count),
        ),
        SpreadsheetColumn(
            gettext("No member over the limit"),
            "text",
            lambda group: yes_no_or_not_known(group.no_member_over_limit),
            lambda group: "notable" if group.no_member_over_limit else "",
        ),
        SpreadsheetColumn(
            gettext("Hidden members"),
            "number",
            lambda group: group.hidden_member_count or None,
            lambda group: "" if group.complete else "notable",
        ),
        SpreadsheetColumn(
            gettext("Fines of hidden members"),
            "money",
            lambda group: None if group.complete else known(group.hidden_fines),
        ),
    ]
    if report.details is not None:
        columns += group_detail_columns(report.details)
    if changes := compared_changes(report):
        columns += _change_columns(changes)
    return columns


def _change_columns(changes: Changes) -> list[SpreadsheetColumn[Group]]:
    def of_change(get: Callable[[GroupChange], Value]) -> Callable[[Group], Value]:
        return lambda group: get(changes.by_group[group.number]) if group.number in changes.by_group else None

    def mark(group: Group) -> Mark:
        change = changes.by_group.get(group.number)
        return _KIND_MARKS.get(change.kind, "") if change else ""

    return [
        SpreadsheetColumn(gettext("Change"), "text", of_change(lambda change: gettext(KINDS[change.kind])), mark),
        SpreadsheetColumn(gettext("Difference"), "change", of_change(lambda change: known(change.difference))),
        SpreadsheetColumn(gettext("Fines before"), "money", of_change(_before)),
        SpreadsheetColumn(gettext("Remarks"), "text", of_change(remarks)),
    ]


def _before(change: GroupChange) -> Value:
    """Return what the group owed in the last run, None for a new group."""
    return None if change.before is None else known(change.known_before)


def member_columns(report: Report) -> list[SpreadsheetColumn[MemberRow]]:
    """Return the columns of the sheet of members, with their limits unless one limit applies to everyone."""
    limit: SpreadsheetColumn[MemberRow] = SpreadsheetColumn(
        gettext("Limit"), "text", lambda row: describe_limit(row.member.limit)
    )
    # Translated once instead of for each cell.
    no_card, yes, no = gettext("no card"), yes_or_no(True), yes_or_no(False)
    return [
        SpreadsheetColumn(gettext("Group"), "id", lambda row: row.group.number),
        SpreadsheetColumn(gettext("Name"), "text", lambda row: row.member.name),
        SpreadsheetColumn(
            gettext("Barcode"),
            "text",
            lambda row: no_card if row.member.barcode is None else row.member.barcode,
        ),
        SpreadsheetColumn(gettext("Library"), "text", lambda row: row.member.library),
        SpreadsheetColumn(gettext("Own fines"), "money", lambda row: row.member.own_fines, _over),
        SpreadsheetColumn(gettext("Over the limit"), "text", lambda row: yes if row.member.over_limit else no, _over),
        *([limit] if report.criteria.limit is None else []),
        *(_block_columns() if report.blocks is not None else []),
        *(member_detail_columns() if report.details is not None else []),
        SpreadsheetColumn(gettext("Group lead"), "text", lambda row: yes if row.member.group_lead else no),
    ]


def _over(row: MemberRow) -> Mark:
    return "notable" if row.member.over_limit else ""


def _blocks(row: MemberRow) -> str | None:
    return "; ".join(map(describe_penalty, row.standing.blocks_for_fines)) or None if row.standing else None


def _difference(row: MemberRow) -> str | None:
    difference = row.standing.difference if row.standing else None
    return None if difference is None else gettext(DIFFERENCES[difference])


def _block_columns() -> list[SpreadsheetColumn[MemberRow]]:
    # Only this column has red cells: red is used for blocks only.
    return [
        SpreadsheetColumn(
            gettext("Blocked in Evergreen"),
            "text",
            _blocks,
            lambda row: "blocked" if row.standing and row.standing.blocks_for_fines else "",
        ),
        SpreadsheetColumn(gettext("Difference"), "text", _difference),
    ]


def cleared_columns() -> list[SpreadsheetColumn[GroupChange]]:
    """Return the columns of the sheet of cleared groups."""
    return [
        SpreadsheetColumn(gettext("Group"), "id", lambda change: change.group),
        SpreadsheetColumn(pgettext("group", "Lead"), "text", cleared_lead),
        SpreadsheetColumn(gettext("Library"), "text", lambda change: change.library),
        SpreadsheetColumn(gettext("Fines before"), "money", _before),
        SpreadsheetColumn(gettext("Group now"), "id", lambda change: change.present.group if change.present else None),
        SpreadsheetColumn(
            gettext("Fines now"),
            "money",
            lambda change: known(change.present.combined_fines if change.present else None),
        ),
    ]


_GROUPS_OF_KIND = {
    ChangeKind.NEW: Message("Groups new"),
    ChangeKind.WORSE: Message("Groups worse"),
    ChangeKind.BETTER: Message("Groups better"),
    ChangeKind.UNCHANGED: Message("Groups unchanged"),
    ChangeKind.CLEARED: Message("Groups no longer listed"),
    ChangeKind.HIDDEN: Message("Groups hidden"),
}


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
    if (changes := compared_changes(report)) and changes.since:
        yield "", "text", None
        yield gettext("Compared with data as of"), "text", minute(changes.since)
        for kind in ChangeKind:
            yield gettext(_GROUPS_OF_KIND[kind]), "number", changes.count(kind)
        yield gettext("Difference"), "change", known(changes.difference)
    yield "", "text", None
    for note in report.notes:
        yield gettext("Please note"), "text", gettext(note)
    yield gettext("Confidential"), "text", gettext(CONFIDENTIAL)


Row = TypeVar("Row")

_LONGEST_SHEET_NAME = 31


class _UnclosedBuffer(io.BytesIO):
    """A buffer that ignores ``close``: if a run is aborted, xlsxwriter's archive may close itself after its buffer."""

    def close(self) -> None:
        pass
        """Not closed, for who is thrown away together with it may come later."""


def write_workbook(
    report: Report, stream: BinaryIO, *, details: bool = True, client: StaffClient | None = None
) -> None:
    """Write the workbook, including a sheet of members if ``details``. Names link to the staff ``client``.

    No temporary files are used.

    Raises:
        ConfigurationError: xlsxwriter isn't installed, or there are more groups or members than fit on a sheet.
    """
    write_parts(report, [(report, stream)], details=details, client=client)


def write_parts(
    report: Report, parts: Sequence[Part], *, details: bool = True, client: StaffClient | None = None
) -> None:
    """Write parts of a report as :func:`write_workbook` does. Column widths are the same in all parts."""
    lists: list[_List[Any]] = [_groups(report, client), *([_members(report, client)] if details else [])]
    sheets = [one.sheet for one in lists]
    indexes = part_indexes([part for part, _stream in parts])
    workbooks: list[StreamedWorkbook] = []
    try:
        for part, stream in parts:
            workbooks.append(StreamedWorkbook(stream))
            workbooks[-1].copy_from(_without_rows(part, lists), sheets)
        for number, one in enumerate(lists):
            _write_list(one, number, report, parts, workbooks, indexes)
        for workbook in workbooks:
            workbook.close()
    except BaseException:
        for workbook in workbooks:
            workbook.abandon()
        raise


def _write_list(
    one: _List[Any],
    number: int,
    report: Report,
    parts: Sequence[Part],
    workbooks: Sequence[StreamedWorkbook],
    indexes: Mapping[int, Sequence[int]],
) -> None:
    """Write one of the long lists into all workbooks, making each row only once."""
    for workbook in workbooks:
        workbook.begin(number)
        # All parts have the same columns, so their formats should have the same numbers.
        if workbook.styles(number) != workbooks[0].styles(number):
            raise ValueError("parts of a report have other formats than the report")
    rows = RowWriter(one.sheet, workbooks[0].styles(number)) if workbooks else None
    for group in report.groups:
        if rows is not None and (wanted := indexes.get(group.number)):
            made = [rows.row(row) for row in one.rows(group)]
            for index in wanted:
                workbooks[index].add(made)
    for (part, _stream), workbook in zip(parts, workbooks, strict=True):
        links = chain.from_iterable(map(one.links, part.groups))
        workbook.end(number, links, one.sheet.linked)


@dataclass(frozen=True)
class _List(Generic[Row]):
    """A long sheet and, for each group, its rows, their number, and their links."""

    sheet: LongSheet[Row]
    rows: Callable[[Group], Sequence[Row]]
    count: Callable[[Group], int]
    links: Callable[[Group], Sequence[str]]


def _groups(report: Report, client: StaffClient | None) -> _List[Group]:
    columns = group_columns(report)
    linked = None if client is None else 1
    return _List(
        LongSheet.fitted(
            _sheet_name(gettext("Groups")), columns, report.groups, lambda: report.groups, frozen=2, linked=linked
        ),
        lambda group: (group,),
        lambda _group: 1,
        lambda group: () if client is None else (client.group_page(group.lead.id),),
    )


def _members(report: Report, client: StaffClient | None) -> _List[MemberRow]:
    details = report.details

    def rows(group: Group) -> list[MemberRow]:
        return [
            MemberRow(group, member, report.standing(member), None if details is None else details.of(member))
            for member in group.members
        ]

    def with_numbers() -> Iterator[MemberRow]:
        """Yield rows for measuring numbers, without standings, which are slow to determine."""
        for group in report.groups:
            for member in group.members:
                yield MemberRow(group, member, None, None if details is None else details.of(member))

    every = chain.from_iterable(map(rows, report.groups))
    columns = member_columns(report)
    linked = None if client is None else 1
    return _List(
        LongSheet.fitted(_sheet_name(gettext("Members")), columns, every, with_numbers, frozen=2, linked=linked),
        rows,
        lambda group: len(group.members),
        lambda group: () if client is None else [client.patron_page(member.id) for member in group.members],
    )


def _without_rows(report: Report, lists: Sequence[_List[Any]]) -> bytes:
    """Return a workbook whose long lists have no rows yet."""
    buffer = _UnclosedBuffer()
    workbook = _xlsxwriter().Workbook(
        buffer,
        {
            "in_memory": True,
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
        },
    )
    created = report.generated_at.astimezone(UTC).replace(tzinfo=None)
    title = report_title(report.criteria, report.name)
    workbook.set_properties({"title": title, "comments": gettext(CONFIDENTIAL), "created": created})
    formats = Formats(workbook, f"{title}, {day(report.generated_at)}")
    write_summary(workbook.add_worksheet(_sheet_name(gettext("Summary"))), report, formats)
    for one in lists:
        one.sheet.add_to(workbook, formats, sum(map(one.count, report.groups)))
    if (changes := compared_changes(report)) and changes.cleared:
        fill(
            workbook.add_worksheet(_sheet_name(gettext(CLEARED))),
            cleared_columns(),
            changes.cleared,
            formats,
            frozen=1,
        )
    workbook.close()
    return buffer.getvalue()


def _sheet_name(text: str) -> str:
    """Return a valid name: at most 31 characters, and none that have a meaning in formulas."""
    return re.sub(r"[\[\]:*?/\\']", " ", text)[:_LONGEST_SHEET_NAME].strip()


def _xlsxwriter() -> Any:
    try:
        import xlsxwriter  # type: ignore[import-untyped]  # it has no types of its own
    except ImportError:
        raise ConfigurationError(
            "a spreadsheet needs the package xlsxwriter",
            advice="pip install 'evergreen-groups[xlsx]', or choose another format",
            code="xlsxwriter-not-installed",
        ) from None
    return xlsxwriter
