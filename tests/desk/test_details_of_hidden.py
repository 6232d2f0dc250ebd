"""Group Member Details with hidden members: the check for them is part of the call for items out.

A row of an outside patron's circulation serves as the control; all other rows must belong to members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from support.circulators import make_stock_circulator, take_away
from support.debts import owe
from support.fault_proxy import FaultProxy, alter_payloads
from support.gateways import gateway_of

from evergreen_groups.client import Client
from evergreen_groups.desk import GroupDetails
from evergreen_groups.errors import DataError
from evergreen_groups.ils import CirculationCounts
from evergreen_groups.sandbox import Sandbox

HARBOR, MILL = 11, 21
OKONKWO, HIDDEN, STRANGER = 1001, 1012, 1015
ITEMS, CHECK = "open-ils.pcrud.search.circ.atomic", "open-ils.pcrud.search.aou.atomic"
MEMBERS = "open-ils.actor.usergroup.members.retrieve"
ID, USR = 10, 22
"""Positions of the id and the patron in a row of the class circ."""
Rows = list[dict[str, Any]]


@pytest.fixture
def client(sandbox: Sandbox, proxy: FaultProxy) -> Iterator[Client]:
    """A circulator's client that sees five of six Okonkwos, all with items out. Reference data is cached."""
    account = make_stock_circulator(sandbox)
    sandbox._store.update("au", HIDDEN, {"usrgroup": OKONKWO})
    owe(sandbox, HIDDEN, (MILL, "9.00"))
    for patron in (OKONKWO, 1002):
        due = {"due_date": "2099-01-01T10:00:00+0000", "fine_interval": "1 day"}
        sandbox._store.insert("circ", {"usr": patron, "circ_lib": HARBOR, **due})
    with gateway_of(proxy.url, account) as gateway:
        gateway.login()
        client = Client(gateway, account=account)
        client.details.of_user(OKONKWO)
        proxy.seen.clear()
        yield client


def is_strangers(row: dict[str, Any]) -> bool:
    return not 1001 <= row["__p"][USR] <= 1006


def figures(details: GroupDetails) -> tuple[int, Decimal | None, Decimal, CirculationCounts | None]:
    group = details.group
    return group.hidden_member_count, group.hidden_fines, group.combined_fines, details.all_circulations


def test_an_outside_patrons_row_is_the_control(client: Client, proxy: FaultProxy) -> None:
    true = alter_payloads(proxy, ITEMS, lambda rows: rows)
    details = client.details.of_user(OKONKWO, exact=False)
    assert (details.group.hidden_member_count, details.group.hidden_fines) == (1, Decimal("9.00"))
    assert (proxy.seen.count(ITEMS), proxy.seen.count(CHECK)) == (1, 0)
    assert [is_strangers(row) for row in true[0]].count(True) == 1
    assert details.circulations[1002] == CirculationCounts(1, 0, 0)


def under_another_id(rows: Rows) -> Rows:
    for row in filter(is_strangers, rows):
        row["__p"][USR] = OKONKWO
    return rows


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
@pytest.mark.parametrize(
    "change", [under_another_id, lambda rows: [row for row in rows if not is_strangers(row)], lambda _rows: []]
)
def test_without_the_control_row_separate_calls_are_made(
    client: Client, proxy: FaultProxy, change: Callable[[Rows], Rows]
) -> None:
    """The control row may have been mistaken for a member's, so discard the whole answer."""
    right = figures(client.details.of_user(OKONKWO, exact=False))
    proxy.seen.clear()
    alter_payloads(proxy, ITEMS, change, times=1)
    assert figures(client.details.of_user(OKONKWO, exact=False)) == right
    assert (proxy.seen.count(ITEMS), proxy.seen.count(CHECK)) == (2, 1)


def a_members_for_a_strangers(rows: Rows) -> Rows:
    next(row for row in rows if not is_strangers(row))["__p"][USR] = STRANGER
    return rows


@pytest.mark.parametrize("change", [a_members_for_a_strangers, lambda rows: rows + rows[-1:], lambda rows: rows * 2])
def test_other_rows_are_refused(client: Client, proxy: FaultProxy, change: Callable[[Rows], Rows]) -> None:
    alter_payloads(proxy, ITEMS, change)
    with pytest.raises(DataError):
        client.details.of_user(OKONKWO, exact=False)


@pytest.mark.parametrize(
    "wrong", [lambda ids: [*ids, 99_999], lambda ids: [99_999 if id == HIDDEN else id for id in ids]]
)
@pytest.mark.parametrize(
    "times",
    [1, pytest.param(99, marks=pytest.mark.differs("copies-unsaid", reason="they are asked for by another method"))],
)
def test_members_that_are_not_the_groups_are_told_by_it(
    client: Client, sandbox: Sandbox, proxy: FaultProxy, wrong: Callable[[list[int]], list[int]], times: int
) -> None:
    owe(sandbox, HIDDEN)  # owes nothing, so balances don't reveal the member
    alter_payloads(proxy, MEMBERS, wrong, times=times)
    if times == 1:
        group = client.details.of_user(OKONKWO, exact=False).group
        assert (group.hidden_ids, group.hidden_fines) == (frozenset({HIDDEN}), Decimal("0.00"))
    else:
        with pytest.raises(DataError, match="not the members of the requested groups"):
            client.details.of_user(OKONKWO, exact=False)


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
def test_a_large_group_is_asked_about_apart(client: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    right = figures(client.details.of_user(OKONKWO, exact=False))
    monkeypatch.setattr("evergreen_groups.ils.circulations._MOST_UNDER_CONDITION", 5)
    proxy.seen.clear()
    assert figures(client.details.of_user(OKONKWO, exact=False)) == right
    assert (proxy.seen.count(ITEMS), proxy.seen.count(CHECK)) == (1, 1)


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
def test_more_circulations_than_fit_are_asked_for_apart(
    client: Client, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = figures(client.details.of_user(OKONKWO, exact=False))
    monkeypatch.setattr("evergreen_groups.ils.circulations._MOST_ROWS_UNDER_CONDITION", 3)
    proxy.seen.clear()
    assert figures(client.details.of_user(OKONKWO, exact=False)) == right
    assert (proxy.seen.count(ITEMS), proxy.seen.count(CHECK)) == (2, 1)


def test_without_permission_nothing_is_asked_about_items(client: Client, proxy: FaultProxy, sandbox: Sandbox) -> None:
    take_away(sandbox, "VIEW_CIRCULATIONS")
    client.gateway.logout()
    client.gateway.login()
    details = client.details.of_user(OKONKWO, exact=False)
    assert not details.all_circulations.complete
    assert details.group.hidden_fines == Decimal("9.00")
    assert ITEMS not in proxy.seen


@pytest.mark.long
def test_a_question_that_is_too_large_for_a_request_is_asked_apart(
    client: Client, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    """The filter also contains the hidden members' ids, which are longer in a large consortium."""
    with sandbox._store.transaction() as connection:
        cursor = connection.execute("SELECT * FROM au WHERE id = 1002")
        known = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
        for id in range(2_000_000_000, 2_000_000_985):
            home = HARBOR if id < 2_000_000_450 else MILL
            row = {**known, "id": id, "usrname": f"large{id}", "home_ou": home}
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO au ({', '.join(row)}) VALUES ({marks})", list(row.values()))
    group = client.details.of_user(OKONKWO, exact=False).group
    assert (len(group.members), group.hidden_member_count) == (6 + 450, 1 + 535)
    assert proxy.seen.count(CHECK) == 1
