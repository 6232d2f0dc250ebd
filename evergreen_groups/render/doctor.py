"""Write what doctor and ``state check`` found, as text or JSON."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, TextIO

from rich.cells import cell_len, set_cell_size

from evergreen_groups.doctor import NOT_CHECKED, STORED, Diagnosis, Finding, Verdict
from evergreen_groups.language import day, decimal, gettext, ngettext, number
from evergreen_groups.message import Message
from evergreen_groups.render.columns import aligned, console_for, print_line
from evergreen_groups.render.json_documents import fields, write_json_document
from evergreen_groups.render.text import printable

if TYPE_CHECKING:
    from evergreen_groups.gateway import Capabilities
    from evergreen_groups.state import backup

SCHEMA = "evergreen-groups/diagnosis/1"

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red", Verdict.SKIPPED: "dim"}
VERDICTS = {
    Verdict.OK: Message("ok", context="a check"),
    Verdict.WARNING: Message("warning", context="a check"),
    Verdict.FAILED: Message("failed", context="a check"),
    Verdict.SKIPPED: Message("skipped", context="a check"),
}
_GAP = 2
_TITLE_WIDTH = 18
_LEAST_WIDTH = 60


class DiagnosisWriter:
    """Writes findings as they arrive, each after its verdict. Long texts are wrapped within their column.

    Checks that were skipped for the same reason get one line at the end. ``width`` is in columns; at least 60 are used.
    """

    def __init__(self, stream: TextIO, *, width: int, color: bool) -> None:
        self._width = max(width, _LEAST_WIDTH)
        self._verdicts = {verdict: gettext(word) for verdict, word in VERDICTS.items()}
        self._verdict_width = max(map(cell_len, self._verdicts.values())) + _GAP
        self._console = console_for(stream, color=color, width=self._width)

    def write_finding(self, finding: Finding) -> None:
        """Write a finding and, below it, the advice. Checks that were skipped come with the counts."""
        if finding.code != NOT_CHECKED:
            self._write(finding, gettext(finding.title) if isinstance(finding.title, Message) else finding.title)

    def _write(self, finding: Finding, title: str) -> None:
        indent, title = self._verdict_width + _TITLE_WIDTH, printable(title)
        lines = self._wrapped(gettext(finding.found), indent)
        if cell_len(title) >= _TITLE_WIDTH:
            lines.insert(0, "")
        verdict = set_cell_size(self._verdicts[finding.verdict], self._verdict_width)
        beginning = title if cell_len(title) >= _TITLE_WIDTH else set_cell_size(title, _TITLE_WIDTH)
        print_line(self._console, (verdict, _STYLES[finding.verdict]), (f"{beginning}{lines[0]}", ""))
        for line in lines[1:]:
            print_line(self._console, (" " * indent + line, ""))
        if finding.advice:
            for line in self._wrapped(f"→ {gettext(finding.advice)}", indent, hanging="  "):
                print_line(self._console, (" " * indent + line, "bold"))

    def write_counts(self, diagnosis: Diagnosis) -> None:
        """Write the checks that were skipped by reason, and the number of findings for each verdict."""
        skipped = {finding.found: finding for finding in diagnosis.findings if finding.code == NOT_CHECKED}
        for finding in skipped.values():
            self._write(finding, gettext("Other checks"))
        print_line(self._console)
        counts = [
            gettext("{label}: {value}", label=word, value=number(count))
            for verdict, word in self._verdicts.items()
            if (count := diagnosis.count(verdict))
        ]
        print_line(self._console, (", ".join(counts) + ".", ""))

    def _wrapped(self, text: str, indent: int, hanging: str = "") -> list[str]:
        width = self._width - indent
        return textwrap.wrap(printable(text), width, subsequent_indent=hanging, break_on_hyphens=False) or [""]


def write_diagnosis_json(diagnosis: Diagnosis, stream: TextIO) -> None:
    """Write a diagnosis as one JSON object."""
    document = {
        "schema": SCHEMA,
        **fields(diagnosis, "at", "gateway"),
        "server": None if diagnosis.server is None else _server(diagnosis.server),
        "healthy": diagnosis.healthy,
        "counts": {verdict.value: diagnosis.count(verdict) for verdict in Verdict},
        "findings": [fields(finding, "check", "title", "verdict", "found", "advice") for finding in diagnosis.findings],
    }
    write_json_document(document, stream)


def _server(found: Capabilities) -> dict[str, object]:
    """Return what is known about the server; values that it doesn't report are null."""

    release, at_least = (None if one is None else str(one) for one in (found.version.release, found.at_least))
    return {
        "release": release,
        "at_least": at_least,
        "supported": not found.version.is_old,
        "versions": {service: version.name for service, version in found.versions.items()},
        **fields(found, "gateway", "bus", "row_checks"),
    }


_ROWS_WIDTH = 9


def examination_document(found: backup.Examination | None) -> dict[str, Any]:
    """Return the state of the database as a JSON object, version 1. ``found`` is None if there is no database yet."""
    amounts = found.amounts if found else ()
    return {
        "version": 1,
        "kind": "state",
        "where": found.where if found else None,
        "bytes": found.size if found else 0,
        "open_steps": found.open_steps if found else 0,
        "kept": {
            amount.name: {"rows": amount.rows, "since": amount.since.isoformat() if amount.since else None}
            for amount in amounts
        },
    }


def write_examination(found: backup.Examination, stream: TextIO) -> None:
    """Write the size of the database, what it holds, and since when."""
    print(
        gettext("The database {where} is intact: {size} MB.", where=found.where, size=decimal(found.size / 1_000_000)),
        file=stream,
    )
    names = {amount.name: gettext(STORED[amount.name]) for amount in found.amounts}
    width = max(map(cell_len, names.values()), default=0)
    for amount in found.amounts:
        rows = aligned(number(amount.rows), _ROWS_WIDTH, right=True)
        since = gettext("since {day}", day=day(amount.since)) if amount.since else ""
        print(f"  {rows}  {aligned(names[amount.name], width)}  {since}".rstrip(), file=stream)
    if found.open_steps:
        text = ngettext(
            "{count} change is open: its outcome isn't known yet.",
            "{count} changes are open: their outcome isn't known yet.",
            found.open_steps,
        )
        print(text, file=stream)
