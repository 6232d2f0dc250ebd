"""The policy's decisions about people, each with the limit that counts for them and their own fines alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, Protocol

from evergreen_groups.ils import read_fines_within

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.limits.limits import LimitFinder, ResolvedLimit
    from evergreen_groups.policy import Decision


class Debtor(Protocol):
    """What the limit and the decision depend on: ``profile`` and ``home_library`` are ids."""

    @property
    def id(self) -> int:
        """The patron's id."""

    @property
    def profile(self) -> int:
        """The permission profile."""

    @property
    def home_library(self) -> int:
        """The home library."""

    @property
    def own_fines(self) -> Decimal:
        """What the patron owes in open transactions anywhere."""


class OwnDebt(NamedTuple):
    """A :class:`Debtor` and nothing else: one person, and what that person owes.

    ``profile`` and ``home_library`` are ids; ``own_fines`` are what they owe in open transactions anywhere.
    """

    id: int
    profile: int
    home_library: int
    own_fines: Decimal


@dataclass(frozen=True, slots=True)
class Decided:
    """One person's limit and the decision. ``decision.own_balance`` are the own fines that the limit counts."""

    limit: ResolvedLimit
    decision: Decision


def decide_all(gateway: Gateway, limits: LimitFinder, people: Collection[Debtor]) -> dict[int, Decided]:
    """Decide about people, by id: no call where all their fines count, otherwise one for up to 2,000 of them.

    Raises:
        DataError: somebody's transactions have to be looked at, and the account may not.
        PermissionDeniedError: the ILS's thresholds count, and the account may not see them.
    """
    resolved = {person.id: limits.limit_for(person.profile, person.home_library) for person in people}
    totals = {person.id: person.own_fines for person in people}
    scopes = {id: limit.scope for id, limit in resolved.items() if limit.scope is not None}
    # Nothing is read where all fines count anyway, which is the usual case.
    within = read_fines_within(gateway, scopes, totals) if scopes else {}
    return {
        id: Decided(limit, limit.decide(within.get(id, totals[id])))  # None is a value here: no open transaction
        for id, limit in resolved.items()
    }
