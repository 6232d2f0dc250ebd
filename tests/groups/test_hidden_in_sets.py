"""Hidden members of many groups: by a few questions for all of them the truth, and no answer is taken on trust."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.debts import owe
from support.fault_proxy import Call, FaultProxy, HttpAnswer
from support.gateways import gateway_of

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import HiddenMembers, find_hidden, hidden_in_sets
from evergreen_groups.sandbox import Sandbox

MEMBERS = "open-ils.actor.usergroup.members.retrieve"
BALANCES = "open-ils.actor.usergroup.members.balance_owed"
SETS = "open-ils.pcrud.search.au.atomic"
CHECK = "open-ils.pcrud.search.aou.atomic"
EVENT = {"ilsevent": 5000, "textcode": "PERM_FAILURE", "desc": "no", "ilsperm": "VIEW_USER", "ilspermloc": 11}
ORG_UNITS = (1, 2, 3, 11, 12, 21, 22)
MILL = 21
# At home where the account sees patrons, and elsewhere.
SEEN = [*range(1001, 1007), *range(1015, 1019), 1039, 1051, 1052, 1053]
UNSEEN = [1007, 1012, 1013, 1014, *range(1019, 1026), 1029, 1030, 1036, 1037, 1038]
VISIBLE = {70_000 + place: set(SEEN[2 * place : 2 * place + 2]) for place in range(7)}
ONE, TWO, THREE = 70_001, 70_003, 70_006
HIDDEN = {ONE: [1012], TWO: [1013, 1014], THREE: [1019, 1020, 1021]}
OWED = {1012: "9.00", 1020: "2.50", 1021: "-1.00", 1001: "4.00"}
TRUTH = {
    ONE: HiddenMembers(1, Decimal("9.00")),
    TWO: HiddenMembers(2, Decimal("0.00")),
    THREE: HiddenMembers(3, Decimal("1.50")),
}

Alter = Callable[[Any], Any]


def make_groups(sandbox: Sandbox, hidden: Mapping[int, list[int]], owed: Mapping[int, str]) -> None:
    """Put patrons into groups, and let them owe something and nothing else; others are in other groups."""
    for member in [*SEEN, *UNSEEN]:
        owe(sandbox, member, *([(MILL, owed[member])] if member in owed else []))
        sandbox._store.update("au", member, {"usrgroup": 80_000 + member})
    for groups in (VISIBLE, hidden):
        for group, members in groups.items():
            for member in members:
                sandbox._store.update("au", member, {"usrgroup": group})


@pytest.fixture
def gateway(sandbox: Sandbox, proxy: FaultProxy) -> Iterator[Gateway]:
    make_groups(sandbox, HIDDEN, OWED)
    with gateway_of(proxy.url, "harbor_desk", concurrency=1) as gateway:
        gateway.login()
        gateway.idl("au", "aou")
        proxy.seen.clear()
        yield gateway


def found_in(gateway: Gateway) -> dict[int, HiddenMembers]:
    """What is found, without the ids that are known where groups were looked at one by one."""
    found = find_hidden(gateway, VISIBLE, lambda: ORG_UNITS)
    return {group: HiddenMembers(hidden.count, hidden.fines) for group, hidden in found.items()}


def found_or_refused(gateway: Gateway) -> dict[int, HiddenMembers] | None:
    """What is found, None where the answers are refused."""
    try:
        return found_in(gateway)
    except DataError:
        return None


def test_a_question_for_each_number_and_balances_only_of_those_who_owe(gateway: Gateway, proxy: FaultProxy) -> None:
    assert find_hidden(gateway, VISIBLE, lambda: ORG_UNITS) == TRUTH
    assert proxy.seen == [
        *[SETS] * 4,  # more than 0, 1, 2 and 3 of them
        CHECK,  # so many, and no more
        SETS,  # whose owe anything
        BALANCES,
        BALANCES,
        CHECK,  # whose those with balances are
        CHECK,  # nobody else owes anything
    ]


def test_nobody_is_hidden(gateway: Gateway, proxy: FaultProxy, sandbox: Sandbox) -> None:
    make_groups(sandbox, {}, {})
    assert find_hidden(gateway, VISIBLE, lambda: ORG_UNITS) == {}
    assert proxy.seen == [SETS, CHECK]


def test_progress_counts_the_groups_whose_balances_are_read(gateway: Gateway) -> None:
    heard: list[tuple[int, int]] = []
    find_hidden(gateway, VISIBLE, lambda: ORG_UNITS, lambda read, more: heard.append((read, more)))
    assert heard == [(0, 2), (1, 0), (1, 0)]


def test_a_handful_of_groups_is_looked_at_with_their_ids(gateway: Gateway, proxy: FaultProxy) -> None:
    found = find_hidden(gateway, {group: VISIBLE[group] for group in HIDDEN}, lambda: ORG_UNITS)
    assert {group: hidden.ids for group, hidden in found.items()} == {
        group: frozenset(ids) for group, ids in HIDDEN.items()
    }
    assert SETS not in proxy.seen[:1]


@pytest.mark.parametrize(("most_counted", "most_bytes"), [(1, 26_000), (7, 100), (7, 20), (2, 60)])
def test_too_many_to_be_counted_or_for_one_form(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, most_counted: int, most_bytes: int
) -> None:
    monkeypatch.setattr(hidden_in_sets, "_MOST_COUNTED", most_counted)
    monkeypatch.setattr(hidden_in_sets, "_MOST_BYTES", most_bytes)
    assert found_in(gateway) == TRUTH


@pytest.mark.parametrize("change", [{"usrgroup": 99_999}, {"deleted": "t"}])
def test_somebody_who_was_moved_or_deleted_meanwhile(
    sandbox: Sandbox, gateway: Gateway, change: dict[str, Any]
) -> None:
    """The one who answers for the group is in it no more; the others still are, or it is seen that they aren't."""
    sandbox._store.update("au", min(VISIBLE[ONE]), change)
    assert found_in(gateway) == TRUTH


