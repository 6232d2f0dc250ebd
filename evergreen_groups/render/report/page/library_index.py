"""The index page of a report in parts: a row for each library, with links to its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

from evergreen_groups.language import ENGLISH, gettext
from evergreen_groups.message import Message
from evergreen_groups.render import template_text, title_of
from evergreen_groups.render.report.page.shared_values import shared_values
from evergreen_groups.report import ChangeKind

if TYPE_CHECKING:
    from evergreen_groups.language import Language
    from evergreen_groups.report import Report, ReportedLibrary

_KINDS = (
    (ChangeKind.NEW, Message("New", context="groups")),
    (ChangeKind.WORSE, Message("Worse", context="groups")),
    (ChangeKind.BETTER, Message("Better", context="groups")),
    (ChangeKind.CLEARED, Message("No longer listed", context="groups")),
)
"""The kinds of groups that have a column, and its heading."""


@dataclass(frozen=True, slots=True)
class IndexedLibrary:
    """A library, its part of the report, the names of its files by format, and the language that they are in."""

    library: ReportedLibrary
    part: Report
    files: Mapping[str, str]
    language: Language = ENGLISH

    @property
    def main_format(self) -> str:
        """The format that the library's name leads to: the page, where there is one."""
        return "html" if "html" in self.files else next(iter(self.files))

    @property
    def main_file(self) -> str:
        """The file that the library's name leads to."""
        return self.files[self.main_format]

    @property
    def other_files(self) -> dict[str, str]:
        """The other files, by format."""
        return {format: file for format, file in self.files.items() if format != self.main_format}


def write_index(report: Report, entries: Sequence[IndexedLibrary], stream: BinaryIO) -> None:
    """Write the page as UTF-8. Its sums are those of ``report``, in which each group counts once."""
    title = title_of(replace(report.criteria, orgs=()), report.name)
    page = template_text(
        "library_index.html",
        **shared_values(report),
        title=gettext("{title}, by library", title=title),
        entries=entries,
        kinds=_KINDS,
    )
    stream.write(page.encode())
