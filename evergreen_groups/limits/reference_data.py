"""What changes seldom in the ILS and is needed again and again: where the account sees patrons, and the limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

from evergreen_groups.ils import OrgUnits, account_of_session, granted_at
from evergreen_groups.limits.limits import LimitFinder, Limits, OneLimit
from evergreen_groups.ttl_cache import TimeToLiveCache

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.settings import PolicySettings

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
        self._granted: TimeToLiveCache[tuple[int, ...]] = TimeToLiveCache(clock, SECONDS)
        self._users: TimeToLiveCache[int] = TimeToLiveCache(clock, SECONDS)
        self._limits: TimeToLiveCache[Limits] = TimeToLiveCache(clock, SECONDS)

    def granted(self, gateway: Gateway) -> tuple[int, ...]:
        """The ids of org units at which, and below which, the session sees patrons; one call.

        What it sees through its home library or single permissions isn't in it.
        """
        return self._granted.get(_key(gateway), lambda: tuple(granted_at(gateway)))

    def user(self, gateway: Gateway) -> int:
        """Whose session it is (``au.id``); one call, which doesn't prolong the session."""

        def read() -> int:
            # The last argument keeps the look from counting as use: a panel that refreshes mustn't keep a session
            # alive.
            return int(account_of_session(gateway, prolong=False).id)

        return self._users.get(_key(gateway), read)

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
        limits = self._limits.get(key, lambda: Limits.read(gateway, self._policy, OrgUnits.read(gateway)))
        return limits.reading_with(gateway)


def _key(gateway: Gateway) -> str:
    # Keys outlive requests; a token shouldn't.
    return sha256(f"{gateway.url} {gateway.token}".encode()).hexdigest()
