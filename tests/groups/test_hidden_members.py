"""Answers about hidden members are held against the groups they were asked for."""

from __future__ import annotations

import pytest
from support.debts import owe
from support.fault_proxy import Call, FaultProxy
from support.gateways import gateway_of

from evergreen_groups.errors import DataError
from evergreen_groups.groups import find_hidden
from evergreen_groups.sandbox import Sandbox

MEMBERS = "open-ils.actor.usergroup.members.retrieve"
BALANCES = "open-ils.actor.usergroup.members.balance_owed"
OKONKWO = {1001: set(range(1001, 1007))}


@pytest.mark.parametrize(
    ("method", "answer"),
    [(MEMBERS, [1007, 1008, 1009]), (MEMBERS, []), (BALANCES, [{"usr": 1007, "balance_owed": "9.00"}])],
)
def test_another_groups_answer(sandbox: Sandbox, proxy: FaultProxy, method: str, answer: object) -> None:
    owe(sandbox, 1012, (21, "9.00"))
    sandbox._store.update("au", 1012, {"usrgroup": 1001})
    proxy.answer = lambda call: answer if call.method == method else None
    with gateway_of(proxy.url, "harbor_desk") as gateway, pytest.raises(DataError, match="other groups"):
        find_hidden(gateway, OKONKWO)


def test_somebody_who_was_moved_meanwhile_is_no_error(sandbox: Sandbox, proxy: FaultProxy) -> None:
    sandbox._store.update("au", 1002, {"usrgroup": 70_000})
    with gateway_of(proxy.url, "harbor_desk") as gateway:
        assert find_hidden(gateway, OKONKWO) == {}


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (MEMBERS, [1001, 1002, 1003, 1004, 1005, 1006, 1012, 1012]),
        (MEMBERS, [True, 1002, 1003, 1004, 1005, 1006, 1012]),
        (BALANCES, [{"usr": 1012, "balance_owed": "9.00"}] * 2),
        *((BALANCES, [{"usr": 1012, "balance_owed": wrong}]) for wrong in (None, {}, [], True, "", "NaN")),
        (BALANCES, [{"usr": True, "balance_owed": "9.00"}]),
        (BALANCES, [{"usr": 1012, "balance_owed": "9.00"}, {"usr": 99_999, "balance_owed": "9.00"}]),
    ],
)
def test_answers_that_would_be_counted_wrong(sandbox: Sandbox, proxy: FaultProxy, method: str, answer: object) -> None:
    sandbox._store.update("au", 1012, {"usrgroup": 1001})
    proxy.answer = lambda call: answer if call.method == method else None
    with gateway_of(proxy.url, "harbor_desk") as gateway, pytest.raises(DataError):
        find_hidden(gateway, OKONKWO)


def test_whoever_is_moved_in_between_two_calls_is_a_hidden_member(sandbox: Sandbox, proxy: FaultProxy) -> None:
    owe(sandbox, 1013, (21, "2.00"))
    sandbox._store.update("au", 1012, {"usrgroup": 1001})

    def joins(call: Call) -> None:
        if call.method == BALANCES:
            sandbox._store.update("au", 1013, {"usrgroup": 1001})

    proxy.refuse = joins  # before the balances are asked for
    with gateway_of(proxy.url, "harbor_desk") as gateway:
        (hidden,) = find_hidden(gateway, OKONKWO).values()
    assert hidden.ids == {1012, 1013}
