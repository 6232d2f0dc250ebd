"""The audit as CSV (RFC 4180): a row for each patron, each threshold, and each visible member of a group."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.render.audit import columns
from evergreen_groups.render.audit.columns import GroupFindingRow, PatronFindingRow
from evergreen_groups.render.text import escape_formula
from evergreen_groups.values import plain_amount

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
    """Write the header and the rows, each ending in CR LF. With a staff ``client``, groups link to their pages."""
    every: tuple[Column[Any], ...] = (*columns.PATRON, *columns.THRESHOLD, *columns.GROUP)
    names = dict.fromkeys((*_FIRST, *(column.name for column in every if column.name and column.for_csv)))
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\r\n")
    writer.writeheader()
    patrons, thresholds = _for_csv(columns.PATRON), _for_csv(columns.THRESHOLD)
    writer.writerows(_cells(patrons, PatronFindingRow(finding)) for finding in audit.patrons)
    writer.writerows(_cells(thresholds, finding) for finding in audit.thresholds)
    of_group = _for_csv(column for column in columns.GROUP if column not in columns.OF_MEMBER)
    for found in audit.groups:
        shared = _cells(of_group, GroupFindingRow(found, client))
        for member in found.group.members:
            writer.writerow(shared | _cells(columns.OF_MEMBER, GroupFindingRow(found, client, member)))


def _for_csv(some: Iterable[Column[Any]]) -> list[Column[Any]]:
    return [column for column in some if column.name and column.for_csv]


def _cells(some: Iterable[Column[Any]], row: Any) -> dict[str, object]:
    return {column.name: _cell(column.value(row)) for column in some}


def _cell(value: object) -> object:
    if isinstance(value, Decimal):
        return plain_amount(value)
    return escape_formula(value) if isinstance(value, str) else value
