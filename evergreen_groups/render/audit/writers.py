"""Writes an audit in one of four formats; the module of a format is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from evergreen_groups.audit import Audit


def render_audit(audit: Audit, format: str, stream: TextIO) -> None:
    """Write ``audit`` to ``stream`` as ``table``, ``csv``, ``json`` or ``html``.

    A stream for CSV should be open with ``newline=""``. Raises ``ValueError`` for another format.
    """
    if format == "table":
        from evergreen_groups.render.audit.text import write_listing

        write_listing(audit, stream)
    elif format == "csv":
        from evergreen_groups.render.audit.csv import write_rows

        write_rows(audit, stream)
    elif format == "json":
        from evergreen_groups.render.audit.json import write_document

        write_document(audit, stream)
    elif format == "html":
        from evergreen_groups.render.audit.page import write_page

        write_page(audit, stream)
    else:
        raise ValueError(f"unknown format {format!r}")
