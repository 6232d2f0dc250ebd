"""The report as one HTML file that needs nothing else: style, script and chart are in it.

It asks no other host for anything, and a content security policy holds it to that; the only script that may run is the
one whose hash the policy names. Without scripts it is the same page, but for the buttons that sort and unfold.
"""

from __future__ import annotations

from typing import TextIO

from evergreen_groups import __version__
from evergreen_groups.models import NOTHING, Report
from evergreen_groups.render.page.chart import chart
from evergreen_groups.render.page.frame import asset, head, notes_section, section
from evergreen_groups.render.page.groups import table
from evergreen_groups.render.page.markup import Markup, element, opening
from evergreen_groups.render.wording import (
    CONFIDENTIAL,
    NOTHING_FOUND,
    TITLE,
    amount,
    information_only,
    listed,
    local_time,
    printable,
)


def write_page(report: Report, stream: TextIO, *, details: bool = True) -> None:
    """Write the page; with ``details``, the members of each group are in it to be unfolded, and unfolded in print."""
    style = asset("page.css")
    script = asset("page.js")
    stream.write("<!DOCTYPE html>\n")
    stream.write(opening("html", lang="en"))
    stream.write(head(f"{TITLE}, {local_time(report.generated_at)[:10]}", style, script))
    stream.write("\n<body>\n")
    stream.write(_introduction(report))
    stream.write("<main>\n")
    stream.write(notes_section(report.notes))
    stream.write(_sums(report))
    if report.groups:
        stream.write(section("worst", "The worst groups", chart(report.groups)))
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


def _introduction(report: Report) -> Markup:
    moment = element(
        "time", local_time(report.generated_at), datetime=report.generated_at.isoformat(timespec="seconds")
    )
    facts = (
        ("Listed", listed(report.criteria)),
        ("Time of the data", moment),
        ("Gateway", printable(report.gateway)),
    )
    rows = [element("div", element("dt", term), element("dd", fact)) for term, fact in facts]
    return element(
        "header",
        element("h1", TITLE),
        element(
            "p", element("strong", "For information only."), " ", information_only(report.criteria.limit), class_="rule"
        ),
        element("dl", *rows, class_="facts"),
    )


def _sums(report: Report) -> Markup:
    totals = report.totals
    sums = [
        ("Groups", f"{totals.group_count:,}", ""),
        ("Members", f"{totals.member_count:,}", f"{totals.owing_count:,} of them owe"),
        ("Combined fines", amount(totals.combined_fines), ""),
        ("Members over the limit", f"{totals.over_limit_count:,}", ""),
        (
            "Groups with nobody over it",
            f"{totals.groups_nobody_over_limit:,}",
            f"yet together they owe more than {amount(report.criteria.limit.amount or NOTHING)}"
            if totals.groups_nobody_over_limit
            else "",
        ),
    ]
    if totals.incomplete_group_count:
        sums.append(("Incomplete groups", f"{totals.incomplete_group_count:,}", "not every member can be seen"))
    tiles = [
        element("div", element("dt", term, *([element("small", remark)] if remark else [])), element("dd", value))
        for term, value, remark in sums
    ]
    return section("sums", "Sums", element("dl", *tiles, class_="sums"))
