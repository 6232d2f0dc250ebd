"""The report as JSON, described by ``report.schema.json`` in this folder.

``schema`` names the format and its version. Within a version, keys may be added but never changed or removed, so
readers should ignore unknown keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.money import plain_amount, plain_amount_or_none
from evergreen_groups.render.json_documents import limit_document, line, text, total_document
from evergreen_groups.render.report import columns
from evergreen_groups.render.report.columns import Column, group_row, member_row
from evergreen_groups.render.report.writers import Part, write_alone, write_side_by_side
from evergreen_groups.report import BlockTotals, ChangeKind, Changes, Criteria, GroupChange, Report, RunTotals, Totals
from evergreen_groups.total import Total

if TYPE_CHECKING:
    from evergreen_groups.groups import Group, Member

SCHEMA = "evergreen-groups/report/1"

_BLOCKS_NOT_READ = BlockTotals(*[Total(0, exact=False)] * 3)


def write_document(report: Report, stream: TextIO, *, details: bool = True) -> None:
    """Write the document, indented by two spaces, one group at a time to limit memory use.

    Amounts are strings with two decimal places. Non-Latin text isn't escaped.
    """
    write_alone(_DocumentWriter(report, details), report, stream)


def write_parts(report: Report, parts: Sequence[Part], *, details: bool = True) -> None:
    """Write parts of a report as :func:`write_document` does."""
    write_side_by_side(_DocumentWriter(report, details), report, parts)


class _DocumentWriter:
    between = ",\n    "

    def __init__(self, report: Report, details: bool) -> None:
        self._documents = GroupDocuments(report, details)

    def head(self, part: Report) -> Iterator[str]:
        yield text({"schema": SCHEMA, **head_document(part)}).removesuffix("\n}")
        yield ',\n  "groups": [' + ("\n    " if part.groups else "")

    def group(self, group: Group) -> str:
        # Line breaks inside strings are escaped, so replacing only affects indentation.
        return text(self._documents.of(group)).replace("\n", "\n    ")

    def tail(self, part: Report) -> Iterator[str]:
        yield "\n  ]\n}\n" if part.groups else "]\n}\n"


def head_document(report: Report) -> dict[str, Any]:
    """Return everything about a report except its groups."""
    return {
        "generated_at": report.generated_at.isoformat(timespec="seconds"),
        "gateway": report.gateway,
        "criteria": _criteria(report.criteria),
        "totals": {**_totals(report.totals), **_block_totals(report)},
        "notes": list(report.notes),
        "left_out_count": report.left_out_count,
        "changes": None if report.changes is None else _changes(report.changes),
    }


class GroupDocuments:
    """Makes the JSON objects of a report's groups, with their members if ``details``."""

    def __init__(self, report: Report, details: bool) -> None:
        self._report = report
        self._with_members = details

    def of(self, group: Group) -> dict[str, Any]:
        """Return the object of a group."""
        report = self._report
        row = group_row(report, group)
        document = _document(_GROUP, row.group) | _document(_CHANGE, row.change)
        if report.details is not None:
            document |= _document(_GROUP_DETAILS, row.details)
        if self._with_members:
            document["members"] = [self._member(group, member) for member in group.members]
        return document

    def _member(self, group: Group, member: Member) -> dict[str, Any]:
        row = member_row(self._report, group, member)
        # Null means that penalties weren't read; an empty list means none.
        document = member_document(member) | _document(_BLOCKS, row.standing)
        return document if row.details is None else document | _document(_MEMBER_DETAILS, row.details)


_Keys = tuple[tuple[str, Callable[[Any], Any]], ...]


def _keys(columns: Iterable[Column[Any]]) -> _Keys:
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


_GROUP, _CHANGE, _GROUP_DETAILS = _keys(columns.GROUP), _keys(columns.CHANGE), _keys(columns.GROUP_DETAILS)
_BLOCKS, _MEMBER_DETAILS = _keys(columns.BLOCKS), _keys(columns.MEMBER_DETAILS)


