"""Write a report in one of the formats declared in :mod:`evergreen_groups.formats`.

A format's module is imported on first use, so that commands that render nothing start fast.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, TypedDict, Unpack

from evergreen_groups.formats import TEXT_FORMATS, OutputFormat, output_format
from evergreen_groups.language import ENGLISH, current_language, use_language
from evergreen_groups.state import write_bytes_atomically

if TYPE_CHECKING:
    from evergreen_groups.follow_up import FollowUpState
    from evergreen_groups.groups import Group
    from evergreen_groups.render import StaffClient
    from evergreen_groups.report import Report


class WritingOptions(TypedDict, total=False):
    """Options for writing a report. A format ignores those that don't apply to it.

    ``details`` (True): include every member. ``width`` (columns; None: the terminal's, or 80) and ``color`` are for the
    table, ``bom`` (begin with a byte order mark) and ``dialect`` (one of ``CSV_DIALECTS``) for CSV. Formats with links
    point names to ``client``; ``index`` is the address of the index of all libraries' reports. ``follow_ups`` are shown
    in the page, by group number.
    """

    details: bool
    width: int | None
    color: bool
    bom: bool
    dialect: str
    client: StaffClient | None
    index: str
    follow_ups: Mapping[int, FollowUpState]


Part = tuple["Report", BinaryIO]
"""A part of a report, and the stream to write it to."""


def render(report: Report, format: str, stream: TextIO, **options: Unpack[WritingOptions]) -> None:
    """Write ``report`` as text to ``stream`` in ``format``, one of ``TEXT_FORMATS``.

    Open a stream for CSV with ``newline=""``.

    Raises:
        ValueError: the format is unknown or binary.
    """
    chosen = output_format(format)
    if chosen.binary:
        raise ValueError(f"unknown format {format!r}; known are {', '.join(TEXT_FORMATS)}")
    with _language_of(chosen):
        write, wanted = resolve_name(chosen.report), _accepted(chosen, options)
        if not isinstance(write, type):
            write(report, stream, **wanted)
            return
        writer: GroupWriter = write(report, **wanted)
        stream.writelines(writer.head(report))
        for count, group in enumerate(report.groups):
            stream.write(writer.between(count) + writer.group(group))
        stream.writelines(writer.tail(report))


def render_bytes(report: Report, format: str, stream: BinaryIO, **options: Unpack[WritingOptions]) -> None:
    """Write ``report`` to a binary stream in ``format``, one of ``REPORT_FORMATS``. Text is encoded as UTF-8."""
    render_parts(report, format, [(report, stream)], **options)


def render_parts(report: Report, format: str, parts: Sequence[Part], **options: Unpack[WritingOptions]) -> None:
    """Write each part of a report to its binary stream. Groups must be in the same order as in ``report``.

    Formats that support it render content common to several parts only once.
    """
    chosen = output_format(format)
    with _language_of(chosen):
        write, wanted = resolve_name(chosen.report), _accepted(chosen, options)
        if chosen.binary:
            write(report, parts, **wanted)
        elif isinstance(write, type):
            _write_side_by_side(write(report, **wanted), report, parts)
        else:
            for part, stream in parts:
                text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
                try:
                    write(part, text, **wanted)
                finally:
                    text.detach()


def write_file(report: Report, format: str, path: Path, **options: Unpack[WritingOptions]) -> None:
    """Write ``report`` in ``format``, one of ``REPORT_FORMATS``, to a file with mode 0600, atomically.

    Raises:
        ConfigurationError: the file can't be written.
    """
    with write_bytes_atomically(path) as stream:
        render_bytes(report, format, stream, **options)


def _language_of(chosen: OutputFormat) -> AbstractContextManager[None]:
    return use_language(ENGLISH if chosen.for_programs else current_language())


def _accepted(chosen: OutputFormat, options: WritingOptions) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in chosen.options}


class GroupWriter(ABC):
    """Renders the pieces of a report in a text format. Created with the report and, by name, the format's options."""

    def between(self, count: int) -> str:  # noqa: ARG002  # for formats in which groups follow one another
        """Return what follows the first ``count`` groups and precedes the next."""
        return ""

    @abstractmethod
    def head(self, part: Report) -> Iterable[str]:
        """Yield what precedes the groups."""

    @abstractmethod
    def group(self, group: Group) -> str:
        """Return a group, which looks the same in every part."""

    def tail(self, part: Report) -> Iterable[str]:  # noqa: ARG002  # for formats in which nothing follows
        """Yield what follows the groups."""
        return ()


def _write_side_by_side(writer: GroupWriter, report: Report, parts: Sequence[Part]) -> None:
    """Write all parts of a report as UTF-8, rendering each group once."""
    for part, stream in parts:
        stream.writelines(map(str.encode, writer.head(part)))
    indexes = part_indexes([part for part, _stream in parts])
    streams = [stream for _part, stream in parts]
    written = [0] * len(parts)
    for group in report.groups:
        wanted = indexes.get(group.number, ())
        if not wanted:
            continue
        piece = writer.group(group).encode()
        for index in wanted:
            streams[index].write(writer.between(written[index]).encode() + piece)
            written[index] += 1
    for part, stream in parts:
        stream.writelines(map(str.encode, writer.tail(part)))


def part_indexes(parts: Sequence[Report]) -> dict[int, tuple[int, ...]]:
    """Return the indexes of the parts that contain each group, by group number. Equal tuples are stored once."""
    found: dict[int, tuple[int, ...]] = {}
    longer: dict[tuple[tuple[int, ...], int], tuple[int, ...]] = {}
    for index, part in enumerate(parts):
        for group in part.groups:
            before = found.get(group.number, ())
            after = longer.get((before, index))
            if after is None:
                after = longer[before, index] = (*before, index)
            found[group.number] = after
    return found
