"""The report as a spreadsheet (XLSX): a summary, a sheet of groups, one of members, one of groups that are cleared.

Amounts and counts are numbers to reckon with. Names and barcodes are texts, whatever they look like: no name becomes a
formula or a link by itself, and no barcode loses its zeros. It needs xlsxwriter, which the extra ``xlsx`` brings.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import UTC
from typing import TYPE_CHECKING, Any, BinaryIO

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.render import (
    CONFIDENTIAL,
    DIFFERENCES,
    ColumnKind,
    Formats,
    Mark,
    SpreadsheetColumn,
    Value,
    cell_text,
    describe_limit,
    describe_penalty,
    fill,
    information_only,
    listed,
    local_time,
    title_of,
    with_link,
    write_cell,
)
from evergreen_groups.render.report.change_wording import CLEARED, cleared_lead, compared, remarks
from evergreen_groups.render.report.workbook_details import (
    MEMBER_DETAIL_COLUMNS,
    MemberRow,
    group_detail_columns,
    yes_or_no,
)
from evergreen_groups.report import ChangeKind, Changes, GroupChange, Report

if TYPE_CHECKING:
    from evergreen_groups.groups import Group
    from evergreen_groups.render import StaffClient

_KIND_MARKS: dict[ChangeKind, Mark] = {ChangeKind.NEW: "notable", ChangeKind.WORSE: "notable"}


class _Held(io.BytesIO):
    """Bytes that stay open: where a run is broken off, the library's archive still ends itself in them."""

    def close(self) -> None:
        """Not closed, for who is thrown away together with it may come later."""


def write_workbook(
    report: Report, stream: BinaryIO, *, details: bool = True, client: StaffClient | None = None
) -> None:
    """Write the workbook; with ``details``, the sheet of members as well. Names lead into the staff ``client``.

    Nothing of it is put into temporary files.

    Raises:
        ConfigurationError: xlsxwriter isn't installed, or a sheet can't hold that many groups or members.
    """
    held = _Held()
    workbook = _library().Workbook(
        held,
        {
            "in_memory": True,
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
        },
    )
    created = report.generated_at.astimezone(UTC).replace(tzinfo=None)
    workbook.set_properties(
        {"title": title_of(report.criteria, report.name), "comments": CONFIDENTIAL, "created": created}
    )
    formats = Formats(workbook)
    _write_summary(workbook.add_worksheet("Summary"), report, formats)
    group_columns = _group_columns(report)
    if client is not None:
        group_columns = with_link(group_columns, "Lead", lambda group: client.group_page(group.lead.id))
    fill(workbook.add_worksheet("Groups"), group_columns, report.groups, formats, frozen=2)
    if details:
        rows = (
            MemberRow(group, member, report.standing(member), report.details.of(member) if report.details else None)
            for group in report.groups
            for member in group.members
        )
        member_columns = _member_columns(report)
        if client is not None:
            member_columns = with_link(member_columns, "Name", lambda row: client.patron_page(row.member.id))
        fill(workbook.add_worksheet("Members"), member_columns, rows, formats, frozen=2)
    if (changes := compared(report)) and changes.cleared:
        fill(workbook.add_worksheet(CLEARED), _CLEARED_COLUMNS, changes.cleared, formats, frozen=1)
    workbook.close()
    stream.write(held.getbuffer())


def _library() -> Any:
    try:
        import xlsxwriter  # type: ignore[import-untyped]  # it has no types of its own
    except ImportError:
        raise ConfigurationError(
            "a spreadsheet needs the package xlsxwriter",
            advice="pip install 'evergreen-groups[xlsx]', or choose another format",
            code="xlsxwriter-not-installed",
        ) from None
    return xlsxwriter


def _group_columns(report: Report) -> list[SpreadsheetColumn[Group]]:
    columns: list[SpreadsheetColumn[Group]] = [
        SpreadsheetColumn("Group", "id", lambda group: group.number),
        SpreadsheetColumn("Lead", "text", lambda group: group.lead.name),
        SpreadsheetColumn("Barcode of the lead", "text", lambda group: group.lead.barcode),
        SpreadsheetColumn("Library", "text", lambda group: group.library),
        SpreadsheetColumn("Members", "number", lambda group: group.member_count),
        SpreadsheetColumn("Owing", "number", lambda group: group.owing_count),
        SpreadsheetColumn(
            "Combined fines",
            "money",
            lambda group: group.combined_fines,
            lambda group: "notable" if group.hidden_fines is None else "",
        ),
        SpreadsheetColumn("Highest own fines", "money", lambda group: group.highest_own_fines),
        SpreadsheetColumn(
            "Over the limit",
            "number",
            lambda group: group.over_limit_count,
        ),
        SpreadsheetColumn(
            "No member over the limit",
            "text",
            lambda group: yes_or_no(group.no_member_over_limit),
            lambda group: "notable" if group.no_member_over_limit else "",
        ),
        SpreadsheetColumn(
            "Hidden members",
            "number",
            lambda group: group.hidden_member_count or None,
            lambda group: "" if group.complete else "notable",
        ),
        SpreadsheetColumn("Fines of those", "money", _hidden_fines),
    ]
    if report.details is not None:
        columns += group_detail_columns(report.details)
    if changes := compared(report):
        columns += _change_columns(changes)
    return columns


def _hidden_fines(group: Group) -> Value:
    if group.complete:
        return None
    return "not known, not counted" if group.hidden_fines is None else group.hidden_fines


