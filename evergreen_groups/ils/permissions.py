"""What the service account may see: where it has VIEW_USER.

pcrud leaves out the rows of other patrons without a word (``pcrud-034``), so this is asked before anything is
summed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen_groups.errors import MethodNotFoundError, PermissionDeniedError
from evergreen_groups.gateway import TOKEN, Gateway
from evergreen_groups.ils.accounts import account_of_session

if TYPE_CHECKING:
    from evergreen_groups.ils.org_units import OrgUnit, OrgUnits

VIEW_USER = "VIEW_USER"


@dataclass(frozen=True, slots=True)
class Access:
    """Where the account may see patrons.

    ``visible_orgs`` are the ids of the org units whose patrons it sees; ``missing`` names the rest, as few org units as
    possible; ``everywhere`` says that nothing is missing.
    """

    visible_orgs: frozenset[int]
    missing: tuple[OrgUnit, ...]

    @property
    def everywhere(self) -> bool:
        """Whether the account sees every patron of the consortium."""
        return not self.missing

    @property
    def missing_names(self) -> str:
        """The short names of the org units whose patrons the account can't see."""
        return ", ".join(unit.shortname for unit in self.missing)

    @classmethod
    def read(cls, gateway: Gateway, org_units: OrgUnits, granted: Collection[int]) -> Access:
        """Work out where the account sees patrons.

        ``granted`` is what :func:`granted_at` gave; where it has the root, nothing more is asked.

        Raises:
            PermissionDeniedError: the account sees no patron at all.
        """
        root = org_units.root.id
        every = {unit.id for unit in org_units}
        # has_work_perm_at tells where somebody works with a permission. At the root that decides it; below, it
        # misleads about people who work above the permission's depth, so the ILS is asked what pcrud itself asks.
        if root in granted:
            return cls(frozenset(every), ())
        session = account_of_session(gateway)
        if not _denied(gateway, session.id, root, VIEW_USER):
            return cls(frozenset(every), ())
        visible_orgs = every - _denied_at(gateway, session.id, sorted(every), VIEW_USER)
        if not visible_orgs:
            raise PermissionDeniedError(
                "the account sees no patrons: it has {permission} nowhere",
                advice="grant it at {root}, or at the libraries to report on",
                code="no-patrons-visible",
                values={"permission": VIEW_USER, "root": org_units.root.shortname},
                textcode="PERM_FAILURE",
                number=5000,
                permission=VIEW_USER,
                org_unit=org_units.root.id,
            )
        missing = every - visible_orgs
        return cls(frozenset(visible_orgs), tuple(org_units.tops_of(missing)))


def granted_at(gateway: Gateway) -> list[int]:
    """The highest org units at which the account has the permission through its work org units (``auth-058``).

    What it has through its home library isn't in it.
    """
    return _granted(gateway, [VIEW_USER])[VIEW_USER]


def held_at(gateway: Gateway, org_units: OrgUnits, permissions: Sequence[str]) -> dict[str, frozenset[int]]:
    """The ids of the org units at which the account has each permission, through its work org units or its home.

    One call, and one more for each permission that it doesn't have everywhere.
    """
    granted = _granted(gateway, permissions)
    every = frozenset(unit.id for unit in org_units)
    user = account_of_session(gateway).id

    def held(permission: str) -> frozenset[int]:
        if org_units.root.id in granted[permission]:
            return every
        return every - _denied_at(gateway, user, sorted(every), permission)

    return {permission: held(permission) for permission in permissions}


def _granted(gateway: Gateway, permissions: Sequence[str]) -> dict[str, list[int]]:
    """The highest org units at which the account has each permission through its work org units."""
    method = "open-ils.actor.user.has_work_perm_at.batch"
    result = gateway.call("open-ils.actor", method, TOKEN, list(permissions))
    answer = result.mapping()
    with result.understood("a list of org units for each permission"):
        return {permission: [int(org_unit) for org_unit in answer[permission]] for permission in permissions}


def _denied(gateway: Gateway, user: int, org_unit: int, permission: str) -> bool:
    answer = gateway.call("open-ils.actor", "open-ils.actor.user.perm.check", TOKEN, user, org_unit, [permission])
    # It lists the permissions that are missing, so an empty list is a yes (auth-053, auth-057).
    return bool(answer.listing())


def _denied_at(gateway: Gateway, user: int, org_ids: Sequence[int], permission: str) -> set[int]:
    """Where the permission is missing: in one call, or one for each org unit on a server without that method."""
    method = "open-ils.actor.user.perm.check.multi_org"
    try:
        result = gateway.call("open-ils.actor", method, TOKEN, user, list(org_ids), [permission])
    except MethodNotFoundError:
        verdicts = gateway.map(lambda org_id: _denied(gateway, user, org_id, permission), org_ids)
        return {org_id for org_id, denied in zip(org_ids, verdicts, strict=True) if denied}
    # Pairs of org unit and missing permission (releases-054).
    with result.understood("a list of org units and permissions"):
        return {int(org_id) for org_id, _permission in result.listing()}
