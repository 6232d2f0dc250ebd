"""Items one by one, and their titles: what is seen, what is said to be hidden, and what it costs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from support.bills_and_items import ELM, HARBOR, bill, lend
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of
from support.recorded import gateway_of as recorded_gateway_of

from evergreen_groups.gateway import Gateway
from evergreen_groups.ils import (
    CirculationKind,
    ItemOut,
    OrgUnits,
    PatronItems,
    orgs_by_permission,
    permissions,
    read_items,
    read_titles,
)
from evergreen_groups.sandbox import Sandbox

HUONG, DUC, MINH, LAN = 1015, 1016, 1017, 1018


def items_of(gateway: Gateway, *patrons: int) -> dict[int, PatronItems]:
    org_units = OrgUnits.read(gateway)
    visible = orgs_by_permission(gateway, org_units, [permissions.VIEW_CIRCULATIONS])[permissions.VIEW_CIRCULATIONS]
    return read_items(gateway, org_units, visible, patrons)


def test_what_is_out_and_what_came_back_unpaid(sandbox: Sandbox, admin: Gateway) -> None:
    returned = lend(sandbox, LAN, "2026-08-01", returned=True, billed="2.00")
    bill(sandbox, LAN, "1.00")
    paid = lend(sandbox, LAN, "2026-08-02", returned=True)
    with sandbox._store.transaction() as connection:
        connection.execute("UPDATE circ SET xact_finish = '2026-09-01T10:00:00+0000' WHERE id = ?", [paid])
    found = items_of(admin, DUC, LAN)
    assert [(item.copy, item.kind) for item in found[DUC].out] == [
        (9005, CirculationKind.LOST),
        (9003, CirculationKind.OVERDUE),
        (9002, CirculationKind.OUT),
    ]
    assert found[DUC].complete
    assert [(item.id, item.kind) for item in found[LAN].items] == [(70020, None), (returned, None)]
    assert found[LAN].out == ()


@pytest.fixture(scope="module")
def recorded_units() -> OrgUnits:
    with recorded_gateway_of("contacts-021", "contacts-022") as gateway:
        return OrgUnits.read(gateway)


def test_as_a_real_evergreen_tells_them(recorded_units: OrgUnits) -> None:
    """Of 307 something came back and is owed for, something else is paid; the one that 312 lost is paid as well."""
    every = [unit.id for unit in recorded_units]
    with recorded_gateway_of("items-004") as gateway:
        found = read_items(gateway, recorded_units, every, range(301, 317))
    overdue, long_overdue = CirculationKind.OVERDUE, CirculationKind.LONG_OVERDUE
    assert [(item.id, item.kind) for item in found[301].items] == [(701, overdue), (702, CirculationKind.OUT)]
    assert [(item.id, item.kind) for item in found[307].items] == [(708, None)]
    assert {id: theirs.items[0].kind for id, theirs in found.items() if theirs.items and id not in (301, 307)} == {
        302: CirculationKind.LOST,
        303: overdue,
        304: long_overdue,
        305: CirculationKind.CLAIMS_RETURNED,
        306: overdue,
        308: CirculationKind.OUT,
        311: CirculationKind.LOST,
        312: None,
        314: overdue,
        315: overdue,
    }
    assert all(theirs.complete for theirs in found.values())
    (first,) = found[314].items
    assert (first.due, first.library, first.copy) == (datetime(2026, 6, 12, 23, 59, 59, tzinfo=UTC), 4, 9302)


def test_an_older_release_has_its_fields_in_another_order(recorded_units: OrgUnits) -> None:
    """It has no ``circ.renewal``, so that fields after it stand elsewhere; what was asked for here had some alone."""
    every, patrons = [unit.id for unit in recorded_units], range(5001, 5053)
    with recorded_gateway_of("family-003", alike=False) as gateway:
        found = read_items(gateway, recorded_units, every, patrons)
    with recorded_gateway_of("3.12/family-003", alike=False) as gateway:
        assert read_items(gateway, recorded_units, every, patrons) == found
    assert [item.copy for item in found[5041].items] == [520, 519, 518]


def test_hidden_ones_as_a_real_evergreen_tells_of_them(recorded_units: OrgUnits) -> None:
    with recorded_gateway_of("items-005", "items-006") as gateway:
        found = read_items(gateway, recorded_units, [4, 8], range(301, 317))
    assert [id for id, items in found.items() if not items.complete] == [303]
    assert found[303].items == ()


def test_titles_as_a_real_evergreen_has_them() -> None:
    """Two items aren't cataloged; one of them has no title at all."""
    with recorded_gateway_of("items-007", "items-008", "items-009") as gateway:
        assert read_titles(gateway, [4182, 4183, 4216, 4482, 9301, 9302]) == {
            4182: "Stardust",
            4183: "Coraline",
            4216: "Stardust",
            4482: "Cláudia",
            9301: "Borrowed from elsewhere",
        }


def test_what_is_hidden_is_said_to_be(sandbox: Sandbox) -> None:
    lend(sandbox, LAN, "2039-01-01", library=ELM)
    with gateway_of(sandbox.url, "harbor_desk") as desk:
        found = items_of(desk, DUC, LAN)
        nothing = read_items(desk, OrgUnits.read(desk), (), [LAN])
    assert (found[LAN].out, found[LAN].complete) == ((), False)
    assert found[DUC].complete
    assert nothing == {LAN: PatronItems((), complete=False)}


@pytest.mark.parametrize(
    ("now", "days"),
    [
        (datetime(2026, 11, 2, 23, 59, tzinfo=UTC), 0),
        (datetime(2026, 11, 3, 0, 1, tzinfo=UTC), 1),
        (datetime(2026, 12, 2, 12, tzinfo=UTC), 30),
        (datetime(2026, 11, 2, 22, tzinfo=timezone(timedelta(hours=-5))), 1),
    ],
)
def test_days_overdue_go_by_the_servers_calendar(now: datetime, days: int) -> None:
    due = datetime(2026, 11, 2, 23, 59, 59, tzinfo=UTC)
    assert ItemOut(1, 2, 3, HARBOR, due, CirculationKind.OVERDUE).days_overdue(now) == days
    assert ItemOut(1, 2, 3, HARBOR, due, CirculationKind.CLAIMS_RETURNED).days_overdue(now) == 0
    assert ItemOut(1, 2, 3, HARBOR, None, None).days_overdue(now) == 0


def test_titles_in_three_calls(sandbox: Sandbox, proxy: FaultProxy) -> None:
    with sandbox._store.transaction() as connection:
        connection.execute("UPDATE acp SET dummy_title = 'A former name' WHERE id = 9001")
        connection.execute("UPDATE rmsr SET title = NULL WHERE id = 7004")
    with gateway_of(proxy.url, "harbor_desk") as desk:
        desk.login()
        desk.idl("acp", "acn", "rmsr")
        proxy.seen.clear()
        found = read_titles(desk, [9001, 9002, 9003, 9004, 9005, 9006, 99_999])
        assert proxy.seen == [f"open-ils.pcrud.search.{name}.atomic" for name in ("acp", "acn", "rmsr")]
        assert read_titles(desk, []) == {}
    assert found == {
        9001: "Seagulls at the window",
        9002: "Lakeland soups",
        9003: "The owl who read at night",
        9004: "The owl who read at night",
        9006: "Garden paths on loan from Elm",
    }
