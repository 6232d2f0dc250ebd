"""Values that every package uses: amounts, totals that may be lower bounds, dates that can't be real, and typed text.

Amounts are ``Decimal`` with two decimal places.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Generic, NamedTuple, TypeVar
from unicodedata import category

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


_INVISIBLE = ("Z", "Cc", "Cf")  # Unicode categories: separators, control and format characters


def one_line(text: str) -> str:
    """Return what a user typed, on one line; nothing if none of it is visible.

    >>> one_line(" two\\n lines "), one_line("\\u200b \\u202e")
    ('two lines', '')
    """
    is_visible = any(not category(letter).startswith(_INVISIBLE) for letter in text)
    return " ".join(text.split()) if is_visible else ""


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


def sum_of_prices(totals: Iterable[Total[Decimal]]) -> Total[Decimal]:
    """Add up amounts, none of which is negative. The sum is exact only if all are."""
    every = list(totals)
    return Total(sum((total.at_least for total in every), ZERO), all(total.exact for total in every))


# Evergreen sends 1970-01-01 for timestamps stored as infinity, and typos lead to years with one digit. Apart from birth
# dates, no Evergreen holds a date before 1971.
UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)
"""The placeholder for timestamps that Python's ``datetime`` can't represent."""
_FIRST_YEAR = 1971
_OLDEST = 130


def plausible(moment: datetime | None) -> datetime | None:
    """Return the timestamp, or None if it can't be real.

    >>> plausible(UNKNOWN) is None
    True
    """
    return moment if moment is not None and moment.year >= _FIRST_YEAR else None


def plausible_birth_date(born: date | None, today: date) -> date | None:
    """Return the birth date, or None if the person would be younger than 0 or older than 130 years."""
    if born is None or not 0 <= age_of(born, today) <= _OLDEST:
        return None
    return born


def age_of(born: date, today: date) -> int:
    """Return a person's age in completed years."""
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))
