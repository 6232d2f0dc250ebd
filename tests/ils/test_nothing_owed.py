"""Limits that distinguish a patron without open transactions from one whose open transactions sum to 0.00."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

import pytest

from evergreen_groups.ils import Limits, OrgUnit, OrgUnits, ResolvedLimit
from evergreen_groups.policy import Comparison, Limit, LimitRule
from evergreen_groups.settings import PolicySettings

EXCEEDS, REACHES = Comparison.EXCEEDS, Comparison.REACHES
TOLD_APART = [
    ("0.00", REACHES, True),
    ("-1.00", REACHES, True),
    ("0.01", REACHES, False),
    ("1.00", REACHES, False),
    ("0.00", EXCEEDS, False),
    ("-1.00", EXCEEDS, False),
    (None, REACHES, False),
]


def money(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def limits_of(settings: PolicySettings) -> Limits:
    return Limits(settings, OrgUnits([OrgUnit(1, "LAKELAND", "", None)]))


@pytest.mark.parametrize(("amount", "comparison", "told_apart"), TOLD_APART)
def test_one_limit(amount: str | None, comparison: Comparison, told_apart: bool) -> None:
    assert Limits.of(Limit(money(amount), comparison)).need_transactions is told_apart
    settings = PolicySettings(limit=money(amount), comparison=comparison)
    assert limits_of(settings).need_transactions is told_apart


@pytest.mark.parametrize(("amount", "comparison", "told_apart"), TOLD_APART)
@pytest.mark.parametrize("as_configured", [True, False])
def test_a_rule(amount: str | None, comparison: Comparison, told_apart: bool, as_configured: bool) -> None:
    """A rule's own comparison overrides the configured one."""
    others = REACHES if comparison is EXCEEDS else EXCEEDS
    rules = (
        LimitRule(None, None, Decimal("3.00")),
        LimitRule(None, None, money(amount), None if as_configured else comparison),
    )
    settings = PolicySettings(comparison=comparison if as_configured else others, limits=rules)
    assert limits_of(settings).need_transactions is told_apart


def test_the_ilss_thresholds_always_do() -> None:
    """Only some libraries' transactions may count, and a patron who owes 0.00 may have none there."""
    assert limits_of(PolicySettings(limit="ils")).need_transactions


@pytest.mark.parametrize("scope", [None, {1}])
def test_without_an_open_transaction_no_patron_is_over(scope: Collection[int] | None) -> None:
    found = ResolvedLimit(Limit(Decimal("0.00"), REACHES), None if scope is None else frozenset(scope))
    decision = found.decide(None)
    assert (decision.over_limit, decision.own_balance, decision.limit) == (False, Decimal("0.00"), found.limit)
    assert found.decide(Decimal("0.00")).over_limit


@pytest.mark.parametrize(("given", "told"), [("", "configuration"), ("a command line's", "a command line's")])
def test_where_the_one_limit_comes_from(given: str, told: str) -> None:
    limits = Limits.of(Limit(Decimal("2.00"), REACHES, given))
    assert limits.limit_for(11, 21).limit.origin == told
    assert limits.limit_for(11, 21) == ResolvedLimit(Limit(Decimal("2.00"), REACHES))
