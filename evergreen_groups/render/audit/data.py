"""The audit for programs: as JSON, and as CSV (RFC 4180).

In JSON, ``schema`` names the format; within a version, keys are added but never changed. CSV has a row for each patron,
each threshold, and each visible member of a group.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.audit import Audit, FindingKind
from evergreen_groups.batches import batched
from evergreen_groups.render.audit import columns
from evergreen_groups.render.audit.columns import GroupFindingRow, PatronFindingRow
from evergreen_groups.render.audit.wording import HEADINGS, WHAT_TO_DO
from evergreen_groups.render.column import JSONObject
from evergreen_groups.render.json_documents import fields, json_line, limit_document, text
from evergreen_groups.render.text import csv_cell

if TYPE_CHECKING:
    from evergreen_groups.audit import ThresholdFinding
    from evergreen_groups.render import StaffClient
    from evergreen_groups.render.column import Column

SCHEMA = "evergreen-groups/audit/1"
LINES_SCHEMA = "evergreen-groups/audit-lines/1"
_AT_ONCE = 50
_PATRON: JSONObject[PatronFindingRow] = JSONObject("PatronFinding", *columns.PATRON)
_THRESHOLD: JSONObject[ThresholdFinding] = JSONObject("ThresholdFinding", *columns.THRESHOLD)
_GROUP: JSONObject[GroupFindingRow] = JSONObject("GroupFinding", *columns.GROUP)


def write_document(audit: Audit, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write the document, indented by two spaces, some findings at a time to limit memory use.

    Amounts are strings with two decimal places. With a staff ``client``, groups link to their pages.
    """
    stream.write(text({"schema": SCHEMA, **_head(audit)}).removesuffix("\n}") + ",\n")
    for name, documents in _lists(audit, client).items():
        # Written as a document with nothing else, some findings have the indentation of the enclosing one.
        head, tail = f'{{\n  "{name}": [', "\n  ]\n}"
        stream.write(head.removeprefix("{\n"))
        separator = ""
        for some in batched(documents, _AT_ONCE):
            stream.write(separator + text({name: some}).removeprefix(head).removesuffix(tail))
            separator = ","
        stream.write("\n  ],\n" if separator else "],\n")
    stream.write(text({"groups_to_keep": list(audit.to_keep)}).removeprefix("{\n") + "\n")


def write_lines(audit: Audit, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write JSON lines: the head, then one line for each finding, to limit memory use."""
    stream.write(json_line({"schema": LINES_SCHEMA, **_head(audit), "groups_to_keep": list(audit.to_keep)}))
    for documents in _lists(audit, client).values():
        stream.writelines(map(json_line, documents))


def _head(audit: Audit) -> dict[str, Any]:
    """Return the criteria, the notes and the number of findings of each kind."""
    return {
        **fields(audit, "generated_at", "gateway"),
        "criteria": {
            "orgs": list(audit.criteria.orgs),
            "limit": None if audit.criteria.limit is None else limit_document(audit.criteria.limit),
            "top": audit.criteria.top,
        },
        **fields(audit, "complete", "notes"),
        "kinds": [
            {"kind": kind.value, "title": HEADINGS[kind], "to_do": WHAT_TO_DO[kind], "count": audit.count(kind)}
            for kind in FindingKind
        ],
    }


def _lists(audit: Audit, client: StaffClient | None) -> dict[str, Iterator[dict[str, Any]]]:
    """Return the lists of findings by key, as objects that are made one at a time."""
    return {
        "people": (_PATRON.document(PatronFindingRow(finding)) for finding in audit.patrons),
        "thresholds": (_THRESHOLD.document(finding) for finding in audit.thresholds),
        "groups": (_GROUP.document(GroupFindingRow(finding, client)) for finding in audit.groups),
    }


_FIRST = (
    *("kind", "group", "member_id", "member_barcode", "member_name", "member_library", "member_own_fines"),
    *("group_fines", "blocks", "reason", "confidence", "evidence", "split", "page", "threshold", "patron_count"),
)
"""The columns that come before new ones."""


def write_rows(audit: Audit, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write the header and the rows, each ending in CR LF. With a staff ``client``, groups link to their pages."""
    writer = csv.DictWriter(stream, _names(), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(cell) for name, cell in row.items()} for row in rows(audit, client))


def rows(audit: Audit, client: StaffClient | None = None) -> Iterator[dict[str, Any]]:
    """Yield the values of the columns by their names, None where a kind of finding has no such column."""
    empty = dict.fromkeys(_names())
    patrons, thresholds = _for_csv(columns.PATRON), _for_csv(columns.THRESHOLD)
    for finding in audit.patrons:
        yield empty | _values(patrons, PatronFindingRow(finding))
    for threshold in audit.thresholds:
        yield empty | _values(thresholds, threshold)
    of_group = _for_csv(column for column in columns.GROUP if column not in columns.OF_MEMBER)
    for found in audit.groups:
        shared = empty | _values(of_group, GroupFindingRow(found, client))
        for member in found.group.members:
            yield shared | _values(columns.OF_MEMBER, GroupFindingRow(found, client, member))


def _names() -> list[str]:
    every: tuple[Column[Any], ...] = (*columns.PATRON, *columns.THRESHOLD, *columns.GROUP)
    return list(dict.fromkeys((*_FIRST, *(column.name for column in every if column.name and column.for_csv))))


def _for_csv(some: Iterable[Column[Any]]) -> list[Column[Any]]:
    return [column for column in some if column.name and column.for_csv]


def _values(some: Iterable[Column[Any]], row: Any) -> dict[str, Any]:
    return {column.name: column.value(row) for column in some}
