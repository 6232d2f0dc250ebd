"""Writes a report in one of the formats that :mod:`evergreen_groups.formats` declares.

The module of a format is imported when it is asked for, so that a command that renders nothing starts fast.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, BinaryIO, Protocol, TextIO, TypedDict, Unpack

from evergreen_groups.formats import TEXT_FORMATS, OutputFormat, output_format
from evergreen_groups.language import ENGLISH, current_language, use_language
from evergreen_groups.state import write_bytes_atomically

if TYPE_CHECKING:
    from evergreen_groups.groups import Group
    from evergreen_groups.render import StaffClient
    from evergreen_groups.report import Report

FORMATS = TEXT_FORMATS


class WritingOptions(TypedDict, total=False):
    """How a report is to be written; a format takes those that mean something to it.

    ``details`` (True): with every member. ``width`` (columns; None: that of the terminal, or 80) and ``color`` are for
    the table, ``bom`` (begin with a byte order mark) and ``dialect`` (one of ``CSV_DIALECTS``) for CSV. ``client`` is
    where names lead in formats that have links; ``index`` the address of the page that leads to all libraries' reports.
    """

    details: bool
    width: int | None
    color: bool
    bom: bool
    dialect: str
    client: StaffClient | None
    index: str


def render(report: Report, format: str, stream: TextIO, **options: Unpack[WritingOptions]) -> None:
    """Write ``report`` as text to ``stream`` in ``format``, one of ``FORMATS``.

    A stream for CSV should be open with ``newline=""``. Raises ``ValueError`` for another format, and whatever the
    stream raises.
    """
    chosen = output_format(format)
    if chosen.binary:
        raise ValueError(f"unknown format {format!r}; known are {', '.join(FORMATS)}")
    _write(chosen, report, stream, options)


def render_bytes(report: Report, format: str, stream: BinaryIO, **options: Unpack[WritingOptions]) -> None:
    """Write ``report`` in ``format``, one of ``REPORT_FORMATS``, to a stream of bytes; text is UTF-8.

    Raises what :func:`render` raises, and for a binary format what its writer does.
    """
    chosen = output_format(format)
    if chosen.parts is not None:
        render_parts(report, format, [(report, stream)], **options)
        return
    if chosen.binary:
        _write(chosen, report, stream, options)
        return
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    try:
        render(report, format, text, **options)
    finally:
        text.detach()


def render_parts(
    report: Report, format: str, parts: Sequence[tuple[Report, BinaryIO]], **options: Unpack[WritingOptions]
) -> None:
    """Write parts of a report, whose groups stand in its order, each to its stream of bytes.

    Where the format can, what they have in common is made once. Raises what :func:`render_bytes` does.
    """
    chosen = output_format(format)
    if chosen.parts is None:
        for part, stream in parts:
            render_bytes(part, format, stream, **options)
        return
    wanted = {name: value for name, value in options.items() if name in chosen.options}
    with use_language(ENGLISH if chosen.for_programs else current_language()):
        resolve_name(chosen.parts)(report, parts, **wanted)


def write_file(report: Report, format: str, path: Path, **options: Unpack[WritingOptions]) -> None:
    """Write ``report`` in ``format``, one of ``REPORT_FORMATS``, to a file: whole or not at all, mode 0600.

    Raises :class:`~evergreen_groups.errors.ConfigurationError` when the file can't be written, and what
    :func:`render_bytes` raises.
    """
    with write_bytes_atomically(path) as stream:
        render_bytes(report, format, stream, **options)


def _write(chosen: OutputFormat, report: Report, stream: TextIO | BinaryIO, options: WritingOptions) -> None:
    """Have a format's own function write the report, with those of the options that it takes."""
    wanted = {name: value for name, value in options.items() if name in chosen.options}
    with use_language(ENGLISH if chosen.for_programs else current_language()):
        resolve_name(chosen.report)(report, stream, **wanted)


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
