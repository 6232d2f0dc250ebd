"""Where the account of a session has the permissions that decide what it sees at a desk."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.ils.permissions import (
    STAFF_LOGIN,
    VIEW_CIRCULATIONS,
    VIEW_USER,
    VIEW_USER_TRANSACTIONS,
    denied_pairs,
    highest_granted,
)

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils.accounts import SessionAccount
    from evergreen_groups.ils.org_units import OrgUnits

_ASKED = (STAFF_LOGIN, VIEW_USER, VIEW_CIRCULATIONS, VIEW_USER_TRANSACTIONS)


@dataclass(frozen=True, slots=True)
class SessionRights:
    """The ids of the org units at which the account has each of the permissions, as the ILS itself says of them."""

    _held: Mapping[str, frozenset[int]]

    @classmethod
    def read(
        cls, gateway: Gateway, account: SessionAccount, org_units: Callable[[Collection[int]], OrgUnits]
    ) -> SessionRights:
        """Read them in two calls; ``org_units`` gives all there are, with those named (ids) among them.

        Whoever has a permission at an org unit has it at all below: it is held at those of which some place where the
        account works, or its home library, is below the ancestor of a certain depth (``permission.usr_has_work_perm``,
        ``permission.usr_has_home_perm``). So a few are asked about and not each of the consortium's: those above the
        places that are known, and the highest that the ILS names. What it names is only a hint, and is asked about
        itself (``Access.read`` says why).

        Raises:
            PermissionDeniedError: the account may not even ask.
            UnexpectedAnswerError: an answer isn't of the right shape.
        """
        highest = highest_granted(gateway, _ASKED)
        named = {account.library, account.home}.union(*highest.values())
        units = org_units(named)
        asked = sorted(named.union(units.upwards(account.library), units.upwards(account.home)))
        denied = denied_pairs(gateway, account.user, asked, _ASKED)
        held: dict[str, frozenset[int]] = {}
        for name in _ASKED:
            not_here = {unit for unit in asked if (unit, name) in denied}
            below = (units.with_descendants(unit) for unit in asked if unit not in not_here)
            held[name] = frozenset[int]().union(*below) - not_here
        return cls(held)

    def at(self, permission: str) -> frozenset[int]:
        """The ids of all org units at which the account has a permission that was asked about."""
        return self._held[permission]

    def lacks(self, org_unit: int, permissions: Collection[str]) -> frozenset[str]:
        """Those of the permissions, of those asked about, that it doesn't have at an org unit (an id)."""
        return frozenset(name for name in permissions if org_unit not in self._held[name])
