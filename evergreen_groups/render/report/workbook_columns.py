"""The spreadsheet's columns of groups, members and groups that are cleared."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from evergreen_groups.language import gettext, pgettext
from evergreen_groups.render import (
    DIFFERENCES,
    Mark,
    SpreadsheetColumn,
    Value,
    describe_limit,
    describe_penalty,
)
from evergreen_groups.render.report.change_wording import KINDS, cleared_lead, compared, remarks
from evergreen_groups.render.report.workbook_details import (
    MemberRow,
    group_detail_columns,
    known,
    member_detail_columns,
    yes_no_or_not_known,
    yes_or_no,
)
from evergreen_groups.report import ChangeKind, Changes, GroupChange, Report

if TYPE_CHECKING:
    from evergreen_groups.groups import Group

_KIND_MARKS: dict[ChangeKind, Mark] = {ChangeKind.NEW: "notable", ChangeKind.WORSE: "notable"}


def group_columns(report: Report) -> list[SpreadsheetColumn[Group]]:
    """The columns of groups."""
    columns: list[SpreadsheetColumn[Group]] = [
        SpreadsheetColumn(gettext("Group"), "id", lambda group: group.number),
        SpreadsheetColumn(pgettext("group", "Lead"), "text", lambda group: group.lead.name),
        SpreadsheetColumn(gettext("Barcode of the lead"), "text", lambda group: group.lead.barcode),
        SpreadsheetColumn(gettext("Library"), "text", lambda group: group.library),
        SpreadsheetColumn(gettext("Members"), "number", lambda group: group.member_count),
        SpreadsheetColumn(pgettext("members", "Owing"), "number", lambda group: known(group.owing_count)),
        SpreadsheetColumn(
            gettext("Combined fines"),
            "money",
            lambda group: known(group.combined_fines),
            lambda group: "notable" if group.hidden_fines is None else "",
        ),
        SpreadsheetColumn(gettext("Highest own fines"), "money", lambda group: known(group.highest_own_fines)),
        SpreadsheetColumn(
            gettext("Over the limit"),
            "number",
            lambda group: known(group.over_limit_count),
        ),
        SpreadsheetColumn(
            gettext("No member over the limit"),
            "text",
            lambda group: yes_no_or_not_known(group.no_member_over_limit),
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
    return None if group.complete else known(group.hidden_fines)


def _change_columns(changes: Changes) -> list[SpreadsheetColumn[Group]]:
    def of_change(get: Callable[[GroupChange], Value]) -> Callable[[Group], Value]:
        return lambda group: get(changes.by_group[group.number]) if group.number in changes.by_group else None

    def mark(group: Group) -> Mark:
        change = changes.by_group.get(group.number)
        return _KIND_MARKS.get(change.kind, "") if change else ""

    return [
        SpreadsheetColumn(gettext("Change"), "text", of_change(lambda change: gettext(KINDS[change.kind])), mark),
        SpreadsheetColumn(gettext("Difference"), "change", of_change(lambda change: known(change.difference))),
        SpreadsheetColumn(gettext("Fines before"), "money", of_change(_before)),
        SpreadsheetColumn(gettext("Remarks"), "text", of_change(remarks)),
    ]


def _before(change: GroupChange) -> Value:
    """What it was listed with; nothing for a new group."""
    return None if change.before is None else known(change.known_before)


def member_columns(report: Report) -> list[SpreadsheetColumn[MemberRow]]:
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
            gettext("Blocked in Evergreen"),
            "text",
            _blocks,
            lambda row: "blocked" if row.standing and row.standing.blocks_for_fines else "",
        ),
        SpreadsheetColumn(gettext("Difference"), "text", _difference),
    ]


def cleared_columns() -> list[SpreadsheetColumn[GroupChange]]:
    """The columns of groups that are no longer listed."""
    return [
        SpreadsheetColumn(gettext("Group"), "id", lambda change: change.group),
        SpreadsheetColumn(pgettext("group", "Lead"), "text", cleared_lead),
        SpreadsheetColumn(gettext("Library"), "text", lambda change: change.library),
        SpreadsheetColumn(gettext("Fines before"), "money", _before),
        SpreadsheetColumn(gettext("Group now"), "id", lambda change: change.present.group if change.present else None),
        SpreadsheetColumn(
            gettext("Fines now"),
            "money",
            lambda change: known(change.present.combined_fines if change.present else None),
        ),
    ]
