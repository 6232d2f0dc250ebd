"""Write a report in one of the formats declared in :mod:`evergreen_groups.formats`.

A format's module is imported on first use, so that commands that render nothing start fast.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, TypedDict, Unpack

from evergreen_groups.formats import TEXT_FORMATS, OutputFormat, output_format
from evergreen_groups.language import ENGLISH, current_language, use_language
from evergreen_groups.state import write_bytes_atomically

if TYPE_CHECKING:
    from evergreen_groups.follow_up import FollowUpState
    from evergreen_groups.render import StaffClient
    from evergreen_groups.report import Report


class WritingOptions(TypedDict, total=False):
    """Options for writing a report. A format ignores those that don't apply to it.

    ``details`` (True): include every member. ``width`` (columns; None: the terminal's, or 80) and ``color`` are for the
    table, ``bom`` (begin with a byte order mark) and ``dialect`` (one of ``CSV_DIALECTS``) for CSV. Formats with links
    point names to ``client``; ``index`` is the address of the index of all libraries' reports. ``follow_ups`` are shown
    in the page and the workbook, by group number.
    """

    details: bool
    width: int | None
    color: bool
    bom: bool
    dialect: str
    client: StaffClient | None
    index: str
    follow_ups: Mapping[int, FollowUpState]


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
        resolve_name(chosen.report)(report, stream, **_accepted(chosen, options))


def render_bytes(report: Report, format: str, stream: BinaryIO, **options: Unpack[WritingOptions]) -> None:
    """Write ``report`` to a binary stream in ``format``, one of ``REPORT_FORMATS``. Text is encoded as UTF-8."""
    chosen = output_format(format)
    if chosen.binary:
        with _language_of(chosen):
            resolve_name(chosen.report)(report, stream, **_accepted(chosen, options))
        return
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    try:
        render(report, format, text, **options)
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
