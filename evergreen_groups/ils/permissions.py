"""What the service account may see: where it has VIEW_USER.

pcrud leaves out the rows of other patrons without a word (``pcrud-034``), so this is asked before anything is
summed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.gateway import TOKEN, Gateway, whole_number
from evergreen_groups.ils.accounts import account_of_session
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.ils.org_units import OrgUnit, OrgUnits

VIEW_USER = "VIEW_USER"
VIEW_CIRCULATIONS = "VIEW_CIRCULATIONS"
STAFF_LOGIN = "STAFF_LOGIN"
VIEW_USER_TRANSACTIONS = "VIEW_USER_TRANSACTIONS"


@dataclass(frozen=True, slots=True)
class Access:
    """Where the account may see patrons.

    ``visible_orgs`` are the ids of the org units whose patrons it sees; ``missing`` stands for the rest, as few org
    units as possible; ``everywhere`` says that nothing is missing. Any org unit can be somebody's home, a system or the
    consortium as well as a branch, so none may be missing.
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
            DataError: it works somewhere that isn't among the org units.
        """
        root = org_units.root.id
        every = {unit.id for unit in org_units}
        for org_id in granted:
            org_units.unit(org_id)
        # has_work_perm_at tells where somebody works with a permission. At the root that decides it; below, it
        # misleads about people who work above the permission's depth, so the ILS is asked what pcrud itself asks.
        if root in granted:
            return cls(frozenset(every), ())
        session = account_of_session(gateway)
        if not missing_at(gateway, session.id, root, [VIEW_USER]):
            return cls(frozenset(every), ())
        visible_orgs = every - _denied_at(gateway, session.id, sorted(every), VIEW_USER)
        if not visible_orgs:
            raise PermissionDeniedError(
                "the account sees no patrons: it has {permission} nowhere",
                advice="grant the permission at {root}, or at the libraries to report on",
                code="no-patrons-visible",
                values={"permission": VIEW_USER, "root": org_units.root.shortname},
                textcode="PERM_FAILURE",
                number=5000,
                permission=VIEW_USER,
                org_unit=org_units.root.id,
            )
        missing = every - visible_orgs
        # Where only org units above others are missing, none stands for all below it, and nothing but they themselves
        # can be named: the account still doesn't see everybody.
        named = org_units.tops_of(missing) or [unit for unit in org_units if unit.id in missing]
        return cls(frozenset(visible_orgs), tuple(named))


def granted_at(gateway: Gateway) -> list[int]:
    """The highest org units at which the account has the permission through its work org units (``auth-058``).

    What it has through its home library isn't in it.
    """
    return highest_granted(gateway, [VIEW_USER])[VIEW_USER]


def held_at(gateway: Gateway, org_units: OrgUnits, permissions: Sequence[str]) -> dict[str, frozenset[int]]:
    """The ids of the org units at which the account has each permission, through its work org units or its home.

    One call, and one more for each permission that it doesn't have everywhere.
    """
    highest = highest_granted(gateway, permissions)
    user = account_of_session(gateway).id
    return {
        permission: held_by(gateway, org_units, permission, highest[permission], user) for permission in permissions
    }


def held_by(
    gateway: Gateway, org_units: OrgUnits, permission: str, highest: Collection[int], user: int
) -> frozenset[int]:
    """The ids of the org units at which a user, the session's own, has a permission.

    ``highest`` is what :func:`highest_granted` gave for it: where the root is in it, nothing more is asked, otherwise
    it is one call.
    """
    every = frozenset(unit.id for unit in org_units)
    if org_units.root.id in highest:
        return every
    return every - _denied_at(gateway, user, sorted(every), permission)


def missing_at(gateway: Gateway, user: int, org_unit: int, permissions: Sequence[str]) -> frozenset[str]:
    """Those of the permissions that a user (the session's own) doesn't have at an org unit; one call.

    Raises:
        UnexpectedAnswerError: the answer isn't a list of some of the permissions; nothing else may pass for none.
    """
    method = "open-ils.actor.user.perm.check"
    # It may name nothing at all, neither whom nor where.
    result = gateway.call("open-ils.actor", method, TOKEN, user, org_unit, list(permissions), apart=True)
    # It lists the permissions that are missing, so an empty list is a yes (auth-053, auth-057, auth-059).
    missing = result.listing()
    if not all(permission in permissions for permission in missing):
        raise result.unexpected(Message("a list of permissions that were asked about"))
    return frozenset(missing)


def highest_granted(gateway: Gateway, permissions: Sequence[str]) -> dict[str, list[int]]:
    """The highest org units (ids) at which the account has each permission through its work org units; one call."""
    method = "open-ils.actor.user.has_work_perm_at.batch"
    result = gateway.call("open-ils.actor", method, TOKEN, list(permissions))
    answer = result.mapping()
    with result.understood(Message("a list of org units for each permission")):
        return {permission: [_id(org_id) for org_id in _list(answer[permission])] for permission in permissions}


def denied_pairs(
    gateway: Gateway, user: int, org_units: Sequence[int], permissions: Sequence[str]
) -> set[tuple[int, str]]:
    """Where which of the permissions is missing; one call.

    Raises:
        UnexpectedAnswerError: the answer isn't a list of such pairs; nothing else may pass for none.
    """
    method = "open-ils.actor.user.perm.check.multi_org"
    result = gateway.call("open-ils.actor", method, TOKEN, user, list(org_units), list(permissions), apart=True)
    # Pairs of org unit and missing permission (releases-054).
    with result.understood(Message("a list of org units and permissions")):
        pairs = [(_id(org_id), missing) for org_id, missing in result.listing()]
    if not all(org_id in org_units and missing in permissions for org_id, missing in pairs):
        raise result.unexpected(Message("a list of the org units and permissions that were asked about"))
    return set(pairs)


def _denied_at(gateway: Gateway, user: int, org_ids: Sequence[int], permission: str) -> set[int]:
    """Where the permission is missing; costs and raises what :func:`denied_pairs` does."""
    return {org_id for org_id, _missing in denied_pairs(gateway, user, org_ids, [permission])}


def _list(answer: object) -> list[Any]:
    if not isinstance(answer, list):
        raise TypeError("not a list")
    return answer


def _id(value: object) -> int:
    """An id, which is a number or the same as text."""
    number = whole_number(value)
    if number is None:
        raise TypeError("not an id")
    return number
