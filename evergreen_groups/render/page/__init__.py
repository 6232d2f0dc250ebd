"""The report as one HTML file that needs nothing else: style, script and chart are in it.

It asks no other host for anything, and a content security policy holds it to that; the only script that may run is the
one whose hash the policy names. Without scripts it is the same page, but for the buttons that sort and unfold.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TextIO

from evergreen_groups import __version__
from evergreen_groups.models import NOTHING, Report
from evergreen_groups.render.page.chart import chart
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
    style = _asset("page.css")
    script = _asset("page.js")
    stream.write("<!DOCTYPE html>\n")
    stream.write(opening("html", lang="en"))
    stream.write(_head(report, style, script))
    stream.write("\n<body>\n")
    stream.write(_introduction(report))
    stream.write("<main>\n")
    stream.write(_notes(report.notes))
    stream.write(_sums(report))
    if report.groups:
        stream.write(_section("worst", "The worst groups", chart(report.groups)))
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


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _head(report: Report, style: str, script: str) -> Markup:
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    return element(
        "head",
        opening("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        opening("meta", name="viewport", content="width=device-width, initial-scale=1"),
        opening("meta", name="robots", content="noindex, nofollow"),
        opening("meta", name="referrer", content="no-referrer"),
        opening("meta", name="color-scheme", content="light dark"),
        element("title", f"{TITLE}, {local_time(report.generated_at)[:10]}"),
        Markup(f"<style>{style}</style>"),
    )


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


def _section(id: str, heading: str, *children: str) -> Markup:
    return element("section", element("h2", heading, id=id), *children, "\n", aria_labelledby=id)


def _notes(notes: tuple[str, ...]) -> Markup:
    if not notes:
        return Markup()
    items = [element("li", printable(note)) for note in notes]
    return element(
        "section",
        element("h2", "Please note", id="notes"),
        element("ul", *items),
        class_="notes",
        aria_labelledby="notes",
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
    return _section("sums", "Sums", element("dl", *tiles, class_="sums"))
