"""Hidden members of many groups, and sums read from the order of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.debts import owe
from support.fault_proxy import Call, FaultProxy, HttpAnswer, alter_payloads
from support.gateways import gateway_of

from evergreen_groups.errors import DataError
from evergreen_groups.gateway import Gateway
from evergreen_groups.groups import HiddenMembers, find_hidden
from evergreen_groups.groups import hidden as hidden_in_sets
from evergreen_groups.groups.hidden import MIN_MARKERS, GroupSum, MemberCount, MemberFines, read_sums
from evergreen_groups.sandbox import Sandbox

MEMBERS = "open-ils.actor.usergroup.members.retrieve"
BALANCES = "open-ils.actor.usergroup.members.balance_owed"
SETS = "open-ils.pcrud.search.au.atomic"
CHECK = "open-ils.pcrud.search.aou.atomic"
OWN_FINES = "open-ils.pcrud.search.mous.atomic"
QUESTIONS = 4  # one for the member counts, three for the fines
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
OWN = {id: Decimal(owed) for id, owed in OWED.items() if id in SEEN}
TRUTH = {
    ONE: HiddenMembers(1, Decimal("9.00")),
    TWO: HiddenMembers(2, Decimal("0.00")),
    THREE: HiddenMembers(3, Decimal("1.50")),
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


def found_in(
    gateway: Gateway, own_fines: Mapping[int, Decimal] | None = None, visible: Mapping[int, set[int]] = VISIBLE
) -> dict[int, HiddenMembers]:
    """Return the hidden members found, without the ids, which are known only for groups read individually."""
    found = find_hidden(gateway, visible, lambda: ORG_UNITS, own_fines=own_fines)
    return {group: HiddenMembers(hidden.count, hidden.fines) for group, hidden in found.items()}


def found_or_refused(gateway: Gateway) -> dict[int, HiddenMembers] | None:
    """Return the hidden members found; None if the answers are rejected."""
    try:
        return found_in(gateway)
    except DataError:
        return None


def test_seven_calls_regardless_of_who_is_hidden(gateway: Gateway, proxy: FaultProxy) -> None:
    assert find_hidden(gateway, VISIBLE, lambda: ORG_UNITS, own_fines=OWN) == TRUTH
    assert proxy.seen == [
        SETS,  # member counts
        CHECK,  # verify the number of hidden members
        BALANCES,  # may the account see balances?
        *[SETS] * 3,  # fines of all members
        CHECK,  # verify the fines of hidden members
    ]


def test_without_fines_they_are_counted_alone(gateway: Gateway, proxy: FaultProxy) -> None:
    found = find_hidden(gateway, VISIBLE, lambda: ORG_UNITS, with_fines=False)
    assert found == {group: HiddenMembers(hidden.count, None) for group, hidden in TRUTH.items()}
    assert proxy.seen == [SETS, CHECK]


def test_own_fines_are_read_where_they_are_not_given(gateway: Gateway, proxy: FaultProxy) -> None:
    assert find_hidden(gateway, VISIBLE, lambda: ORG_UNITS) == TRUTH
    assert proxy.seen.count(OWN_FINES) == 1
    assert len(proxy.seen) == 8


def test_own_fines_of_another_moment(gateway: Gateway, proxy: FaultProxy) -> None:
    """A patron paid after the own fines were read."""
    assert found_in(gateway, {**OWN, min(VISIBLE[THREE]): Decimal("0.50")}) == TRUTH
    assert found_in(gateway, {**OWN, min(VISIBLE[ONE]): Decimal("0.00")}) == TRUTH


def test_of_the_others_nothing_is_asked_again(gateway: Gateway, proxy: FaultProxy, sandbox: Sandbox) -> None:
    """25 groups have a hidden member and one balance is stale: check by halves, and read only the last few groups."""
    make_groups(sandbox, {}, {})
    insert_patrons(sandbox, {6001 + place: group for place, group in enumerate(VISIBLE)}, MILL)
    stale = {min(VISIBLE[ONE]): Decimal("0.10")}
    assert found_in(gateway, stale) == dict.fromkeys(VISIBLE, HiddenMembers(1, Decimal("0.00")))
    assert proxy.seen.count(CHECK) == 1 + (1 + 2 + 2 + 2)
    assert proxy.seen.count(MEMBERS) == 1


def test_no_member_is_hidden(gateway: Gateway, proxy: FaultProxy, sandbox: Sandbox) -> None:
    make_groups(sandbox, {}, {})
    assert find_hidden(gateway, VISIBLE, lambda: ORG_UNITS) == {}
    assert proxy.seen == [SETS, CHECK]


def test_progress_counts_the_groups_with_hidden_members(gateway: Gateway) -> None:
    heard: list[tuple[int, int]] = []
    find_hidden(gateway, VISIBLE, lambda: ORG_UNITS, lambda read, more: heard.append((read, more)))
    assert heard == [(0, 3), (3, 0)]


def test_a_handful_of_groups_is_looked_at_with_their_ids(gateway: Gateway, proxy: FaultProxy) -> None:
    found = find_hidden(gateway, {group: VISIBLE[group] for group in HIDDEN}, lambda: ORG_UNITS)
    assert {group: hidden.ids for group, hidden in found.items()} == {
        group: frozenset(ids) for group, ids in HIDDEN.items()
    }
    assert SETS not in proxy.seen[:1]


def test_fewer_labels(gateway: Gateway, proxy: FaultProxy) -> None:
    """Twelve groups leave 36 visible patrons as markers, for five digits per query; six leave 18, for four."""
    for count, questions in ((12, 2 + 4), (6, 2 + 5)):
        proxy.seen.clear()
        groups = {*HIDDEN, *list(VISIBLE)[8 : 8 + count - len(HIDDEN)]}
        assert found_in(gateway, OWN, {group: VISIBLE[group] for group in groups}) == TRUTH
        assert proxy.seen.count(SETS) == questions
        assert MEMBERS not in proxy.seen


@pytest.mark.parametrize("number", [MemberCount, MemberFines])
def test_numbers_that_have_no_place(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, number: type) -> None:
    """Five and six members, and nine dollars, don't fit in two digits."""
    monkeypatch.setattr(number, "BITS", 2)
    assert found_in(gateway) == TRUTH


