"""The index page of a report in parts: a row for each library, with links to its files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from evergreen_groups import __version__
from evergreen_groups.changes import Changes, Kind
from evergreen_groups.models import Report
from evergreen_groups.render.page.frame import asset, head, notes_section
from evergreen_groups.render.page.markup import Markup, element, joined, opening
from evergreen_groups.render.page.summary import introduction, sums
from evergreen_groups.render.wording import CONFIDENTIAL, TITLE, amount, local_time, printable
from evergreen_groups.split import Library

_TITLE = f"{TITLE}, by library"
_NUMBER = {"data_kind": "number"}
_KINDS = (Kind.NEW, Kind.WORSE, Kind.BETTER, Kind.CLEARED)


@dataclass(frozen=True, slots=True)
class Entry:
    """A library, its part of the report, and the names of its files by format."""

    library: Library
    part: Report
    files: Mapping[str, str]


def write_index(report: Report, entries: Sequence[Entry], stream: BinaryIO) -> None:
    """Write the page as UTF-8. Its sums are those of ``report``, in which each group counts once."""
    style = asset("page.css") + asset("library_index.css")
    script = asset("page.js")
    with io.StringIO() as page:
        page.write("<!DOCTYPE html>\n")
        page.write(opening("html", lang="en"))
        page.write(head(f"{_TITLE}, {local_time(report.generated_at)[:10]}", style, script))
        page.write("\n<body>\n")
        page.write(introduction(report, _TITLE))
        page.write("<main>\n")
        page.write(notes_section(report.notes))
        page.write(sums(report))
        page.write('<section aria-labelledby="by-library">\n<h2 id="by-library">Libraries</h2>\n')
        page.writelines(_table(report, entries))
        page.write("</section>\n</main>\n")
        page.write(element("footer", element("p", f"{CONFIDENTIAL} Written by evergreen-groups {__version__}.")))
        page.write(f"\n<script>{script}</script>\n</body>\n</html>\n")
        stream.write(page.getvalue().encode())


def _table(report: Report, entries: Sequence[Entry]) -> Iterator[Markup]:
    compared = report.changes is not None and report.changes.compared
    yield element(
        "p",
        "A library's row has the groups with a member at home there or below. A group may be in several rows, so they "
        "add up to more than the last row says.",
    )
    yield Markup('<div class="wide" role="region" aria-labelledby="by-library" tabindex="0">')
    yield opening("table", id="libraries")
    yield element("caption", "Groups, members and fines of each library, with its files")
    yield _head(compared)
    for entry in entries:
        yield _row(entry, compared)
    yield _foot(report, compared)
    yield Markup("</table></div>\n")


def _head(compared: bool) -> Markup:
    headings: list[tuple[str, dict[str, str]]] = [
        ("Library", {}),
        ("Groups", _NUMBER),
        ("Members", _NUMBER),
        ("Over the limit", _NUMBER),
        ("Combined fines", _NUMBER),
    ]
    if compared:
        headings += [(kind.value.capitalize(), _NUMBER) for kind in _KINDS]
        headings.append(("Difference", _NUMBER))
    headings.append(("Files", {}))
    cells = [element("th", word, scope="col", **attributes) for word, attributes in headings]
    return element("thead", element("tr", *cells))


def _row(entry: Entry, compared: bool) -> Markup:
    library, part = entry.library, entry.part
    main_file = entry.files.get("html") or next(iter(entry.files.values()))
    name = joined(
        element("a", element("bdi", printable(library.shortname)), href=main_file),
        *([element("small", element("bdi", printable(library.name)))] if library.name else []),
    )
    links = [
        element("a", format.upper(), href=file, aria_label=f"{printable(library.shortname)} as {format.upper()}")
        for format, file in entry.files.items()
    ]
    row = element(
        "tr",
        element("th", name, scope="row", class_=f"depth-{min(library.depth, 4)}"),
        *_figures(part, compared),
        element("td", *links, class_="files"),
        class_="library" if part.groups else "library nothing",
    )
    return Markup(f"\n{element('tbody', row)}")


def _foot(report: Report, compared: bool) -> Markup:
    return element(
        "tfoot",
        element("tr", element("th", "Each group once", scope="row"), *_figures(report, compared), element("td")),
    )


def _figures(report: Report, compared: bool) -> Iterator[Markup]:
    totals = report.totals
    yield element("td", f"{totals.group_count:,}")
    yield element("td", f"{totals.member_count:,}")
    yield element("td", f"{totals.over_limit_count:,}")
    yield element("td", amount(totals.combined_fines))
    if compared and report.changes:
        yield from _change_figures(report.changes)


def _change_figures(changes: Changes) -> Iterator[Markup]:
    for kind in _KINDS:
        yield element("td", f"{changes.count(kind):,}")
    difference = changes.difference
    yield element("td", f"{'+' if difference > 0 else ''}{amount(difference)}")
