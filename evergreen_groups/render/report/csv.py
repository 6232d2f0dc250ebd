"""The report as CSV (RFC 4180) for spreadsheets: one row for each member, or one for each group.

Columns are named like the keys of the JSON document, those of the lead and the members after ``lead_`` and ``member_``.
Rows of members repeat the columns of their group: to add up group totals, use only rows whose ``first_of_group`` is
true. Groups that were cleared since the last run have one row each at the end, without current amounts, but with the
name of their current lead if it was looked up.

Text that a spreadsheet would take for a formula gets an apostrophe in front, and so does text that already has one
before such a sign: removing one always restores the original. Amounts and counts stay as they are: ``-3.25``.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.desk import GroupSummary
from evergreen_groups.render.report import columns
from evergreen_groups.render.report.columns import GroupRow, MemberRow, group_row, member_row
from evergreen_groups.render.report.wording import compared_changes
from evergreen_groups.render.text import BYTE_ORDER_MARK, csv_cell, escape_formula
from evergreen_groups.values import plain_amount

if TYPE_CHECKING:
    from evergreen_groups.groups import Group
    from evergreen_groups.render.column import Column
    from evergreen_groups.report import Report

_EVERY: tuple[Column[Any], ...] = (
    *columns.GROUP,
    *columns.MEMBER,
    *columns.CHANGE,
    *columns.BLOCKS,
    *columns.GROUP_DETAILS,
    *columns.MEMBER_DETAILS,
    *columns.CONTACT,
)
_OF_MEMBERS = ("member", "standing", "member_details", "member_items")
_FIRST = "first"


def _columns(members: bool, late: bool) -> list[tuple[str, str, Callable[[Any], Any]]]:
    """Return each column's part of a row, name, and function for the value; without ``members``, those of groups.

    ``late`` columns are in reports that list groups by items.
    """
    every = [
        (column, f"member_{column.name}" if column.part in _OF_MEMBERS else column.name)
        for column in _EVERY
        if column.name and column.for_csv and (members or column.part not in _OF_MEMBERS)
        if late or column.part != "late"
    ]
    values = [(one.new, one.part, name, _value(one)) for one, name in every]
    bounds = [(one.new, one.part, f"{name}_at_least", _bound(one.value)) for one, name in every if one.total]
    first = [(0, _FIRST, "first_of_group", bool)]
    ordered = sorted([*values, *bounds, *first], key=itemgetter(0))
    return [(part, name, value_of) for _new, part, name, value_of in ordered]


def _value(column: Column[Any]) -> Callable[[Any], Any]:
    value_of = column.value
    return (lambda row: value_of(row).value) if column.total else value_of


def _bound(value_of: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda row: value_of(row).at_least


def report_rows(report: Report) -> Iterator[dict[str, Any]]:
    """Yield a row for each visible member of the listed groups: the values of the columns by their names."""
    every = _columns(members=True, late=report.items is not None)
    for group in report.groups:
        members = [member_row(report, group, member) for member in group.members]
        yield from _rows(every, group_row(report, group), members)


def group_rows(group: Group) -> Iterator[dict[str, Any]]:
    """Yield the rows of one group, with the columns of a report that are about groups, members and blocks."""
    standings = group.standings if isinstance(group, GroupSummary) else {}
    every = [
        column for column in _columns(members=True, late=False) if column[0] in ("group", "member", "standing", _FIRST)
    ]
    members = [MemberRow(group, member, standings.get(member.id), None, None) for member in group.members]
    return _rows(every, GroupRow(group, None, None, None, None), members)


def write_group(group: Group, stream: TextIO) -> None:
    """Write the header and :func:`group_rows`."""
    rows = list(group_rows(group))
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(cell) for name, cell in row.items()} for row in rows)


def _rows(
    every: Sequence[tuple[str, str, Callable[[Any], Any]]], group: GroupRow, members: Iterable[MemberRow]
) -> Iterator[dict[str, Any]]:
    for number, member in enumerate(members):
        found: dict[str, Any] = {}
        for part, name, value_of in every:
            if part == _FIRST:
                found[name] = number == 0
            else:
                its = getattr(member if part in _OF_MEMBERS else group, part)
                found[name] = None if its is None else value_of(its)
        yield found


def write_csv(
    report: Report, stream: TextIO, *, details: bool = True, bom: bool = False, dialect: str = "plain"
) -> None:
    """Write the header and the rows, each ending in CR LF; open a text stream with ``newline=""``.

    ``bom`` writes a byte order mark first, so that Excel recognizes UTF-8. So does every ``dialect`` except "plain".
    """
    writer = CsvWriter(report, details=details, bom=bom, dialect=dialect)
    stream.write(writer.head())
    stream.writelines(map(writer.group, report.groups))
    stream.writelines(writer.cleared())


class CsvWriter:
    """Renders the pieces of :func:`write_csv`. A group's own cells are made once for all its members."""

    def __init__(self, report: Report, *, details: bool = True, bom: bool = False, dialect: str = "plain") -> None:
        self._report = report
        self._with_members = details
        self._mark = BYTE_ORDER_MARK if bom or dialect != "plain" else ""
        self._comma = dialect == "semicolon"
        self._separator = ";" if self._comma else ","
        self._special = re.compile(f'["\r\n{self._separator}]')
        self._plain = re.compile(f'[0-9A-Za-z][^"\r\n{self._separator}\x80-\U0010ffff]*')
        # By type, so that a cell costs one look-up. Text has subclasses, such as Message.
        self._written: defaultdict[type, Callable[[Any], str]] = defaultdict(lambda: self._text)
        self._written |= {
            bool: {True: "true", False: "false"}.__getitem__,
            int: str,
            Decimal: self._amount,
            datetime: lambda when: when.isoformat(timespec="seconds"),
            type(None): lambda _none: "",
        }
        self._columns = _columns(details, report.items is not None)
        # The functions that return the values, with adjacent columns about the same part together.
        self._blocks = [
            (part, [value_of for _, _, value_of in some])
            for part, some in groupby(self._columns, lambda column: column[0])
        ]

    def head(self) -> str:
        return f"{self._mark}{self._separator.join(name for _, name, _ in self._columns)}\r\n"

    def group(self, group: Group) -> str:
        separator = self._separator
        row = group_row(self._report, group)
        made = [
            None if part == _FIRST or part in _OF_MEMBERS else self._joined(values, getattr(row, part))
            for part, values in self._blocks
        ]
        if not self._with_members:
            return f"{separator.join('true' if block is None else block for block in made)}\r\n"
        rows = []
        first = "true"
        for member in group.members:
            one = member_row(self._report, group, member)
            blocks = [
                block if block is not None else first if part == _FIRST else self._joined(values, getattr(one, part))
                for block, (part, values) in zip(made, self._blocks, strict=True)
            ]
            rows.append(f"{separator.join(blocks)}\r\n")
            first = "false"
        return "".join(rows)

    def _joined(self, values: Sequence[Callable[[Any], Any]], row: Any) -> str:
        """Return the cells about something, empty if it isn't known."""
        if row is None:
            return self._separator * (len(values) - 1)
        written = self._written
        return self._separator.join([written[type(value := value_of(row))](value) for value_of in values])

    def cleared(self) -> Iterator[str]:
        known = {column.name: column.value for column in columns.CLEARED if column.name}
        changes = compared_changes(self._report)
        for cleared in changes.cleared if changes else ():
            cells = []
            for part, name, value_of in self._columns:
                if part == "group" and name in known:
                    cells.append(self._joined([known[name]], cleared))
                elif part == "change":
                    cells.append(self._joined([value_of], cleared))
                else:
                    cells.append("false" if part == _FIRST else "")
            yield f"{self._separator.join(cells)}\r\n"

    def _amount(self, value: Decimal) -> str:
        amount = plain_amount(value)
        return amount.replace(".", ",") if self._comma else amount

    def _text(self, text: str) -> str:
        """Escape a text, and quote it if necessary."""
        if not text or self._plain.fullmatch(text):
            return text  # most cells
        text = escape_formula(text)
        if self._special.search(text):
            text = text.replace('"', '""')
            return f'"{text}"'
        return text
