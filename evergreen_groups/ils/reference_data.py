"""What changes seldom in the ILS and is needed again and again: its org units, kinds of things, limits, permissions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.ils.circulations import CirculationTally
from evergreen_groups.ils.limits import LimitFinder, Limits, OneLimit
from evergreen_groups.ils.org_units import OrgUnits, read_timezones
from evergreen_groups.ils.penalties import PenaltyKinds
from evergreen_groups.ils.permissions import SessionAccount, SessionRights
from evergreen_groups.ils.profiles import Profiles
from evergreen_groups.ils.thresholds import ThresholdReader
from evergreen_groups.message import Message
from evergreen_groups.settings import PolicySettings
from evergreen_groups.ttl_cache import TimeToLiveCache

if TYPE_CHECKING:
    from datetime import tzinfo

    from evergreen_groups.gateway import Gateway

# Profiles, thresholds and permissions change a few times a year, and reading them takes up to ten calls, more than the
# summary itself. So a change is noticed within five minutes. Fines and penalties are never cached, and pcrud checks
# each row again in any case.
SECONDS = 300.0
"""How long something that was read is taken to be true, in seconds."""


class ReferenceData:
    """Reads such things when they are first needed, and again after a while. Safe to share between threads.

    One object may serve many sessions; what depends on a session's permissions is cached for each, under a digest of
    its token. ``clock`` gives seconds that only ever grow.
    """

    def __init__(self, policy: PolicySettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._rights: TimeToLiveCache[SessionRights] = TimeToLiveCache(clock, SECONDS)
        self._accounts: TimeToLiveCache[SessionAccount] = TimeToLiveCache(clock, SECONDS)
        self._limits: TimeToLiveCache[Limits] = TimeToLiveCache(clock, SECONDS)
        self._ils_limits: TimeToLiveCache[Limits] = TimeToLiveCache(clock, SECONDS)
        self._org_units: TimeToLiveCache[OrgUnits] = TimeToLiveCache(clock, SECONDS)
        self._profiles: TimeToLiveCache[Profiles] = TimeToLiveCache(clock, SECONDS)
        self._penalty_kinds: TimeToLiveCache[PenaltyKinds] = TimeToLiveCache(clock, SECONDS)
        self._tallies: TimeToLiveCache[CirculationTally] = TimeToLiveCache(clock, SECONDS)
        self._timezones: TimeToLiveCache[Mapping[int, tzinfo]] = TimeToLiveCache(clock, SECONDS)

    @property
    def caches(self) -> Mapping[str, TimeToLiveCache[Any]]:
        """What is kept, by what it is; for whoever looks how often something was there."""
        return {
            "rights": self._rights,
            "accounts": self._accounts,
            "limits": self._limits,
            "ILS limits": self._ils_limits,
            "org units": self._org_units,
            "profiles": self._profiles,
            "penalty kinds": self._penalty_kinds,
            "circulation tallies": self._tallies,
            "time zones": self._timezones,
        }

    def account(self, gateway: Gateway) -> SessionAccount:
        """Whose session it is, and where they work; one call, which doesn't prolong the session.

        Raises:
            DataError: the ILS doesn't say where.
        """
        return self._accounts.get(_key(gateway), lambda: SessionAccount.read(gateway))

    def user(self, gateway: Gateway) -> int:
        """Whose session it is (``au.id``); raises and costs what :meth:`account` does."""
        return self.account(gateway).user

    def rights(self, gateway: Gateway) -> SessionRights:
        """Where the session has the permissions that decide what it sees.

        Two calls beside those of :meth:`account` and :meth:`org_units`.
        """
        return self._rights.get(_key(gateway), lambda: self._read_rights(gateway, self.account(gateway)))

    def take(self, gateway: Gateway, account: SessionAccount) -> SessionRights | None:
        """Take over whose session it is, as was read just now, and read its rights where they aren't known.

        Gives those that were read by this, None where they were known: a permission may have been taken away since.
        """
        key, read = _key(gateway), list[SessionRights]()
        self._accounts.put(key, account)

        def read_now() -> SessionRights:
            read.append(self._read_rights(gateway, account))
            return read[0]

        self._rights.get(key, read_now)
        return read[0] if read else None

    def org_units(self, gateway: Gateway, named: Iterable[int] = ()) -> OrgUnits:
        """All org units; two calls.

        They are read anew where one of those ``named`` (ids) isn't among them: it may have been added just now.
        """
        org_units = self._org_units.get(gateway.url, lambda: OrgUnits.read(gateway))
        if all(org_unit in org_units for org_unit in named):
            return org_units
        self._org_units.forget(gateway.url)
        return self.org_units(gateway)

    def profiles(self, gateway: Gateway, named: Iterable[int] = ()) -> Profiles:
        """All permission profiles; two calls, and again where one of those ``named`` (ids) isn't among them.

        Raises:
            PermissionDeniedError: the account isn't staff's, so it sees none.
        """
        profiles = self._profiles.get(gateway.url, lambda: _read_profiles(gateway))
        if all(profile in profiles for profile in named):
            return profiles
        self._profiles.forget(gateway.url)
        return self._profiles.get(gateway.url, lambda: _read_profiles(gateway))

    def penalty_kinds(self, gateway: Gateway, named: Iterable[int] = ()) -> PenaltyKinds:
        """The kinds of penalties; three calls, and again where one of those ``named`` (ids) isn't among them.

        Raises:
            DataError: the ILS's settings name a penalty that can't be.
            PermissionDeniedError: the account isn't staff's, so it sees none.
        """

        def read() -> PenaltyKinds:
            kinds = PenaltyKinds.read(gateway, self.org_units(gateway))
            # All sessions share them.
            if not len(kinds):
                raise _not_staff(Message("kinds of penalties"))
            return kinds

        kinds = self._penalty_kinds.get(gateway.url, read)
        if all(kind in kinds for kind in named):
            return kinds
        self._penalty_kinds.forget(gateway.url)
        return self._penalty_kinds.get(gateway.url, read)

    def circulation_tally(self, gateway: Gateway) -> CirculationTally:
        """Which circulations count as out where the session's account works; one call, and that of :meth:`account`."""
        library = self.account(gateway).library
        return self._tallies.get(f"{gateway.url} {library}", lambda: CirculationTally.read(gateway, library))

    def timezone(self, gateway: Gateway) -> tzinfo | None:
        """The time zone of where the session's account works; one call for all libraries, and that of :meth:`account`.

        None where the ILS names none.

        Raises:
            DataError: the ILS's answer isn't what the method gives.
        """
        return self._timezones.get(gateway.url, lambda: read_timezones(gateway)).get(self.account(gateway).library)

    def limits(self, gateway: Gateway) -> LimitFinder:
        """The limits of own fines: no call for one amount, four with rules, eight and more for the ILS's thresholds.

        Raises:
            ConfigurationError: a rule names a profile or library that isn't there.
            DataError: the ILS's settings name a penalty that can't be.
        """
        if self._policy.uniform:
            return OneLimit(self._policy.as_limit())
        # Which thresholds are seen depends on the session; rules are the same for all.
        key = _key(gateway) if self._policy.limit == "ils" else gateway.url
        limits = self._limits.get(key, lambda: Limits.read(gateway, self._policy, self.org_units(gateway)))
        return limits.reading_with(gateway)

    def ils_limits(self, gateway: Gateway) -> LimitFinder:
        """What the ILS itself blocks by, whatever the rule is: its thresholds.

        Three calls or, where the session doesn't see all thresholds, one and another for each home library; besides
        those of :meth:`org_units`, :meth:`profiles` and :meth:`penalty_kinds`.

        Raises:
            DataError: the ILS's settings name a penalty that can't be.
            PermissionDeniedError: the account isn't staff's.
        """

        def read() -> Limits:
            org_units, profiles = self.org_units(gateway), self.profiles(gateway)
            penalties = self.penalty_kinds(gateway).fines_penalties
            thresholds = ThresholdReader(gateway, org_units, profiles, penalties)
            return Limits(PolicySettings(limit="ils"), org_units, profiles, thresholds)

        if (self._policy.limit, self._policy.limits) == ("ils", ()):
            return self.limits(gateway)
        return self._ils_limits.get(_key(gateway), read).reading_with(gateway)

    def _read_rights(self, gateway: Gateway, account: SessionAccount) -> SessionRights:
        return SessionRights.read(gateway, account, lambda named: self.org_units(gateway, named))


def _read_profiles(gateway: Gateway) -> Profiles:
    profiles = Profiles.read(gateway)
    # Any staff account sees all, any other none (pcrud-083), and all sessions share them.
    if not len(profiles):
        raise _not_staff(Message("permission profiles"))
    return profiles


def _not_staff(what: str) -> PermissionDeniedError:
    return PermissionDeniedError(
        "the account sees nothing of this: {what}",
        advice="log in with a staff account, or grant the account {permission}",
        code="account-not-staff",
        values={"what": what, "permission": "STAFF_LOGIN"},
        textcode="PERM_FAILURE",
        number=5000,
        permission="STAFF_LOGIN",
        org_unit=None,
    )


def _key(gateway: Gateway) -> str:
    # Keys outlive requests; a token shouldn't.
    return sha256(f"{gateway.url} {gateway.token}".encode()).hexdigest()
