"""Reports that list groups by overdue and lost items. The reckoning over random populations has the rest."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO

import pytest
from support.bills_and_items import lend
from support.gateways import gateway_of

from evergreen_groups.errors import ConfigurationError
from evergreen_groups.gateway import Gateway
from evergreen_groups.render.report import render
from evergreen_groups.report import Choice, Criteria, GroupItems, Report, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.values import ZERO, Total

BY_ITEMS = Criteria(min_total=ZERO, min_overdue=2)
NGUYEN, RAGHUNATHAN = 1004, 1011
"""Two families with two items overdue each. The second owes nothing."""


def numbers(report: Report) -> list[int]:
    return [group.number for group in report.groups]


def items_of(report: Report, number: int) -> GroupItems:
    assert report.items is not None
    return report.items.of_group(next(group for group in report.groups if group.number == number))


def test_all_members_together_have_enough_items(staff: Gateway) -> None:
    report = build_report(staff, BY_ITEMS)
    assert numbers(report) == [NGUYEN, RAGHUNATHAN]
    items = items_of(report, NGUYEN)
    assert (items.overdue, items.lost) == (Total(2), Total(1))
    assert max(one.items.overdue for one in map(report.items.of, report.groups[0].members) if one.items) == 1
    assert numbers(build_report(staff, replace(BY_ITEMS, min_overdue=3))) == []


def test_an_item_counts_only_if_overdue_so_long(staff: Gateway) -> None:
    oldest = items_of(build_report(staff, BY_ITEMS), NGUYEN).oldest_due
    assert oldest is not None
    days = (datetime.now(UTC) - oldest).days
    found = replace(BY_ITEMS, min_overdue=1, overdue_days=days)
    assert numbers(build_report(staff, found)) == [NGUYEN]
    assert numbers(build_report(staff, replace(found, overdue_days=days + 1))) == []


def test_a_group_that_meets_one_condition_is_listed(staff: Gateway) -> None:
    by_fines, by_lost = (
        set(numbers(build_report(staff, criteria))) for criteria in (Criteria(), Criteria(min_total=ZERO, min_lost=1))
    )
    either = build_report(staff, Criteria(min_lost=1))
    assert set(numbers(either)) == by_fines | by_lost > by_fines
    fines = [group.known_fines for group in either.groups]
    assert fines == sorted(fines, reverse=True)


def test_families_without_fines_are_listed_the_most_items_first(staff: Gateway, sandbox: Sandbox) -> None:
    for due in ("2026-09-01", "2026-09-05", "2026-09-07"):
        lend(sandbox, 1035, due)
    report = build_report(staff, replace(BY_ITEMS, min_overdue=1))
    assert numbers(report) == [1008, NGUYEN, RAGHUNATHAN]
    items = items_of(report, 1008)
    assert (items.overdue, str(items.oldest_due)[:10]) == (Total(3), "2026-09-01")


def test_what_is_owed_for_narrows_fines_alone(staff: Gateway) -> None:
    nobody = Choice(owing_since=100_000)
    assert numbers(build_report(staff, Criteria(choice=nobody))) == []
    assert numbers(build_report(staff, Criteria(choice=nobody, min_overdue=2))) == [NGUYEN, RAGHUNATHAN]
    others = Choice(profiles=("Institution",))
    assert numbers(build_report(staff, Criteria(choice=others, min_overdue=2))) == []


def test_sums_count_items_as_well(staff: Gateway) -> None:
    report = build_report(staff, replace(BY_ITEMS, details=False))
    assert (numbers(report), report.details) == ([NGUYEN, RAGHUNATHAN], None)
    assert items_of(report, NGUYEN) == items_of(build_report(staff, BY_ITEMS), NGUYEN)


def test_it_takes_as_many_calls_as_by_fines_and_eight_for_prices(staff: Gateway) -> None:
    counts = []
    for criteria in (Criteria(), Criteria(min_total=ZERO, min_overdue=1)):
        before = staff.statistics.calls - staff.statistics.retries
        build_report(staff, criteria)
        counts.append(staff.statistics.calls - staff.statistics.retries - before)
    assert counts[0] + 8 >= counts[1] > 0


def test_an_account_that_sees_no_items_lists_the_same_groups(sandbox: Sandbox) -> None:
    """Evergreen counts all items. How many a group has isn't known, and never 0."""
    with sandbox._store.transaction() as connection:
        connection.execute("DELETE FROM grants WHERE usr = 2 AND permission = 'VIEW_CIRCULATIONS'")
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        report = build_report(gateway, BY_ITEMS)
        more = build_report(gateway, replace(BY_ITEMS, min_overdue=3))
        either = build_report(gateway, Criteria(min_total=ZERO, min_overdue=3, min_lost=1, details=False))
    assert (numbers(report), numbers(more)) == ([NGUYEN, RAGHUNATHAN], [])
    assert items_of(report, NGUYEN).overdue == Total(0, exact=False)
    assert NGUYEN in numbers(either)
    assert any("lacks VIEW_CIRCULATIONS" in note for note in either.notes)


def test_documents_have_more_only_where_items_are_asked_for(staff: Gateway) -> None:
    by_fines, by_items, sums = (
        build_report(staff, criteria) for criteria in (Criteria(), BY_ITEMS, replace(BY_ITEMS, details=False))
    )
    texts = {}
    for name, report in (("fines", by_fines), ("items", by_items), ("sums", sums)):
        for format in ("json", "csv"):
            stream = StringIO(newline="")
            render(report, format, stream)
            texts[name, format] = stream.getvalue()
    new = ("overdue_since", "replacement_price", "replacement_price_at_least")
    heads = {name: texts[name, "csv"].partition("\r\n")[0].split(",") for name in ("fines", "items", "sums")}
    assert heads["items"] == heads["sums"] == [*heads["fines"], *new]
    documents = {name: json.loads(texts[name, "json"]) for name in heads}
    assert documents["items"]["criteria"].items() >= {"min_total": "0.00", "min_overdue": 2, "min_lost": 0}.items()
    assert documents["items"]["criteria"].keys() - documents["fines"]["criteria"].keys() == {
        "min_overdue", "min_lost", "overdue_days",
    }  # fmt: skip
    assert "items_overdue" not in documents["fines"]["totals"]
    for name in ("items", "sums"):
        group, other = documents[name]["groups"]
        assert (group["items_overdue"], other["items_overdue"], documents[name]["totals"]["items_overdue"]) == (2, 2, 4)
        assert ("kinds" in group) is (name == "items")
        assert sum(member["items_overdue"] for member in group["members"]) == 2
        assert group["overdue_since"] > "2026-09"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"min_total": ZERO}, "no-condition"),
        ({"overdue_days": 3}, "overdue-days-without-items"),
        ({"overdue_days": 3, "min_lost": 1}, "overdue-days-without-items"),
        ({"min_total": ZERO, "min_lost": 1, "choice": Choice(kinds=("damage",))}, "choice-without-fines"),
        ({"min_total": ZERO, "min_lost": 1, "choice": Choice(owing_since=3)}, "choice-without-fines"),
    ],
)
def test_conditions_without_effect_are_refused(more: dict[str, object], code: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Criteria(**more)  # type: ignore[arg-type]
    assert raised.value.code == code
