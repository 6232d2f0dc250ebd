"""Holds that are ready for pickup, as Evergreen counts them, and hidden ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from support.bills_and_items import ELM, HARBOR, hold
from support.circulators import change_rows
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of
from support.recorded import gateway_of as recorded

from evergreen_groups.ils import OrgUnit, OrgUnits, PatronHolds, ReadyHold
from evergreen_groups.sandbox import Sandbox

DUC, MINH, LAN = 1016, 1017, 1018
TIME = "2026-11-01T10:00:00+0000"


@pytest.fixture(autouse=True)
def _no_holds(sandbox: Sandbox) -> None:
    change_rows(sandbox, "DELETE FROM ahr")


def read(sandbox: Sandbox, account: str = "consortium_staff", *visible: int) -> dict[int, PatronHolds]:
    with gateway_of(sandbox.url, account) as gateway:
        org_units = OrgUnits.read(gateway)
        return PatronHolds.read(gateway, org_units, visible or org_units.ids, [DUC, MINH, LAN])


def ready(sandbox: Sandbox) -> list[int]:
    return [hold.id for theirs in read(sandbox).values() for hold in theirs.ready]


@pytest.mark.parametrize(
    "changed",
    [
        {"cancel_time": TIME},
        {"fulfillment_time": TIME},
        {"current_shelf_lib": None, "shelf_time": None, "shelf_expire_time": None},
        {"current_shelf_lib": ELM},
        {"pickup_lib": ELM},
    ],
    ids=["canceled", "picked up", "in transit", "on another shelf", "pickup library changed"],
)
def test_what_is_not_ready(sandbox: Sandbox, changed: dict[str, Any]) -> None:
    id = hold(sandbox, MINH, "2039-01-10")
    assert ready(sandbox) == [id]
    sandbox._store.update("ahr", id, changed)
    assert ready(sandbox) == []


def test_by_deadline_and_ready_after_it(sandbox: Sandbox) -> None:
    """Evergreen keeps a hold ready until staff clear the shelf."""
    late, no_limit, early = (
        hold(sandbox, MINH, "2039-01-10"),
        hold(sandbox, MINH, None),
        hold(sandbox, MINH, "2026-01-10"),
    )
    lan = hold(sandbox, LAN, "2039-01-11", library=ELM, copy=9002)
    found = read(sandbox)
    assert [one.id for one in found[MINH].ready] == [early, late, no_limit]
    (hers,) = found[LAN].ready
    assert (hers.id, hers.patron, hers.copy, hers.library, str(hers.until)) == (
        *(lan, LAN, 9002, ELM),
        "2039-01-11 23:59:59+00:00",
    )
    assert found[DUC] == PatronHolds((), complete=True)


def test_hidden_ones_are_known_of(sandbox: Sandbox) -> None:
    hold(sandbox, MINH, "2039-01-10", library=ELM)
    canceled = hold(sandbox, LAN, "2039-01-10", library=ELM)
    sandbox._store.update("ahr", canceled, {"cancel_time": TIME})
    visible = hold(sandbox, LAN, "2039-01-10")
    found = read(sandbox, "harbor_desk", HARBOR)
    assert found[MINH] == PatronHolds((), complete=False)
    assert ([one.id for one in found[LAN].ready], found[LAN].complete) == ([visible], True)


def test_without_the_permission_nothing_is_asked_and_nothing_is_known(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        org_units = OrgUnits.read(gateway)
        proxy.seen.clear()
        assert PatronHolds.read(gateway, org_units, (), [MINH]) == {MINH: PatronHolds((), complete=False)}
        assert proxy.seen == []


def test_as_a_real_evergreen_tells_them() -> None:
    """Two are ready. A third item is on its way to where it is to be picked up."""
    org_units = OrgUnits([OrgUnit(4, "BR1", "Branch 1", None), OrgUnit(6, "BR3", "Branch 3", None)])
    with recorded("slip-001") as gateway:
        found = PatronHolds.read(gateway, org_units, org_units.ids, range(16575, 16581))
    assert found[16577] == PatronHolds(
        (ReadyHold(990011, 16577, 191649, 4, datetime(2026, 12, 10, 23, 59, 59, tzinfo=UTC)),), complete=True
    )
    assert [(hold.library, hold.copy) for hold in found[16578].ready] == [(6, 187718)]
    assert found[16579] == PatronHolds((), complete=True)
