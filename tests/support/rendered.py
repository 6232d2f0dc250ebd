"""Reports as they are written in each format."""

from __future__ import annotations

import io
from typing import Any

import openpyxl

from evergreen_groups.render.report import render, render_bytes
from evergreen_groups.report import Report


def written(report: Report, format: str, **options: Any) -> str:
    stream = io.StringIO(newline="")
    render(report, format, stream, **options)
    return stream.getvalue()


def written_bytes(report: Report, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    render_bytes(report, format, stream, **options)
    return stream.getvalue()


def workbook(report: Report, **options: Any) -> Any:
    return openpyxl.load_workbook(io.BytesIO(written_bytes(report, "xlsx", **options)))
