"""The report as CSV (RFC 4180) for spreadsheets: one row for each member, or one for each group.

Rows of members repeat the columns of their group. Columns are named like the keys of the JSON document; those of the
lead and the members begin with ``lead_`` and ``member_``. A member's limit is an amount, empty for no limit. To add up
group totals, use only rows whose last column, ``first_of_group``, is true. Timestamp, gateway, criteria, sums and notes
are only in JSON. Groups that were cleared since the last run have one row each at the end, without current amounts, but
with the name of their current lead if it was looked up.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, so text like that gets an
apostrophe in front, even if blanks or invisible characters precede the sign. Text that already has apostrophes before
such a sign gets one more: removing one always restores the original. Amounts and counts are written by this module and
stay as they are: ``-3.25``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from evergreen_groups.money import plain_amount
from evergreen_groups.render.report.wording import compared_changes
from evergreen_groups.render.report.writers import Part, write_alone, write_side_by_side
from evergreen_groups.render.text import escape_formula
from evergreen_groups.render.wording import penalty_cell

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from evergreen_groups.groups import Group, Member, Standing
    from evergreen_groups.report import GroupChange, KindSum, MemberDetails, Report, SummedDetails
    from evergreen_groups.total import Total

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
    "no_member_over_limit",
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
"""The change since the last run; empty without a last run to compare with."""

BLOCK_COLUMNS = ("member_blocked_in_evergreen", "member_difference")
"""The penalties that block a member for fines, and how they disagree with ``member_over_limit``.

Empty if penalties weren't read. New columns go to the end, so that existing ones keep their position.
"""


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
"""What is owed for and checked out; empty if unknown. Kinds share one cell: ``lost materials 23.00; overdue materials
0.50``.
"""


TOTAL_COLUMNS = ("owing_count_at_least", "highest_own_fines_at_least", "over_limit_count_at_least")
DETAIL_TOTAL_COLUMNS = ("items_overdue_at_least", "items_lost_at_least")
"""Lower bounds of the columns without ``_at_least``, which are empty where hidden members may raise them."""


ONCE_COLUMNS = ("first_of_group",)
"""True in exactly one row of each listed group; the group columns of these rows add up to the report's sums."""


BYTE_ORDER_MARK = "\ufeff"

_NO_MEMBER_DETAILS = [""] * len(MEMBER_DETAIL_COLUMNS)


def write_rows(
    report: Report, stream: TextIO, *, details: bool = True, bom: bool = False, dialect: str = "plain"
) -> None:
    """Write the header and the rows, each ending in CR LF; open ``stream`` with ``newline=""``.

    ``bom`` writes a byte order mark first, so that Excel recognizes UTF-8. So does every ``dialect`` except "plain".
    """
    write_alone(_RowWriter(report, details, bom, dialect), report, stream)


def write_parts(
    report: Report, parts: Sequence[Part], *, details: bool = True, bom: bool = False, dialect: str = "plain"
) -> None:
    """Write parts of a report as :func:`write_rows` does."""
    write_side_by_side(_RowWriter(report, details, bom, dialect), report, parts)


