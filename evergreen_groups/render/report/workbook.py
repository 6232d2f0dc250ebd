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
from evergreen_groups.language import day, gettext
from evergreen_groups.render import (
    CONFIDENTIAL,
    FilledWorkbook,
    Formats,
    LongSheet,
    RowWriter,
    fill,
    title_of,
)
from evergreen_groups.render.report.change_wording import CLEARED, compared
from evergreen_groups.render.report.side_by_side import Part, places_of_groups
from evergreen_groups.render.report.workbook_columns import cleared_columns, group_columns, member_columns
from evergreen_groups.render.report.workbook_details import (
    MemberRow,
)
from evergreen_groups.render.report.workbook_summary import write_summary

if TYPE_CHECKING:
    from evergreen_groups.groups import Group
    from evergreen_groups.render import StaffClient
    from evergreen_groups.report import Report

Row = TypeVar("Row")

_LONGEST_SHEET_NAME = 31


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
        links = chain.from_iterable(map(one.links, part.groups))
        workbook.end(number, links, one.sheet.linked)


@dataclass(frozen=True)
class _List(Generic[Row]):
    """A long sheet, with the rows that each group has in it, how many that are, and where each of them leads."""

    sheet: LongSheet[Row]
    rows: Callable[[Group], Sequence[Row]]
    count: Callable[[Group], int]
    links: Callable[[Group], Sequence[str]]


def _groups(report: Report, client: StaffClient | None) -> _List[Group]:
    columns = group_columns(report)
    linked = None if client is None else 1
    return _List(
        LongSheet.measured(
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
        """Every row without the standing, which takes the longest to find."""
        for group in report.groups:
            for member in group.members:
                yield MemberRow(group, member, None, None if details is None else details.of(member))

    every = chain.from_iterable(map(rows, report.groups))
    columns = member_columns(report)
    linked = None if client is None else 1
    return _List(
        LongSheet.measured(_sheet_name(gettext("Members")), columns, every, with_numbers, frozen=2, linked=linked),
        rows,
        lambda group: len(group.members),
        lambda group: () if client is None else [client.patron_page(member.id) for member in group.members],
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
            cleared_columns(),
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
