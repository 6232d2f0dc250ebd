"""Group Member Details: every member with fines and items, counted as the library counts them."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from support.fault_proxy import Call, FaultProxy, fault_proxy
from support.gateways import client_of, gateway_of

from evergreen_groups.client import Client
from evergreen_groups.errors import NotFoundError, UnexpectedAnswerError
from evergreen_groups.ils import CirculationCounts
from evergreen_groups.sandbox import Sandbox


@pytest.fixture
def proxy(sandbox: Sandbox) -> Iterator[FaultProxy]:
    with fault_proxy(sandbox.url) as proxy:
        yield proxy


def test_every_member_with_fines_and_items(client: Client) -> None:
    details = client.groups.of_barcode("20000000001017")
    assert details.group.number == 1004
    found = {
        member.id: (member.own_fines, member.over_limit, details.circulations[member.id])
        for member in details.group.members
    }
    assert found == {
        1015: (Decimal("14.75"), True, CirculationCounts(out=2, overdue=0, lost=0)),
        1016: (Decimal("9.30"), True, CirculationCounts(out=2, overdue=1, lost=1)),
        1017: (Decimal("3.10"), False, CirculationCounts(out=1, overdue=1, lost=0)),
        1018: (Decimal("-1.50"), False, CirculationCounts(out=0, overdue=0, lost=0)),
    }
    assert details.group.combined_fines == Decimal("25.65")
    assert details.all_circulations == CirculationCounts(out=5, overdue=2, lost=1)


@pytest.mark.parametrize(
    ("settings", "out"),
    [
        ({}, {1015: 2, 1016: 2}),
        ({"circ.do_not_tally_claims_returned": True}, {1015: 1, 1016: 2}),
        ({"circ.tally_lost": True}, {1015: 2, 1016: 3}),
    ],
)
def test_the_librarys_settings_decide_what_counts_as_out(
    proxy: FaultProxy, tmp_path: Path, settings: dict[str, bool], out: dict[int, int]
) -> None:
    names = ("circ.do_not_tally_claims_returned", "circ.tally_lost")
    answer = {name: {"org": 1, "value": settings[name]} if name in settings else None for name in names}

    def answer_settings(call: Call) -> object | None:
        return answer if call.method == "open-ils.actor.ou_setting.ancestor_default.batch" else None

    proxy.answer = answer_settings
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        details = client_of(gateway, tmp_path).groups.of_group(1004)
    assert {id: counts.out for id, counts in details.circulations.items() if counts and id in out} == out


def test_a_group_of_one_and_one_that_nobody_is_in(client: Client) -> None:
    assert [member.id for member in client.groups.of_user(1039).group.members] == [1039]
    with pytest.raises(NotFoundError, match="nobody is in group 424242"):
        client.groups.of_group(424242)


def test_hidden_members_are_counted_and_their_fines_are_in_the_total(sandbox: Sandbox, tmp_path: Path) -> None:
    with gateway_of(sandbox.url, "north_manager") as gateway:
        group = client_of(gateway, tmp_path).groups.of_group(1006).group
    assert [member.id for member in group.members] == [1026, 1028]
    assert (group.hidden_member_count, group.hidden_fines, group.combined_fines) == (
        1,
        Decimal("22.00"),
        Decimal("40.40"),
    )


def test_items_that_the_account_may_not_see_are_unknown_and_not_none_out(proxy: FaultProxy, tmp_path: Path) -> None:
    proxy.nothing = lambda call: call.method == "open-ils.actor.user.checked_out.count"
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        details = client_of(gateway, tmp_path).groups.of_group(1004)
    assert set(details.circulations.values()) == {None}
    assert details.all_circulations is None


@pytest.mark.parametrize("count", [None, "", {}, [], False, True, -1, "x", "\u0663", "1.0"])
def test_a_count_that_is_none_is_not_nought(proxy: FaultProxy, tmp_path: Path, count: object) -> None:
    counts = {"out": 0, "claims_returned": 0, "overdue": count, "lost": 0, "long_overdue": 0}
    proxy.answer = lambda call: counts if call.method == "open-ils.actor.user.checked_out.count" else None
    with (
        gateway_of(proxy.url, "consortium_staff") as gateway,
        pytest.raises(UnexpectedAnswerError, match="counts of circulations"),
    ):
        client_of(gateway, tmp_path).groups.of_group(1004)


@pytest.mark.long
def test_a_large_group_takes_one_call_a_member_and_few_others(tmp_path: Path) -> None:
    with (
        Sandbox(patrons=300) as sandbox,
        gateway_of(sandbox.url, "consortium_staff") as gateway,
        fault_proxy(sandbox.url) as proxy,
        gateway_of(proxy.url, "consortium_staff") as counted,
    ):
        patrons = gateway.pcrud.search("au", {"deleted": "f", "id": {">": 2000}}, limit=200, order_by="id")
        cards = [
            record.barcode
            for batch in gateway.pcrud.by_values("ac", "id", [p.card for p in patrons])
            for record in batch
        ]
        client = client_of(gateway, tmp_path)
        assert client.moves.plan_move(cards, to="20000000001039").apply().done
        proxy.seen.clear()
        group = client_of(counted, tmp_path).groups.of_barcode("20000000001039").group
    assert len(group.members) == 201
    assert proxy.seen.count("open-ils.actor.user.checked_out.count") == 201
    assert len(proxy.seen) <= 201 + 20
