"""The spreadsheet's columns of what is owed for, since when, and what is out, of groups and of members."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.language import describe_total, gettext, local
from evergreen_groups.render import SpreadsheetColumn, Value
from evergreen_groups.render.report.change_wording import NOT_KNOWN
from evergreen_groups.render.report.details_wording import describe_kinds, describe_state

if TYPE_CHECKING:
    from datetime import date, datetime

    from evergreen_groups.groups import Group, Member, Standing
    from evergreen_groups.report import MemberDetails, ReportDetails, SummedDetails
    from evergreen_groups.total import Total


class MemberRow(NamedTuple):
    """A member with the group they belong to, and their standing where penalties were read."""

    group: Group
    member: Member
    standing: Standing | None
    details: MemberDetails | None = None


def yes_or_no(truth: bool) -> str:
    """A truth in a cell."""
    return gettext("yes") if truth else gettext("no")


def known(total: Total[int] | Total[Decimal] | Decimal | None) -> Value:
    """A total in a cell: a number to reckon with only if it is exact."""
    if total is None or isinstance(total, Decimal):
        return describe_total(None) if total is None else total
    return total.at_least if total.exact else describe_total(total)


def group_detail_columns(details: ReportDetails) -> list[SpreadsheetColumn[Group]]:
    """The columns of groups."""

    def of_group(get: Callable[[SummedDetails], Value]) -> Callable[[Group], Value]:
        return lambda group: get(details.of_group(group))

    return [
        SpreadsheetColumn(gettext("Owed for"), "text", of_group(lambda one: describe_kinds(one.kinds) or None)),
        SpreadsheetColumn(gettext("Not known for what"), "money", of_group(_not_known)),
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


def _not_known(details: SummedDetails) -> Value:
    return known(details.not_known) or None


def yes_no_or_not_known(truth: bool | None) -> str:
    """A truth in a cell, which may be unknown."""
    return gettext(NOT_KNOWN) if truth is None else yes_or_no(truth)


def _of_details(get: Callable[[MemberDetails], Value]) -> Callable[[MemberRow], Value]:
    return lambda row: None if row.details is None else get(row.details)


def _kinds(details: MemberDetails) -> str | None:
    return gettext(NOT_KNOWN) if details.kinds is None else describe_kinds(details.kinds) or None


def member_detail_columns() -> list[SpreadsheetColumn[MemberRow]]:
    """The columns of members."""
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
