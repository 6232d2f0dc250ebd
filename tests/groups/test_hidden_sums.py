"""Numbers of groups, read from the order of rows: each is what the database has, or said to have no place."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.debts import owe
from support.gateways import gateway_of
from support.many_patrons import insert_patrons

from evergreen_groups.groups.hidden_sums import (
    MIN_MARKERS,
    GroupSum,
    MemberCount,
    MemberFines,
    read_sums,
)
from evergreen_groups.sandbox import Sandbox

HARBOR, MILL = 11, 21
LABELS = list(range(5001, 5001 + MIN_MARKERS))
WITNESSES = {id: 70_000 + id for id in range(5101, 5117)}
AMOUNTS = ["0.00", "0.01", "0.29", "0.57", "1.15", "81.91", "81.92", "655.35", "655.36", "1310.71", "1310.72", "-0.01"]


@pytest.fixture
def witnesses(sandbox: Sandbox) -> Sandbox:
    insert_patrons(sandbox, {id: id for id in LABELS} | WITNESSES, HARBOR)
    return sandbox


def numbers(sandbox: Sandbox, number: GroupSum) -> list[int | None]:
    """Those of the witnesses' groups, in their order."""
    with gateway_of(sandbox.url, "harbor_desk") as gateway:
        found = read_sums(gateway, number, WITNESSES, LABELS)
    return [found[group] for group in WITNESSES.values()]


def in_cents(amount: str) -> int | None:
    cents = int(Decimal(amount) * 100)
    return cents if 0 <= cents < 2**17 else None


def let_owe(sandbox: Sandbox, amounts: list[str]) -> list[int | None]:
    """Let the witnesses owe that, who aren't named nothing; and what is to be found."""
    for id, amount in zip(WITNESSES, amounts, strict=False):
        owe(sandbox, id, (MILL, amount))
    return [in_cents(amount) for amount in [*amounts, *["0.00"] * (len(WITNESSES) - len(amounts))]]


def test_amounts_at_the_edges(witnesses: Sandbox) -> None:
    assert let_owe(witnesses, AMOUNTS) == numbers(witnesses, MemberFines())


def test_a_label_owes_something_itself(witnesses: Sandbox) -> None:
    """It stands for its digits all the same."""
    expected = let_owe(witnesses, AMOUNTS)
    for id in LABELS[::2]:
        owe(witnesses, id, (MILL, "1310.71"))
    assert expected == numbers(witnesses, MemberFines())


def test_how_many_belong_to_each(witnesses: Sandbox) -> None:
    sizes = [1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 33]
    more = iter(range(6001, 7000))
    for size, group in zip(sizes, WITNESSES.values(), strict=False):
        insert_patrons(witnesses, {next(more): group for _ in range(size - 1)}, MILL)
    expected = [size if size < 32 else None for size in sizes]
    assert numbers(witnesses, MemberCount()) == expected + [1] * (len(WITNESSES) - len(sizes))


@pytest.mark.long
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(amounts=st.lists(st.decimals("-1.00", "1320.00", places=2).map(str), min_size=16, max_size=16))
def test_any_amounts(witnesses: Sandbox, amounts: list[str]) -> None:
    assert let_owe(witnesses, amounts) == numbers(witnesses, MemberFines())
