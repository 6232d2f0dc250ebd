"""Hidden members of many groups: first the groups that have any, then their members a few groups at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.debts import owe
from support.fault_proxy import FaultProxy, alter_payloads
from support.gateways import gateway_of

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import HiddenMembers, find_hidden
from evergreen_groups.groups import hidden as hidden_members
from evergreen_groups.sandbox import Sandbox

MEMBERS = "open-ils.actor.usergroup.members.retrieve"
BALANCES = "open-ils.actor.usergroup.members.balance_owed"
SEARCH = "open-ils.pcrud.search.au.atomic"
CONFIRM = "open-ils.pcrud.search.aou.atomic"
EVENT = {"ilsevent": 5000, "textcode": "PERM_FAILURE", "desc": "no", "ilsperm": "VIEW_USER", "ilspermloc": 11}
ORG_UNITS = (1, 2, 3, 11, 12, 21, 22)
HARBOR, MILL = 11, 21
# Patrons of HARBOR, which the account sees, and hidden patrons of other libraries.
VISIBLE = {70_000 + place: set(range(5001 + 4 * place, 5005 + 4 * place)) for place in range(25)}
SEEN = [id for ids in VISIBLE.values() for id in sorted(ids)]
UNSEEN = [1007, 1012, 1013, 1014, *range(1019, 1026), 1029, 1030, 1036, 1037, 1038]
ONE, TWO, THREE = 70_001, 70_003, 70_006
HIDDEN = {ONE: [1012], TWO: [1013, 1014], THREE: [1019, 1020, 1021]}
OWED = {1012: "9.00", 1020: "2.50", 1021: "-1.00", SEEN[0]: "4.00", min(VISIBLE[ONE]): "0.29"}
TRUTH = {
    ONE: HiddenMembers(frozenset({1012}), Decimal("9.00")),
    TWO: HiddenMembers(frozenset({1013, 1014}), Decimal("0.00")),
    THREE: HiddenMembers(frozenset({1019, 1020, 1021}), Decimal("1.50")),
}

FLAGS = {"active": "t", **dict.fromkeys(("deleted", "barred", "juvenile", "master_account"), "f")}

Rows = list[Any]


def some(first: Iterable[Any], *others: Any) -> list[Any]:
    """Return parameters: ``first`` for plain pytest, the others for the long session."""
    return [*first, *(pytest.param(other, marks=pytest.mark.long) for other in others)]


def make_groups(sandbox: Sandbox, hidden: Mapping[int, list[int]], owed: Mapping[int, str]) -> None:
    """Put hidden patrons into groups, and set what patrons owe (default: nothing)."""
    for member in UNSEEN:
        sandbox._store.update("au", member, {"usrgroup": 80_000 + member})
    for member in {*UNSEEN, *owed}:
        owe(sandbox, member, *([(MILL, owed[member])] if member in owed else []))
    for group, members in hidden.items():
        for member in members:
            sandbox._store.update("au", member, {"usrgroup": group})


def insert_patrons(sandbox: Sandbox, groups: Mapping[int, int], home: int) -> None:
    """Add patrons without debts, given their ids with their groups, at one home library."""
    store = sandbox._store
    with store.transaction():
        for id, group in groups.items():
            names = {"usrname": f"patron{id}", "family_name": "L", "first_given_name": str(id)}
            store.insert("au", {"id": id, "usrgroup": group, "home_ou": home, "profile": 2, **names, **FLAGS})


@pytest.fixture
def groups(sandbox: Sandbox) -> Sandbox:
    """The sandbox with the visible groups."""
    insert_patrons(sandbox, {id: group for group, ids in VISIBLE.items() for id in ids}, HARBOR)
    return sandbox


@pytest.fixture
def gateway(groups: Sandbox, proxy: FaultProxy) -> Iterator[Gateway]:
    make_groups(groups, HIDDEN, OWED)
    with gateway_of(proxy.url, "harbor_desk", concurrency=1) as gateway:
        gateway.login()
        gateway.idl("au", "aou", "mous")
        proxy.seen.clear()
        yield gateway


def found_in(gateway: Gateway, visible: Mapping[int, set[int]] = VISIBLE) -> dict[int, HiddenMembers]:
    return find_hidden(gateway, visible, lambda: ORG_UNITS)


def found_or_refused(gateway: Gateway) -> dict[int, HiddenMembers] | None:
    """Return the hidden members found; None if the answers are rejected."""
    try:
        return found_in(gateway)
    except DataError:
        return None


def test_five_calls_for_a_few_groups_among_many(gateway: Gateway, proxy: FaultProxy) -> None:
    assert found_in(gateway) == TRUTH
    assert proxy.seen == [
        SEARCH,  # the groups with hidden members
        MEMBERS,  # verify that the others have none
        MEMBERS,
        BALANCES,
        SEARCH,  # the group of each hidden member
    ]


def test_without_fines_no_balance_is_read(gateway: Gateway, proxy: FaultProxy) -> None:
    found = find_hidden(gateway, VISIBLE, lambda: ORG_UNITS, with_fines=False)
    assert found == {group: HiddenMembers(hidden.ids, None) for group, hidden in TRUTH.items()}
    assert proxy.seen == [SEARCH, MEMBERS, MEMBERS, SEARCH]


def test_eight_groups_with_a_hidden_member_each_at_a_time(
    gateway: Gateway, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    make_groups(sandbox, {}, {})
    insert_patrons(sandbox, {6001 + place: group for place, group in enumerate(VISIBLE)}, MILL)
    assert found_in(gateway) == {
        group: HiddenMembers(frozenset({6001 + place}), Decimal("0.00")) for place, group in enumerate(VISIBLE)
    }
    assert proxy.seen == [SEARCH, MEMBERS, *[MEMBERS, BALANCES, SEARCH] * 3, MEMBERS, BALANCES, CONFIRM]


@pytest.mark.parametrize("most", some([4], 1, 2, 12))
def test_too_many_pairs_for_one_form(
    gateway: Gateway, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Of the three groups with six hidden members, read half at a time."""
    monkeypatch.setattr(hidden_members, "_MAX_PAIRS", most)
    assert found_in(gateway) == TRUTH