class _RowWriter:
    """Writes the rows of each group. The group's own cells are made once for all its members."""

    between = ""

    def __init__(self, report: Report, details: bool, bom: bool, dialect: str) -> None:
        self._report = report
        self._with_members = details
        self._mark = BYTE_ORDER_MARK if bom or dialect != "plain" else ""
        self._comma = dialect == "semicolon"
        self._separator = ";" if self._comma else ","
        self._special = re.compile(f'["\r\n{self._separator}]')
        changes = compared_changes(report)
        self._changes = changes.by_group if changes else {}
        self._known: dict[str, str] = {}

    def head(self, part: Report) -> Iterator[str]:  # noqa: ARG002  # all parts have the same columns
        yield self._mark
        yield self._row(
            [
                *GROUP_COLUMNS,
                *(MEMBER_COLUMNS if self._with_members else ()),
                *CHANGE_COLUMNS,
                *(BLOCK_COLUMNS if self._with_members else ()),
                *GROUP_DETAIL_COLUMNS,
                *(MEMBER_DETAIL_COLUMNS if self._with_members else ()),
                *TOTAL_COLUMNS,
                *DETAIL_TOTAL_COLUMNS,
                *ONCE_COLUMNS,
            ]
        )

    def group(self, group: Group) -> str:
        separator = self._separator
        cells = separator.join(self._group_cells(group))
        change = separator.join(self._change_cells(self._changes.get(group.number)))
        details = self._report.details
        summed = separator.join(
            [""] * len(GROUP_DETAIL_COLUMNS) if details is None else self._group_details(details.of_group(group))
        )
        at_least = separator.join(self._least_cells(group))
        if not self._with_members:
            return self._row([cells, change, summed, at_least, _boolean(True)])
        rows = []
        first = _boolean(True)
        for member in group.members:
            theirs = [
                cells,
                *self._member_cells(member),
                change,
                *self._block_cells(self._report.standing(member)),
                summed,
                *(_NO_MEMBER_DETAILS if details is None else self._member_details(details.of(member))),
                at_least,
                first,
            ]
            rows.append(self._row(theirs))
            first = _boolean(False)
        return "".join(rows)

    def tail(self, part: Report) -> Iterator[str]:
        changes = compared_changes(part)
        for cleared in changes.cleared if changes else ():
            columns = MEMBER_COLUMNS if self._with_members else ()
            more = (*BLOCK_COLUMNS, *MEMBER_DETAIL_COLUMNS) if self._with_members else ()
            yield self._row(
                [
                    *self._cleared_cells(cleared),
                    *[""] * len(columns),
                    *self._change_cells(cleared),
                    *[""] * len((*more, *GROUP_DETAIL_COLUMNS, *TOTAL_COLUMNS, *DETAIL_TOTAL_COLUMNS)),
                    _boolean(False),
                ]
            )

    def _row(self, cells: Sequence[str]) -> str:
        return f"{self._separator.join(cells)}\r\n"

    def _amount(self, value: Decimal | None) -> str:
        if value is None:
            return ""
        amount = plain_amount(value)
        return amount.replace(".", ",") if self._comma else amount

    def _text(self, text: str | None) -> str:
        """Escape a text, and quote it if necessary."""
        if not text:
            return ""
        text = escape_formula(text)
        if self._special.search(text):
            text = text.replace('"', '""')
            return f'"{text}"'
        return text

    def _common_text(self, text: str) -> str:
        """Escape a text that many rows repeat; cached."""
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = self._text(text)
        return found

    def _group_cells(self, group: Group) -> list[str]:
        lead, no_member_over = group.lead, group.no_member_over_limit
        return [
            str(group.number),
            str(lead.id),
            self._text(lead.name),
            self._text(lead.barcode),
            _boolean(lead.group_lead),
            self._common_text(lead.library),
            str(group.member_count),
            _number(group.owing_count),
            self._amount(group.combined_fines),
            self._amount(group.highest_own_fines.value),
            _number(group.over_limit_count),
            "" if no_member_over is None else _boolean(no_member_over),
            _boolean(group.complete),
            str(group.hidden_member_count),
            self._amount(group.hidden_fines),
        ]

    def _member_cells(self, member: Member) -> list[str]:
        patron, decision = member.patron, member.decided
        return [
            str(patron.id),
            self._text(patron.barcode),
            self._text(patron.name),
            self._common_text(patron.home_library.shortname),
            self._amount(member.own_fines),
            _boolean(decision.over_limit),
            _boolean(patron.group_lead),
            self._amount(decision.limit.amount),
        ]

    def _block_cells(self, standing: Standing | None) -> list[str]:
        if standing is None:
            return [""] * len(BLOCK_COLUMNS)
        difference = standing.difference
        blocks = "; ".join(map(penalty_cell, standing.blocks_for_fines))
        return [self._text(blocks), "" if difference is None else difference.value]

    def _group_details(self, details: SummedDetails) -> list[str]:
        returnable = details.returnable
        return [
            self._kinds(details.kinds),
            self._amount(details.not_known),
            _boolean(details.certain),
            _moment(details.owing_since),
            _moment(details.last_payment),
            _number(details.overdue),
            _number(details.lost),
            _boolean(details.items_certain),
            "" if returnable is None else _boolean(returnable),
        ]

    def _least_cells(self, group: Group) -> list[str]:
        details = self._report.details
        items = None if details is None else details.of_group(group).items
        return [
            str(group.owing_count.at_least),
            self._amount(group.highest_own_fines.at_least),
            str(group.over_limit_count.at_least),
            "" if items is None else str(items.overdue),
            "" if items is None else str(items.lost),
        ]

    def _member_details(self, details: MemberDetails) -> list[str]:
        items, state = details.items, details.state
        return [
            self._kinds(details.kinds or ()),
            _moment(details.owing_since),
            _moment(details.last_payment),
            "" if items is None else str(items.overdue),
            "" if items is None else str(items.lost),
            _boolean(state.juvenile),
            _boolean(state.expired),
            _boolean(state.barred),
            self._common_text(details.profile),
        ]

    def _kinds(self, kinds: Sequence[KindSum]) -> str:
        if not kinds:
            return ""
        return self._text("; ".join([f"{one.kind.text} {plain_amount(one.balance)}" for one in kinds]))

    def _change_cells(self, change: GroupChange | None) -> list[str]:
        if change is None:
            return [""] * len(CHANGE_COLUMNS)
        return [
            change.kind.value,
            self._amount(change.known_before),
            self._amount(change.difference),
            " ".join(map(str, change.formerly)),
        ]

    def _cleared_cells(self, change: GroupChange) -> list[str]:
        """Return the group columns of a cleared group: number, library and, if looked up, the lead."""
        known = {"group": str(change.group), "library": self._text(change.library)}
        if change.present is not None:
            known["lead_name"] = self._text(change.present.lead_name)
        return [known.get(column, "") for column in GROUP_COLUMNS]


def _moment(when: datetime | None) -> str:
    return "" if when is None else when.isoformat(timespec="seconds")


def _number(total: Total[int]) -> str:
    return str(total.at_least) if total.exact else ""


def _boolean(value: bool) -> str:
    return "true" if value else "false"