def _change_columns(changes: Changes) -> list[SpreadsheetColumn[Group]]:
    def of_change(get: Callable[[GroupChange], Value]) -> Callable[[Group], Value]:
        return lambda group: get(changes.by_group[group.number]) if group.number in changes.by_group else None

    def mark(group: Group) -> Mark:
        change = changes.by_group.get(group.number)
        return _KIND_MARKS.get(change.kind, "") if change else ""

    return [
        SpreadsheetColumn("Change", "text", of_change(lambda change: change.kind.value), mark),
        SpreadsheetColumn("Difference", "change", of_change(lambda change: change.difference)),
        SpreadsheetColumn("Fines before", "money", of_change(lambda change: change.before)),
        SpreadsheetColumn("Remarks", "text", of_change(remarks)),
    ]


def _member_columns(report: Report) -> list[SpreadsheetColumn[MemberRow]]:
    """The members' columns, with the limit of each where that isn't the same for everybody."""
    limit: SpreadsheetColumn[MemberRow] = SpreadsheetColumn(
        "Limit", "text", lambda row: describe_limit(row.member.limit)
    )
    return [
        SpreadsheetColumn("Group", "id", lambda row: row.group.number),
        SpreadsheetColumn("Name", "text", lambda row: row.member.name),
        SpreadsheetColumn(
            "Barcode", "text", lambda row: "no card" if row.member.barcode is None else row.member.barcode
        ),
        SpreadsheetColumn("Library", "text", lambda row: row.member.library),
        SpreadsheetColumn("Own fines", "money", lambda row: row.member.own_fines, _over),
        SpreadsheetColumn("Over the limit", "text", lambda row: yes_or_no(row.member.over_limit), _over),
        *([limit] if report.criteria.limit is None else []),
        *(_BLOCK_COLUMNS if report.blocks is not None else []),
        *(MEMBER_DETAIL_COLUMNS if report.details is not None else []),
        SpreadsheetColumn("Group lead", "text", lambda row: yes_or_no(row.member.group_lead)),
        SpreadsheetColumn("Combined fines of the group", "money", lambda row: row.group.combined_fines),
    ]


def _over(row: MemberRow) -> Mark:
    return "notable" if row.member.over_limit else ""


def _blocks(row: MemberRow) -> str | None:
    return "; ".join(map(describe_penalty, row.standing.blocks_for_fines)) or None if row.standing else None


def _difference(row: MemberRow) -> str | None:
    difference = row.standing.difference if row.standing else None
    return None if difference is None else DIFFERENCES[difference]


# Red is for a block of one's own.
_BLOCK_COLUMNS: list[SpreadsheetColumn[MemberRow]] = [
    SpreadsheetColumn("Blocked in Evergreen", "text", _blocks, lambda row: "blocked" if _blocks(row) else ""),
    SpreadsheetColumn("Difference", "text", _difference),
]


_CLEARED_COLUMNS: list[SpreadsheetColumn[GroupChange]] = [
    SpreadsheetColumn("Group", "id", lambda change: change.group),
    SpreadsheetColumn("Lead", "text", cleared_lead),
    SpreadsheetColumn("Library", "text", lambda change: change.library),
    SpreadsheetColumn("Fines before", "money", lambda change: change.before),
    SpreadsheetColumn("Group now", "id", lambda change: change.present.group if change.present else None),
    SpreadsheetColumn("Fines now", "money", lambda change: change.present.combined_fines if change.present else None),
]


def _write_summary(sheet: Any, report: Report, formats: Formats) -> None:
    """Write what the report says before its first group: rule, facts, totals, changes and notes."""
    sheet.set_column(0, 0, 44)
    sheet.set_column(1, 1, 80)
    sheet.hide_gridlines(2)
    sheet.write_string(0, 0, cell_text(title_of(report.criteria, report.name)), formats.title)
    sheet.write_string(1, 0, "For information only", formats.label)
    sheet.write_string(1, 1, information_only(report.criteria.limit), formats.fact("text"))
    row = 3
    for label, kind, value in _facts(report):
        if label:
            sheet.write_string(row, 0, label, formats.label)
            write_cell(sheet, row, 1, value, formats.fact(kind))
        row += 1
    sheet.set_portrait()
    sheet.fit_to_pages(1, 0)


def _facts(report: Report) -> Iterator[tuple[str, ColumnKind, Value]]:
    """Label, kind and value of each line of the summary; without a label, an empty line."""
    totals = report.totals
    yield "Listed", "text", listed(report.criteria)
    yield "Data as of", "text", local_time(report.generated_at)
    yield "Gateway", "text", report.gateway
    yield "", "text", None
    yield "Groups", "number", totals.group_count
    yield "Members", "number", totals.member_count
    yield "Members who owe", "number", totals.owing_count
    yield "Combined fines", "money", totals.combined_fines
    yield "Members over the limit", "number", totals.over_limit_count
    if (blocks := report.block_totals) is not None:
        yield "Members blocked in Evergreen", "number", blocks.blocked
        yield "Over the limit, not yet blocked in Evergreen", "number", blocks.not_yet_blocked
        yield "Blocked in Evergreen, own fines now within the limit", "number", blocks.now_within_limit
    yield "Groups with no member over the limit", "number", totals.groups_without_member_over_limit
    yield "Incomplete groups", "number", totals.incomplete_group_count
    if (changes := compared(report)) and changes.since:
        yield "", "text", None
        yield "Compared with data as of", "text", local_time(changes.since)
        for kind in ChangeKind:
            yield f"Groups {kind.value}", "number", changes.count(kind)
        yield "Difference", "change", changes.difference
    yield "", "text", None
    for note in report.notes:
        yield "Please note", "text", note
    yield "Confidential", "text", CONFIDENTIAL
