"""The policy's decisions about patrons, each with the limit that counts for them and their own fines alone."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from evergreen_groups.ils import read_fines_within

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.limits.limits import ResolvedLimit
    from evergreen_groups.policy import Decision


def decide_all(
    gateway: Gateway, limits: Mapping[int, ResolvedLimit], own_fines: Mapping[int, Decimal]
) -> dict[int, Decision]:
    """Decide about patrons, by id: no call where all their fines count, otherwise one for up to 3,000 of them.

    ``limits`` has the limit of each, ``own_fines`` what each owes in open transactions anywhere; who isn't in it has
    none, which is another thing than owing 0.00 on them. The ``own_balance`` of a decision are those of the own fines
    that the limit counts.

    Raises:
        DataError: somebody's transactions have to be looked at, and the account may not.
    """
    scopes = {id: limit.scope for id, limit in limits.items() if limit.scope is not None}
    # Nothing is read where all fines count anyway, which is the usual case.
    within = read_fines_within(gateway, scopes, own_fines) if scopes else {}
    return {
        id: limit.decide(within.get(id, own_fines.get(id)))  # None is a value here: no open transaction
        for id, limit in limits.items()
    }


def decide_where_known(
    gateway: Gateway, limits: Mapping[int, ResolvedLimit], own_fines: Mapping[int, Decimal]
) -> dict[int, Decision]:
    """Decide as :func:`decide_all` does, leaving out patrons whose transactions count and aren't visible."""
    scopes = {id: limit.scope for id, limit in limits.items() if limit.scope is not None}
    within = read_fines_within(gateway, scopes, own_fines, leave_out_hidden=True) if scopes else {}
    counted: dict[int, Decimal | None] = {id: own_fines.get(id) for id in limits.keys() - scopes.keys()} | within
    return {id: limit.decide(counted[id]) for id, limit in limits.items() if id in counted}
