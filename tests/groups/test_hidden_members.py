"""Members that the account can't see: whose they are, what they owe, and answers held against what was asked."""

from __future__ import annotations

from decimal import Decimal

import pytest
from support.debts import owe
from support.fault_proxy import Call, FaultProxy, alter_payloads
from support.gateways import gateway_of

from evergreen_groups.errors import DataError, EvergreenGroupsError
from evergreen_groups.groups import HiddenMembers, find_hidden_with_ids
from evergreen_groups.sandbox import Sandbox

MEMBERS = "open-ils.actor.usergroup.members.retrieve"
BALANCES = "open-ils.actor.usergroup.members.balance_owed"
CHECK = "open-ils.pcrud.search.aou.atomic"
ORG_UNITS = (1, 2, 3, 11, 12, 21, 22)
OKONKWO = {1001: set(range(1001, 1007))}


def find(url: str) -> dict[int, HiddenMembers]:
    """Find the hidden members of one group, as an account that sees the patrons of one library."""
    with gateway_of(url, "harbor_desk") as gateway:
        return find_hidden_with_ids(gateway, OKONKWO, lambda: ORG_UNITS)


def join(sandbox: Sandbox, *members: int) -> None:
    """Move hidden patrons into the group."""
    for member in members:
        sandbox._store.update("au", member, {"usrgroup": 1001})


@pytest.mark.parametrize(
    ("method", "answer"),
    [(MEMBERS, [1007, 1008, 1009]), (MEMBERS, []), (BALANCES, [{"usr": 1007, "balance_owed": "9.00"}])],
)
def test_another_groups_answer(sandbox: Sandbox, proxy: FaultProxy, method: str, answer: object) -> None:
    owe(sandbox, 1012, (21, "9.00"))
    join(sandbox, 1012)
    proxy.answer = lambda call: answer if call.method == method else None
    with pytest.raises(DataError, match="not the members of the requested groups") as told:
        find(proxy.url)
    assert told.value.code == "members-not-asked-for"
    assert "proxy" in told.value.advice


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (MEMBERS, [1001, 1002, 1003, 1004, 1005, 1006, 1012, 1012]),
        (BALANCES, [{"usr": 1012, "balance_owed": "9.00"}] * 2),
    ],
)
def test_the_same_member_twice(sandbox: Sandbox, proxy: FaultProxy, method: str, answer: object) -> None:
    join(sandbox, 1012)
    proxy.answer = lambda call: answer if call.method == method else None
    with pytest.raises(DataError, match="listed twice") as told:
        find(proxy.url)
    assert told.value.code == "member-twice"


def test_a_move_during_the_read_is_no_error(sandbox: Sandbox, proxy: FaultProxy) -> None:
    sandbox._store.update("au", 1002, {"usrgroup": 70_000})
    assert find(proxy.url) == {}


def test_a_patron_moved_in_between_two_calls_is_a_hidden_member(sandbox: Sandbox, proxy: FaultProxy) -> None:
    owe(sandbox, 1013, (21, "2.00"))
    join(sandbox, 1012)

    def joins(call: Call) -> None:
        if call.method == BALANCES:
            sandbox._store.update("au", 1013, {"usrgroup": 1001})

    proxy.refuse = joins  # before the balances are asked for
    (hidden,) = find(proxy.url).values()
    assert hidden.ids == {1012, 1013}


@pytest.mark.parametrize(("members", "refused"), [([1001, 1002], True), ([1001, 1002, 1003], False)])
def test_half_of_the_known_members_are_enough(proxy: FaultProxy, members: list[int], refused: bool) -> None:
    proxy.answer = lambda call: members if call.method == MEMBERS else None
    if refused:
        with pytest.raises(DataError):
            find(proxy.url)
    else:
        assert find(proxy.url) == {}


def test_a_stranger_in_the_list_is_asked_for_again(proxy: FaultProxy) -> None:
    alter_payloads(proxy, MEMBERS, lambda ids: [*ids, 99_999], times=1)
    assert find(proxy.url) == {}
    assert proxy.seen.count(MEMBERS) == 2


def test_a_deleted_member_is_none(sandbox: Sandbox, proxy: FaultProxy) -> None:
    join(sandbox, 1012, 1013)
    sandbox._store.update("au", 1013, {"deleted": "t"})
    alter_payloads(proxy, MEMBERS, lambda ids: [*ids, 1013])
    with pytest.raises(DataError, match="not the members of the requested groups"):
        find(proxy.url)


