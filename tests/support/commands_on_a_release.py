"""Every command that shows or changes data of the ILS, run on the recorded dataset, and its output.

Outputs are compared between runs, so the parts that always differ are removed: the gateway's URL, times since the
start, and the directory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import openpyxl
from support.change_ids import listed_id_or_unknown
from support.command import Command

PASSWORD = "demo123"
ACCOUNTS = ("admin", "cons_staff", "br1_staff")
"""A superuser, an account that sees all patrons, and one of a single library."""

_LOOKS = {"report": ("--manual", "--no-history", "--min-total", "5"), "show": (), "check": (), "audit": ()}
_FORMATS = {
    "report": ("table", "csv", "json", "jsonl", "html", "xlsx"),
    "show": ("table", "json"),
    "check": ("table", "json"),
    "audit": ("table", "csv", "json", "jsonl", "html"),
}
_PATRONS = ("20000000005001", "20000000005005", "20000000005011", "20000000005041")
"""Patrons with a family within the limit, exactly at it, over it, and with a lost item."""
_CHOICES = (
    ("--sort", "age"),
    ("--owing-since", "100"),
    ("--kind", "lost materials"),
    ("--with-items-out",),
    ("--with-juvenile",),
    ("--blocked",),
    ("--within-limit",),
    ("--profile", "Patrons"),
    ("--org", "BR1"),
    ("--min-members", "1"),
    ("--details", "sums"),
)

QUICK = (
    ("report", *_LOOKS["report"], "--json"),
    ("show", _PATRONS[3], "--json"),
    ("move", _PATRONS[2], "--to", _PATRONS[0], "--yes", "--json"),
)
"""A few commands of every kind, for plain pytest."""

CHANGES = (
    ("move", _PATRONS[2], "--to", _PATRONS[0], "--dry-run"),
    ("move", _PATRONS[2], "--to", _PATRONS[0], "--yes", "--json"),
    ("move", _PATRONS[2], "--to", _PATRONS[0], "--yes"),  # is already in the group
    ("move", "20000000009999", "--to", _PATRONS[0], "--yes"),  # no patron
    ("remove", _PATRONS[1], "--yes", "--json"),
    ("lead", _PATRONS[1], "--yes"),
    ("merge", "--from", _PATRONS[3], "--to", _PATRONS[1], "--yes", "--json"),
    ("batch", "changes.csv", "--yes"),
    ("audit", "--fix", "--yes"),
    ("journal", "--json"),
    ("undo", "#2", "--yes", "--json"),
    ("undo", "#1", "--yes"),
    ("journal",),
    ("report", *_LOOKS["report"], "--json"),
    ("audit", "--json"),
    *(("show", patron, "--json") for patron in _PATRONS),
)
"""Changes of each kind in order, and the final state."""
_BATCH = f"action,barcode,target\nmove,20000000005002,{_PATRONS[1]}\nremove,20000000005003,\nlead,20000000005004,on\n"

NOTHING_OF_A_RELEASE = frozenset(
    {
        *("completion", "config", "help", "init", "install", "sandbox", "serve", "state", "status", "uninstall"),
        "doctor",  # names the release
        "follow-ups",  # shows what the service has stored
        "letters",  # needs [report] contact; see tests/letters
    }
)
"""Commands that neither show nor change patrons here."""


def looks(account: str) -> Iterator[tuple[str, ...]]:
    """Yield each command that only shows data; for the account that sees all patrons, in each format."""
    for name, formats in _FORMATS.items():
        for kind in formats if account == "cons_staff" else ("json",):
            if name in ("report", "audit"):
                yield (name, *_LOOKS[name], "--format", kind, *(("--output", f"{name}.xlsx") if kind == "xlsx" else ()))
            else:
                all_members = ("--all-members",) if name == "check" else ()
                yield from ((name, patron, *all_members, "--format", kind) for patron in _PATRONS)
    yield from (("report", *_LOOKS["report"], "--json", *choice) for choice in _CHOICES)
    yield from (("audit", "--explain", patron) for patron in _PATRONS)
    yield ("audit", "--org", "BR1", "--limit", "none", "--json")
    yield ("move", _PATRONS[2], "--to", _PATRONS[0], "--dry-run", "--json")
    yield ("report", "--manual", "--output", "libraries", "--split", "library", "--format", "csv")


class Typed:
    """Runs commands in a directory, with the gateway at ``url``."""

    def __init__(self, directory: Path, url: str, account: str) -> None:
        self._command = Command(directory, url, account)
        self._command.environ["EVERGREEN_GROUPS_PASSWORD"] = PASSWORD
        self._directory, self._url = directory, url
        self._began = datetime.now(UTC).date()
        (directory / "changes.csv").write_text(_BATCH, encoding="utf-8")

    def __call__(self, words: Sequence[str]) -> str:
        """Return a command's output, its exit status, and the contents of the files it wrote."""
        there = set(self._files())
        words = [str(self._directory / word) if self._is_file(word) else word for word in words]
        words = [listed_id_or_unknown(self._command, int(word[1:])) if word[0] == "#" else word for word in words]
        done = self._command(*words)
        written = [
            f"{path.relative_to(self._directory)}: {_content(path)}" for path in self._files() if path not in there
        ]
        return self._alike("\n".join([f"exit status {done.returncode}", done.stdout, done.stderr, *written]))

    @staticmethod
    def _is_file(word: str) -> bool:
        return word == "libraries" or word.endswith((".csv", ".xlsx"))

    def _files(self) -> list[Path]:
        kept = {self._directory / name for name in (".local", ".cache", ".config", "state")}
        found = (path for path in sorted(self._directory.rglob("*")) if path.is_file() and not path.is_symlink())
        return [path for path in found if not kept & set(path.parents)]

    def _alike(self, text: str) -> str:
        text = text.replace(self._url, "GATEWAY").replace(str(self._directory), "DIRECTORY")
        text = re.sub(r"(?<=\d-)[0-9a-z]{6}\b", "SUFFIX", text)
        text = re.sub(r"\.editions/[^/]+", ".editions/ONE", text)
        for day in {self._began, datetime.now(UTC).date()}:  # the run may pass midnight
            for shown in (f"{day:%Y-%m-%d}", f"{day:%-d %B %Y}", f"{day:%-d %b %Y}"):
                text = re.sub(rf"(?<!\d){shown}", "TODAY", text)
        return re.sub(r"TODAY(?:T|, )\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:\+00:?00|Z)?", "NOW", text)


def _content(path: Path) -> str:
    if path.suffix != ".xlsx":
        return path.read_text(encoding="utf-8-sig")
    sheets = openpyxl.load_workbook(path).worksheets
    cells = ((sheet, cell) for sheet in sheets for row in sheet.iter_rows() for cell in row if cell.value is not None)
    return "\n".join(f"{sheet.title} {cell.coordinate} {cell.value}" for sheet, cell in cells)
