"""The replacement price of a group's overdue and lost items, and the oldest due date, in reports by items."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from support.bills_and_items import lend
from support.circulators import change_rows, take_away
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of

from evergreen_groups.report import Criteria, GroupItems, build_report, read_reports
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.values import Total

FAMILY, LEAD, OTHER_ADULT, CHILD = 1001, 1001, 1002, 1003
BY_ITEMS = Criteria(min_total=Decimal(0), min_overdue=1)


@pytest.fixture
def family(sandbox: Sandbox) -> Sandbox:
    """A family whose items have the prices 16.99, 24.00, 12.50, and none (20.00 by the library's default)."""
    lend(sandbox, LEAD, "2026-06-01", copy=9006)
    lend(sandbox, CHILD, "2026-05-01", copy=9003)
    lend(sandbox, CHILD, "2026-03-01", copy=9002, state="LOST", kind="Lost Materials", billed="24.00")
    lend(sandbox, OTHER_ADULT, "2026-04-01", copy=9001, state="LONGOVERDUE")
    for patron, copy, state, returned in [(LEAD, 9005, None, True), (CHILD, 9007, "CLAIMSRETURNED", False)]:
        lend(sandbox, patron, "2026-02-01", copy=copy, state=state, returned=returned)
    lend(sandbox, LEAD, "2039-02-01", copy=9004)
    return sandbox


def read(url: str, account: str = "consortium_staff", criteria: Criteria = BY_ITEMS) -> GroupItems:
    with gateway_of(url, account) as gateway:
        report = build_report(gateway, criteria)
    assert report.items is not None
    return next(report.items.of_group(group) for group in report.groups if group.number == FAMILY)


def test_what_overdue_and_lost_items_would_cost(family: Sandbox) -> None:
    """Neither returned nor claimed items, nor those that aren't due yet."""
    found = read(family.url)
    assert (found.overdue, found.lost) == (Total(3), Total(1))
    assert found.oldest_due == datetime(2026, 4, 1, 23, 59, 59, tzinfo=UTC), "of the overdue ones"
    assert found.replacement_price == Total(Decimal("73.49"))


def test_a_lower_bound_if_a_price_is_unknown(family: Sandbox) -> None:
    change_rows(family, "DELETE FROM acp WHERE id = 9003")
    assert read(family.url).replacement_price == Total(Decimal("60.99"), exact=False)


def test_a_lower_bound_with_hidden_members_or_items(family: Sandbox) -> None:
    change_rows(family, "UPDATE au SET home_ou = 22 WHERE id = ?", CHILD)
    assert read(family.url, "north_manager").replacement_price == Total(Decimal("36.99"), exact=False)
    change_rows(family, "UPDATE au SET home_ou = 11 WHERE id = ?", CHILD)
    change_rows(family, "UPDATE circ SET circ_lib = 22 WHERE usr = ? AND target_copy = 9003", CHILD)
    found = read(family.url, "north_manager")
    assert found.replacement_price == Total(Decimal("60.99"), exact=False)
    take_away(family, "VIEW_CIRCULATIONS")
    assert read(family.url, "north_manager", Criteria(min_overdue=1)).replacement_price == Total(
        Decimal(0), exact=False
    )


def test_prices_take_few_calls_and_none_by_money(family: Sandbox, proxy: FaultProxy) -> None:
    def calls(*criteria: Criteria) -> list[str]:
        with gateway_of(proxy.url, "consortium_staff") as gateway:
            gateway.login()
            proxy.seen.clear()
            read_reports(gateway, criteria)
        return sorted(proxy.seen)

    of_prices = ["open-ils.actor.settings.value_for_all_orgs.atomic"] * 6
    of_prices += [f"open-ils.pcrud.search.{name}.atomic" for name in ("acn", "acp")]
    by_money, by_both = calls(Criteria()), calls(Criteria(), BY_ITEMS)
    assert not any(".acp." in method or ".acn." in method for method in by_money)
    assert sorted([*by_money, *of_prices]) == by_both
