"""The page of a report by items: the columns that it sorts by come where fines stand otherwise."""

from __future__ import annotations

from decimal import Decimal
from io import BytesIO, StringIO
from typing import Any

import lxml.html
import pytest
from support.gateways import gateway_of

from evergreen_groups.render.report import IndexedLibrary, render, write_index
from evergreen_groups.report import Criteria, build_report, libraries
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.values import ZERO

ALWAYS = ["group", "name", "library", "members", "owing"]
LAST = ["overdue_since", "replacement_price"]


@pytest.mark.parametrize("details", [True, False])
@pytest.mark.parametrize(
    ("asked", "shown", "sorted_by"),
    [
        ({"min_overdue": 1}, ["overdue", "total", "over"], "overdue"),
        ({"min_lost": 1}, ["lost", "total", "over"], "lost"),
        ({"min_overdue": 1, "min_lost": 1}, ["overdue", "total", "lost"], "overdue"),
        ({"min_overdue": 1, "min_total": Decimal(25)}, ["overdue", "total", "over"], "total"),
    ],
)
def test_columns_totals_and_order(
    sandbox: Sandbox, asked: dict[str, Any], shown: list[str], sorted_by: str, details: bool
) -> None:
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        report = build_report(gateway, Criteria(**{"min_total": ZERO, "details": details, **asked}))
    render(report, "html", stream := StringIO())
    page = lxml.html.document_fromstring(stream.getvalue())
    assert page.xpath("//table[@id='groups']/thead/tr/th/@data-column") == [*ALWAYS, *shown, *LAST]
    assert page.xpath("//th[@aria-sort='descending']/@data-column") == [sorted_by]
    lines = page.xpath("//table[@id='groups']/tbody/tr[1]")
    assert {len(line) for line in lines} == {10}
    totals = [cell.text_content() for cell in page.xpath("//table[@id='groups']/tfoot/tr/*")]
    assert totals[3] == str(getattr(report.item_totals, shown[0]).value)
    assert totals[-1] == f"${report.item_totals.replacement_price.value}"


@pytest.mark.parametrize(
    ("asked", "sums"),
    [
        ({"min_total": ZERO, "min_overdue": 1}, ["Items overdue"]),
        ({"min_overdue": 1}, ["Items overdue", "Group Fines"]),
        ({}, ["Group Fines"]),
    ],
)
def test_the_index_of_libraries_has_the_sums_that_the_report_is_about(
    sandbox: Sandbox, asked: dict[str, Any], sums: list[str]
) -> None:
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        report = build_report(gateway, Criteria(**asked))
    parts = libraries.by_library(report)
    entries = [
        IndexedLibrary(one, parts[one.shortname], {"html": f"{one.shortname}.html"})
        for one in libraries.reported_libraries(report)
    ]
    write_index(report, entries, stream := BytesIO())
    page = lxml.html.document_fromstring(stream.getvalue().decode())
    heads = page.xpath("//table[@id='libraries']/thead/tr/th/text()")
    assert heads[: len(sums) + 4] == ["Library", "Groups", "Members", *sums, "Over the limit"]
    rows = page.xpath("//table[@id='libraries']//tr")
    assert {len(row) for row in rows} == {len(heads)}
    if "Items overdue" in sums:
        (overdue,) = page.xpath("//tfoot//td[@data-label='Items overdue']/text()")
        assert overdue == str(report.item_totals.overdue.value)
