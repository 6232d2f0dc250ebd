"""The report as CSV (RFC 4180) for a spreadsheet.

One row for each member with its group's columns repeated, or one row for each group. The columns are the keys of the
JSON document, those of the lead and of the members with ``lead_`` and ``member_`` before them; of a member's limit
there is the amount, and nothing for no limit. What is summed by group is repeated for each member: to add it up, take
the rows whose last column, ``first_of_group``, is true. When and where the data came from, criteria, sums and notes
have no place in CSV: JSON has them. Groups that were cleared since the run before have one row each at the end, with
their lead's name now, where that was looked up, and without amounts of now.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula. Texts of that kind get an
apostrophe in front; so do those that have apostrophes before such a character, so that taking one away always gives
the text back. Amounts and counts are numbers that this module writes itself and stay as they are: ``-3.25``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.money import plain_amount, plain_amount_or_none
from evergreen_groups.render import harmless, penalty_cell
from evergreen_groups.render.report.change_wording import compared
from evergreen_groups.render.report.details_wording import group_details_document, member_details_document

if TYPE_CHECKING:
    from evergreen_groups.groups import Group, Member, Standing
    from evergreen_groups.report import GroupChange, Report

BYTE_ORDER_MARK = "\ufeff"
_AMOUNT = re.compile(r"-?\d+\.\d\d")

GROUP_COLUMNS = (
    "group",
    "lead_id",
    "lead_name",
    "lead_barcode",
    "lead_group_lead",
    "library",
    "member_count",
    "owing_count",
    "combined_fines",
    "highest_own_fines",
    "over_limit_count",
    "nobody_over_limit",
    "complete",
    "hidden_member_count",
    "hidden_fines",
)
MEMBER_COLUMNS = (
    "member_id",
    "member_barcode",
    "member_name",
    "member_library",
    "member_own_fines",
    "member_over_limit",
    "member_group_lead",
    "member_limit",
)

CHANGE_COLUMNS = ("change", "combined_fines_before", "difference", "formerly")
"""What became of the group since the run before; empty where there was none to compare with."""

BLOCK_COLUMNS = ("member_blocked_in_evergreen", "member_difference")
"""The last columns, so that those before them stay where they were: the penalties that block the member for fines in
Evergreen, and how that differs from ``member_over_limit``; empty where penalties weren't read."""


GROUP_DETAIL_COLUMNS = (
    "kinds",
    "kinds_not_known",
    "kinds_complete",
    "owing_since",
    "last_payment",
    "items_overdue",
    "items_lost",
    "items_complete",
    "returnable",
)
MEMBER_DETAIL_COLUMNS = (
    "member_kinds",
    "member_owing_since",
    "member_last_payment",
    "member_items_overdue",
    "member_items_lost",
    "member_juvenile",
    "member_expired",
    "member_barred",
    "member_profile",
)
"""What is owed for, since when, and what is out, behind all others; empty where it wasn't read, or isn't known. Kinds
stand in one cell: ``lost materials 23.00; overdue materials 0.50``."""


ONCE_COLUMNS = ("first_of_group",)
"""True in one row of each group that is listed: the rows whose group's columns add up to the report's sums."""

AMOUNT_COLUMNS = frozenset(
    {
        "combined_fines",
        "highest_own_fines",
        "hidden_fines",
        "member_own_fines",
        "member_limit",
        "combined_fines_before",
        "difference",
        "kinds_not_known",
    }
)


def write_rows(
    report: Report, stream: TextIO, *, details: bool = True, bom: bool = False, dialect: str = "plain"
) -> None:
    """Write the header and the rows, each ended by CR LF; ``stream`` should be open with ``newline=""``.

    ``bom`` puts a byte order mark first, by which Excel knows UTF-8, and so does every ``dialect`` but "plain".
    """
    if bom or dialect != "plain":
        stream.write(BYTE_ORDER_MARK)
    separator = ";" if dialect == "semicolon" else ","
    writer = csv.writer(stream, lineterminator="\r\n", delimiter=separator)
    rows = _rows(report, details)
    writer.writerows(_with_decimal_commas(rows) if dialect == "semicolon" else rows)