def test_balances_that_may_not_be_seen_are_unknown_and_not_nought(gateway: Gateway, proxy: FaultProxy) -> None:
    proxy.answer = lambda call: EVENT if call.method == BALANCES else None
    assert {group: hidden.fines for group, hidden in found_in(gateway).items()} == {
        ONE: None,
        TWO: Decimal("0.00"),
        THREE: None,
    }


def alter(proxy: FaultProxy, method: str, change: Alter, at: int | None) -> None:
    """Make something else of the answers of a method; ``at`` is which of its calls, None all of them."""
    calls = [-1]

    def altered(call: Call, answer: HttpAnswer) -> HttpAnswer | None:
        if call.method != method:
            return None
        calls[0] += 1
        if at is not None and calls[0] != at:
            return None
        return HttpAnswer.of({"payload": [change(json.loads(answer.body)["payload"][0])], "status": 200})

    proxy.alter = altered


BALANCES_WRONG: dict[str, Alter] = {
    "nobody owes anything": lambda _owed: [],
    "a debt is lost": lambda owed: owed[1:],
    "somebody else's debt": lambda owed: [*owed, {"usr": 1030, "balance_owed": "1.00"}],
    "a debt of a hidden member of another group": lambda owed: [*owed, {"usr": 1013, "balance_owed": "1.00"}],
    "a debt of a visible member of another group": lambda owed: [*owed, {"usr": 1016, "balance_owed": "1.00"}],
}


@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("lost", [0, -1, None])
def test_rows_that_are_lost(gateway: Gateway, proxy: FaultProxy, at: int, lost: int | None) -> None:
    """Of each of the questions for sets: the first row, the last, all."""

    def without(rows: list[Any]) -> list[Any]:
        return [] if lost is None else [row for place, row in enumerate(rows) if place != lost % max(len(rows), 1)]

    alter(proxy, SETS, without, at)
    assert found_in(gateway) == TRUTH


def test_the_answer_of_the_question_before(gateway: Gateway, proxy: FaultProxy) -> None:
    before: list[list[Any]] = [[]]

    def one_behind(rows: list[Any]) -> list[Any]:
        before.append(rows)
        return before[-2]

    alter(proxy, SETS, one_behind, None)
    assert found_or_refused(gateway) in (TRUTH, None)


@pytest.mark.parametrize("wrong", BALANCES_WRONG)
@pytest.mark.parametrize("at", [0, 1])
def test_wrong_balances_are_asked_for_again(gateway: Gateway, proxy: FaultProxy, wrong: str, at: int) -> None:
    alter(proxy, BALANCES, BALANCES_WRONG[wrong], at)
    assert found_in(gateway) == TRUTH


@pytest.mark.parametrize("wrong", ["nobody owes anything", "a debt is lost", "somebody else's debt"])
def test_wrong_balances_again_and_again(gateway: Gateway, proxy: FaultProxy, wrong: str) -> None:
    alter(proxy, BALANCES, BALANCES_WRONG[wrong], None)
    assert found_or_refused(gateway) is None


@st.composite
def populations(draw: st.DrawFn) -> tuple[dict[int, list[int]], dict[int, str]]:
    """Hidden members by group, and what some of them owe."""
    hidden: dict[int, list[int]] = {}
    for member in UNSEEN:
        group = draw(st.sampled_from([None, *VISIBLE]))
        if group is not None:
            hidden.setdefault(group, []).append(member)
    amounts = st.decimals("-3.00", "60.00", places=2).map(str)
    return hidden, draw(st.dictionaries(st.sampled_from([*SEEN, *UNSEEN]), amounts, max_size=12))


@pytest.mark.long
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(population=populations())
def test_the_truth_of_any_population(sandbox: Sandbox, population: tuple[dict[int, list[int]], dict[int, str]]) -> None:
    hidden, owed = population
    make_groups(sandbox, hidden, owed)
    truth = {
        group: HiddenMembers(len(ids), sum((Decimal(owed.get(id, "0.00")) for id in ids), Decimal("0.00")))
        for group, ids in hidden.items()
    }
    with gateway_of(sandbox.url, "harbor_desk") as gateway:
        assert found_in(gateway) == truth
