"""The report as JSON lines, for programs that read it a line at a time; ``report_lines.schema.json`` describes them.

The first line says what the report is about, as the JSON document does before its groups, and each other one is a
group with its members, as it stands in ``groups`` there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from evergreen_groups.render.report.json import GroupDocuments, head_document, line
from evergreen_groups.render.report.side_by_side import Part, write_alone, write_side_by_side

if TYPE_CHECKING:
    from evergreen_groups.groups import Group
    from evergreen_groups.report import Report

SCHEMA = "evergreen-groups/report-lines/1"


def write_lines(report: Report, stream: TextIO, *, details: bool = True) -> None:
    """Write the lines, each ended by a line feed, so that none of them is in memory longer than it takes to write."""
    write_alone(_LineWriter(report, details), report, stream)


def write_parts(report: Report, parts: Sequence[Part], *, details: bool = True) -> None:
    """Write parts of a report as :func:`write_lines` does."""
    write_side_by_side(_LineWriter(report, details), report, parts)


class _LineWriter:
    between = ""

    def __init__(self, report: Report, details: bool) -> None:
        self._documents = GroupDocuments(report, details)

    def head(self, part: Report) -> Iterator[str]:
        document: dict[str, Any] = {"schema": SCHEMA, **head_document(part)}
        yield line(document)

    def group(self, group: Group) -> str:
        return line(self._documents.of(group))

    def tail(self, part: Report) -> Iterator[str]:  # noqa: ARG002  # nothing comes after the groups
        return iter(())
