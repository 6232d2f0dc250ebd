"""A cache of ILS data that rarely changes: org units, profiles, kinds of penalties, limits, permissions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.ils.circulations import CirculationTally
from evergreen_groups.ils.limits import Limits
from evergreen_groups.ils.org_units import OrgUnits, Profiles
from evergreen_groups.ils.penalties import PenaltyKinds
from evergreen_groups.ils.permissions import UPDATE_USER, VIEW_THRESHOLDS, SessionAccount, SessionRights, denied_pairs
from evergreen_groups.message import Message
from evergreen_groups.settings import PolicySettings
from evergreen_groups.ttl_cache import TimeToLiveCache

if TYPE_CHECKING:
    from datetime import tzinfo

    from evergreen_groups.gateway import Gateway

Value = TypeVar("Value")
Tree = TypeVar("Tree", OrgUnits, Profiles, PenaltyKinds)

# Reading profiles and thresholds takes up to ten calls, more than the panel's summary itself, and they change a few
# times a year. Fines and penalties are never cached.
SECONDS = 300.0
_CACHES = ("limits", "ILS limits", "org units", "profiles", "penalty kinds", "circulation tallies", "time zones")

# Long enough for the requests that a panel sends for one patron.
RIGHTS_SECONDS = 30.0
"""How long it takes at most until a granted or revoked permission takes effect."""
_OF_SESSION = ("accounts", "rights", "changes")
"""The caches of who a session belongs to, what it may see, and what it may change."""


class ReferenceData:
    """Reads reference data on first use and caches it for :data:`SECONDS`. Thread-safe.

    One object can serve many sessions. What a session may do is cached for :data:`RIGHTS_SECONDS`, under a digest of
    its token. ``clock`` returns monotonic seconds.
    """

    def __init__(self, policy: PolicySettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self.caches: dict[str, TimeToLiveCache[Any]] = {name: TimeToLiveCache(clock, SECONDS) for name in _CACHES}
        """All caches by name, for metrics."""
        self.caches |= {name: TimeToLiveCache(clock, RIGHTS_SECONDS) for name in _OF_SESSION}

    def _cached(self, name: str, key: str, read: Callable[[], Value]) -> Value:
        cache: TimeToLiveCache[Value] = self.caches[name]
        return cache.get(key, read)

    def account(self, gateway: Gateway) -> SessionAccount:
        """Return the session's account. One call, which doesn't prolong the session."""
        return self._cached("accounts", _key(gateway), lambda: SessionAccount.read(gateway))

    def user(self, gateway: Gateway) -> int:
        """Return the session's user id (``au.id``)."""
        return self.account(gateway).user

    def rights(self, gateway: Gateway) -> SessionRights:
        """Return where the session has the permissions that decide what it sees. Two calls."""

        def read() -> SessionRights:
            return SessionRights.read(gateway, self.account(gateway), lambda named: self.org_units(gateway, named))

        return self._cached("rights", _key(gateway), read)

    def renew_session(self, gateway: Gateway) -> tuple[SessionAccount, SessionRights]:
        """Read the session's account and rights again, and cache both. Three calls."""
        key = _key(gateway)
        self.caches["accounts"].forget(key)
        self.caches["rights"].forget(key)
        account = self.account(gateway)
        try:
            return account, self.rights(gateway)
        except PermissionDeniedError:
            return account, self._cached("rights", key, SessionRights.none)

    def lacking(self, gateway: Gateway, library: int, profile: int | None) -> str | None:
        """Return a permission that the session lacks to change patrons of a home library (an id) who have a profile.

        Evergreen requires UPDATE_USER and the profile's permission, both at the home library; pass None for a change
        that requires no more than the first. One call per session and library, plus those of :meth:`profiles`.
        """

        def read() -> set[tuple[int, str]]:
            wanted = sorted({UPDATE_USER, *self.profiles(gateway).permissions})
            return denied_pairs(gateway, self.user(gateway), [library], wanted)

        denied = {permission for _, permission in self._cached("changes", f"{_key(gateway)} {library}", read)}
        needed = (UPDATE_USER, None if profile is None else self.profiles(gateway, [profile]).permission(profile))
        return next((permission for permission in needed if permission in denied), None)

    def org_units(self, gateway: Gateway, named: Iterable[int] = ()) -> OrgUnits:
        """Return all org units. Two calls, and again if one of the ids in ``named`` isn't cached: it may be new."""
        return self._with_all("org units", gateway, named, lambda: OrgUnits.read(gateway))

    def profiles(self, gateway: Gateway, named: Iterable[int] = ()) -> Profiles:
        """Return all permission profiles. Two calls. Raises PermissionDeniedError for a patron's session."""
        # Staff accounts see all profiles, patrons' sessions none (pcrud-083).
        what = Message("permission profiles")
        return self._with_all("profiles", gateway, named, lambda: _not_empty(Profiles.read(gateway), what))

    def penalty_kinds(self, gateway: Gateway, named: Iterable[int] = ()) -> PenaltyKinds:
        """Return the kinds of penalties. Three calls. Raises DataError, and PermissionDeniedError for a patron."""

        def read() -> PenaltyKinds:
            return _not_empty(PenaltyKinds.read(gateway, self.org_units(gateway)), Message("penalties"))

        return self._with_all("penalty kinds", gateway, named, read)

    def has_penalty_kinds(self, gateway: Gateway) -> bool:
        """Return whether :meth:`penalty_kinds` needs no call."""
        return self.caches["penalty kinds"].is_fresh(gateway.url)

    def _with_all(self, name: str, gateway: Gateway, named: Iterable[int], read: Callable[[], Tree]) -> Tree:
        """Return a cached value that has all ids in ``named``. Read it again if it lacks one."""
        found = self._cached(name, gateway.url, read)
        if all(id in found for id in named):
            return found
        self.caches[name].forget(gateway.url)
        return self._cached(name, gateway.url, read)

    def circulation_tally(self, gateway: Gateway) -> CirculationTally:
        """Return which circulations count as out where the session works. One call."""
        library = self.account(gateway).library
        key = f"{gateway.url} {library}"
        return self._cached("circulation tallies", key, lambda: CirculationTally.read(gateway, library))

    def timezones(self, gateway: Gateway) -> Mapping[int, tzinfo]:
        """Return the time zones of org units (ids). One call."""
        return self._cached("time zones", gateway.url, lambda: OrgUnits.read_timezones(gateway))

    def limits(self, gateway: Gateway) -> Limits:
        """Return the configured limits. No call for one amount, four with rules, eight or more for ILS thresholds."""
        policy = self._policy
        if policy.uniform:
            return Limits(policy)

        def read() -> Limits:
            return Limits.read(gateway, policy, self.org_units(gateway))

        if policy.limit == "ils":
            return self._thresholds("limits", gateway, read)
        return self._cached("limits", gateway.url, read)  # rules need no permission

    def ils_limits(self, gateway: Gateway) -> Limits:
        """Return the limits at which the ILS itself blocks, its thresholds, whatever the policy says.

        Three calls if the session sees all thresholds. If not, one call, and another per home library. In either case
        plus the calls of :meth:`org_units`, :meth:`profiles` and :meth:`penalty_kinds`.
        """
        by_ils = PolicySettings(limit="ils")

        def read() -> Limits:
            penalties = self.penalty_kinds(gateway).fines_penalties
            return Limits.read(gateway, by_ils, self.org_units(gateway), penalties, self.profiles(gateway))

        if (self._policy.limit, self._policy.limits) == ("ils", ()):
            return self.limits(gateway)
        return self._thresholds("ILS limits", gateway, read)

    def _thresholds(self, name: str, gateway: Gateway, read: Callable[[], Limits]) -> Limits:
        """Return cached limits by thresholds. The visible thresholds depend on the session's rights."""
        key = f"{_key(gateway)} {sorted(self.rights(gateway).at(VIEW_THRESHOLDS))}"
        return self._cached(name, key, read).with_gateway(gateway)


def _not_empty(found: Tree, what: str) -> Tree:
    """Return the value. All sessions share the cache, so refuse the empty answer to a patron's session."""
    if len(found):
        return found
    raise PermissionDeniedError(
        "the account can't see {what}",
        advice="log in with a staff account, or grant {permission}",
        code="account-not-staff",
        values={"what": what, "permission": "STAFF_LOGIN"},
        permission="STAFF_LOGIN",
    )


def _key(gateway: Gateway) -> str:
    # A digest, because keys stay in memory after the request, and tokens shouldn't.
    return sha256(f"{gateway.url} {gateway.token}".encode()).hexdigest()
