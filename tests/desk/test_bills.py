"""Bills and items of a group's members as the session may see them, and the log of who viewed titles."""

from __future__ import annotations

import logging
from decimal import Decimal

import pytest
from support.bills_and_items import ELM, bill, lend
from support.circulators import take_away
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of

from evergreen_groups.client import Client
from evergreen_groups.desk import GroupBills, Titles
from evergreen_groups.errors import NotFoundError
from evergreen_groups.sandbox import Sandbox

HUONG, DUC, MINH, LAN, WHITFIELD, DELETED, MEERA = 1015, 1016, 1017, 1018, 1036, 1031, 1042


def test_a_family(sandbox: Sandbox, client: Client) -> None:
    bill(sandbox, MINH, "3.00", "1.25", library=ELM)
    circulation = lend(sandbox, MINH, "2026-08-01", returned=True, billed="0.60")
    found = client.bills.of_user(MINH)
    assert [member.patron.id for member in found.members] == [HUONG, LAN, MINH, DUC]
    assert found.complete
    minh = found.member(MINH)
    assert minh.own_fines == Decimal("5.45")
    assert minh.bills is not None
    assert [(one.kind.text, one.balance, one.paid, found.library(one.library)) for one in minh.bills] == [
        ("overdue materials", Decimal("3.10"), Decimal(0), "HARBOR"),
        ("Photocopies", Decimal("1.75"), Decimal("1.25"), "ELM"),
        ("overdue materials", Decimal("0.60"), Decimal(0), "HARBOR"),
    ]
    assert [item and item.id for item in map(minh.item_of, minh.bills)] == [70019, None, circulation]
    assert (found.library(None), found.library(4711)) == ("", "")
    assert all(member.titles is None for member in found.members)


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
def test_what_it_costs(sandbox: Sandbox, proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        reader = Client(gateway, account="x").bills
        reader.of_user(MINH, titles=Titles.ALL)
        proxy.seen.clear()
        reader.of_user(MINH, member=DUC)
        assert sorted(method.split(".")[-2] for method in proxy.seen) == [
            "au", "circ", "mb", "mobts", "mous",
        ]  # fmt: skip
        proxy.seen.clear()
        reader.of_user(MINH, titles=Titles.ALL)
        assert len(proxy.seen) == 8


def test_what_is_hidden_is_never_nought(sandbox: Sandbox) -> None:
    lend(sandbox, LAN, "2039-01-01", library=ELM)
    take_away(sandbox, "VIEW_USER_TRANSACTIONS", user=4)
    with gateway_of(sandbox.url, "harbor_desk") as gateway:
        found = Client(gateway, account="x").bills.of_user(MINH)
    assert [member.bills for member in found.members] == [None] * 4
    assert [(member.patron.id, member.items.complete) for member in found.members] == [
        (HUONG, True), (LAN, False), (MINH, True), (DUC, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("titles", "shown"),
    [
        (Titles.NONE, {}),
        (Titles.JUVENILES, {MINH: ["A river in four seasons", "The owl who read at night"], LAN: ["The tide tables"]}),
        (Titles.ALL, None),
    ],
)
def test_titles_of_whom_the_setting_says(
    client: Client, caplog: pytest.LogCaptureFixture, titles: Titles, shown: dict[int, list[str]] | None
) -> None:
    with caplog.at_level(logging.INFO, "evergreen_groups"):
        found = client.bills.of_user(MINH, titles=titles)
    logged = [record.getMessage() for record in caplog.records if record.name == "evergreen_groups.desk"]
    assert logged == ([] if titles is Titles.NONE else ["titles: user 2 views those of group 1004"])
    assert "owl" not in caplog.text
    theirs = titles_of(found)
    if shown is None:
        assert theirs.keys() == {HUONG, DUC, MINH, LAN}
        assert theirs[DUC] == [
            *("Feathers, fins and fur <a field book>", "Kites over Pine Hill", "Lakeland soups"),
            "The owl who read at night",
        ]
    else:
        assert theirs == shown


def test_nobody_looks_where_there_is_nothing_to_show(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "evergreen_groups"):
        found = client.bills.of_user(MEERA, member=MEERA, titles=Titles.ALL)
        client.bills.of_user(MINH, member=DUC, titles=Titles.JUVENILES)
    assert titles_of(found) == {MEERA: []}
    assert "titles" not in caplog.text


def test_who_is_no_visible_member(sandbox: Sandbox, client: Client) -> None:
    for patron, member in ((MINH, WHITFIELD), (MINH, 999_999), (999_999, None), (DELETED, None)):
        with pytest.raises(NotFoundError):
            client.bills.of_user(patron, member=member)
    with gateway_of(sandbox.url, "north_manager") as gateway, pytest.raises(NotFoundError):
        Client(gateway, account="x").bills.of_user(1026, member=1027)
    with pytest.raises(NotFoundError):
        client.bills.of_user(MINH).member(WHITFIELD)


def titles_of(found: GroupBills) -> dict[int, list[str]]:
    """Return the titles shown for each member whose titles may be shown."""
    return {one.patron.id: sorted(one.titles.values()) for one in found.members if one.titles is not None}
