"""The report as one HTML file that needs nothing else: style, script and chart are in it.

It asks no other host for anything, and a content security policy holds it to that; the only script that may run is the
one whose hash the policy names. Without scripts it is the same page, but for the buttons that sort and unfold.
"""

from __future__ import annotations

from typing import TextIO

from evergreen_groups import __version__
from evergreen_groups.models import Report
from evergreen_groups.render.page.changes import cleared_section
from evergreen_groups.render.page.chart import chart
from evergreen_groups.render.page.frame import asset, head, notes_section, section
from evergreen_groups.render.page.groups import table
from evergreen_groups.render.page.markup import element, opening
from evergreen_groups.render.page.summary import introduction, sums
from evergreen_groups.render.page.trend import trend_section
from evergreen_groups.render.wording import CONFIDENTIAL, NOTHING_FOUND, TITLE, local_time


def write_page(report: Report, stream: TextIO, *, details: bool = True) -> None:
    """Write the page; with ``details``, the members of each group are in it to be unfolded, and unfolded in print."""
    style = asset("page.css")
    script = asset("page.js")
    stream.write("<!DOCTYPE html>\n")
    stream.write(opening("html", lang="en"))
    stream.write(head(f"{TITLE}, {local_time(report.generated_at)[:10]}", style, script))
    stream.write("\n<body>\n")
    stream.write(introduction(report))
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
    stream.write(element("footer", element("p", f"{CONFIDENTIAL} Written by evergreen-groups {__version__}.")))
    # Not escaped: inside these two elements HTML knows no escapes, and the text is this package's own.
    stream.write(f"\n<script>{script}</script>\n</body>\n</html>\n")