@pytest.mark.parametrize("most_bytes", some([600], 50, 20))
def test_too_many_for_one_form(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, most_bytes: int) -> None:
    monkeypatch.setattr(hidden_in_sets, "_MAX_IDS_BYTES", most_bytes)
    assert found_in(gateway) == TRUTH


def test_one_visible_member_in_each_group(groups: Sandbox, proxy: FaultProxy) -> None:
    """The only markers are the members of the groups in the other half."""
    make_groups(groups, {5001: [1012, 1013], 5090: [1014]}, OWED)
    insert_patrons(groups, {id: id for id in range(5101, 5141)}, HARBOR)
    for id in SEEN:
        groups._store.update("au", id, {"usrgroup": id})
    alone = {id: {id} for id in range(5001, 5141)}
    with gateway_of(proxy.url, "harbor_desk", concurrency=1) as gateway:
        found = found_in(gateway, OWN, alone)
    assert found == {5001: HiddenMembers(2, Decimal("9.00")), 5090: HiddenMembers(1, Decimal("0.00"))}
    assert proxy.seen.count(SETS) == 2 * QUESTIONS


@pytest.mark.parametrize("change", [{"usrgroup": 99_999}, {"deleted": "t"}, {"home_ou": MILL}])
@pytest.mark.parametrize("who", [min(VISIBLE[ONE]), max(VISIBLE[70_000])], ids=["representative", "marker"])
def test_a_patron_who_was_moved_or_deleted(
    sandbox: Sandbox, gateway: Gateway, change: dict[str, Any], who: int
) -> None:
    """A group's representative, or a marker, was moved, deleted, or got a hidden home library."""
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
    assert proxy.seen == [SETS, CHECK, BALANCES]


@pytest.mark.parametrize("at", some([0], 1, 2, 3))
def test_a_server_that_does_not_take_the_question(gateway: Gateway, proxy: FaultProxy, at: int) -> None:
    calls = [-1]

    def refused(call: Call, _answer: HttpAnswer) -> HttpAnswer | None:
        calls[0] += call.method == SETS
        failed = {"payload": [], "debug": "osrfMethodException : Severe query error", "status": 500}
        return HttpAnswer.of(failed) if call.method == SETS and calls[0] == at else None

    proxy.alter = refused
    assert found_in(gateway) == TRUTH


@pytest.mark.parametrize("at", some([0, 2], 1, 3))
@pytest.mark.parametrize("lost", some([40, None], 0, 1, -1))
def test_rows_that_are_lost(gateway: Gateway, proxy: FaultProxy, at: int, lost: int | None) -> None:
    """From one query for sets, drop the first row, a middle one, the last, or all."""

    def without(rows: Rows) -> Rows:
        return [] if lost is None else [row for place, row in enumerate(rows) if place != lost % max(len(rows), 1)]

    alter_payloads(proxy, SETS, without, first=at, times=1)
    assert found_in(gateway) == TRUTH


ORDER_WRONG: dict[str, Callable[[Rows], Rows]] = {
    "reversed": lambda rows: rows[::-1],
    "the first comes last": lambda rows: [*rows[1:], rows[0]],
    "two in the other order": lambda rows: [*rows[:30], rows[31], rows[30], *rows[32:]],
    "the last comes first": lambda rows: [rows[-1], *rows[:-1]],
    "by id": lambda rows: sorted(rows, key=lambda row: [value or 0 for value in row["__p"]]),
    "the last under another marker": lambda rows: [rows[0], rows[-1], *rows[1:-1]],
}


