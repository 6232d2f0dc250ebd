"""Who is blocked: a pure function of one person's own balance and one limit.

The combined fines of a group are not among its arguments, and there is no way to hand them in.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum


class Comparison(Enum):
    """How a balance is held against the limit."""

    EXCEEDS = "exceeds"
    """Blocked over the limit, not at it: the library's rule."""
    REACHES = "reaches"
    """Blocked at the limit and over it: what Evergreen itself does (``100.circ_matrix.sql``)."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The limit of one person's own fines.

    ``amount`` is in the library's currency; zero is a limit, ``None`` is none.
    """

    amount: Decimal | None = Decimal("5.00")
    comparison: Comparison = Comparison.EXCEEDS


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rule says about one person.

    ``over_by`` is how far the own balance is over the limit (0.00 where it isn't, and at a limit that blocks when
    it is reached); ``explanation`` is one sentence for a person to read.
    """

    blocked: bool
    own_balance: Decimal
    limit: Limit
    over_by: Decimal
    explanation: str


def decide(own_balance: Decimal, limit: Limit) -> Decision:
    """Say whether someone who owes ``own_balance`` themselves is blocked.

    >>> decide(Decimal("5.00"), Limit()).blocked
    False
    >>> decide(Decimal("5.01"), Limit()).explanation
    'Blocked: own fines of 5.01 exceed the limit of 5.00.'
    >>> decide(Decimal("5.00"), Limit(comparison=Comparison.REACHES)).blocked
    True
    """
    nothing_over = Decimal("0.00")
    if limit.amount is None:
        return Decision(False, own_balance, limit, nothing_over, "Not blocked: there is no limit.")
    exceeds = limit.comparison is Comparison.EXCEEDS
    blocked = own_balance > limit.amount if exceeds else own_balance >= limit.amount
    words = {
        (True, True): "exceed",
        (True, False): "reach",
        (False, True): "do not exceed",
        (False, False): "do not reach",
    }[blocked, exceeds]
    verdict = "Blocked" if blocked else "Not blocked"
    explanation = f"{verdict}: own fines of {own_balance:.2f} {words} the limit of {limit.amount:.2f}."
    return Decision(blocked, own_balance, limit, max(own_balance - limit.amount, nothing_over), explanation)
