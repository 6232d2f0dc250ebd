"""The rule: blocked by own fines over the limit, and by nothing else."""

import inspect
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen_groups import policy
from evergreen_groups.errors import ArgumentError
from evergreen_groups.policy import Comparison, Limit, decide

amounts = st.decimals(min_value=-1000, max_value=100_000, places=2)
EXCEEDS, REACHES = Comparison.EXCEEDS, Comparison.REACHES


@pytest.mark.parametrize(
    ("own", "amount", "comparison", "blocked"),
    [
        ("5.00", "5.00", EXCEEDS, False),
        ("5.01", "5.00", EXCEEDS, True),
        ("5.00", "5.00", REACHES, True),
        ("4.99", "5.00", REACHES, False),
        ("0.01", "0.00", EXCEEDS, True),
        ("0.00", "0.00", EXCEEDS, False),
        ("0.00", "0.00", REACHES, True),
        ("-3.25", "0.00", REACHES, False),
    ],
)
def test_the_limit(own: str, amount: str, comparison: Comparison, blocked: bool) -> None:
    decision = decide(Decimal(own), Limit(Decimal(amount), comparison))
    assert decision.over_limit is blocked
    verb = "exceed" if comparison is EXCEEDS else "reach"
    assert decision.explanation.startswith("Over the limit: own" if blocked else "Not over the limit: own")
    assert str(decision.explanation).endswith(f" {'' if blocked else 'do not '}{verb} the limit of {amount}.")


def test_no_limit_blocks_no_patron() -> None:
    decision = decide(Decimal("9999.99"), Limit(None))
    assert not decision.over_limit
    assert decision.explanation == "Not over the limit: there is no limit."
    assert decision.over_by == Decimal("0.00")


def test_a_limit_has_a_comparison() -> None:
    with pytest.raises(ArgumentError, match="comparison"):
        Limit(comparison="reaches")  # type: ignore[arg-type]


def test_limits_are_the_same_wherever_they_come_from() -> None:
    assert Limit(Decimal("2.00"), origin="configuration") == Limit(Decimal("2.00"), origin="Evergreen: no threshold")


def test_the_explanation_names_both_amounts() -> None:
    decision = decide(Decimal("7.5"), Limit())
    assert decision.explanation == "Over the limit: own fines of 7.50 exceed the limit of 5.00."
    assert decision.over_by == Decimal("2.50")


@given(amounts, amounts)
def test_the_two_comparisons_differ_exactly_at_the_limit(own: Decimal, amount: Decimal) -> None:
    exceeds = decide(own, Limit(amount, EXCEEDS)).over_limit
    reaches = decide(own, Limit(amount, REACHES)).over_limit
    assert (exceeds != reaches) == (own == amount)


@given(amounts, amounts, amounts)
def test_owing_more_never_unblocks(own: Decimal, more: Decimal, amount: Decimal) -> None:
    lower, higher = sorted((own, more))
    limit = Limit(amount)
    assert decide(lower, limit).over_limit <= decide(higher, limit).over_limit


def test_a_group_total_cannot_be_handed_in() -> None:
    assert list(inspect.signature(decide).parameters) == ["counted_fines", "limit"]
    imported = {name for name in vars(policy) if name[0].isupper()}
    assert imported == {"Comparison", "Decimal", "Decision", "Enum", "Limit", "LimitRule", "Message"}
