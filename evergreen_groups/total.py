"""Totals over groups in which some members may be hidden from the account."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Generic, NamedTuple, TypeVar

Number = TypeVar("Number", bound=int | Decimal)


class Total(NamedTuple, Generic[Number]):
    """A count or amount that is either exact or a lower bound, because hidden members may raise it.

    Don't use this class for what a group owes: a hidden member's credit could lower the sum.

    >>> str(Total(3)), str(Total(3, exact=False)), str(Total(0, exact=False))
    ('3', 'at least 3', 'unknown')
    """

    at_least: Number
    exact: bool = True

    @property
    def value(self) -> Number | None:
        """The exact total, None if only the lower bound is known."""
        return self.at_least if self.exact else None

    def __str__(self) -> str:
        """The total in English."""
        if self.exact:
            return str(self.at_least)
        return f"at least {self.at_least}" if self.at_least > 0 else "unknown"


def sum_of_counts(totals: Iterable[Total[int]]) -> Total[int]:
    """Add up counts. The sum is exact only if all counts are."""
    found, exact = 0, True
    for total in totals:
        found += total.at_least
        exact = exact and total.exact
    return Total(found, exact)
