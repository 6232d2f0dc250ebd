"""The audit as CSV (RFC 4180): a row for each patron, each threshold, and each visible member of a group."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.money import plain_amount
from evergreen_groups.render.audit import columns
from evergreen_groups.render.audit.columns import GroupFindingRow, PatronFindingRow
from evergreen_groups.render.text import escape_formula

if TYPE_CHECKING:
    from evergreen_groups.audit import Audit
    from evergreen_groups.render import StaffClient
    from evergreen_groups.render.report import Column

_FIRST = (
    *("kind", "group", "member_id", "member_barcode", "member_name", "member_library", "member_own_fines"),
    *("group_fines", "blocks", "reason", "confidence", "evidence", "split", "page", "threshold", "patron_count"),
)
"""The columns that come before new ones."""


def write_rows(audit: Audit, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write the header and the rows, each ending in CR LF. Text that a spreadsheet would take for a formula is escaped.

    With a staff ``client``, rows of groups link to the group's page.
    """
    every: tuple[Column[Any], ...] = (*columns.PATRON, *columns.THRESHOLD, *columns.GROUP)
    names = dict.fromkeys((*_FIRST, *(column.name for column in every if column.name and column.for_csv)))
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(_rows(columns.PATRON, map(PatronFindingRow, audit.patrons)))
    writer.writerows(_rows(columns.THRESHOLD, audit.thresholds))
    groups = (GroupFindingRow(found, client, member) for found in audit.groups for member in found.group.members)
    writer.writerows(_rows(columns.GROUP, groups))


def _rows(some: Iterable[Column[Any]], rows: Iterable[Any]) -> Iterator[dict[str, object]]:
    shown = [column for column in some if column.name and column.for_csv]
    for row in rows:
        yield {column.name: _cell(column.value(row)) for column in shown}


def _cell(value: object) -> object:
    if isinstance(value, Decimal):
        return plain_amount(value)
    return escape_formula(value) if isinstance(value, str) else value
