"""What fines are for, their age and items out, in every format, with unknown values marked."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rendered import workbook, written
from support.report_samples import GENERATED_AT, LOST, ORG_UNITS, bill, detailed, member, report_of, sample_report

from evergreen_groups.groups import Group, PatronState
from evergreen_groups.ils import Profiles, UnreturnedItems
from evergreen_groups.language import price
from evergreen_groups.nightly.output import publish
from evergreen_groups.render.report.wording import describe_group_details, describe_member_details
from evergreen_groups.report import AgeSum, Criteria, MemberDetails, Report, ReportDetails, libraries
from evergreen_groups.report.build import apply_criteria
from evergreen_groups.report.details import SummedBills


@pytest.fixture(scope="module")
def report() -> Report:
    return detailed()


def test_sentences(report: Report) -> None:
    assert report.details is not None
    first, second = report.groups[0], report.groups[1]
    said = describe_group_details(report.details.of_group(first))
    assert "lost materials" in said
    assert re.search(r"; since [1-9] May 2026", said)
    assert said.endswith("last paid 2 Mar 2026; 2 items overdue, 1 item lost")
    returned = replace(report.details.of_group(first), items=UnreturnedItems())
    assert describe_group_details(returned).endswith("last paid 2 Mar 2026")
    hidden = describe_group_details(replace(returned, not_known=None))
    assert hidden.startswith("at least ")
    said = describe_group_details(report.details.of_group(second))
    assert f"unknown kind: {price(second.members[0].own_fines)}" in said
    assert said.endswith("items overdue not known")
    assert (
        describe_member_details(report.details.of(second.members[0])) == "Owed for: not known; items overdue not known"
    )
    assert describe_member_details(report.details.of(first.members[1])).endswith("juvenile, expired, barred")


def test_json(report: Report) -> None:
    document = json.loads(written(report, "json"))
    for group in document["groups"]:
        if group["hidden_fines"] is None:
            assert (group["kinds_not_known"], group["group_fines"]) == (None, None)
        else:
            kinds = sum((Decimal(one["balance"]) for one in group["kinds"]), Decimal(group["kinds_not_known"]))
            assert kinds == Decimal(group["group_fines"])
        for person in (one for one in group["members"] if one["kinds"] is not None):
            assert sum(Decimal(one["balance"]) for one in person["kinds"]) == Decimal(person["own_fines"])
    first, second = document["groups"][:2]
    assert (first["items_overdue"], first["items_lost"], first["returnable"]) == (2, 1, True)
    assert (second["kinds_complete"], second["items_complete"], second["returnable"]) == (False, False, None)
    assert (second["items_overdue"], second["items_overdue_at_least"]) == (None, 0)
    assert second["members"][0]["kinds"] is None
    assert second["members"][0]["items_overdue"] is None
    assert "kinds" not in json.loads(written(sample_report(), "json"))["groups"][0]


def test_csv_has_the_same(report: Report) -> None:
    read = list(csv.DictReader(io.StringIO(written(report, "csv"))))
    first = read[0]
    assert (first["items_overdue"], first["returnable"], first["member_profile"]) == ("2", "true", "Adult")
    assert first["member_kinds"].startswith("'=Photocopies ")  # no formula
    unknown = next(row for row in read if row["group"] == str(report.groups[1].number))
    assert (unknown["member_kinds"], unknown["member_items_overdue"], unknown["returnable"]) == ("", "", "")
    assert not any(row["kinds"] for row in csv.DictReader(io.StringIO(written(sample_report(), "csv"))))


def test_the_page(report: Report) -> None:
    page = written(report, "html")
    assert '<option value="items">with items overdue</option>' in page
    assert "Owed for: not known" in page
    assert "juvenile, expired, barred; Profile: Adult" in page
    assert written(replace(report, criteria=replace(report.criteria, sort="age")), "html")


def test_the_spreadsheet(report: Report) -> None:
    book = workbook(report)
    groups, members = ([[cell.value for cell in row] for row in book[name]] for name in ("Groups", "Members"))

    def column(rows: list[list[object]], heading: str) -> Iterator[object]:
        place = rows[0].index(heading)
        return (row[place] for row in rows[1:])

    assert list(column(groups, "Items overdue"))[:2] == [2, "unknown"]
    assert "not known" in set(column(members, "Owed for"))
    assert set(column(members, "Profile")) == {"Adult"}
    assert next(column(groups, "Last payment")) == datetime(2026, 3, 2)  # noqa: DTZ001  # a cell has no zone


def test_groups_are_in_bands_by_how_long_they_have_owed_with_sums_in_every_format(report: Report) -> None:
    aged = apply_criteria(report, replace(report.criteria, age_bands=(30, 104)))
    document = json.loads(written(aged, "json"))
    bands = {group["group"]: group["age_band"] for group in document["groups"]}
    # Read on 14 August; the oldest debts began on 3 and 29 May. Of 31007 nothing is owed that is known of.
    assert bands == {1187: "30 to 103", 902: "104 or more", 2240: "30 to 103", 85: "30 to 103", 31007: "30 to 103"}
    sums = {one["age_band"]: (one["group_count"], one["group_fines"]) for one in document["totals"]["age_bands"]}
    assert sums["104 or more"] == (1, "29.00")
    rows = csv.DictReader(io.StringIO(written(aged, "csv")))
    assert {int(row["group"]): row["age_band"] for row in rows} == bands
    book = workbook(aged)
    groups = [[cell.value for cell in row] for row in book["Groups"].iter_rows()]
    place = groups[0].index("Days owing")
    assert {row[0]: row[place] for row in groups[1:]}[902] == "104+"
    summary = {row[0].value: row[1].value for row in book["Summary"].iter_rows()}
    assert summary["Fines of groups owing for 104+ days"] == 29
    page = written(aged, "html")
    assert '">Owing for 104+ days: 1 group ($29.00)</option>' in page
    assert " <small>(30\N{EN DASH}103)</small>" in page
    assert "days-" not in written(apply_criteria(report, replace(report.criteria, age_bands=())), "html")


def test_the_index_has_the_sums_of_bands(report: Report, tmp_path: Path) -> None:
    aged = apply_criteria(report, Criteria())
    publish(replace(aged, org_units=ORG_UNITS, criteria=Criteria()), tmp_path, ("html",))
    assert ">Fines of groups owing for 90+ days</th>" in (tmp_path / "latest" / "index.html").read_text()


@given(st.lists(st.lists(st.tuples(st.sampled_from(["BR1", "BR2"]), st.none() | st.integers(-2, 200)), min_size=1)))
def test_the_sums_of_a_librarys_bands_are_its_total(drawn: list[list[tuple[str, int | None]]]) -> None:
    """As far as it is known since when a group has owed something."""
    groups, details = [], {}
    for number, members in enumerate(drawn, 1):
        found = []
        for place, (library, days) in enumerate(members, 1):
            one = member(100 * number + place, "n", f"{number + place}.07", library=library)
            owed = () if days is None else (bill(one.id, one.own_fines, LOST, GENERATED_AT - timedelta(days)),)
            state = PatronState(False, False, False)
            details[one.id] = MemberDetails(SummedBills.of(owed), UnreturnedItems(), state, "Adult")
            found.append(one)
        groups.append(Group(number, tuple(found)))
    report = replace(
        report_of(groups, criteria=Criteria()),
        org_units=ORG_UNITS,
        details=ReportDetails(details, Profiles([]), (30, 60, 90), GENERATED_AT),
    )
    for part in libraries.by_library(report).values():
        sums = AgeSum.of(part)
        aged = [group for group in part.groups if any(details[one.id].owing_since for one in group.members)]
        assert sum(one.group_count for one in sums) == len(aged)
        assert sum(one.group_fines or 0 for one in sums) == sum(group.known_fines for group in aged)
        assert sums == sorted(sums, key=lambda one: one.band)
