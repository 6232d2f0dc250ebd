"""Writes a report in one of four formats: a terminal table, CSV, JSON or one HTML file.

The module of a format is imported when it is asked for, so that a command that renders nothing starts fast.
"""

from __future__ import annotations

from typing import TextIO

from evergreen_groups.models import Report

FORMATS = ("table", "csv", "json", "html")


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
    """Write ``report`` to ``stream`` in ``format``, one of ``FORMATS``; with ``details``, every member as well.

    ``width`` (columns; None: that of the terminal, or 80) and ``color`` are for the table alone, ``bom`` (begin with
    a byte order mark) for CSV alone. A stream for CSV should be open with ``newline=""``.

    Raises ``ValueError`` for another format, and whatever the stream raises.
    """
    if format == "table":
        from evergreen_groups.render.table import write_table

        write_table(report, stream, details=details, width=width, color=color)
    elif format == "csv":
        from evergreen_groups.render.comma_separated import write_rows

        write_rows(report, stream, details=details, bom=bom)
    elif format == "json":
        from evergreen_groups.render.json_document import write_document

        write_document(report, stream, details=details)
    elif format == "html":
        from evergreen_groups.render.page import write_page

        write_page(report, stream, details=details)
    else:
        raise ValueError(f"unknown format {format!r}; known are {', '.join(FORMATS)}")
