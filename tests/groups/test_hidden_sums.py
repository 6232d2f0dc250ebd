"""Sums of groups, read from the order of rows: each matches the database, or is None if it doesn't fit."""

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
