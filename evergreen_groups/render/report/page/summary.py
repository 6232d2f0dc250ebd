"""What a page begins with: heading, rule, facts and totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.money import amount
from evergreen_groups.render import Markup, element, information_only, listed, local_time, one_may, printable, section
from evergreen_groups.render.report import compared, counts, signed, since

if TYPE_CHECKING:
    from evergreen_groups.report import Report


def introduction(report: Report, title: str) -> Markup:
    """The page's heading, the rule, and what is listed, when and where it was read."""
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
        element("h1", title),
        element(
            "p", element("strong", "For information only."), " ", information_only(report.criteria.limit), class_="rule"
        ),
        element("dl", *rows, class_="facts"),
    )


def sums(report: Report) -> Markup:
    """The totals, as tiles."""
    totals = report.totals
    tiles = [
        ("Groups", f"{totals.group_count:,}", ""),
        ("Members", f"{totals.member_count:,}", f"{totals.owing_count:,} of them owe"),
        ("Combined fines", amount(totals.combined_fines), ""),
        ("Members over the limit", f"{totals.over_limit_count:,}", ""),
        (
            "Groups with nobody over it",
            f"{totals.groups_nobody_over_limit:,}",
            f"yet together they owe more than {one_may(report.criteria.limit)}"
            if totals.groups_nobody_over_limit
            else "",
        ),
    ]
    if changes := compared(report):
        tiles.append(("Difference", signed(changes.difference), f"{since(changes)}: {counts(changes)}"))
    if totals.incomplete_group_count:
        tiles.append(("Incomplete groups", f"{totals.incomplete_group_count:,}", "not every member can be seen"))
    elements = [
        element("div", element("dt", term, *([element("small", remark)] if remark else [])), element("dd", value))
        for term, value, remark in tiles
    ]
    return section("sums", "Sums", element("dl", *elements, class_="sums"))
