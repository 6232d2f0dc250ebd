"""Items one by one, and their titles: what is seen, what is said to be hidden, and what it costs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from support.affairs import ELM, HARBOR, bill, lend
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of

from evergreen_groups.gateway import Gateway
from evergreen_groups.ils import (
    CirculationKind,
    ItemOut,
    OrgUnits,
    PatronItems,
    held_at,
    permissions,
    read_items,
    read_titles,
)
from evergreen_groups.sandbox import Sandbox

HUONG, DUC, MINH, LAN = 1015, 1016, 1017, 1018


def items_of(gateway: Gateway, *patrons: int) -> dict[int, PatronItems]:
    org_units = OrgUnits.read(gateway)
    visible = held_at(gateway, org_units, [permissions.VIEW_CIRCULATIONS])[permissions.VIEW_CIRCULATIONS]
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
    assert [(item.id, item.kind) for item in found[LAN].items] == [(returned, None)]
    assert found[LAN].out == ()


def test_what_is_hidden_is_said_to_be(sandbox: Sandbox) -> None:
    lend(sandbox, LAN, "2039-01-01", library=ELM)
    with gateway_of(sandbox.url, "harbor_desk") as desk:
        found = items_of(desk, DUC, LAN)
        nothing = read_items(desk, OrgUnits.read(desk), (), [LAN])
    assert (found[LAN].items, found[LAN].complete) == ((), False)
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
