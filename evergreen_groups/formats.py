"""The names of output formats and of the ways to split a report."""

from __future__ import annotations

FORMATS = ("table", "csv", "json", "html")

REPORT_FORMATS = (*FORMATS, "xlsx")

FILE_FORMATS = ("html", "csv", "json", "xlsx")

SPLITS = ("none", "library")
LOG_FORMATS = ("text", "json")
"""How events are written to standard error."""
