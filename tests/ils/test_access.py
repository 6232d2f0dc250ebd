"""Who sees whose patrons: decided by what the ILS says, asked as seldom as may be."""

from __future__ import annotations

import pytest
from support.fault_proxy import FaultProxy
from support.gateways import gateway_of

from evergreen_groups.errors import DataError, PermissionDeniedError, UnexpectedAnswerError
from evergreen_groups.gateway import Gateway, Record
from evergreen_groups.ils import (
    Access,
    OrgUnits,
    account_of_session,
    highest_view_user_orgs,
    library_of,
    missing_permissions,
    orgs_by_permission,
)
from evergreen_groups.sandbox import Sandbox

ONE, SEVERAL = "open-ils.actor.user.perm.check", "open-ils.actor.user.perm.check.multi_org"
SESSION = "open-ils.auth.session.retrieve"
EVERY, NORTH = {1, 2, 3, 11, 12, 21, 22, 23}, {2, 11, 12}
VIEW, UPDATE = "VIEW_USER", "UPDATE_USER"


def access_of(gateway: Gateway) -> Access:
    return Access.read(gateway, OrgUnits.read(gateway), highest_view_user_orgs(gateway))


@pytest.mark.parametrize(
    ("account", "granted", "seen", "missing"),
    [
        ("consortium_staff", [1], EVERY, ""),
        ("north_manager", [2], NORTH, "VALLEY"),
        ("harbor_desk", [11], {11}, "VALLEY, PINE"),
    ],
)
def test_where_accounts_see_patrons(
    sandbox: Sandbox, account: str, granted: list[int], seen: set[int], missing: str
) -> None:
    with gateway_of(sandbox.url, account) as gateway:
        assert highest_view_user_orgs(gateway) == granted
        access = access_of(gateway)
    assert access.visible_orgs == seen
    assert access.missing_names == missing
    assert access.everywhere is (not missing)


def test_what_works_at_the_root_settles_it(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        org_units = OrgUnits.read(gateway)
        del proxy.seen[:]
        assert Access.read(gateway, org_units, [11, 1]).everywhere
        assert proxy.seen == []


def test_who_has_it_at_the_root_some_other_way_sees_everybody(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        org_units = OrgUnits.read(gateway)
        access = Access.read(gateway, org_units, [11])
    assert (access.everywhere, access.visible_orgs) == (True, EVERY)
    assert SEVERAL not in proxy.seen


def test_who_sees_nobody_is_refused_and_told_what_to_ask_for(proxy: FaultProxy) -> None:
    proxy.answer = lambda call: [[unit, VIEW] for unit in EVERY] if call.method == SEVERAL else None
    with gateway_of(proxy.url, "north_manager") as gateway, pytest.raises(PermissionDeniedError) as refused:
        access_of(gateway)
    error = refused.value
    assert (error.code, error.permission, error.org_unit) == ("no-patrons-visible", VIEW, 1)
    assert (error.textcode, error.number) == ("PERM_FAILURE", 5000)
    assert error.values == {"permission": VIEW, "root": "LAKELAND"}
    assert "VIEW_USER nowhere" in str(error)
    assert "LAKELAND" in error.advice.format(**error.values)


def test_where_permissions_are_held(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "north_manager") as gateway:
        org_units = OrgUnits.read(gateway)
        assert orgs_by_permission(gateway, org_units, [VIEW, "EVERYTHING"]) == {VIEW: NORTH, "EVERYTHING": frozenset()}
    asked = proxy.seen.count(SEVERAL)
    assert asked == 2
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        assert orgs_by_permission(gateway, org_units, [VIEW]) == {VIEW: EVERY}
    assert proxy.seen.count(SEVERAL) == asked, "held at the root, so not asked about"


def test_an_org_unit_that_was_not_asked_about_is_no_answer(proxy: FaultProxy) -> None:
    proxy.answer = lambda call: [[11, VIEW], [999, VIEW]] if call.method == SEVERAL else None
    with gateway_of(proxy.url, "north_manager") as gateway, pytest.raises(UnexpectedAnswerError, match="asked about"):
        access_of(gateway)


@pytest.mark.parametrize("missing", [[], [VIEW], [UPDATE, VIEW]])
def test_the_missing_ones_are_named(proxy: FaultProxy, missing: list[str]) -> None:
    proxy.answer = lambda call: missing if call.method == ONE else None
    with gateway_of(proxy.url, "north_manager") as gateway:
        assert missing_permissions(gateway, 1, 11, (VIEW, UPDATE)) == frozenset(missing)


@pytest.mark.parametrize("answer", [{}, "x", 7, {"__c": "aou", "__p": []}, {"__c": "au", "__p": []}, [1]])
def test_a_session_that_is_nobodys(proxy: FaultProxy, answer: object) -> None:
    with gateway_of(proxy.url, "north_manager") as gateway:
        account = account_of_session(gateway)
        assert (account.class_id, account.usrname) == ("au", "north_manager")
        proxy.answer = lambda call: answer if call.method == SESSION else None
        with pytest.raises(UnexpectedAnswerError, match="account"):
            account_of_session(gateway)


@pytest.mark.parametrize("prolong", [True, False])
def test_a_look_counts_as_use_unless_it_is_said_not_to(proxy: FaultProxy, prolong: bool) -> None:
    sent: list[list[object]] = []
    with gateway_of(proxy.url, "north_manager") as gateway:
        assert gateway.token
        proxy.before_answer = lambda call: sent.append(call.parameters[1:]) if call.method == SESSION else None
        account_of_session(gateway, prolong=prolong)
        assert account_of_session(gateway).home_ou
    assert sent == [[] if prolong else [None, 1], []]


@pytest.mark.parametrize(
    ("workstation", "home", "library"), [("12", 11, 12), (12, 11, 12), (None, 11, 11), (None, None, 0), ("x", 11, 0)]
)
def test_where_an_account_works(admin: Gateway, workstation: object, home: object, library: int) -> None:
    account: Record = account_of_session(admin).replace(ws_ou=workstation, home_ou=home)
    if library:
        assert library_of(account) == library
    else:
        with pytest.raises(DataError, match="where the account works") as told:
            library_of(account)
        assert told.value.code == "no-workplace"
