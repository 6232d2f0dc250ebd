"""The session's account, its permissions, and where it sees patrons."""

from __future__ import annotations

import pytest
from support.fault_proxy import Fault, FaultProxy
from support.gateways import gateway_of
from support.web_caller import session

from evergreen_groups.errors import DataError, PermissionDeniedError, UnexpectedAnswerError
from evergreen_groups.gateway import TOKEN, Gateway, Record
from evergreen_groups.ils import VIEW_USER, Access, OrgUnits, permissions
from evergreen_groups.ils.permissions import SessionAccount, SessionRights
from evergreen_groups.sandbox import Sandbox

SEVERAL = "open-ils.actor.user.perm.check.multi_org"
WORK = "open-ils.actor.user.has_work_perm_at.batch"
VIEW, UPDATE = "VIEW_USER", "UPDATE_USER"
MALFORMED = [{}, "", 0, False, "VIEW_USER", {"VIEW_USER": []}, ["SOMETHING_ELSE"], [None], [[]]]


@pytest.mark.parametrize(
    "answer", [*MALFORMED, [["VIEW_USER", 5]], [[5]], [[999, "VIEW_USER"]], [[11, VIEW], [999, VIEW]], [[5, UPDATE]]]
)
def test_where_permissions_are_missing(proxy: FaultProxy, answer: object) -> None:
    proxy.answer = lambda call: answer if call.method == SEVERAL else None
    with gateway_of(proxy.url, "north_manager") as gateway, pytest.raises(UnexpectedAnswerError, match="multi_org"):
        Access.read(gateway, OrgUnits.read(gateway))


@pytest.mark.parametrize(
    "answer", [{}, "", [], {"VIEW_USER": {}}, {"VIEW_USER": ""}, {"VIEW_USER": [None]}, {"VIEW_USER": [True]}]
)
def test_where_they_are_held(proxy: FaultProxy, answer: object) -> None:
    proxy.answer = lambda call: answer if call.method == WORK else None
    with gateway_of(proxy.url, "north_manager") as gateway, pytest.raises(UnexpectedAnswerError, match="has_work"):
        permissions.highest_granted(gateway, [VIEW_USER])[VIEW_USER]


@pytest.mark.parametrize("units", [(1,), (1, 10)])
def test_only_org_units_above_the_libraries_are_missing(proxy: FaultProxy, units: tuple[int, ...]) -> None:
    """These org units can be home libraries too, so the account doesn't see all patrons; the missing ones are named."""
    with gateway_of(proxy.url, "north_manager") as gateway:
        org_units = OrgUnits.read(gateway)
        above = [unit for unit in org_units if len(org_units.with_descendants(unit.id)) > 1][: len(units)]
        answer = [[unit.id, "VIEW_USER"] for unit in above]
        proxy.answer = lambda call: answer if call.method == SEVERAL else None
        access = Access.read(gateway, org_units)
    assert not access.everywhere
    assert access.missing_names == ", ".join(unit.shortname for unit in above)
    assert not access.visible_orgs & {unit.id for unit in above}


@pytest.mark.apache(reason="whatever is empty is held against an echo")
def test_an_empty_list_that_answers_another_question_is_no_yes(proxy: FaultProxy) -> None:
    """An empty list doesn't show which query it answers, so a connection of this query alone must deliver it."""
    with gateway_of(proxy.url, "north_manager", concurrency=1) as gateway:
        user = permissions.account_of_session(gateway).id
        proxy.decide = lambda call: Fault.ANSWERS_BEHIND
        assert gateway.call("open-ils.pcrud", "open-ils.pcrud.search.au.atomic", TOKEN, {"id": -1}).value == []
        assert permissions.denied_pairs(gateway, user, [1], ["VIEW_USER"]) == {(1, "VIEW_USER")}


SESSION = "open-ils.auth.session.retrieve"
EVERY, NORTH = {1, 2, 3, 11, 12, 21, 22, 23}, {2, 11, 12}


def access_of(gateway: Gateway) -> Access:
    return Access.read(gateway, OrgUnits.read(gateway))


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
        assert permissions.highest_granted(gateway, [VIEW_USER])[VIEW_USER] == granted
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
    assert proxy.seen.count(SEVERAL) == 1


def test_who_sees_nobody_is_refused_and_told_what_to_ask_for(proxy: FaultProxy) -> None:
    proxy.answer = lambda call: [[unit, VIEW] for unit in EVERY] if call.method == SEVERAL else None
    with gateway_of(proxy.url, "north_manager") as gateway, pytest.raises(PermissionDeniedError) as refused:
        access_of(gateway)
    error = refused.value
    assert (error.code, error.permission, error.org_unit) == ("no-patrons-visible", VIEW, 1)
    assert (error.textcode, error.number) == ("PERM_FAILURE", 5000)
    assert error.values == {"permission": VIEW, "root": "LAKELAND"}
    assert "it lacks VIEW_USER" in str(error)
    assert "LAKELAND" in error.advice.format(**error.values)


