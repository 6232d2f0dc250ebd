"""Hidden members of a few groups, with their ids: in three calls, and no answer is taken on trust."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from support.debts import owe
from support.fault_proxy import Call, FaultProxy, alter_payloads, fault_proxy
from support.gateways import gateway_of

from evergreen_groups.errors import DataError, EvergreenGroupsError
from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import find_hidden, read_group_balances
from evergreen_groups.groups.hidden import IDS_AT_ONCE, find_on_primary, membership_conditions
from evergreen_groups.sandbox import Sandbox

MEMBERS = "open-ils.actor.usergroup.members.retrieve"
BALANCES = "open-ils.actor.usergroup.members.balance_owed"
BY_MEMBERS, BY_ORG_UNITS = "open-ils.pcrud.search.au.atomic", "open-ils.pcrud.search.aou.atomic"
EVENT = {"ilsevent": 5000, "textcode": "PERM_FAILURE", "desc": "no", "ilsperm": "VIEW_USER", "ilspermloc": 11}
ONE, OTHER, THIRD = 70_001, 70_002, 70_003
VISIBLE = {ONE: {1001, 1002, 1003}, OTHER: {1004, 1005}, THIRD: {1006}}
HIDDEN = {ONE: {1012, 1013}, OTHER: {1014}, THIRD: set[int]()}
MILL = 21
NINE = Decimal("9.00")
ORG_UNITS = (1, 2, 3, 11, 12, 21, 22)

Alter = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def families(sandbox: Sandbox) -> None:
    add_families(sandbox)


def add_families(sandbox: Sandbox) -> None:
    for family in (VISIBLE, HIDDEN):
        for group, members in family.items():
            for member in members:
                owe(sandbox, member, *([(MILL, "9.00")] if member in (1001, 1012) else []))
                sandbox._store.update("au", member, {"usrgroup": group})


@pytest.fixture
def gateway(proxy: FaultProxy) -> Iterator[Gateway]:
    with gateway_of(proxy.url, "harbor_desk", concurrency=1) as gateway:
        gateway.login()
        gateway.idl("au", "aou")
        proxy.seen.clear()
        yield gateway


def found_in(gateway: Gateway, *groups: int, org_units: tuple[int, ...] = ORG_UNITS) -> dict[int, tuple[set[int], str]]:
    found = find_hidden(gateway, {group: VISIBLE[group] for group in groups}, lambda: org_units)
    return {group: (set(hidden.ids), str(hidden.fines)) for group, hidden in found.items()}


@pytest.mark.parametrize(
    ("groups", "calls"),
    [
        ((THIRD,), [MEMBERS]),
        ((ONE,), [MEMBERS, BALANCES, BY_ORG_UNITS]),
        ((ONE, THIRD), [MEMBERS, BALANCES, BY_MEMBERS]),
        ((ONE, OTHER), [MEMBERS, BALANCES, BY_ORG_UNITS]),
    ],
)
def test_three_calls(gateway: Gateway, proxy: FaultProxy, groups: tuple[int, ...], calls: list[str]) -> None:
    """With two visible and two hidden members there are rows enough of members; else org units answer."""
    expected = {group: (HIDDEN[group], "9.00" if group == ONE else "0.00") for group in groups if HIDDEN[group]}
    assert found_in(gateway, *groups) == expected
    assert proxy.seen == calls


@pytest.mark.parametrize("groups", [(ONE, OTHER), (ONE, OTHER, THIRD)])
def test_too_few_rows_for_an_answer(gateway: Gateway, proxy: FaultProxy, groups: tuple[int, ...]) -> None:
    """Read half of the groups at a time."""
    found = found_in(gateway, *groups, org_units=(1, 2, 3))
    assert found == {ONE: ({1012, 1013}, "9.00"), OTHER: ({1014}, "0.00")}
    assert proxy.seen.count(MEMBERS) == 3


def test_twenty_groups_take_three_calls_too(gateway: Gateway, proxy: FaultProxy) -> None:
    visible = {**{80_000 + number: set[int]() for number in range(19)}, ONE: VISIBLE[ONE]}
    assert set(find_hidden(gateway, visible, lambda: range(1, 99))) == {ONE}
    assert proxy.seen == [MEMBERS, BALANCES, BY_ORG_UNITS]


@pytest.mark.parametrize(("hidden", "owing_nothing"), [(IDS_AT_ONCE + 1, 1), (1, IDS_AT_ONCE + 1)])
def test_a_condition_for_each_batch_of_ids(hidden: int, owing_nothing: int) -> None:
    conditions = membership_conditions(
        ONE, frozenset(range(hidden)), 9_000, owing_nothing=frozenset(range(owing_nothing))
    )
    assert len(conditions) == 2
    assert ["mbts" in str(condition) for condition in conditions] == [True, owing_nothing > 1]
    assert ["'-exists'" in str(condition) for condition in conditions] == [True, hidden > 1]


def test_many_groups_are_looked_through(gateway: Gateway, proxy: FaultProxy) -> None:
    visible = {**{80_000 + number: set[int]() for number in range(30)}, ONE: VISIBLE[ONE]}
    found = find_hidden(gateway, visible, lambda: ORG_UNITS)
    assert (set(found), found[ONE].fines) == ({ONE}, Decimal("9.00"))
    assert proxy.seen.count(BALANCES) == 1


WRONG: dict[str, tuple[str, Alter]] = {
    "one who is nobody": (MEMBERS, lambda ids: [*ids, 99_999]),
    "one of another group": (MEMBERS, lambda ids: [*ids, 1020]),
    "a hidden one is lost": (MEMBERS, lambda ids: [id for id in ids if id != 1012]),
    "a visible one is lost": (MEMBERS, lambda ids: [id for id in ids if id != 1002]),
    "one in place of another": (MEMBERS, lambda ids: [1020 if id == 1012 else id for id in ids]),
    "nobody owes anything": (BALANCES, lambda _owed: []),
    "a debt is lost": (BALANCES, lambda owed: [one for one in owed if one["usr"] != 1012]),
    "somebody else's debt": (BALANCES, lambda owed: [*owed, {"usr": 1020, "balance_owed": "1.00"}]),
    "no row": (BY_ORG_UNITS, lambda _rows: []),
    "a row is lost": (BY_ORG_UNITS, lambda rows: rows[1:]),
}


@pytest.mark.parametrize("groups", [(ONE,), (ONE, OTHER)])
@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("wrong", WRONG)
def test_an_answer_that_is_wrong_is_asked_for_again(
    gateway: Gateway, proxy: FaultProxy, groups: tuple[int, ...], wrong: str, once: bool
) -> None:
    alter_payloads(proxy, *WRONG[wrong], times=1 if once else 99)
    if once:
        truth = {ONE: ({1012, 1013}, "9.00"), OTHER: ({1014}, "0.00")}
        assert found_in(gateway, *groups) == {group: truth[group] for group in groups}
    else:
        with pytest.raises(DataError) as raised:
            found_in(gateway, *groups)
        assert raised.value.code == "members-not-asked-for"


def refused(gateway: Gateway) -> str:
    """Return the code of the error that looking for the hidden members of one group ends with."""
    with pytest.raises(EvergreenGroupsError) as raised:
        found_in(gateway, ONE)
    return raised.value.code


def debt(owed: object, patron: object = 1012) -> dict[str, object]:
    return {"usr": patron, "balance_owed": owed}


@pytest.mark.parametrize(
    ("method", "answer", "code"),
    [
        *((MEMBERS, wrong, "members-broken") for wrong in ({}, "1001", ["x"], [None], [True, 1001, 1002, 1003, 1012])),
        *((BALANCES, wrong, "balance-broken") for wrong in ({}, [7], "x", [{"usr": 1012}])),
        *((BALANCES, [debt("9.00", patron)], "balance-broken") for patron in ("x", True)),
        *((BALANCES, [debt(wrong)], "balance-broken") for wrong in (None, {}, [], True, "", "much", "NaN", "sNaN")),
        *(
            (BALANCES, [debt(wrong)], "balance-broken")
            for wrong in ("Infinity", "-Infinity", "1_0.00", "١.٠٠", " 1.00")
        ),
        (MEMBERS, [1001, 1002, 1003, 1012, 1012], "member-twice"),
        (BALANCES, [debt("9.00")] * 2, "member-twice"),
        *((MEMBERS, other, "members-not-asked-for") for other in ([], [1001], [1007, 1008, 1009])),
        (BALANCES, [debt("9.00"), debt("9.00", 99_999)], "members-not-asked-for"),
    ],
)
def test_answers_of_another_shape_or_group(
    gateway: Gateway, proxy: FaultProxy, method: str, answer: object, code: str
) -> None:
    proxy.answer = lambda call: answer if call.method == method else None
    assert refused(gateway) == code


def test_half_of_the_known_members_are_enough(gateway: Gateway, proxy: FaultProxy) -> None:
    """Patrons may be moved between two reads."""
    proxy.answer = lambda call: [1001, 1002] if call.method == MEMBERS else None
    assert found_in(gateway, ONE) == {}


def test_a_deleted_member_is_none(gateway: Gateway, proxy: FaultProxy, sandbox: Sandbox) -> None:
    sandbox._store.update("au", 1020, {"usrgroup": ONE, "deleted": "t"})
    alter_payloads(proxy, MEMBERS, lambda ids: [*ids, 1020])
    assert refused(gateway) == "members-not-asked-for"


def test_ids_that_are_read_again_are_held_against_the_group_too(gateway: Gateway, proxy: FaultProxy) -> None:
    proxy.answer = lambda call: [debt("9.00", 99_999)] if call.method == BALANCES else None
    alter_payloads(proxy, MEMBERS, lambda ids: [*ids, 99_999] if BALANCES in proxy.seen else ids)
    assert refused(gateway) == "members-not-asked-for"


@pytest.mark.parametrize(
    ("groups", "method"), [((ONE, OTHER), BY_ORG_UNITS), ((ONE, THIRD), BY_MEMBERS)], ids=["org units", "members"]
)
def test_rows_that_were_not_asked_for(
    gateway: Gateway, proxy: FaultProxy, groups: tuple[int, ...], method: str
) -> None:
    def another(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows[0]["__p"] = [99 if value is not None else None for value in rows[0]["__p"]]
        return rows

    alter_payloads(proxy, method, another)
    with pytest.raises(DataError) as raised:
        found_in(gateway, *groups)
    assert raised.value.code == "rows-not-asked-for"


def test_one_in_two_groups_is_asked_for_again(gateway: Gateway, proxy: FaultProxy) -> None:
    alter_payloads(proxy, BY_ORG_UNITS, lambda rows: [*rows, {"__c": "aou", "__p": [*[None] * 3, 11]}], times=1)
    assert found_in(gateway, ONE, OTHER) == {ONE: ({1012, 1013}, "9.00"), OTHER: ({1014}, "0.00")}
    assert proxy.seen.count(MEMBERS) == 3


def test_balances_that_may_not_be_seen_are_unknown_and_not_nought(gateway: Gateway, proxy: FaultProxy) -> None:
    proxy.answer = lambda call: EVENT if call.method == BALANCES else None
    assert found_in(gateway, ONE, OTHER) == {ONE: ({1012, 1013}, "None"), OTHER: ({1014}, "None")}


def test_a_patron_is_moved_in_during_the_read(gateway: Gateway, proxy: FaultProxy, sandbox: Sandbox) -> None:
    owe(sandbox, 1040)
    moved = iter([1040])

    def joins(call: Call) -> None:
        if call.method == BALANCES:
            for patron in moved:
                sandbox._store.update("au", patron, {"usrgroup": OTHER, "home_ou": MILL, "deleted": False})

    proxy.refuse = joins
    assert found_in(gateway, ONE, OTHER) == {ONE: ({1012, 1013}, "9.00"), OTHER: ({1014, 1040}, "0.00")}


WRONG_LISTS = [name for name, (method, _alter) in WRONG.items() if method != BY_ORG_UNITS]


@pytest.mark.parametrize("wrong", WRONG_LISTS)
def test_one_groups_balances_are_asked_for_again(gateway: Gateway, proxy: FaultProxy, wrong: str) -> None:
    method, alter = WRONG[wrong]
    alter_payloads(proxy, f"{method}.authoritative" if gateway.reads_replicas else method, alter, times=1)
    balances, hidden = read_group_balances(gateway, ONE, VISIBLE[ONE])
    assert hidden is not None
    assert (balances, hidden.ids, hidden.fines) == (dict.fromkeys((1001, 1012), NINE), {1012, 1013}, NINE)


@pytest.mark.differs("copies-unsaid", reason="plain reads are taken to come from copies", strict=False)
@pytest.mark.parametrize("wrong", WRONG_LISTS)
def test_one_groups_wrong_balances(gateway: Gateway, proxy: FaultProxy, wrong: str) -> None:
    alter_payloads(proxy, *WRONG[wrong])
    with pytest.raises(DataError) as raised:
        read_group_balances(gateway, ONE, VISIBLE[ONE])
    assert raised.value.code == "members-not-asked-for"


def test_a_confirmed_list_takes_no_call_more(gateway: Gateway, proxy: FaultProxy) -> None:
    conditions: list[object] = []
    found = read_group_balances(gateway, ONE, VISIBLE[ONE], confirm=lambda one: not conditions.append(one))
    assert (found[1] is not None, len(conditions)) == (True, 1)
    assert not any("pcrud" in method for method in proxy.seen)


def test_balances_that_come_twice_are_trusted_before_the_replica_has_them() -> None:
    """The second reading has a connection of its own, so that no answer of the first can be taken for it."""
    with Sandbox(differences=["replica"], replica_delay=math.inf) as sandbox, fault_proxy(sandbox.url) as proxy:
        add_families(sandbox)
        sandbox.catch_up()
        owe(sandbox, 1040, (MILL, "2.00"))
        sandbox._store.update("au", 1040, {"usrgroup": ONE, "home_ou": MILL, "deleted": False})
        with gateway_of(proxy.url, "harbor_desk", concurrency=1) as gateway:
            balances, hidden = read_group_balances(gateway, ONE, VISIBLE[ONE])
            assert hidden is not None
            assert (set(balances), hidden.ids, str(hidden.fines)) == ({1001, 1012, 1040}, {1012, 1013, 1040}, "11.00")
            before, again = [call.port for call in proxy.calls if call.method == f"{MEMBERS}.authoritative"]
            assert before != again
            found = find_on_primary(gateway, {ONE: VISIBLE[ONE]}, {ONE: hidden.ids | VISIBLE[ONE]})
            assert found == {ONE: hidden}
            *_, before, again = [call.port for call in proxy.calls if call.method.startswith(BALANCES)]
            assert before != again
