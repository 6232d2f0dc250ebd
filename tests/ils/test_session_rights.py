"""What a session sees, found out at a few org units: the same as at each of them."""

from __future__ import annotations

import pytest
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of
from support.web_caller import session

from evergreen_groups.gateway import Gateway
from evergreen_groups.ils import OrgUnits, SessionAccount, permissions
from evergreen_groups.ils.permissions import SessionRights
from evergreen_groups.sandbox import Sandbox

SEVERAL = "open-ils.actor.user.perm.check.multi_org"
NAMES = ("STAFF_LOGIN", "VIEW_USER", "VIEW_CIRCULATIONS")
HARBOR, NORTH_BRANCH = 11, 21


@pytest.mark.parametrize("account", ["admin", "north_manager", "harbor_desk"])
@pytest.mark.parametrize("depth", [None, 0, 2, 3])
@pytest.mark.parametrize(("work", "home"), [(None, None), ((1,), NORTH_BRANCH), ((2, 21), None), ((), NORTH_BRANCH)])
def test_the_same_as_at_each_org_unit(
    sandbox: Sandbox, account: str, depth: int | None, work: tuple[int, ...] | None, home: int | None
) -> None:
    """Whatever the depth of the permission, wherever they work, and whatever their home library."""
    (row,) = sandbox._store.rows("au", {"usrname": account})
    if home is not None:
        sandbox._store.update("au", row["id"], {"home_ou": home})
    with sandbox._store.transaction() as connection:
        if depth is not None:
            connection.execute(
                "INSERT OR REPLACE INTO grants VALUES (?, ?, ?)", [row["id"], "VIEW_CIRCULATIONS", depth]
            )
        if work is not None:
            connection.execute("DELETE FROM work_orgs WHERE usr = ?", [row["id"]])
            for unit in work:
                connection.execute("INSERT INTO work_orgs VALUES (?, ?)", [row["id"], unit])
    with gateway_of(sandbox.url, "consortium_staff") as anybody:
        org_units = OrgUnits.read(anybody)
    with Gateway(sandbox.url, token=session(sandbox.url, username=account)) as gateway:
        found = SessionRights.read(gateway, SessionAccount.read(gateway), lambda _named: org_units)
        every = [unit.id for unit in org_units]
        denied = permissions.denied_pairs(gateway, row["id"], every, NAMES)
    for name in NAMES:
        assert found.at(name) == {unit for unit in every if (unit, name) not in denied}, name
        assert [unit for unit in every if found.lacks(unit, [name])] == [it for it in every if (it, name) in denied]


def test_few_org_units_are_asked_about(sandbox: Sandbox, proxy: FaultProxy) -> None:
    asked: list[list[int]] = []
    proxy.before_answer = lambda call: asked.append(call.parameters[2]) if call.method == SEVERAL else None
    with gateway_of(proxy.url, "harbor_desk") as gateway:
        org_units = OrgUnits.read(gateway)
        SessionRights.read(gateway, SessionAccount.read(gateway), lambda _named: org_units)
    assert asked == [sorted({1, *org_units.upwards(HARBOR)})]


def test_what_is_missing_here_is_missing_whatever_holds_above(sandbox: Sandbox, proxy: FaultProxy) -> None:
    proxy.answer = lambda call: [[HARBOR, "VIEW_USER"]] if call.method == SEVERAL else None
    with gateway_of(proxy.url, "harbor_desk") as gateway:
        org_units = OrgUnits.read(gateway)
        found = SessionRights.read(gateway, SessionAccount.read(gateway), lambda _named: org_units)
    assert HARBOR not in found.at("VIEW_USER")
    assert HARBOR in found.at("VIEW_CIRCULATIONS")
