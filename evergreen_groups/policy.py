"""The rule: whether a person is over the limit is a pure function of their own balance and one limit.

A group's combined fines aren't an argument, so they can't influence the result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum

from evergreen_groups import arguments
from evergreen_groups.message import Message

_ZERO = Decimal("0.00")
_CENT = Decimal("0.01")


class Comparison(Enum):
    """How a balance is compared with the limit."""

    EXCEEDS = "exceeds"
    """A balance equal to the limit is still within it. This is the default rule."""
    REACHES = "reaches"
    """A balance equal to the limit is over it, as in Evergreen itself (``100.circ_matrix.sql``)."""


@dataclass(frozen=True, slots=True, init=False)
class Limit:
    """The limit for one person's own fines.

    ``amount`` is in the library's currency. Zero is a limit; None means no limit. ``origin`` says in a few words where
    the limit comes from, and may be empty. Limits that differ only in their origin are equal.
    """

    amount: Decimal | None
    comparison: Comparison
    origin: str = field(compare=False)

    def __init__(
        self,
        amount: arguments.Amount | None = Decimal("5.00"),
        comparison: Comparison = Comparison.EXCEEDS,
        origin: str = "",
    ) -> None:
        """Raise ArgumentError for values of the wrong type."""
        # A frozen dataclass has no other way to set what it converts.
        object.__setattr__(self, "amount", None if amount is None else arguments.amount("amount", amount))
        object.__setattr__(self, "comparison", arguments.instance("comparison", comparison, Comparison))
        object.__setattr__(self, "origin", origin)

    @property
    def least_over(self) -> Decimal | None:
        """The smallest amount that is over the limit, in whole cents. None if there is no limit.

        >>> str(Limit().least_over), str(Limit(comparison=Comparison.REACHES).least_over)
        ('5.01', '5.00')
        """
        if self.amount is None or self.comparison is Comparison.REACHES:
            return self.amount
        return self.amount + _CENT


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of the rule for one person whose own fines are ``counted_fines``."""

    over_limit: bool
    counted_fines: Decimal
    limit: Limit

    @property
    def over_by(self) -> Decimal:
        """By how much the balance exceeds the limit. 0.00 if it doesn't, or just reaches the limit."""
        if self.limit.amount is None:
            return _ZERO
        return max(self.counted_fines - self.limit.amount, _ZERO)

    @property
    def explanation(self) -> Message:
        """One sentence for people that names the balance, the limit and the comparison."""
        if self.limit.amount is None:
            return Message("Not over the limit: there is no limit.")
        text = _EXPLANATIONS[self.over_limit, self.limit.comparison]
        return Message(text, values={"fines": self.counted_fines, "limit": self.limit.amount})


_EXPLANATIONS = {  # the first part of the key: whether the person is over the limit
    (True, Comparison.EXCEEDS): Message("Over the limit: own fines of {fines} exceed the limit of {limit}."),
    (True, Comparison.REACHES): Message("Over the limit: own fines of {fines} reach the limit of {limit}."),
    (False, Comparison.EXCEEDS): Message(
        "Not over the limit: own fines of {fines} do not exceed the limit of {limit}."
    ),
    (False, Comparison.REACHES): Message("Not over the limit: own fines of {fines} do not reach the limit of {limit}."),
}


def decide(counted_fines: Decimal, limit: Limit) -> Decision:
    """Decide whether a person with the given balance of own fines is over the limit.

    >>> decide(Decimal("5.00"), Limit()).over_limit
    False
    >>> decide(Decimal("5.01"), Limit()).explanation
    'Over the limit: own fines of 5.01 exceed the limit of 5.00.'
    >>> decide(Decimal("5.00"), Limit(comparison=Comparison.REACHES)).over_limit
    True

    Raises ArgumentError if the balance isn't a finite ``Decimal``.
    """
    arguments.money("counted_fines", counted_fines)
    if limit.amount is None:
        return Decision(False, counted_fines, limit)
    exceeds = limit.comparison is Comparison.EXCEEDS
    return Decision(counted_fines > limit.amount if exceeds else counted_fines >= limit.amount, counted_fines, limit)


@dataclass(frozen=True, slots=True)
class LimitRule:
    """A limit for the patrons of a profile, a home library, or both (None: any).

    The limit applies to everything below the profile or library as well. ``amount`` is in the library's currency; None
    means no limit. ``comparison`` None means the comparison that is configured for all patrons.
    """

    profile: str | None
    library: str | None
    amount: Decimal | None
    comparison: Comparison | None = None

    def __post_init__(self) -> None:
        """Raise ArgumentError if the amount isn't a finite ``Decimal``."""
        if self.amount is not None:
            arguments.money("amount", self.amount)
