"""Monetary amounts: ``Decimal`` with two decimal places."""

from __future__ import annotations

from decimal import Decimal

ZERO = Decimal("0.00")


def plain_amount(value: Decimal) -> str:
    """Format an amount for programs: ``1234.50``."""
    text = str(value)
    if text[-3:-2] == "." and not text.startswith("-0."):
        return text  # all amounts from Evergreen end up here; formatting takes three times as long
    return f"{value + 0:.2f}"  # adding 0 turns -0.00 into 0.00


def plain_amount_or_none(value: Decimal | None) -> str | None:
    """Format an amount for programs, or return None for None."""
    return None if value is None else plain_amount(value)
