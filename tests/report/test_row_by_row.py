"""The report on releases before 3.16, whose server looks up each row that it hands out by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal

import pytest
from support.fault_proxy import fault_proxy
from support.gateways import gateway_of
from support.releases import LATEST, differences_of

from evergreen_groups.report import Criteria, Report, build_report
from evergreen_groups.sandbox import Sandbox


def asked(sandbox: Sandbox, account: str) -> tuple[Counter[str], Report]:
    """How often each method was called for a report with details, and the report."""
    sandbox.reset()
    with fault_proxy(sandbox.url) as proxy, gateway_of(proxy.url, account) as gateway:
        report = build_report(gateway, Criteria(min_total=Decimal("5.00"), details=True))
    return Counter(proxy.seen), report


@pytest.mark.older(latest=False)
def test_who_sees_everybody_makes_the_same_calls_as_on_the_latest(
    sandbox_on: Callable[[str], Sandbox], release: str
) -> None:
    """No look for hidden rows: that there are none is known."""
    calls, report = asked(sandbox_on(release), "admin")
    expected, latest = asked(sandbox_on(LATEST), "admin")
    assert calls == expected
    assert report.totals == latest.totals
    assert report.totals.group_count > 5


@pytest.mark.older(latest=False)
def test_circulations_that_the_account_may_not_see_are_looked_for(
    sandbox_on: Callable[[str], Sandbox], release: str
) -> None:
    calls, _report = asked(sandbox_on(release), "north_manager")
    expected, _report = asked(sandbox_on(LATEST), "north_manager")
    looks = calls - expected
    assert looks == Counter({"open-ils.pcrud.search.aou.atomic": 1} if "no-count" in differences_of(release) else {})
