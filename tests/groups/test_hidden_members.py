"""Members that the account can't see: whose they are, what they owe, and answers held against what was asked."""

from __future__ import annotations

from decimal import Decimal

import pytest
from support.debts import owe
from support.fault_proxy import Call, FaultProxy
from support.gateways import gateway_of

from evergreen_groups.errors import DataError, EvergreenGroupsError
from evergreen_groups.groups import find_hidden, hidden_members
from evergreen_groups.sandbox import Sandbox

MEMBERS = "open-ils.actor.usergroup.members.retrieve"
BALANCES = "open-ils.actor.usergroup.members.balance_owed"
OKONKWO = {1001: set(range(1001, 1007))}
EVENT = {"ilsevent": 5000, "textcode": "PERM_FAILURE", "desc": "no", "ilsperm": "VIEW_USER", "ilspermloc": 11}


@pytest.mark.parametrize(
    ("method", "answer"),
    [(MEMBERS, [1007, 1008, 1009]), (MEMBERS, []), (BALANCES, [{"usr": 1007, "balance_owed": "9.00"}])],
)
def test_another_groups_answer(sandbox: Sandbox, proxy: FaultProxy, method: str, answer: object) -> None:
    owe(sandbox, 1012, (21, "9.00"))
    sandbox._store.update("au", 1012, {"usrgroup": 1001})
    proxy.answer = lambda call: answer if call.method == method else None
    with gateway_of(proxy.url, "harbor_desk") as gateway, pytest.raises(DataError, match="other groups") as told:
        find_hidden(gateway, OKONKWO)
    assert told.value.code == "members-not-asked-for"
    assert "proxy" in told.value.advice


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


@pytest.mark.parametrize(("members", "refused"), [([1001, 1002], True), ([1001, 1002, 1003], False)])
def test_half_of_the_known_members_are_enough(proxy: FaultProxy, members: list[int], refused: bool) -> None:
    proxy.answer = lambda call: members if call.method == MEMBERS else None
    with gateway_of(proxy.url, "harbor_desk") as gateway:
        if refused:
            with pytest.raises(DataError):
                find_hidden(gateway, OKONKWO)
        else:
            assert find_hidden(gateway, OKONKWO) == {}


class TestWhose:
    """The answer for several groups doesn't say whose each member is."""

    VISIBLE = {group: {10 * group, 10 * group + 1} for group in range(1, 8)}  # noqa: RUF012
    HIDDEN = {3: {39}, 4: {47, 48}, 7: {79}}  # noqa: RUF012

    @pytest.fixture
    def asked(self, proxy: FaultProxy) -> list[int]:
        """How many groups were asked about in each call."""
        counts: list[int] = []

        def answer(call: object) -> object | None:
            method, parameters = call.method, call.parameters  # type: ignore[attr-defined]
            if method == MEMBERS:
                counts.append(len(parameters[1]))
                known = {group: self.VISIBLE[group] | self.HIDDEN.get(group, set()) for group in parameters[1]}
                return sorted(id for members in known.values() for id in members)
            if method == BALANCES:
                return [{"usr": id, "balance_owed": "1.5"} for id in (*self.HIDDEN[parameters[1]], 10 * parameters[1])]
            return None

        proxy.answer = answer
        return counts

    @pytest.mark.parametrize("at_once", [100, 3, 1])
    def test_is_found_out_by_halves(
        self, proxy: FaultProxy, asked: list[int], monkeypatch: pytest.MonkeyPatch, at_once: int
    ) -> None:
        monkeypatch.setattr(hidden_members, "_GROUPS_AT_ONCE", at_once)
        with gateway_of(proxy.url, "harbor_desk") as gateway:
            found = find_hidden(gateway, self.VISIBLE)
        assert {group: set(hidden.ids) for group, hidden in found.items()} == self.HIDDEN
        owed = {group: str(hidden.fines) for group, hidden in found.items()}
        assert owed == {3: "1.50", 4: "3.00", 7: "1.50"}
        assert max(asked) == min(at_once, 7)

    def test_a_hundred_groups_go_in_one_call(self, proxy: FaultProxy) -> None:
        asked: list[int] = []

        def answer(call: object) -> object | None:
            if call.method != MEMBERS:  # type: ignore[attr-defined]
                return None
            groups = call.parameters[1]  # type: ignore[attr-defined]
            asked.append(len(groups))
            return groups

        proxy.answer = answer
        with gateway_of(proxy.url, "harbor_desk") as gateway:
            assert find_hidden(gateway, {group: {group} for group in range(1, 202)}) == {}
        assert sorted(asked) == [1, 100, 100]

    @pytest.mark.usefixtures("asked")
    def test_balances_that_may_not_be_seen_are_unknown_and_not_nought(self, proxy: FaultProxy) -> None:
        told = proxy.answer
        proxy.answer = lambda call: EVENT if call.method == BALANCES else told(call)
        with gateway_of(proxy.url, "harbor_desk") as gateway:
            found = find_hidden(gateway, self.VISIBLE)
        assert {group: hidden.fines for group, hidden in found.items()} == dict.fromkeys(self.HIDDEN)

    @pytest.mark.usefixtures("asked")
    def test_nobody_owes_anything(self, proxy: FaultProxy) -> None:
        told = proxy.answer
        proxy.answer = lambda call: [] if call.method == BALANCES else told(call)
        with gateway_of(proxy.url, "harbor_desk") as gateway:
            found = find_hidden(gateway, self.VISIBLE)
        assert {str(hidden.fines) for hidden in found.values()} == {"0.00"}


@pytest.mark.parametrize(
    ("method", "answer", "code"),
    [
        (MEMBERS, {}, "members-broken"),
        (MEMBERS, "1001", "members-broken"),
        (MEMBERS, ["x"], "members-broken"),
        (MEMBERS, [None], "members-broken"),
        (BALANCES, {}, "balance-broken"),
        (BALANCES, [7], "balance-broken"),
        (BALANCES, [{"usr": 1012}], "balance-broken"),
        (BALANCES, [{"usr": "x", "balance_owed": "1.00"}], "balance-broken"),
        (BALANCES, [{"usr": 1012, "balance_owed": "NaN"}], "balance-broken"),
        (BALANCES, [{"usr": 1012, "balance_owed": "Infinity"}], "balance-broken"),
        (BALANCES, [{"usr": 1012, "balance_owed": "much"}], "balance-broken"),
    ],
)
def test_answers_of_another_shape(sandbox: Sandbox, proxy: FaultProxy, method: str, answer: object, code: str) -> None:
    sandbox._store.update("au", 1012, {"usrgroup": 1001})
    proxy.answer = lambda call: answer if call.method == method else None
    with gateway_of(proxy.url, "harbor_desk") as gateway, pytest.raises(EvergreenGroupsError) as told:
        find_hidden(gateway, OKONKWO)
    assert told.value.code == code


def test_what_others_owe_is_not_theirs(sandbox: Sandbox) -> None:
    owe(sandbox, 1012, (21, "9.00"))
    sandbox._store.update("au", 1012, {"usrgroup": 1001})
    with gateway_of(sandbox.url, "harbor_desk") as gateway:
        found = find_hidden(gateway, OKONKWO)
    assert found == {1001: hidden_members.HiddenMembers(frozenset({1012}), Decimal("9.00"))}
