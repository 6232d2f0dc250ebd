"""The report as one HTML file that needs nothing else: style, script and chart are in it.

It asks no other host for anything, and a content security policy holds it to that; the only script that may run is the
one whose hash the policy names. Without scripts it is the same page, but for the buttons that sort and unfold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from evergreen_groups.render import NOTHING_FOUND, asset, beginning, element, ending, notes_section, section, title_of
from evergreen_groups.render.report.page.changes import cleared_section
from evergreen_groups.render.report.page.charts import chart, trend_section
from evergreen_groups.render.report.page.groups import table
from evergreen_groups.render.report.page.summary import introduction, sums

if TYPE_CHECKING:
    from evergreen_groups.report import Report


def write_page(report: Report, stream: TextIO, *, details: bool = True) -> None:
    """Write the page; with ``details``, the members of each group are in it to be unfolded, and unfolded in print."""
    style = asset("page.css")
    script = asset("page.js")
    title = title_of(report.criteria)
    stream.write(beginning(title, report.generated_at, style, script))
    stream.write(introduction(report, title))
    stream.write("<main>\n")
    stream.write(notes_section(report.notes))
    stream.write(sums(report))
    if report.changes:
        stream.write(trend_section(report.changes.trend))
    if report.groups:
        stream.write(section("worst", "The worst groups", chart(report.groups)))
    if report.changes:
        stream.write(cleared_section(report.changes))
    if report.groups:
        stream.write(
            '<section aria-labelledby="all">\n<h2 id="all">All groups listed</h2>\n<div class="tools"></div>\n'
        )
        stream.writelines(table(report, details))
        stream.write("</section>\n")
    else:
        stream.write(element("p", NOTHING_FOUND, class_="empty"))
    stream.write("</main>\n")
    stream.write(ending(script))
