"""Who is over the limit: a pure function of one person's own balance and one limit.

The combined fines of a group are not among its arguments, and there is no way to hand them in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum

from evergreen_groups import arguments
from evergreen_groups.message import Message

_NOTHING = Decimal("0.00")
_CENT = Decimal("0.01")


class Comparison(Enum):
    """How a balance is held against the limit."""

    EXCEEDS = "exceeds"
    """Over the limit when above it, not at it: the library's rule."""
    REACHES = "reaches"
    """Over the limit at it already: what Evergreen itself does (``100.circ_matrix.sql``)."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The limit of one person's own fines.

    ``amount`` is in the library's currency; zero is a limit, ``None`` is none. ``origin`` says in a few words where the
    limit comes from, nothing for one that was just given; limits are the same wherever they come from.
    """

    amount: Decimal | None = Decimal("5.00")
    comparison: Comparison = Comparison.EXCEEDS
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Refuse what is no amount. Raises ArgumentError."""
        if self.amount is not None:
            arguments.money("amount", self.amount)
        arguments.instance("comparison", self.comparison, Comparison)

    @property
    def least_over(self) -> Decimal | None:
        """The smallest amount that is over the limit, to the cent; None where none is.

        >>> str(Limit().least_over), str(Limit(comparison=Comparison.REACHES).least_over)
        ('5.01', '5.00')
        """
        if self.amount is None or self.comparison is Comparison.REACHES:
            return self.amount
        return self.amount + _CENT


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rule says about one person, who owes ``own_balance``."""

    over_limit: bool
    own_balance: Decimal
    limit: Limit

    @property
    def over_by(self) -> Decimal:
        """How far the own balance is over the limit: 0.00 where it isn't, and at a limit that blocks when reached."""
        if self.limit.amount is None:
            return _NOTHING
        return max(self.own_balance - self.limit.amount, _NOTHING)

    @property
    def explanation(self) -> Message:
        """One sentence for a person to read, with the own balance, the limit and the comparison."""
        if self.limit.amount is None:
            return Message("Not over the limit: there is no limit.")
        text = _EXPLANATIONS[self.over_limit, self.limit.comparison]
        return Message(text, values={"fines": self.own_balance, "limit": self.limit.amount})


_EXPLANATIONS = {  # by whether somebody is over the limit
    (True, Comparison.EXCEEDS): Message("Over the limit: own fines of {fines} exceed the limit of {limit}."),
    (True, Comparison.REACHES): Message("Over the limit: own fines of {fines} reach the limit of {limit}."),
    (False, Comparison.EXCEEDS): Message(
        "Not over the limit: own fines of {fines} do not exceed the limit of {limit}."
    ),
    (False, Comparison.REACHES): Message("Not over the limit: own fines of {fines} do not reach the limit of {limit}."),
}


def decide(own_balance: Decimal, limit: Limit) -> Decision:
    """Say whether someone who owes ``own_balance`` themselves is over the limit.

    >>> decide(Decimal("5.00"), Limit()).over_limit
    False
    >>> decide(Decimal("5.01"), Limit()).explanation
    'Over the limit: own fines of 5.01 exceed the limit of 5.00.'
    >>> decide(Decimal("5.00"), Limit(comparison=Comparison.REACHES)).over_limit
    True

    Raises:
        ArgumentError: the balance is no ``Decimal``.
    """
    arguments.money("own_balance", own_balance)
    if limit.amount is None:
        return Decision(False, own_balance, limit)
    exceeds = limit.comparison is Comparison.EXCEEDS
    return Decision(own_balance > limit.amount if exceeds else own_balance >= limit.amount, own_balance, limit)


@dataclass(frozen=True, slots=True)
class LimitRule:
    """A limit for some patrons: those of a profile, of a home library, or both (None: any).

    It holds for everything below that profile or library as well. ``amount`` is in the library's currency, None for
    no limit; ``comparison`` None is the one that is configured for everybody.
    """

    profile: str | None
    library: str | None
    amount: Decimal | None
    comparison: Comparison | None = None

    def __post_init__(self) -> None:
        """Refuse what is no amount. Raises ArgumentError."""
        if self.amount is not None:
            arguments.money("amount", self.amount)
