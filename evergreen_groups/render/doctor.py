"""A diagnosis as lines for a terminal, written as they come, and as JSON for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from evergreen_groups.doctor import Diagnosis, Finding, Verdict
from evergreen_groups.language import gettext, npgettext
from evergreen_groups.message import Message
from evergreen_groups.render.json_documents import write_json_document
from evergreen_groups.render.safe_text import printable

if TYPE_CHECKING:
    from evergreen_groups.gateway import Capabilities

SCHEMA = "evergreen-groups/diagnosis/1"

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red", Verdict.SKIPPED: "dim"}
_VERDICTS = {
    Verdict.OK: Message("ok", context="a check"),
    Verdict.WARNING: Message("warning", context="a check"),
    Verdict.FAILED: Message("failed", context="a check"),
    Verdict.SKIPPED: Message("skipped", context="a check"),
}
_GAP = 2
_TITLE_WIDTH = 18
_LEAST_WIDTH = 60


class DiagnosisWriter:
    """Writes findings, each with its verdict in front, ``width`` columns wide; long texts go on in their column."""

    def __init__(self, stream: TextIO, *, width: int, color: bool) -> None:
        self._width = max(width, _LEAST_WIDTH)
        self._verdicts = {verdict: gettext(word) for verdict, word in _VERDICTS.items()}
        self._verdict_width = max(map(cell_len, self._verdicts.values())) + _GAP
        self._console = Console(
            file=stream,
            width=self._width,
            force_terminal=color,
            color_system="standard" if color else None,
            no_color=not color,
            highlight=False,
        )

    def finding(self, finding: Finding) -> None:
        """Write one finding, and under it what to do."""
        indent = self._verdict_width + _TITLE_WIDTH
        title = printable(gettext(finding.title) if isinstance(finding.title, Message) else finding.title)
        lines = self._wrapped(gettext(finding.found), indent)
        if cell_len(title) >= _TITLE_WIDTH:
            lines.insert(0, "")
        verdict = set_cell_size(self._verdicts[finding.verdict], self._verdict_width)
        beginning = title if cell_len(title) >= _TITLE_WIDTH else set_cell_size(title, _TITLE_WIDTH)
        self._line((verdict, _STYLES[finding.verdict]), (f"{beginning}{lines[0]}", ""))
        for line in lines[1:]:
            self._line((" " * indent + line, ""))
        if finding.advice:
            for line in self._wrapped(f"→ {gettext(finding.advice)}", indent, hanging="  "):
                self._line((" " * indent + line, "bold"))

    def end(self, diagnosis: Diagnosis) -> None:
        """Write how many findings there are of each kind."""
        self._line()
        self._line((", ".join(_counts(diagnosis)) + ".", ""))

    def _wrapped(self, text: str, indent: int, hanging: str = "") -> list[str]:
        width = self._width - indent
        return textwrap.wrap(printable(text), width, subsequent_indent=hanging, break_on_hyphens=False) or [""]

    def _line(self, *parts: tuple[str, str]) -> None:
        self._console.print(Text.assemble(*parts, no_wrap=True, overflow="ignore"), crop=False)


def _counts(diagnosis: Diagnosis) -> Iterator[str]:
    if count := diagnosis.count(Verdict.OK):
        yield npgettext("checks", "{count} ok", "{count} ok", count)
    if count := diagnosis.count(Verdict.WARNING):
        yield npgettext("checks", "{count} warning", "{count} warnings", count)
    if count := diagnosis.count(Verdict.FAILED):
        yield npgettext("checks", "{count} failed", "{count} failed", count)
    if count := diagnosis.count(Verdict.SKIPPED):
        yield npgettext("checks", "{count} skipped", "{count} skipped", count)


def write_diagnosis_json(diagnosis: Diagnosis, stream: TextIO) -> None:
    """Write a diagnosis as one JSON object."""
    document = {
        "schema": SCHEMA,
        "at": diagnosis.at.isoformat(timespec="seconds"),
        "gateway": diagnosis.gateway,
        "server": None if diagnosis.server is None else _server(diagnosis.server),
        "healthy": diagnosis.healthy,
        "counts": {verdict.value: diagnosis.count(verdict) for verdict in Verdict},
        "findings": [
            {
                "check": finding.check,
                "title": finding.title,
                "verdict": finding.verdict.value,
                "found": finding.found,
                "advice": finding.advice,
            }
            for finding in diagnosis.findings
        ],
    }
    write_json_document(document, stream)


def _server(found: Capabilities) -> dict[str, object]:
    """What was found out about the server, as values for programs; null for what it doesn't tell."""

    def name(value: object) -> str | None:
        return None if value is None else str(value)

    def code(value: Enum | None) -> str | None:
        return None if value is None else value.value

    return {
        "release": name(found.version.release),
        "at_least": name(found.at_least),
        "supported": not found.version.is_old,
        "versions": {service: version.name for service, version in found.versions.items()},
        "gateway": code(found.gateway),
        "bus": code(found.bus),
        "row_checks": code(found.row_checks),
    }
