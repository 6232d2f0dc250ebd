"""The report as JSON, described by ``report.schema.json`` in this folder.

``schema`` names the format and its version. Within a version, keys may be added but never changed or removed, so
readers should ignore unknown keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.render.json_documents import fields, json_line, limit_document, text, total_document
from evergreen_groups.render.report import columns
from evergreen_groups.render.report.columns import Column, group_row, member_row
from evergreen_groups.report import AgeSum, BlockTotals, ChangeKind, Criteria, GroupChange, Report
from evergreen_groups.values import Total, plain_amount, plain_amount_or_none

if TYPE_CHECKING:
    from evergreen_groups.groups import Group, Member

SCHEMA = "evergreen-groups/report/1"
LINES_SCHEMA = "evergreen-groups/report-lines/1"

_BLOCKS_NOT_READ = BlockTotals(*[Total(0, exact=False)] * 3)


def write_document(report: Report, stream: TextIO, *, details: bool = True) -> None:
    """Write the document, indented by two spaces, one group at a time to limit memory use.

    Amounts are strings with two decimal places. Non-Latin text isn't escaped.
    """
    stream.write(text({"schema": SCHEMA, **_head(report)}).removesuffix("\n}"))
    stream.write(',\n  "groups": [')
    separator = "\n    "
    for group in report.groups:
        # Line breaks inside strings are escaped, so replacing only affects indentation.
        stream.write(separator + text(_document(report, group, details=details)).replace("\n", "\n    "))
        separator = ",\n    "
    stream.write("\n  ]\n}\n" if report.groups else "]\n}\n")


def write_lines(report: Report, stream: TextIO, *, details: bool = True) -> None:
    """Write the head, then one line for each group. The values are as in :func:`write_document`."""
    stream.write(json_line({"schema": LINES_SCHEMA, **_head(report)}))
    for group in report.groups:
        stream.write(json_line(_document(report, group, details=details)))


def _document(report: Report, group: Group, *, details: bool) -> dict[str, Any]:
    row = group_row(report, group)
    document = document_of(_GROUP, row.group) | document_of(_CHANGE, row.change)
    if report.details is not None:
        document |= document_of(_GROUP_DETAILS, row.details)
    if row.contact is not None:
        document |= document_of(_CONTACT, row.contact)
    if details:
        document["members"] = [_member(report, group, member) for member in group.members]
    return document


def _member(report: Report, group: Group, member: Member) -> dict[str, Any]:
    row = member_row(report, group, member)
    # Null means that penalties weren't read; an empty list means none.
    document = member_document(member) | document_of(_BLOCKS, row.standing)
    return document if row.details is None else document | document_of(_MEMBER_DETAILS, row.details)


def _head(report: Report) -> dict[str, Any]:
    """Return everything about a report except its groups."""
    totals, changes = report.totals, report.changes
    blocks = report.block_totals or _BLOCKS_NOT_READ
    return {
        **fields(report, "generated_at", "gateway"),
        "criteria": _criteria(report.criteria),
        "totals": {
            **fields(totals, "group_count", "member_count"),
            **total_document("owing_count", totals.owing_count),
            **total_document("over_limit_count", totals.over_limit_count),
            "group_fines": plain_amount_or_none(totals.group_fines),
            **total_document("groups_no_member_over_limit", totals.groups_without_member_over_limit),
            "incomplete_group_count": totals.incomplete_group_count,
            **total_document("blocked_in_evergreen_count", blocks.blocked),
            **total_document("not_yet_blocked_count", blocks.not_yet_blocked),
            **total_document("now_within_limit_count", blocks.now_within_limit),
            "age_bands": [
                {"age_band": one.band.text, **fields(one, "group_count", "group_fines")} for one in AgeSum.of(report)
            ],
        },
        **fields(report, "notes", "left_out_count"),
        "changes": None
        if changes is None
        else {
            **fields(changes, "since"),
            "counts": {kind.value: changes.count(kind) for kind in ChangeKind},
            **fields(changes, "difference", "new_fines", "cleared_difference"),
            "cleared": list(map(_cleared, changes.cleared)),
            "trend": [fields(run, "at", "group_count", "member_count", "group_fines") for run in changes.trend],
        },
    }


Keys = tuple[tuple[str, Callable[[Any], Any]], ...]


def json_keys(columns: Iterable[Column[Any]]) -> Keys:
    """Return the keys of JSON objects, each with a function that returns its value."""
    found: list[tuple[str, Callable[[Any], Any]]] = []
    for column in columns:
        if column.name and column.for_json:
            found += _with_bounds(column) if column.total else [(column.name, column.json or _plain(column))]
    return tuple(found)


def _plain(column: Column[Any]) -> Callable[[Any], Any]:
    value_of = column.value
    if column.kind == "money":
        return lambda row: plain_amount_or_none(value_of(row))
    if column.kind == "day":
        return lambda row: None if (when := value_of(row)) is None else when.isoformat(timespec="seconds")
    return value_of


def _with_bounds(column: Column[Any]) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    value_of = column.value
    if column.kind == "money":
        yield column.name, lambda row: plain_amount_or_none(value_of(row).value)
        yield f"{column.name}_at_least", lambda row: plain_amount(value_of(row).at_least)
    else:
        yield column.name, lambda row: value_of(row).value
        yield f"{column.name}_at_least", lambda row: value_of(row).at_least


_GROUP, _CHANGE, _GROUP_DETAILS = json_keys(columns.GROUP), json_keys(columns.CHANGE), json_keys(columns.GROUP_DETAILS)
_BLOCKS, _MEMBER_DETAILS = json_keys(columns.BLOCKS), json_keys(columns.MEMBER_DETAILS)
_CONTACT = json_keys(columns.CONTACT)


def document_of(keys: Keys, row: Any) -> dict[str, Any]:
    """Return an object, with only nulls for None."""
    return (
        {name: value_of(row) for name, value_of in keys} if row is not None else dict.fromkeys(name for name, _ in keys)
    )


_MEMBER = json_keys(columns.MEMBER)
_UNDECIDED = tuple(key for key in _MEMBER if key[0] not in ("over_limit", "limit"))


def member_document(member: Member) -> dict[str, Any]:
    """Return a member of a group, with ``over_limit`` and ``limit`` only if a decision was made."""
    return document_of(_UNDECIDED if member.decision is None else _MEMBER, member)


def _criteria(criteria: Criteria) -> dict[str, Any]:
    return {
        **fields(criteria, "min_total", "min_members", "orgs", "top", "sort"),
        "limit": None if criteria.limit is None else limit_document(criteria.limit),
        "choice": criteria.choice.document(),
        "details": "full" if criteria.details else "sums",
    }


def _cleared(change: GroupChange) -> dict[str, Any]:
    present = change.present
    return {
        **fields(change, "group", "library"),
        "before": plain_amount_or_none(change.known_before),
        **fields(change, "certain", "member_count"),
        "present": present and fields(present, "group", "lead_name", "member_count", "group_fines"),
    }
