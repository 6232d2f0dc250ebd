"""Amounts of money: ``Decimal`` with two places, and how they are written."""

from __future__ import annotations

from decimal import Decimal

NOTHING = Decimal("0.00")


def plain_amount(value: Decimal) -> str:
    """Write money for programs, as ``1234.50``."""
    text = str(value)
    if text[-3:-2] == "." and not text.startswith("-0."):
        return text  # as all that came from the ILS; the long way takes three times as long
    return f"{value + 0:.2f}"


def plain_amount_or_none(value: Decimal | None) -> str | None:
    """Write money for programs, where there is an amount."""
    return None if value is None else plain_amount(value)
