"""The documentation's pages as tests read them: their fenced blocks, and the comment above each.

These comments, which readers don't see, have a meaning:

``<!-- run with: the sandbox -->``, once in a page: its commands find a configuration for a running sandbox.
``<!-- run with: the service -->``: its commands find the web service as well.
``<!-- run with: tests/packages/test_upgrading.py -->``: this test runs the page, for example on a machine.
``<!-- not run: needs systemd -->`` above a block: why it can't be run here.
``<!-- exit status: 10 -->`` above a block: the exit status of its last command.
``<!-- printed by: the block above -->`` above a text: the output of a block in Python or of shell commands.
``<!-- printed by: the block above, in part -->``: lines of that output.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from support.repository import REPOSITORY

NAVIGATION = {
    "For everybody": ("try-it", "The rule <rule>", "troubleshooting", "glossary"),
    "In the library": (
        *("desk", "For the branch manager <branch-manager>", "The report <report>"),
        "Letters to families <letters>",
    ),
    "In the server room": (
        *("install", "permissions", "security", "Monitoring <monitoring>", "Data, backup, upgrade <upgrading>"),
        *("Performance <performance>", "The audit <audit>", "Releases and staff clients <releases>"),
    ),
    "For programmers": ("python", "gateway", "http-api", "architecture"),
    "Reference": ("Commands <cli>", "settings", "errors", "http-reference", "Python reference <python-api>"),
}
"""The navigation next to each page: pages by heading, some with a shorter title. The index leads to the other pages."""
PAGES = tuple(sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")]))
GENERATED = {"cli", "errors", "http-reference", "python-api", "settings"}
"""Pages made from the source, by their names."""
TRIED = ("sh", "console", "python", "toml", "json")
"""The languages of blocks that tests run or parse."""
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"<!-- (?P<what>[a-z ]+): (?P<says>.+?) -->\s*\Z")


_MACHINE = re.compile(
    r"(?<![\w.~:/-])/(?:etc|opt|root|srv|usr|var)\b"
    r"|\b(?:a2\w+|apache2ctl|apt|apt-get|dpkg|groupadd|useradd|journalctl|sudo|systemctl|systemd-run)\b"
)
"""Signs of blocks that concern the machine, not a reader's own directory."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its line, its language, its text, and the comment above it."""

    page: Path
    line: int
    language: str
    text: str
    comment: tuple[str, str] | None = None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"

    @property
    def not_run(self) -> str | None:
        return self.comment[1] if self.comment and self.comment[0] == "not run" else None

    @property
    def is_tried(self) -> bool:
        """Whether it is run, parsed, or compared with output."""
        printed = self.comment is not None and self.comment[0] == "printed by"
        return printed or (self.language in TRIED and self.not_run is None)

    @property
    def is_for_machine(self) -> bool:
        """Whether it would change the machine; tests never run it then."""
        shell = self.language in ("sh", "console")
        return shell and any(_MACHINE.search(line) for line in commands(self))

    @property
    def exit_status(self) -> int:
        return int(self.comment[1]) if self.comment and self.comment[0] == "exit status" else 0


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    """Return all fenced blocks of a page, in order; blocks in lists lose their indent."""
    return tuple(_found(page, page.read_text("utf-8")))


def _found(page: Path, text: str) -> Iterator[Block]:
    for fence in _FENCE.finditer(text):
        comment = _COMMENT.search(text[: fence.start()])
        indented = fence["text"].splitlines(keepends=True)
        yield Block(
            page,
            text.count("\n", 0, fence.start()) + 1,
            fence["language"],
            "".join(line.removeprefix(fence["indent"]) for line in indented),
            (comment["what"], comment["says"]) if comment else None,
        )


def run_with(page: Path) -> str | None:
    """Return what the page's commands need: ``the sandbox``, or ``the service`` as well."""
    found = re.findall(r"^<!-- run with: (.+) -->$", page.read_text("utf-8"), re.MULTILINE)
    return found[0] if found else None


def tried(page: Path) -> list[Block]:
    """Return the blocks of a page that are run or parsed here, not by a test for the page."""
    if (run_with(page) or "").startswith("tests/"):
        return []
    return [block for block in blocks(page) if block.is_tried]


def commands(block: Block) -> Iterator[str]:
    """Return the commands of a shell block: all lines, or those after a prompt."""
    joined = block.text.replace("\\\n", " ").splitlines()
    if block.language == "sh":
        yield from joined
    elif block.language == "console":
        yield from (line.removeprefix("$ ") for line in joined if line.startswith("$ "))


def in_navigation() -> list[str]:
    """Return the names of the pages in the site's navigation."""
    return [entry.rpartition("<")[2].rstrip(">") for entries in NAVIGATION.values() for entry in entries]
