"""What the service account may see: where it has VIEW_USER.

pcrud leaves out the rows of other patrons without a word (``pcrud-034``), so this is asked before anything is
summed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import DataError, PermissionDeniedError
from evergreen_groups.gateway import TOKEN, Gateway, Record, whole_number
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.ils.org_units import OrgUnit, OrgUnits


def account_of_session(gateway: Gateway, *, prolong: bool = True) -> Record:
    """The account (``au``) that the session belongs to; one call.

    ``prolong`` False keeps the look from counting as use of the session (``oils_auth.c``, oilsAuthSessionRetrieve).

    Raises:
        UnexpectedAnswerError: the answer is no account.
    """
    more = () if prolong else (None, 1)
    result = gateway.call("open-ils.auth", "open-ils.auth.session.retrieve", TOKEN, *more)
    with result.understood(Message("an account")):
        account = gateway.decode(result.value)
    if not isinstance(account, Record) or account.class_id != "au" or not isinstance(account.id, int):
        raise result.unexpected(Message("an account"))
    return account


def workstation_of(account: Record) -> int | None:
    """The workstation of the account's session (``aws.id``), None for a session without one."""
    try:
        return int(account.wsid) if account.wsid else None
    except (TypeError, ValueError, AttributeError):
        return None


def library_of(account: Record) -> int:
    """The org unit at which the account of a session works (``aou.id``): its workstation's, or its home library.

    A session without a workstation has its home library there (``auth-015``), one with a workstation that one's
    library, as text (``auth-004``).

    Raises:
        DataError: the account says neither.
    """
    try:
        return int(account.ws_ou or account.home_ou)
    except (TypeError, ValueError, AttributeError):
        raise DataError("the ILS doesn't say where the account works", code="no-workplace") from None


@dataclass(frozen=True, slots=True)
class SessionAccount:
    """Whose session it is (``user``, an ``au.id``), and the org unit where they work (``library``, an ``aou.id``).

    ``home`` is their home library, ``workstation`` the session's (``aws.id``), None without one; ``group`` is the
    number of the patron group that they are in themselves (None: not said).
    """

    user: int
    library: int
    home: int
    workstation: int | None
    group: int | None = None

    @classmethod
    def read(cls, gateway: Gateway) -> SessionAccount:
        """Read it; one call, which doesn't prolong the session.

        Raises:
            DataError: the ILS doesn't say where they work.
            UnexpectedAnswerError: the answer is no account.
        """
        # The last argument keeps the look from counting as use: a panel that refreshes mustn't keep a session alive.
        account = account_of_session(gateway, prolong=False)
        library = library_of(account)
        home, group = account.home_ou, account.usrgroup
        return cls(
            account.id,
            library,
            home if isinstance(home, int) else library,
            workstation_of(account),
            group if isinstance(group, int) else None,
        )


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
    result = gateway.call("open-ils.actor", method, TOKEN, user, org_unit, list(permissions), own_connection=True)
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
    result = gateway.call(
        "open-ils.actor", method, TOKEN, user, list(org_units), list(permissions), own_connection=True
    )
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
