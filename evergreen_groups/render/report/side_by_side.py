"""Parts of one report written side by side: what is said of a group is made once, and goes to each part that has it.

A group is in the parts of its library and of all above it, so that a report by library would make everything three
times. No text is in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, BinaryIO, Protocol, TextIO

if TYPE_CHECKING:
    from evergreen_groups.groups import Group
    from evergreen_groups.report import Report

Part = tuple["Report", BinaryIO]
"""A part of a report, and where it is written to."""


class GroupWriter(Protocol):
    """Writes a report, and parts of it, as text. ``between`` stands between two groups."""

    between: str

    def head(self, part: Report) -> Iterable[str]:
        """What stands before the first group."""

    def group(self, group: Group) -> str:
        """What is said of a group, in every part alike."""

    def tail(self, part: Report) -> Iterable[str]:
        """What stands behind the last group."""


def write_alone(writer: GroupWriter, report: Report, stream: TextIO) -> None:
    """Write a whole report."""
    stream.writelines(writer.head(report))
    between = ""
    for group in report.groups:
        stream.write(between + writer.group(group))
        between = writer.between
    stream.writelines(writer.tail(report))


def write_side_by_side(writer: GroupWriter, report: Report, parts: Sequence[Part]) -> None:
    """Write parts of a report, whose groups stand in its order, as UTF-8."""
    for part, stream in parts:
        stream.writelines(map(str.encode, writer.head(part)))
    places = places_of_groups([part for part, _stream in parts])
    began = [False] * len(parts)
    streams = [stream for _part, stream in parts]
    between = writer.between.encode()
    for group in report.groups:
        wanted = places.get(group.number, ())
        if not wanted:
            continue
        piece = writer.group(group).encode()
        following = between + piece
        for place in wanted:
            streams[place].write(following if began[place] else piece)
            began[place] = True
    for part, stream in parts:
        stream.writelines(map(str.encode, writer.tail(part)))


def places_of_groups(parts: Sequence[Report]) -> dict[int, tuple[int, ...]]:
    """In which of the parts each group is, by number; most groups share these with many others."""
    found: dict[int, tuple[int, ...]] = {}
    longer: dict[tuple[tuple[int, ...], int], tuple[int, ...]] = {}
    for place, part in enumerate(parts):
        for group in part.groups:
            before = found.get(group.number, ())
            after = longer.get((before, place))
            if after is None:
                after = longer[before, place] = (*before, place)
            found[group.number] = after
    return found