def test_no_member_is_hidden(gateway: Gateway, proxy: FaultProxy, sandbox: Sandbox) -> None:
    make_groups(sandbox, {}, {})
    assert find_hidden(gateway, VISIBLE, lambda: ORG_UNITS) == {}
    assert proxy.seen == [SEARCH, MEMBERS]


def test_progress_counts_the_groups_with_hidden_members(gateway: Gateway) -> None:
    heard: list[tuple[int, int | None]] = []

    def progress(_doing: str, done: int, total: int | None = None) -> None:
        heard.append((done, total))

    find_hidden(gateway, VISIBLE, lambda: ORG_UNITS, progress=progress)
    assert heard == [(3, 3)]


def test_progress_goes_up_batch_by_batch(gateway: Gateway, sandbox: Sandbox) -> None:
    make_groups(sandbox, {}, {})
    insert_patrons(sandbox, {6001 + place: group for place, group in enumerate(VISIBLE)}, MILL)
    heard: list[int] = []
    find_hidden(gateway, VISIBLE, lambda: ORG_UNITS, progress=lambda _doing, done, _total=None: heard.append(done))
    assert heard == [8, 16, 24, 25]


@pytest.mark.parametrize("most_ids", some([60], 6, 2))
def test_too_many_for_one_form(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, most_ids: int) -> None:
    monkeypatch.setattr(hidden_members, "_MAX_IDS", most_ids)
    assert found_in(gateway) == TRUTH


def test_one_visible_member_in_each_group(groups: Sandbox, proxy: FaultProxy) -> None:
    make_groups(groups, {5001: [1012, 1013], 5090: [1014]}, OWED)
    insert_patrons(groups, {id: id for id in range(5101, 5141)}, HARBOR)
    for id in SEEN:
        groups._store.update("au", id, {"usrgroup": id})
    alone = {id: {id} for id in range(5001, 5141)}
    with gateway_of(proxy.url, "harbor_desk", concurrency=1) as gateway:
        assert found_in(gateway, alone) == {
            5001: HiddenMembers(frozenset({1012, 1013}), Decimal("9.00")),
            5090: HiddenMembers(frozenset({1014}), Decimal("0.00")),
        }


def test_a_group_without_visible_members(gateway: Gateway) -> None:
    """Nobody represents it in the search."""
    visible = {group: set[int]() if group == TWO else ids for group, ids in VISIBLE.items()}
    hidden = HiddenMembers(frozenset({1013, 1014, *VISIBLE[TWO]}), Decimal("0.00"))
    assert found_in(gateway, visible) == {**TRUTH, TWO: hidden}


