"""The spreadsheet's columns of what is owed for, since when, and what is out, of groups and of members."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.render import SpreadsheetColumn, Value
from evergreen_groups.render.report.details_wording import NOT_KNOWN, day, describe_kinds, describe_state

if TYPE_CHECKING:
    from datetime import datetime

    from evergreen_groups.groups import Group, Member, Standing
    from evergreen_groups.report import MemberDetails, ReportDetails, SummedDetails


class MemberRow(NamedTuple):
    """A member with the group they belong to, and their standing where penalties were read."""

    group: Group
    member: Member
    standing: Standing | None
    details: MemberDetails | None = None


def yes_or_no(truth: bool) -> str:
    """A truth in a cell."""
    return "yes" if truth else "no"


def group_detail_columns(details: ReportDetails) -> list[SpreadsheetColumn[Group]]:
    """The columns of groups."""

    def of_group(get: Callable[[SummedDetails], Value]) -> Callable[[Group], Value]:
        return lambda group: get(details.of_group(group))

    return [
        SpreadsheetColumn("Owed for", "text", of_group(lambda one: describe_kinds(one.kinds) or None)),
        SpreadsheetColumn("Not known for what", "money", of_group(lambda one: one.not_known or None)),
        SpreadsheetColumn("Owing since", "text", of_group(lambda one: _day(one.owing_since))),
        SpreadsheetColumn("Last payment", "text", of_group(lambda one: _day(one.last_payment))),
        SpreadsheetColumn("Items overdue", "number", of_group(lambda one: one.items.overdue)),
        SpreadsheetColumn("Items lost", "number", of_group(lambda one: one.items.lost)),
        SpreadsheetColumn("Can still be returned", "text", of_group(lambda one: _yes_no_or_not_known(one.returnable))),
    ]


def _day(moment: datetime | None) -> str | None:
    return None if moment is None else day(moment)


def _yes_no_or_not_known(truth: bool | None) -> str:
    return NOT_KNOWN if truth is None else yes_or_no(truth)


def _of_details(get: Callable[[MemberDetails], Value]) -> Callable[[MemberRow], Value]:
    return lambda row: None if row.details is None else get(row.details)


def _kinds(details: MemberDetails) -> str | None:
    return NOT_KNOWN if details.kinds is None else describe_kinds(details.kinds) or None


MEMBER_DETAIL_COLUMNS: list[SpreadsheetColumn[MemberRow]] = [
    SpreadsheetColumn("Owed for", "text", _of_details(_kinds)),
    SpreadsheetColumn("Owing since", "text", _of_details(lambda one: _day(one.owing_since))),
    SpreadsheetColumn("Last payment", "text", _of_details(lambda one: _day(one.last_payment))),
    SpreadsheetColumn(
        "Items overdue", "number", _of_details(lambda one: NOT_KNOWN if one.items is None else one.items.overdue)
    ),
    SpreadsheetColumn(
        "Items lost", "number", _of_details(lambda one: NOT_KNOWN if one.items is None else one.items.lost)
    ),
    SpreadsheetColumn("Record", "text", _of_details(lambda one: describe_state(one) or None)),
    SpreadsheetColumn("Profile", "text", _of_details(lambda one: one.profile)),
]