def test_where_permissions_are_held(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "north_manager") as gateway:
        org_units = OrgUnits.read(gateway)
        assert permissions.orgs_by_permission(gateway, org_units, [VIEW, "EVERYTHING"]) == {
            VIEW: NORTH,
            "EVERYTHING": frozenset(),
        }
    asked = proxy.seen.count(SEVERAL)
    assert asked == 2
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        assert permissions.orgs_by_permission(gateway, org_units, [VIEW]) == {VIEW: EVERY}
    assert proxy.seen.count(SEVERAL) == asked, "held at the root, so not asked about"


@pytest.mark.parametrize("missing", [[], [VIEW], [UPDATE, VIEW]])
def test_the_missing_ones_are_named(proxy: FaultProxy, missing: list[str]) -> None:
    pairs = [[11, permission] for permission in missing]
    proxy.answer = lambda call: pairs if call.method == SEVERAL else None
    with gateway_of(proxy.url, "north_manager") as gateway:
        assert permissions.denied_pairs(gateway, 1, [11], (VIEW, UPDATE)) == set(map(tuple, pairs))


@pytest.mark.parametrize("answer", [{}, "x", 7, {"__c": "aou", "__p": []}, {"__c": "au", "__p": []}, [1]])
def test_a_session_that_is_nobodys(proxy: FaultProxy, answer: object) -> None:
    with gateway_of(proxy.url, "north_manager") as gateway:
        account = permissions.account_of_session(gateway)
        assert (account.class_id, account.usrname) == ("au", "north_manager")
        proxy.answer = lambda call: answer if call.method == SESSION else None
        with pytest.raises(UnexpectedAnswerError, match="account"):
            permissions.account_of_session(gateway)


@pytest.mark.parametrize("prolong", [True, False])
def test_a_look_counts_as_use_unless_it_is_said_not_to(proxy: FaultProxy, prolong: bool) -> None:
    sent: list[list[object]] = []
    with gateway_of(proxy.url, "north_manager") as gateway:
        assert gateway.token
        proxy.before_answer = lambda call: sent.append(call.parameters[1:]) if call.method == SESSION else None
        permissions.account_of_session(gateway, prolong=prolong)
        assert permissions.account_of_session(gateway).home_ou
    assert sent == [[] if prolong else [None, 1], []]


@pytest.mark.parametrize(
    ("workstation", "home", "library"), [("12", 11, 12), (12, 11, 12), (None, 11, 11), (None, None, 0), ("x", 11, 0)]
)
def test_where_an_account_works(admin: Gateway, workstation: object, home: object, library: int) -> None:
    account: Record = permissions.account_of_session(admin).replace(ws_ou=workstation, home_ou=home)
    if library:
        assert permissions.library_of(account) == library
    else:
        with pytest.raises(DataError, match="the session has no workplace") as told:
            permissions.library_of(account)
        assert told.value.code == "no-workplace"


@pytest.mark.parametrize(("wsid", "workstation"), [(7, 7), ("7", 7), (None, None), ("x", None)])
def test_the_workstation(proxy: FaultProxy, admin: Gateway, wsid: object, workstation: int | None) -> None:
    account = permissions.account_of_session(admin).replace(wsid=wsid).to_wire()
    proxy.answer = lambda call: account if call.method == SESSION else None
    with gateway_of(proxy.url, "north_manager") as gateway:
        assert SessionAccount.read(gateway).workstation == workstation


def test_the_names_of_permissions(proxy: FaultProxy) -> None:
    with gateway_of(proxy.url, "north_manager") as gateway:
        assert {VIEW, UPDATE} < permissions.permission_names(gateway)
        proxy.answer = lambda call: {"VIEW_USER": 1} if call.method.endswith("permissions.retrieve") else None
        with pytest.raises(UnexpectedAnswerError, match="permissions"):
            permissions.permission_names(gateway)


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


def test_what_is_missing_here_is_missing_whatever_holds_above(proxy: FaultProxy) -> None:
    proxy.answer = lambda call: [[HARBOR, "VIEW_USER"]] if call.method == SEVERAL else None
    with gateway_of(proxy.url, "harbor_desk") as gateway:
        org_units = OrgUnits.read(gateway)
        found = SessionRights.read(gateway, SessionAccount.read(gateway), lambda _named: org_units)
    assert HARBOR not in found.at("VIEW_USER")
    assert HARBOR in found.at("VIEW_CIRCULATIONS")
