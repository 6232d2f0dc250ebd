"""The desk's list of members as CSV (RFC 4180), in the order shown on the page."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from evergreen_groups.money import plain_amount, plain_amount_or_none
from evergreen_groups.render.text import escape_formula

if TYPE_CHECKING:
    from evergreen_groups.ils import Penalty
    from evergreen_groups.render.desk.group import ListedMember

BYTE_ORDER_MARK = "\ufeff"
MEMBER_COLUMNS = (
    "id",
    "name",
    "barcode",
    "own_fines",
    "limit",
    "over_limit",
    "blocked_in_evergreen",
    "other_blocks",
    "items_out",
    "items_overdue",
    "items_lost",
    "items_complete",
    "library",
    "profile",
    "juvenile",
    "expires",
    "expired",
    "barred",
    "active",
    "group_lead",
)
"""Columns that ``GET patrons/ID/group`` also has are named as they are there."""


def write_members(rows: Iterable[ListedMember], stream: TextIO) -> None:
    """Write the header and a row for each member, each ending in CR LF. Text like a formula is escaped.

    The file begins with a byte order mark, so that Excel recognizes UTF-8. Cells are empty where the account can't see
    the value. If ``items_complete`` is false, the counts of items are lower bounds.
    """
    stream.write(BYTE_ORDER_MARK)
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(MEMBER_COLUMNS)
    writer.writerows(_cells(row) for row in rows)


def csv_name(group: int) -> str:
    """Return the name of the file to save, by the group's number only: file names leak easily and must not name a
    patron.
    """
    return f"group-{group}.csv"


def _cells(row: ListedMember) -> list[str]:
    member, account, counts = row.member, row.account, row.counts
    decision = member.decision
    return [
        str(member.id),
        escape_formula(member.name),
        escape_formula(member.barcode or ""),
        plain_amount(member.own_fines),
        plain_amount_or_none(decision.limit.amount) or "" if decision else "",
        _boolean(decision.over_limit) if decision else "",
        _names(row.standing.blocks_for_fines),
        _names(row.standing.other_blocks),
        *([str(counts.out), str(counts.overdue), str(counts.lost), _boolean(counts.complete)] if counts else [""] * 4),
        escape_formula(member.library),
        escape_formula(row.profile),
        _boolean(account.juvenile),
        account.expire_date.date().isoformat() if account.expire_date else "",
        _boolean(account.expired),
        _boolean(account.barred),
        _boolean(account.active),
        _boolean(member.group_lead),
    ]


def _names(penalties: Iterable[Penalty]) -> str:
    return escape_formula(" ".join(penalty.kind.name for penalty in penalties))


def _boolean(value: bool) -> str:
    return "true" if value else "false"
