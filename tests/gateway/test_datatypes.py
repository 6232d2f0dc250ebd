"""Wire values that don't fit their field."""

from __future__ import annotations

from decimal import Decimal

import pytest

from evergreen_groups.errors import DataError
from evergreen_groups.gateway.record import _decode_id, _decode_integer, _decode_money, whole_number


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


@pytest.mark.parametrize(
    ("value", "number"), [("-9223372036854775808", -(2**63)), ("9" * 21, None), ("9" * 5000, None)]
)
def test_no_whole_number_is_longer_than_the_databases(value: str, number: int | None) -> None:
    assert whole_number(value) == number
    if number is None:
        with pytest.raises(DataError):
            _decode_integer(value, "au", "usrgroup")
        with pytest.raises(DataError):
            _decode_id(value, "au", "id")
