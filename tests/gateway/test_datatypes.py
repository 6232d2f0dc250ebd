"""Values of the wire that aren't what their field holds."""

from __future__ import annotations

from decimal import Decimal

import pytest

from evergreen_groups.errors import DataError
from evergreen_groups.gateway.datatypes import _decode_money


@pytest.mark.parametrize(
    "value", [True, False, "NaN", {}, [], "five", "", " 5 ", "1_0", "\u0663", "5,00", "0x10", "1e400"]
)
def test_what_is_no_amount_of_money(value: object) -> None:
    with pytest.raises(DataError):
        _decode_money(value, "mous", "balance_owed")


@pytest.mark.parametrize(
    ("value", "amount"), [("5.00", "5.00"), ("-0.0", "0.00"), ("12", "12.00"), (Decimal("0.1"), "0.10")]
)
def test_amounts_of_money(value: object, amount: str) -> None:
    assert _decode_money(value, "mous", "balance_owed") == Decimal(amount)
