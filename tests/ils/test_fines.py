"""What is owed at some libraries: nothing open there is another thing than 0.00 owed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from evergreen_groups.ils.bills import Scope, Transaction, within

HERE, THERE = 4, 5
EVEN = [(HERE, Decimal("2.00")), (HERE, Decimal("-2.00"))]


@pytest.mark.parametrize(
    ("transactions", "scope", "owed"),
    [
        ([], None, None),
        ([], frozenset({HERE}), None),
        ([(THERE, Decimal("3.00"))], frozenset({HERE}), None),
        ([(None, Decimal("3.00"))], frozenset({HERE}), None),
        ([(None, Decimal("3.00"))], None, Decimal("3.00")),
        ([(HERE, Decimal("0.00"))], frozenset({HERE}), Decimal("0.00")),
        (EVEN, frozenset({HERE}), Decimal("0.00")),
        ([*EVEN, (THERE, Decimal("3.00"))], frozenset({HERE}), Decimal("0.00")),
        ([*EVEN, (THERE, Decimal("3.00"))], None, Decimal("3.00")),
    ],
)
def test_within_a_scope(transactions: list[Transaction], scope: Scope, owed: Decimal | None) -> None:
    """Evergreen's sum over no transaction reaches no threshold, not even 0.00; a sum of 0.00 reaches that."""
    assert within(transactions, scope) == owed