def _document(keys: _Keys, row: Any) -> dict[str, Any]:
    """Return an object, with only nulls for None."""
    return (
        {name: value_of(row) for name, value_of in keys} if row is not None else dict.fromkeys(name for name, _ in keys)
    )


_MEMBER = _keys(columns.MEMBER)
_UNDECIDED = tuple(key for key in _MEMBER if key[0] not in ("over_limit", "limit"))


def member_document(member: Member) -> dict[str, Any]:
    """Return a member of a group, with ``over_limit`` and ``limit`` only if a decision was made."""
    return _document(_UNDECIDED if member.decision is None else _MEMBER, member)


def _criteria(criteria: Criteria) -> dict[str, Any]:
    return {
        "min_total": plain_amount(criteria.min_total),
        "min_members": criteria.min_members,
        "orgs": list(criteria.orgs),
        "top": criteria.top,
        "sort": criteria.sort,
        "limit": None if criteria.limit is None else limit_document(criteria.limit),
        "choice": criteria.choice.document(),
        "details": "full" if criteria.details else "sums",
    }


def _totals(totals: Totals) -> dict[str, Any]:
    return {
        "group_count": totals.group_count,
        "member_count": totals.member_count,
        **total_document("owing_count", totals.owing_count),
        **total_document("over_limit_count", totals.over_limit_count),
        "combined_fines": plain_amount_or_none(totals.combined_fines),
        **total_document("groups_no_member_over_limit", totals.groups_without_member_over_limit),
        "incomplete_group_count": totals.incomplete_group_count,
    }


def _changes(changes: Changes) -> dict[str, Any]:
    return {
        "since": changes.since.isoformat(timespec="seconds") if changes.since else None,
        "counts": {kind.value: changes.count(kind) for kind in ChangeKind},
        "difference": plain_amount_or_none(changes.difference),
        "cleared": [_cleared(change) for change in changes.cleared],
        "trend": [_run(totals) for totals in changes.trend],
    }


def _cleared(change: GroupChange) -> dict[str, Any]:
    present = change.present
    return {
        "group": change.group,
        "library": change.library,
        "before": plain_amount_or_none(change.known_before),
        "certain": change.certain,
        "present": None
        if present is None
        else {
            "group": present.group,
            "lead_name": present.lead_name,
            "member_count": present.member_count,
            "combined_fines": plain_amount_or_none(present.combined_fines),
        },
    }


def _run(totals: RunTotals) -> dict[str, Any]:
    return {
        "at": totals.at.isoformat(timespec="seconds"),
        "group_count": totals.group_count,
        "member_count": totals.member_count,
        "combined_fines": plain_amount_or_none(totals.combined_fines),
    }


def _block_totals(report: Report) -> dict[str, Any]:
    totals = report.block_totals or _BLOCKS_NOT_READ
    return {
        **total_document("blocked_in_evergreen_count", totals.blocked),
        **total_document("not_yet_blocked_count", totals.not_yet_blocked),
        **total_document("now_within_limit_count", totals.now_within_limit),
    }


LINES_SCHEMA = "evergreen-groups/report-lines/1"


def write_lines(report: Report, stream: TextIO, *, details: bool = True) -> None:
    """Write JSON lines: the head, then one line for each group, to limit memory use."""
    write_alone(_LineWriter(report, details), report, stream)


def write_line_parts(report: Report, parts: Sequence[Part], *, details: bool = True) -> None:
    """Write parts of a report as :func:`write_lines` does."""
    write_side_by_side(_LineWriter(report, details), report, parts)


class _LineWriter:
    between = ""

    def __init__(self, report: Report, details: bool) -> None:
        self._documents = GroupDocuments(report, details)

    def head(self, part: Report) -> Iterator[str]:
        document: dict[str, Any] = {"schema": LINES_SCHEMA, **head_document(part)}
        yield line(document)

    def group(self, group: Group) -> str:
        return line(self._documents.of(group))

    def tail(self, part: Report) -> Iterator[str]:  # noqa: ARG002  # nothing comes after the groups
        return iter(())
