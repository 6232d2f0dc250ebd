"""The estimate of what overdue and lost items would cost, in each format of a report by items."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import lxml.html
import pytest
from support.report_samples import member, report_of

from evergreen_groups.groups import Group
from evergreen_groups.ils import UnreturnedItems
from evergreen_groups.render.report import LetterOptions, html_letter, plain_letter, render
from evergreen_groups.report import Criteria, MemberItems, Report, ReportItems
from evergreen_groups.values import Total

A, B = 71, 72
DUE = datetime(2026, 9, 3, 23, 59, 59, tzinfo=UTC)
SENTENCE = "4 items overdue, the oldest since 3 Sept 2026; 1 item lost; estimated replacement price $62.00"
AT_LEAST = (
    "at least 4 items overdue, the oldest since 3 Sept 2026 or longer; 1 item lost; "
    "estimated replacement price at least $62.00"
)


PRICE = Total(Decimal("62.00"))


def by_items(*, known: bool = True, price: Total[Decimal] = PRICE) -> Report:
    """Return a report of one group that owes nothing. ``known``: the second member has no items, not unknown ones."""
    group = Group(7, (member(A, "Secret, Name", "0.00", group_lead=True), member(B, "Secret, Name", "0.00")))
    found = report_of([group])
    theirs = {
        A: MemberItems(UnreturnedItems(4, 1), (DUE,), price),
        B: MemberItems() if known else MemberItems(price=Total(Decimal(0), exact=False), certain=False),
    }
    criteria = Criteria(min_total=Decimal(0), min_overdue=1, details=False)
    return replace(found, criteria=criteria, items=ReportItems(theirs, {}, found.generated_at))


def written(report: Report, format: str) -> str:
    render(report, format, stream := io.StringIO(newline=""))
    return stream.getvalue()


@pytest.mark.parametrize(("known", "sentence"), [(True, SENTENCE), (False, AT_LEAST)])
def test_in_the_sentence_about_a_group(known: bool, sentence: str) -> None:
    report = by_items(known=known)
    page = lxml.html.document_fromstring(html_letter(report, LetterOptions())).text_content()
    for text in (written(report, "table"), written(report, "html"), plain_letter(report, LetterOptions()), page):
        assert sentence in " ".join(text.split())


def test_an_unknown_price_is_never_nothing() -> None:
    report = by_items(price=Total(Decimal(0), exact=False))
    assert "estimated replacement price unknown" in written(report, "html")
    [group] = json.loads(written(report, "json"))["groups"]
    assert (group["replacement_price"], group["replacement_price_at_least"]) == (None, "0.00")


def test_in_columns_and_totals() -> None:
    report = by_items()
    document = json.loads(written(report, "json"))
    assert (document["groups"][0]["replacement_price"], document["totals"]["replacement_price"]) == ("62.00", "62.00")
    assert document["totals"]["group_fines"] == document["groups"][0]["group_fines"] == "0.00", "in no sum of fines"
    first, *_others = csv.DictReader(io.StringIO(written(report, "csv")))
    assert [*first][-3:] == ["overdue_since", "replacement_price", "replacement_price_at_least"], (
        "new columns come last"
    )
    assert first["replacement_price"] == first["replacement_price_at_least"] == "62.00"
    assert "Replacement price (estimate)  $62.00" in plain_letter(report, LetterOptions())
    headings = lxml.html.document_fromstring(written(report, "html")).xpath("//table[@id='groups']//th")
    assert "Replacement price (estimate)" in [heading.text_content().strip() for heading in headings]


def test_nothing_of_it_by_money() -> None:
    report = replace(by_items(), criteria=Criteria(), items=None)
    for format in ("table", "html", "json", "csv"):
        shown = re.sub("(?s)<style>.*?</style>", "", written(report, format))  # all pages share the style sheet
        assert "replacement" not in shown.lower()
    assert "eplacement" not in plain_letter(report, LetterOptions()) + html_letter(report, LetterOptions())
