"""Writes a report as text, a terminal table, CSV, JSON or one HTML file, or as a spreadsheet (XLSX).

The module of a format is imported when it is asked for, so that a command that renders nothing starts fast.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from evergreen_groups.state import write_bytes_atomically

if TYPE_CHECKING:
    from evergreen_groups.report import Report

FORMATS = ("table", "csv", "json", "html")
"""The formats that are text."""
XLSX = "xlsx"


def render(
    report: Report,
    format: str,
    stream: TextIO,
    *,
    details: bool = True,
    width: int | None = None,
    color: bool = False,
    bom: bool = False,
) -> None:
    """Write ``report`` as text to ``stream`` in ``format``, one of ``FORMATS``; with ``details``, every member as well.

    ``width`` (columns; None: that of the terminal, or 80) and ``color`` are for the table alone, ``bom`` (begin with
    a byte order mark) for CSV alone. A stream for CSV should be open with ``newline=""``.

    Raises ``ValueError`` for another format, and whatever the stream raises.
    """
    if format == "table":
        from evergreen_groups.render.report.table import write_table

        write_table(report, stream, details=details, width=width, color=color)
    elif format == "csv":
        from evergreen_groups.render.report.csv import write_rows

        write_rows(report, stream, details=details, bom=bom)
    elif format == "json":
        from evergreen_groups.render.report.json import write_document

        write_document(report, stream, details=details)
    elif format == "html":
        from evergreen_groups.render.report.page import write_page

        write_page(report, stream, details=details)
    else:
        raise ValueError(f"unknown format {format!r}; known are {', '.join(FORMATS)}")


def render_bytes(
    report: Report,
    format: str,
    stream: BinaryIO,
    *,
    details: bool = True,
    width: int | None = None,
    bom: bool = False,
) -> None:
    """Write ``report`` in ``format``, one of ``FORMATS`` or ``XLSX``, to a stream of bytes; text is UTF-8.

    Raises what :func:`render` raises, and for a spreadsheet what :func:`.workbook.write_workbook` does.
    """
    if format == XLSX:
        from evergreen_groups.render.report.workbook import write_workbook

        write_workbook(report, stream, details=details)
        return
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    try:
        render(report, format, text, details=details, width=width, bom=bom)
    finally:
        text.detach()


def write_file(
    report: Report,
    format: str,
    path: Path,
    *,
    details: bool = True,
    width: int | None = None,
    bom: bool = False,
) -> None:
    """Write ``report`` in ``format``, one of ``FORMATS`` or ``XLSX``, to a file: whole or not at all, mode 0600.

    Raises :class:`~evergreen_groups.errors.ConfigurationError` when the file can't be written, and what
    :func:`render_bytes` raises.
    """
    with write_bytes_atomically(path) as stream:
        render_bytes(report, format, stream, details=details, width=width, bom=bom)