@pytest.mark.parametrize("at", some([2], 0, 1, 3))
@pytest.mark.parametrize("wrong", ORDER_WRONG)
def test_rows_in_another_order(gateway: Gateway, proxy: FaultProxy, at: int, wrong: str) -> None:
    alter_payloads(proxy, SETS, ORDER_WRONG[wrong], first=at, times=1)
    assert found_in(gateway) == TRUTH


def test_the_answer_of_the_question_before(gateway: Gateway, proxy: FaultProxy) -> None:
    before: list[Rows] = [[]]

    def one_behind(rows: Rows) -> Rows:
        before.append(rows)
        return before[-2]

    alter_payloads(proxy, SETS, one_behind)
    assert found_or_refused(gateway) in (TRUTH, None)


BALANCES_WRONG: dict[str, Callable[[Rows], Rows]] = {
    "nobody owes anything": lambda _owed: [],
    "a debt is lost": lambda owed: [one for one in owed if one["usr"] != 1020],
    "somebody else's debt": lambda owed: [*owed, {"usr": 1030, "balance_owed": "1.00"}],
    "a debt of a hidden member of another group": lambda owed: [*owed, {"usr": 1013, "balance_owed": "1.00"}],
    "a debt of a visible member of another group": lambda owed: [*owed, {"usr": SEEN[-1], "balance_owed": "1.00"}],
}


@pytest.mark.parametrize("wrong", BALANCES_WRONG)
def test_wrong_balances_of_the_one_group(gateway: Gateway, proxy: FaultProxy, wrong: str) -> None:
    """The balances contradict the order of the rows, so the groups are read a few at a time."""
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
        group: HiddenMembers(len(ids), sum((Decimal(owed.get(id, "0.00")) for id in ids), Decimal("0.00")))
        for group, ids in hidden.items()
    }
    with gateway_of(groups.url, "harbor_desk") as gateway:
        assert found_in(gateway) == truth


MARKERS = list(range(5001, 5001 + MIN_MARKERS))
REPRESENTATIVES = {id: 70_000 + id for id in range(5101, 5117)}
AMOUNTS = ["0.00", "0.01", "0.29", "0.57", "1.15", "81.91", "81.92", "655.35", "655.36", "1310.71", "1310.72", "-0.01"]


@pytest.fixture
def representatives(sandbox: Sandbox) -> Sandbox:
    insert_patrons(sandbox, {id: id for id in MARKERS} | REPRESENTATIVES, HARBOR)
    return sandbox


def numbers(sandbox: Sandbox, number: GroupSum) -> list[int | None]:
    """Return the sums of the representatives' groups, in order."""
    with gateway_of(sandbox.url, "harbor_desk") as gateway:
        found = read_sums(gateway, number, REPRESENTATIVES, MARKERS)
    return [found[group] for group in REPRESENTATIVES.values()]


def in_cents(amount: str) -> int | None:
    cents = int(Decimal(amount) * 100)
    return cents if 0 <= cents < 2**17 else None


def let_owe(sandbox: Sandbox, amounts: list[str]) -> list[int | None]:
    """Let the representatives owe these amounts, 0.00 by default, and return the sums to expect."""
    for id, amount in zip(REPRESENTATIVES, amounts, strict=False):
        owe(sandbox, id, (MILL, amount))
    return [in_cents(amount) for amount in [*amounts, *["0.00"] * (len(REPRESENTATIVES) - len(amounts))]]


def test_amounts_at_the_edges(representatives: Sandbox) -> None:
    assert let_owe(representatives, AMOUNTS) == numbers(representatives, MemberFines())


def test_a_marker_owes_something_itself(representatives: Sandbox) -> None:
    """A marker's own fines don't change the digits it marks."""
    expected = let_owe(representatives, AMOUNTS)
    for id in MARKERS[::2]:
        owe(representatives, id, (MILL, "1310.71"))
    assert expected == numbers(representatives, MemberFines())


def test_how_many_belong_to_each(representatives: Sandbox) -> None:
    sizes = [1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 33]
    more = iter(range(6001, 7000))
    for size, group in zip(sizes, REPRESENTATIVES.values(), strict=False):
        insert_patrons(representatives, {next(more): group for _ in range(size - 1)}, MILL)
    expected = [size if size < 32 else None for size in sizes]
    assert numbers(representatives, MemberCount()) == expected + [1] * (len(REPRESENTATIVES) - len(sizes))


@pytest.mark.long
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(amounts=st.lists(st.decimals("-1.00", "1320.00", places=2).map(str), min_size=16, max_size=16))
def test_any_amounts(representatives: Sandbox, amounts: list[str]) -> None:
    assert let_owe(representatives, amounts) == numbers(representatives, MemberFines())
