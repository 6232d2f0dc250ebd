"""The index page of a report in parts: a row for each library, with links to its files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from evergreen_groups.money import amount
from evergreen_groups.render import TITLE, Markup, asset, beginning, element, ending, notes_section, opening, printable
from evergreen_groups.render.report import compared, signed
from evergreen_groups.render.report.page.charts import trend_section
from evergreen_groups.render.report.page.summary import introduction, sums
from evergreen_groups.report import ChangeKind, Library, Report

_TITLE = f"{TITLE}, by library"
_NUMBER = {"data_kind": "number"}
_DEEPEST = 4
_UNSEEN = "this account can't see who is at home here"
_KINDS = (ChangeKind.NEW, ChangeKind.WORSE, ChangeKind.BETTER, ChangeKind.CLEARED)


@dataclass(frozen=True, slots=True)
class IndexedLibrary:
    """A library, its part of the report, and the names of its files by format."""

    library: Library
    part: Report
    files: Mapping[str, str]

    @property
    def main_format(self) -> str:
        """The format that the library's name leads to: the page, where there is one."""
        return "html" if "html" in self.files else next(iter(self.files))


def write_index(report: Report, entries: Sequence[IndexedLibrary], stream: BinaryIO) -> None:
    """Write the page as UTF-8. Its sums are those of ``report``, in which each group counts once."""
    style = asset("page.css") + asset("library_index.css")
    script = asset("page.js")
    with io.StringIO() as page:
        page.write(beginning(_TITLE, report.generated_at, style, script))
        page.write(introduction(report, _TITLE))
        page.write("<main>\n")
        page.write(notes_section(report.notes))
        page.write(sums(report))
        if report.changes:
            page.write(trend_section(report.changes.trend))
        page.write('<section aria-labelledby="by-library">\n<h2 id="by-library">Libraries</h2>\n')
        page.writelines(_Table(report, entries).parts())
        page.write("</section>\n</main>\n")
        page.write(ending(script))
        stream.write(page.getvalue().encode())


class _Table:
    """The table; what changed and the files beside the page have columns where there is any of it."""

    def __init__(self, report: Report, entries: Sequence[IndexedLibrary]) -> None:
        self._report = report
        self._entries = entries
        self._with_changes = compared(report) is not None
        self._with_files = any(len(entry.files) > 1 for entry in entries)

    def parts(self) -> Iterator[Markup]:
        """The table piece by piece."""
        yield element(
            "p",
            "A library's row has the groups with a member at home there or below. A group may be in several rows, so "
            "they add up to more than the last row says.",
        )
        yield Markup('<div class="wide" role="region" aria-labelledby="by-library" tabindex="0">')
        yield opening("table", id="libraries")
        yield element("caption", "Groups, members and fines of each library, with its files")
        yield self._head()
        yield from map(self._row, self._entries)
        yield self._foot()
        yield Markup("</table></div>\n")

    def _head(self) -> Markup:
        headings: list[tuple[str, dict[str, str]]] = [
            ("Library", {}),
            ("Groups", _NUMBER),
            ("Members", _NUMBER),
            ("Combined fines", _NUMBER),
            ("Over the limit", _NUMBER),
        ]
        if self._with_changes:
            headings += [(kind.value.capitalize(), _NUMBER) for kind in _KINDS]
            headings.append(("Difference", _NUMBER))
        if self._with_files:
            headings.append(("Other files", {"class_": "files"}))
        cells = [element("th", word, scope="col", **attributes) for word, attributes in headings]
        return element("thead", element("tr", *cells))

    def _row(self, entry: IndexedLibrary) -> Markup:
        library = entry.library
        name = [element("a", element("bdi", printable(library.shortname)), href=entry.files[entry.main_format])]
        if library.name:
            name.append(element("small", element("bdi", printable(library.name))))
        if library.shortname in self._report.hidden_libraries:
            name.append(element("small", _UNSEEN, class_="unseen"))
        cells = [
            element("th", *name, scope="row", class_=f"depth-{min(library.depth, _DEEPEST)}"),
            *self._figures(entry.part),
            *([_links(entry)] if self._with_files else []),
        ]
        row = element("tr", *cells, class_="library" if entry.part.groups else "library nothing")
        return Markup(f"\n{element('tbody', row)}")

    def _foot(self) -> Markup:
        cells = [element("th", "Each group once", scope="row"), *self._figures(self._report)]
        if self._with_files:
            cells.append(element("td", class_="files"))
        return element("tfoot", element("tr", *cells))

    def _figures(self, report: Report) -> Iterator[Markup]:
        totals = report.totals
        yield element("td", f"{totals.group_count:,}")
        yield element("td", f"{totals.member_count:,}")
        yield element("td", amount(totals.combined_fines))
        yield element("td", f"{totals.over_limit_count:,}")
        if self._with_changes and report.changes:
            for kind in _KINDS:
                yield element("td", f"{report.changes.count(kind):,}")
            yield element("td", signed(report.changes.difference))


def _links(entry: IndexedLibrary) -> Markup:
    links = [
        element("a", format.upper(), href=file, aria_label=f"{printable(entry.library.shortname)} as {format.upper()}")
        for format, file in entry.files.items()
        if format != entry.main_format
    ]
    return element("td", *links, class_="files")
