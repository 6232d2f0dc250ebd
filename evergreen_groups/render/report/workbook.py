"""The report as a spreadsheet (XLSX): a summary, a sheet of groups, one of members, one of groups that are cleared.

What is summed by group stands once, in the group's line, and a member has own figures alone: columns can be added up.

Amounts and counts are numbers to reckon with. Names and barcodes are texts, whatever they look like: no name becomes a
formula or a link by itself, and no barcode loses its zeros. It needs xlsxwriter, which the extra ``xlsx`` brings.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeVar

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.language import day, gettext, pgettext
from evergreen_groups.render import (
    CONFIDENTIAL,
    DIFFERENCES,
    FilledWorkbook,
    Formats,
    LongSheet,
    Mark,
    RowWriter,
    SpreadsheetColumn,
    Value,
    describe_limit,
    describe_penalty,
    fill,
    title_of,
)
from evergreen_groups.render.report.change_wording import CLEARED, KINDS, cleared_lead, compared, remarks
from evergreen_groups.render.report.side_by_side import Part, places_of_groups
from evergreen_groups.render.report.workbook_details import (
    MemberRow,
    group_detail_columns,
    member_detail_columns,
    yes_or_no,
)
from evergreen_groups.render.report.workbook_summary import write_summary
from evergreen_groups.report import ChangeKind, Changes, GroupChange, Report

if TYPE_CHECKING:
    from evergreen_groups.groups import Group
    from evergreen_groups.render import StaffClient

Row = TypeVar("Row")

_LONGEST_SHEET_NAME = 31
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
    write_parts(report, [(report, stream)], details=details, client=client)


def write_parts(
    report: Report, parts: Sequence[Part], *, details: bool = True, client: StaffClient | None = None
) -> None:
    """Write parts of a report as :func:`write_workbook` does; columns are as wide in all of them."""
    lists: list[_List[Any]] = [_groups(report, client), *([_members(report, client)] if details else [])]
    sheets = [one.sheet for one in lists]
    places = places_of_groups([part for part, _stream in parts])
    workbooks: list[FilledWorkbook] = []
    try:
        for part, stream in parts:
            workbooks.append(FilledWorkbook(stream))
            workbooks[-1].take(_without_rows(part, lists), sheets)
        for number, one in enumerate(lists):
            _write_list(one, number, report, parts, workbooks, places)
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
    workbooks: Sequence[FilledWorkbook],
    places: Mapping[int, Sequence[int]],
) -> None:
    """Write a long list into each of the workbooks."""
    for workbook in workbooks:
        workbook.begin(number)
        # They are made in the same way of reports with the same columns.
        if workbook.styles(number) != workbooks[0].styles(number):
            raise ValueError("parts of a report have other formats than the report")
    rows = RowWriter(one.sheet, workbooks[0].styles(number)) if workbooks else None
    for group in report.groups:
        if rows is not None and (wanted := places.get(group.number)):
            made = [rows.row(row) for row in one.rows(group)]
            for place in wanted:
                workbooks[place].add(made)
    for (part, _stream), workbook in zip(parts, workbooks, strict=True):
        links = (one.link(row) for group in part.groups for row in one.rows(group))
        workbook.end(number, links, one.sheet.linked)


@dataclass(frozen=True)
class _List(Generic[Row]):
    """A long sheet, with the rows that each group has in it, how many that are, and where they lead."""

    sheet: LongSheet[Row]
    rows: Callable[[Group], Sequence[Row]]
    count: Callable[[Group], int]
    link: Callable[[Row], str]


def _groups(report: Report, client: StaffClient | None) -> _List[Group]:
    columns = _group_columns(report)
    linked = None if client is None else 1
    return _List(
        LongSheet.measured(_sheet_name(gettext("Groups")), columns, lambda: report.groups, frozen=2, linked=linked),
        lambda group: (group,),
        lambda _group: 1,
        lambda group: "" if client is None else client.group_page(group.lead.id),
    )


def _members(report: Report, client: StaffClient | None) -> _List[MemberRow]:
    details = report.details

    def rows(group: Group) -> list[MemberRow]:
        return [
            MemberRow(group, member, report.standing(member), None if details is None else details.of(member))
            for member in group.members
        ]

    def every() -> Iterator[MemberRow]:
        return chain.from_iterable(map(rows, report.groups))

    linked = None if client is None else 1
    return _List(
        LongSheet.measured(_sheet_name(gettext("Members")), _member_columns(report), every, frozen=2, linked=linked),
        rows,
        lambda group: len(group.members),
        lambda row: "" if client is None else client.patron_page(row.member.id),
    )


def _without_rows(report: Report, lists: Sequence[_List[Any]]) -> bytes:
    """The workbook of a report without the rows of its long lists."""
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
    title = title_of(report.criteria, report.name)
    workbook.set_properties({"title": title, "comments": gettext(CONFIDENTIAL), "created": created})
    formats = Formats(workbook, f"{title}, {day(report.generated_at)}")
    write_summary(workbook.add_worksheet(_sheet_name(gettext("Summary"))), report, formats)
    for one in lists:
        one.sheet.add_to(workbook, formats, sum(map(one.count, report.groups)))
    if (changes := compared(report)) and changes.cleared:
        fill(
            workbook.add_worksheet(_sheet_name(gettext(CLEARED))),
            _cleared_columns(),
            changes.cleared,
            formats,
            frozen=1,
        )
    workbook.close()
    return held.getvalue()


def _sheet_name(text: str) -> str:
    """A name as the file format has them: 31 characters, some of which have a meaning in formulas."""
    return re.sub(r"[\[\]:*?/\\']", " ", text)[:_LONGEST_SHEET_NAME].strip()


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
    yes, no = yes_or_no(True), yes_or_no(False)
    columns: list[SpreadsheetColumn[Group]] = [
        SpreadsheetColumn(gettext("Group"), "id", lambda group: group.number),
        SpreadsheetColumn(pgettext("group", "Lead"), "text", lambda group: group.lead.name),
        SpreadsheetColumn(gettext("Barcode of the lead"), "text", lambda group: group.lead.barcode),
        SpreadsheetColumn(gettext("Library"), "text", lambda group: group.library),
        SpreadsheetColumn(gettext("Members"), "number", lambda group: group.member_count),
        SpreadsheetColumn(pgettext("members", "Owing"), "number", lambda group: group.owing_count),
        SpreadsheetColumn(
            gettext("Combined fines"),
            "money",
            lambda group: group.combined_fines,
            lambda group: "notable" if group.hidden_fines is None else "",
        ),
        SpreadsheetColumn(gettext("Highest own fines"), "money", lambda group: group.highest_own_fines),
        SpreadsheetColumn(
            gettext("Over the limit"),
            "number",
            lambda group: group.over_limit_count,
        ),
        SpreadsheetColumn(
            gettext("No member over the limit"),
            "text",
            lambda group: yes if group.no_member_over_limit else no,
            lambda group: "notable" if group.no_member_over_limit else "",
        ),
        SpreadsheetColumn(
            gettext("Hidden members"),
            "number",
            lambda group: group.hidden_member_count or None,
            lambda group: "" if group.complete else "notable",
        ),
        SpreadsheetColumn(gettext("Fines of hidden members"), "money", _hidden_fines),
    ]
    if report.details is not None:
        columns += group_detail_columns(report.details)
    if changes := compared(report):
        columns += _change_columns(changes)
    return columns


def _hidden_fines(group: Group) -> Value:
    if group.complete:
        return None
    return gettext("not known, not counted") if group.hidden_fines is None else group.hidden_fines


def _change_columns(changes: Changes) -> list[SpreadsheetColumn[Group]]:
    def of_change(get: Callable[[GroupChange], Value]) -> Callable[[Group], Value]:
        return lambda group: get(changes.by_group[group.number]) if group.number in changes.by_group else None

    def mark(group: Group) -> Mark:
        change = changes.by_group.get(group.number)
        return _KIND_MARKS.get(change.kind, "") if change else ""

    return [
        SpreadsheetColumn(gettext("Change"), "text", of_change(lambda change: gettext(KINDS[change.kind])), mark),
        SpreadsheetColumn(gettext("Difference"), "change", of_change(lambda change: change.difference)),
        SpreadsheetColumn(gettext("Fines before"), "money", of_change(lambda change: change.before)),
        SpreadsheetColumn(gettext("Remarks"), "text", of_change(remarks)),
    ]


def _member_columns(report: Report) -> list[SpreadsheetColumn[MemberRow]]:
    """The members' columns, with the limit of each where that isn't the same for everybody."""
    limit: SpreadsheetColumn[MemberRow] = SpreadsheetColumn(
        gettext("Limit"), "text", lambda row: describe_limit(row.member.limit)
    )
    # The same for all of them: looked up once, not in each cell.
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
    # Red is for a block of one's own.
    return [
        SpreadsheetColumn(
            gettext("Blocked in Evergreen"), "text", _blocks, lambda row: "blocked" if _blocks(row) else ""
        ),
        SpreadsheetColumn(gettext("Difference"), "text", _difference),
    ]


def _cleared_columns() -> list[SpreadsheetColumn[GroupChange]]:
    return [
        SpreadsheetColumn(gettext("Group"), "id", lambda change: change.group),
        SpreadsheetColumn(pgettext("group", "Lead"), "text", cleared_lead),
        SpreadsheetColumn(gettext("Library"), "text", lambda change: change.library),
        SpreadsheetColumn(gettext("Fines before"), "money", lambda change: change.before),
        SpreadsheetColumn(gettext("Group now"), "id", lambda change: change.present.group if change.present else None),
        SpreadsheetColumn(
            gettext("Fines now"), "money", lambda change: change.present.combined_fines if change.present else None
        ),
    ]
