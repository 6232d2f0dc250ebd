"""Writes an audit in one of the formats that :mod:`evergreen_groups.formats` declares.

The module of a format is imported when it is asked for.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, TextIO

from evergreen_groups.formats import AUDIT_FORMATS, output_format

if TYPE_CHECKING:
    from evergreen_groups.audit import Audit
    from evergreen_groups.render import StaffClient


def render_audit(audit: Audit, format: str, stream: TextIO, *, client: StaffClient | None = None) -> None:
    """Write ``audit`` to ``stream`` in ``format``, one of ``AUDIT_FORMATS``; what leads into the staff client leads
    into ``client``.

    A stream for CSV should be open with ``newline=""``. Raises ``ValueError`` for another format.
    """
    if format not in AUDIT_FORMATS:
        raise ValueError(f"unknown format {format!r}")
    resolve_name(output_format(format).audit or "")(audit, stream, client=client)