@pytest.mark.parametrize("change", [{"usrgroup": 99_999}, {"deleted": "t"}, {"home_ou": MILL}])
@pytest.mark.parametrize("who", [min(VISIBLE[ONE]), max(VISIBLE[70_000])], ids=["representative", "another"])
def test_a_patron_who_was_moved_or_deleted(
    sandbox: Sandbox, gateway: Gateway, change: dict[str, Any], who: int
) -> None:
    """A group's representative, or another member, was moved, deleted, or got a hidden home library."""
    sandbox._store.update("au", who, change)
    if "home_ou" not in change:
        assert found_in(gateway) == TRUTH
    else:
        assert found_or_refused(gateway) is not None


def test_balances_that_may_not_be_seen_are_unknown_and_not_asked_for_otherwise(
    gateway: Gateway, proxy: FaultProxy
) -> None:
    proxy.answer = lambda call: EVENT if call.method == BALANCES else None
    assert {group: hidden.fines for group, hidden in found_in(gateway).items()} == dict.fromkeys(HIDDEN)
    assert proxy.seen == [SEARCH, MEMBERS, MEMBERS, BALANCES, SEARCH]


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("lost", some([1, None], 0, -1))
def test_rows_that_are_lost(gateway: Gateway, proxy: FaultProxy, at: int, lost: int | None) -> None:
    """From one search, drop the first row, a middle one, the last, or all."""

    def without(rows: Rows) -> Rows:
        return [] if lost is None else [row for place, row in enumerate(rows) if place != lost % max(len(rows), 1)]

    alter_payloads(proxy, SEARCH, without, first=at, times=1)
    assert found_in(gateway) == TRUTH


def test_the_answer_of_the_question_before(gateway: Gateway, proxy: FaultProxy) -> None:
    before: list[Rows] = [[]]

    def one_behind(rows: Rows) -> Rows:
        before.append(rows)
        return before[-2]

    alter_payloads(proxy, SEARCH, one_behind)
    assert found_or_refused(gateway) in (TRUTH, None)


BALANCES_WRONG: dict[str, Callable[[Rows], Rows]] = {
    "nobody owes anything": lambda _owed: [],
    "a debt is lost": lambda owed: [one for one in owed if one["usr"] != 1020],
    "somebody else's debt": lambda owed: [*owed, {"usr": 1030, "balance_owed": "1.00"}],
    "a debt of a visible member of another group": lambda owed: [*owed, {"usr": SEEN[-1], "balance_owed": "1.00"}],
}


@pytest.mark.parametrize("wrong", BALANCES_WRONG)
def test_wrong_balances_once(gateway: Gateway, proxy: FaultProxy, wrong: str) -> None:
    alter_payloads(proxy, BALANCES, BALANCES_WRONG[wrong], times=1)
    assert found_in(gateway) == TRUTH


def test_wrong_balances_again_and_again(gateway: Gateway, proxy: FaultProxy) -> None:
    alter_payloads(proxy, BALANCES, BALANCES_WRONG["a debt is lost"])
    assert found_or_refused(gateway) is None


@st.composite
def populations(draw: st.DrawFn) -> tuple[dict[int, list[int]], dict[int, str]]:
    """Draw hidden members by group, and what some patrons owe."""
    hidden: dict[int, list[int]] = {}
    for member in UNSEEN:
        group = draw(st.sampled_from([None, *VISIBLE]))
        if group is not None:
            hidden.setdefault(group, []).append(member)
    amounts = st.decimals("-3.00", "900.00", places=2).map(str)
    return hidden, draw(st.dictionaries(st.sampled_from([*SEEN, *UNSEEN]), amounts, max_size=12))


@pytest.mark.long
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(population=populations())
def test_the_truth_of_any_population(groups: Sandbox, population: tuple[dict[int, list[int]], dict[int, str]]) -> None:
    hidden, owed = population
    make_groups(groups, hidden, {**dict.fromkeys(SEEN, "0.00"), **owed})
    truth = {
        group: HiddenMembers(frozenset(ids), sum((Decimal(owed.get(id, "0.00")) for id in ids), Decimal("0.00")))
        for group, ids in hidden.items()
    }
    with gateway_of(groups.url, "harbor_desk") as gateway:
        assert found_in(gateway) == truth