def _rows(report: Report, details: bool) -> Iterator[Sequence[str]]:
    """The header and the rows."""
    member_columns = MEMBER_COLUMNS if details else ()
    block_columns = BLOCK_COLUMNS if details else ()
    detail_columns = GROUP_DETAIL_COLUMNS + (MEMBER_DETAIL_COLUMNS if details else ())
    yield GROUP_COLUMNS + member_columns + CHANGE_COLUMNS + block_columns + detail_columns + ONCE_COLUMNS
    changes = compared(report)
    for group in report.groups:
        change = _change_cells(changes.by_group.get(group.number) if changes else None)
        cells = _group_cells(group)
        if not details:
            yield cells + change + _group_details(report, group) + [_truth(True)]
            continue
        summed = _group_details(report, group)
        yield from (
            [
                *cells,
                *_member_cells(member),
                *change,
                *_block_cells(report.standing(member)),
                *summed,
                *_member_details(report, member),
                _truth(place == 0),
            ]
            for place, member in enumerate(group.members)
        )
    for cleared in changes.cleared if changes else ():
        empty = [""] * len(member_columns)
        rest = [""] * len(block_columns + detail_columns)
        yield _cleared_cells(cleared) + empty + _change_cells(cleared) + rest + [_truth(False)]


def _with_decimal_commas(rows: Iterator[Sequence[str]]) -> Iterator[Sequence[str]]:
    header = next(rows)
    yield header
    places = [place for place, name in enumerate(header) if name in AMOUNT_COLUMNS]
    for row in rows:
        cells = list(row)
        for place in places:
            cells[place] = cells[place].replace(".", ",")
        yield cells


def _group_cells(group: Group) -> list[str]:
    lead = group.lead
    return [
        str(group.number),
        str(lead.id),
        harmless(lead.name),
        harmless(lead.barcode or ""),
        _truth(lead.group_lead),
        harmless(group.library),
        str(group.member_count),
        str(group.owing_count),
        plain_amount(group.combined_fines),
        plain_amount(group.highest_own_fines),
        str(group.over_limit_count),
        _truth(group.no_member_over_limit),
        _truth(group.complete),
        str(group.hidden_member_count),
        plain_amount_or_none(group.hidden_fines) or "",
    ]


def _member_cells(member: Member) -> list[str]:
    return [
        str(member.id),
        harmless(member.barcode or ""),
        harmless(member.name),
        harmless(member.library),
        plain_amount(member.own_fines),
        _truth(member.over_limit),
        _truth(member.group_lead),
        plain_amount_or_none(member.limit.amount) or "",
    ]


def _block_cells(standing: Standing | None) -> list[str]:
    if standing is None:
        return [""] * len(BLOCK_COLUMNS)
    difference = standing.difference
    blocks = "; ".join(map(penalty_cell, standing.blocks_for_fines))
    return [harmless(blocks), "" if difference is None else difference.value]


def _group_details(report: Report, group: Group) -> list[str]:
    if report.details is None:
        return [""] * len(GROUP_DETAIL_COLUMNS)
    return _cells(group_details_document(report.details.of_group(group)))


def _member_details(report: Report, member: Member) -> list[str]:
    if report.details is None:
        return [""] * len(MEMBER_DETAIL_COLUMNS)
    return _cells(member_details_document(report.details.of(member)))


def _cells(document: dict[str, Any]) -> list[str]:
    return [_cell(value) for value in document.values()]


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return harmless("; ".join(f"{one['kind']} {one['balance']}" for one in value))
    if isinstance(value, bool):
        return _truth(value)
    if isinstance(value, int):
        return str(value)
    return "" if value is None else _text(value)


def _text(value: str) -> str:
    """A text as it is where it's an amount, which may begin with a minus sign."""
    return value if _AMOUNT.fullmatch(value) else harmless(value)


def _change_cells(change: GroupChange | None) -> list[str]:
    if change is None:
        return [""] * len(CHANGE_COLUMNS)
    return [
        change.kind.value,
        plain_amount_or_none(change.before) or "",
        plain_amount(change.difference),
        " ".join(map(str, change.formerly)),
    ]


def _cleared_cells(change: GroupChange) -> list[str]:
    """The group's columns of a cleared group: its number, its library, and its lead where that was looked up."""
    known = {"group": str(change.group), "library": harmless(change.library)}
    if change.present is not None:
        known["lead_name"] = harmless(change.present.lead_name)
    return [known.get(column, "") for column in GROUP_COLUMNS]


def _truth(value: bool) -> str:
    return "true" if value else "false"