def test_ids_that_are_read_again_for_the_balances_are_held_against_the_group_too(
    sandbox: Sandbox, proxy: FaultProxy
) -> None:
    join(sandbox, 1012)
    balances = [{"usr": 99_999, "balance_owed": "9.00"}]
    proxy.answer = lambda call: balances if call.method == BALANCES else None
    alter_payloads(proxy, MEMBERS, lambda ids: [*ids, 99_999] if BALANCES in proxy.seen else ids)
    with pytest.raises(DataError, match="not the members of the requested groups"):
        find(proxy.url)


@pytest.mark.parametrize(("hidden", "checks"), [((), 0), ((1012,), 1), ((1012, 1013), 1)])
def test_who_has_no_hidden_members_pays_nothing_for_it(
    sandbox: Sandbox, proxy: FaultProxy, hidden: tuple[int, ...], checks: int
) -> None:
    for member in hidden:
        sandbox._store.update("au", member, {"usrgroup": 1001})
    find(proxy.url)
    assert (proxy.seen.count(MEMBERS), proxy.seen.count(CHECK)) == (1, checks)


@pytest.mark.parametrize(
    ("method", "answer", "code"),
    [
        (MEMBERS, {}, "members-broken"),
        (MEMBERS, "1001", "members-broken"),
        (MEMBERS, ["x"], "members-broken"),
        (MEMBERS, [None], "members-broken"),
        (MEMBERS, [True, 1002, 1003, 1004, 1005, 1006, 1012], "members-broken"),
        (BALANCES, {}, "balance-broken"),
        (BALANCES, [7], "balance-broken"),
        (BALANCES, "x", "balance-broken"),
        (BALANCES, [{"usr": 1012}], "balance-broken"),
        (BALANCES, [{"usr": "x", "balance_owed": "1.00"}], "balance-broken"),
        (BALANCES, [{"usr": True, "balance_owed": "9.00"}], "balance-broken"),
        *(
            (BALANCES, [{"usr": 1012, "balance_owed": wrong}], "balance-broken")
            for wrong in (
                None,
                {},
                [],
                True,
                "",
                *["much", "NaN", "sNaN", "Infinity", "-Infinity", "1_0.00", "١.٠٠"],
                " 1.00",
            )
        ),
        (BALANCES, [{"usr": id, "balance_owed": "9.00"} for id in (1012, 99_999)], "members-not-asked-for"),
    ],
)
def test_answers_of_another_shape(sandbox: Sandbox, proxy: FaultProxy, method: str, answer: object, code: str) -> None:
    join(sandbox, 1012)
    proxy.answer = lambda call: answer if call.method == method else None
    with pytest.raises(EvergreenGroupsError) as told:
        find(proxy.url)
    assert told.value.code == code


def test_whose_hidden_members_owe_nothing(sandbox: Sandbox, proxy: FaultProxy) -> None:
    for group, member in ((1001, 1012), (1004, 1013), (1005, 1014)):
        owe(sandbox, member)
        sandbox._store.update("au", member, {"usrgroup": group})
    with gateway_of(sandbox.url, "admin") as gateway:
        found = gateway.pcrud.search("au", {"usrgroup": [1001, 1004, 1005], "deleted": "f"}, limit=100)
    visible = {
        group: {row.id for row in found if row.usrgroup == group} - {1012, 1013, 1014} for group in (1001, 1004, 1005)
    }
    with gateway_of(proxy.url, "harbor_desk") as gateway:
        hidden = find_hidden_with_ids(gateway, visible, lambda: ORG_UNITS)
    assert {group: (set(members.ids), str(members.fines)) for group, members in hidden.items()} == {
        1001: ({1012}, "0.00"),
        1004: ({1013}, "0.00"),
        1005: ({1014}, "0.00"),
    }


def test_what_others_owe_is_not_theirs(sandbox: Sandbox) -> None:
    owe(sandbox, 1012, (21, "9.00"))
    join(sandbox, 1012)
    found = find(sandbox.url)
    assert found == {1001: HiddenMembers(1, Decimal("9.00"), frozenset({1012}))}
