"""The account of the session and its permissions, above all the org units whose patrons it can see (VIEW_USER).

pcrud silently omits the rows of hidden patrons (``pcrud-034``). So permissions are checked before anything is added up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.errors import PermissionDeniedError, unreadable
from evergreen_groups.gateway import TOKEN, Gateway, Record, whole_number

if TYPE_CHECKING:
    from evergreen_groups.ils.org_units import OrgUnit, OrgUnits


def account_of_session(gateway: Gateway, *, prolong: bool = True) -> Record:
    """Return the account (``au``) that the session belongs to. One call. Raises UnexpectedAnswerError.

    With ``prolong`` False, the call doesn't count as use of the session (``oils_auth.c``, oilsAuthSessionRetrieve).
    """
    more = () if prolong else (None, 1)
    result = gateway.call("open-ils.auth", "open-ils.auth.session.retrieve", TOKEN, *more)
    with result.understood("an account"):
        account = gateway.decode(result.value)
    if not isinstance(account, Record) or account.class_id != "au" or not isinstance(account.id, int):
        raise result.unexpected("an account")
    return account


def library_of(account: Record) -> int:
    """Return the id of the org unit where the session works: its workstation's library, or the account's home library.

    The ILS puts either in ``ws_ou``: the home library without a workstation (``auth-015``), and the workstation's
    library, as a string, with one (``auth-004``). Raises DataError if the account names neither.
    """
    library = whole_number(account.ws_ou or account.home_ou)
    if library is None:
        raise unreadable("no-workplace", "the session has no workplace")
    return library


class SessionAccount(NamedTuple):
    """The account of a session: its ids, and the ``library`` where the session works."""

    user: int
    library: int
    home: int
    workstation: int | None
    group: int | None = None

    @classmethod
    def read(cls, gateway: Gateway) -> SessionAccount:
        """Read the account. One call, which doesn't prolong the session. Raises DataError and UnexpectedAnswerError."""
        # The panel refreshes by itself, which mustn't keep an abandoned session alive.
        account = account_of_session(gateway, prolong=False)
        library = library_of(account)
        return cls(account.id, library, account.home_ou or library, whole_number(account.wsid), account.usrgroup)


VIEW_USER = "VIEW_USER"
VIEW_CIRCULATIONS = "VIEW_CIRCULATIONS"
VIEW_HOLD = "VIEW_HOLD"
STAFF_LOGIN = "STAFF_LOGIN"
VIEW_USER_TRANSACTIONS = "VIEW_USER_TRANSACTIONS"
UPDATE_USER = "UPDATE_USER"
VIEW_THRESHOLDS = "VIEW_GROUP_PENALTY_THRESHOLD"


@dataclass(frozen=True, slots=True)
class Access:
    """Where the account may see patrons: the ids of ``visible_orgs``. ``missing`` covers the remaining org units.

    All types of org units count, because a patron's home library may also be a system or the consortium.
    """

    visible_orgs: frozenset[int]
    missing: tuple[OrgUnit, ...]

    @property
    def everywhere(self) -> bool:
        """Whether the account sees all patrons of the consortium."""
        return not self.missing

    @property
    def missing_names(self) -> str:
        """The short names of the org units whose patrons the account can't see."""
        return ", ".join(unit.shortname for unit in self.missing)

    @classmethod
    def read(cls, gateway: Gateway, org_units: OrgUnits, granted: Collection[int] | None = None) -> Access:
        """Find out where the account sees patrons. Raises PermissionDeniedError if it sees none at all.

        ``granted`` is what :func:`highest_granted` returns for VIEW_USER, read if not given; DataError for an unknown
        org unit in it.
        """
        if granted is None:
            granted = highest_granted(gateway, [VIEW_USER])[VIEW_USER]
        for org_id in granted:
            org_units.unit(org_id)
        visible_orgs = orgs_with_permission(gateway, org_units, VIEW_USER, granted)
        if not visible_orgs:
            raise PermissionDeniedError(
                "the account can't see any patrons: it lacks {permission}",
                advice="grant it at {root}, or at the libraries to report on",
                code="no-patrons-visible",
                values={"permission": VIEW_USER, "root": org_units.root.shortname},
                permission=VIEW_USER,
                org_unit=org_units.root.id,
            )
        return cls(visible_orgs, tuple(org_units.subtree_roots(org_units.ids - visible_orgs)))


def orgs_by_permission(gateway: Gateway, org_units: OrgUnits, permissions: Sequence[str]) -> dict[str, frozenset[int]]:
    """Return, by permission, the ids of the org units at which the account has it. Two calls or more."""
    highest, user = highest_granted(gateway, permissions), account_of_session(gateway).id
    return {name: orgs_with_permission(gateway, org_units, name, highest[name], user) for name in permissions}


def orgs_with_permission(
    gateway: Gateway, org_units: OrgUnits, permission: str, highest: Collection[int], user: int | None = None
) -> frozenset[int]:
    """Return the org units at which the session's ``user`` has a permission: no call, one, or two without ``user``.

    ``highest`` is what :func:`highest_granted` returns for the permission.
    """
    # has_work_perm_at returns work org units with the permission. The root is conclusive. Other org units
    # mislead if the account works above the permission's depth, so ask the ILS the same question as pcrud does.
    if org_units.root.id in highest:
        return org_units.ids
    user = account_of_session(gateway).id if user is None else user
    denied = denied_pairs(gateway, user, sorted(org_units.ids), [permission])
    return org_units.ids.difference(org_unit for org_unit, _permission in denied)


def highest_granted(gateway: Gateway, permissions: Sequence[str]) -> dict[str, list[int]]:
    """Return by permission the highest work org units (``auth-058``) where the account has it. One call."""
    method = "open-ils.actor.user.has_work_perm_at.batch"
    result = gateway.call("open-ils.actor", method, TOKEN, list(permissions))
    answer = result.mapping()
    with result.understood("a list of org units for each permission"):
        return {permission: _ids(answer[permission]) for permission in permissions}


def denied_pairs(
    gateway: Gateway, user: int, org_units: Sequence[int], permissions: Sequence[str]
) -> set[tuple[int, str]]:
    """Return the pairs of org unit and permission that the session's user lacks. One call."""
    method = "open-ils.actor.user.perm.check.multi_org"
    result = gateway.call(
        "open-ils.actor", method, TOKEN, user, list(org_units), list(permissions), own_connection=True
    )
    # The answer lists pairs of org unit and missing permission (releases-054), and doesn't name the user, so a mixed-up
    # answer would go unnoticed on a shared connection.
    with result.understood("a list of org units and permissions"):
        pairs = {(whole_number(org_id), missing) for org_id, missing in result.listing()}
    asked = set(product(org_units, permissions))
    if not pairs <= asked:
        raise result.unexpected("a list of the org units and permissions that were asked about")
    return asked & pairs


def _ids(answer: object) -> list[int]:
    """Return a list of ids, which the ILS sends as numbers or strings of digits. Raises TypeError."""
    ids = [whole_number(id) for id in answer] if isinstance(answer, list) else [None]
    if None in ids:
        raise TypeError("not a list of ids")
    return [id for id in ids if id is not None]


_ASKED = (STAFF_LOGIN, VIEW_USER, VIEW_CIRCULATIONS, VIEW_HOLD, VIEW_USER_TRANSACTIONS, VIEW_THRESHOLDS)


@dataclass(frozen=True, slots=True)
class SessionRights:
    """The ids of the org units at which the account has each permission, by the ILS's own check."""

    _held: Mapping[str, frozenset[int]]

    @classmethod
    def none(cls) -> SessionRights:
        """Return the rights of an account that may not even ask for them."""
        return cls(dict.fromkeys(_ASKED, frozenset[int]()))

    @classmethod
    def read(
        cls, gateway: Gateway, account: SessionAccount, org_units: Callable[[Collection[int]], OrgUnits]
    ) -> SessionRights:
        """Read the rights in two calls. ``org_units`` returns all org units, given ids that must be among them.

        A permission held at an org unit is held at all org units below: Evergreen checks whether a work org unit or the
        home library is below the org unit's ancestor at the permission's depth (``permission.usr_has_work_perm``,
        ``permission.usr_has_home_perm``). So ask about the library and the home library with their ancestors, and the
        highest ones that the ILS names, which may be wrong (see :func:`orgs_with_permission`). Raises
        PermissionDeniedError if the account may not ask for permissions.
        """
        highest = highest_granted(gateway, _ASKED)
        named = {account.library, account.home}.union(*highest.values())
        units = org_units(named)
        asked = sorted(named.union(units.upwards(account.library), units.upwards(account.home)))
        denied = denied_pairs(gateway, account.user, asked, _ASKED)
        held = {}
        for name in _ASKED:
            not_here = {unit for unit in asked if (unit, name) in denied}
            held[name] = frozenset[int]().union(*map(units.with_descendants, {*asked} - not_here)) - not_here
        return cls(held)

    def at(self, permission: str) -> frozenset[int]:
        """Return the ids of all org units at which the account has a permission, one of those that were read."""
        return self._held[permission]

    def lacks(self, org_unit: int, permissions: Collection[str]) -> frozenset[str]:
        """Return which of these permissions the account lacks at an org unit (an id)."""
        return frozenset(name for name in permissions if org_unit not in self.at(name))


def permission_names(gateway: Gateway) -> frozenset[str]:
    """Return the names of all permissions that Evergreen has, granted or not. One call, for which anyone may ask."""
    result = gateway.call("open-ils.actor", "open-ils.actor.permissions.retrieve")
    with result.understood("a list of permissions"):
        return frozenset(gateway.decode(permission).code for permission in result.listing())
