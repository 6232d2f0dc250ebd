"""Decides whether a session belongs to staff who may view patrons, and limits how often each session asks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from evergreen_groups.errors import NoSessionError, PermissionDeniedError
from evergreen_groups.ils import STAFF_LOGIN, VIEW_USER, SessionAccount, missing_permissions, permissions
from evergreen_groups.message import Message
from evergreen_groups.ttl_cache import TimeToLiveCache
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.rate_limits import Counters, RateLimit, RetryTimes

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import ReferenceData

log = logging.getLogger("evergreen_groups.web")

_REQUIRED_PERMISSIONS = (STAFF_LOGIN, VIEW_USER)
# Long enough for the requests that a panel sends for one patron. Revoking a permission takes effect within half a
# minute; pcrud checks each row in any case.
CALLER_CACHE_SECONDS = 30.0
"""How long an admitted caller is cached."""
_RETRIES_FACTOR = 5


@dataclass(frozen=True, slots=True)
class Caller:
    """The user that a session belongs to. ``user`` is an ``au.id``.

    ``lacks`` names the permissions that staff need here but that the user doesn't have at the session's org unit
    (``library``, an id). ``workstation`` is an ``aws.id``, None for a session without one.
    """

    user: int
    lacks: frozenset[str]
    library: int
    workstation: int | None


class Admission:
    """Admits callers and caches them for a while. Safe to share between threads.

    The cache is private to the process; the request counts may be shared by several. If a session ends while it is
    cached, Evergreen refuses the token when data is read with it.

    Each token may ask ``per_minute`` times a minute. The same limit applies to all unknown tokens from one address, or
    invented tokens would cause any number of calls to Evergreen. ``reference`` receives the session's account, to save
    a second call.
    """

    def __init__(
        self, clock: Callable[[], float], counters: Counters, reference: ReferenceData, *, per_minute: int
    ) -> None:
        self._reference = reference
        self.callers: TimeToLiveCache[Caller] = TimeToLiveCache(clock, CALLER_CACHE_SECONDS)
        self._requests = RateLimit(
            counters,
            "session",
            per_minute=per_minute,
            refusal=Message("Too many requests in this session. Wait a little."),
        )
        refusal = Message("Too many requests without a session come from there. Wait a little.")
        self._unknown_tokens = RateLimit(counters, "stranger", per_minute=per_minute, refusal=refusal)
        # An attacker sends a new token each time. A clerk who has just logged in at the same address repeats the same
        # token after the wait, and then gets through to Evergreen.
        self._retry_times = RetryTimes(counters)
        self._retries = RateLimit(counters, "second-try", per_minute=_RETRIES_FACTOR * per_minute, refusal=refusal)

    def admit(self, gateway: Gateway, address: str) -> Caller:
        """Return the caller whose token ``gateway`` uses and who asks from ``address``.

        A session in Evergreen doesn't record whether it is for staff. Patrons' own sessions are recognized by their
        permissions: only staff have both. A session that still waits for a second factor isn't found at all
        (``oils_auth_internal.c`` stores it under another key).

        Raises:
            NoSessionError: there is no session with this token.
            ProblemError: 403, the user isn't staff who may view patrons; 429, too many requests.
        """
        # Keys stay in memory for a while. Don't keep the tokens themselves.
        key = sha256(gateway.token.encode()).hexdigest()
        # Count before making any call to Evergreen.
        self._requests.take(key)
        caller = self.callers.get(key, lambda: self._look(gateway, key, address))
        if caller.lacks:
            log.info("the session lacks the permission %s", " and ".join(sorted(caller.lacks)))
            raise ProblemError(
                403, "This is for staff who may look at patrons (STAFF_LOGIN and VIEW_USER).", code="staff-only"
            )
        return caller

    def _look(self, gateway: Gateway, key: str, address: str) -> Caller:
        if not self.callers.knows(key):  # cached callers get in even while someone sends invented tokens
            try:
                self._unknown_tokens.check(address)
            except ProblemError as refusal:
                if not self._retry_times.is_due(key, refusal.retry_after or 0.0, address):
                    raise
                self._retries.take(address)
        try:
            account = SessionAccount.read(gateway)
            try:
                rights = self._reference.store_account(gateway, account)
            except PermissionDeniedError:
                lacks = frozenset(_REQUIRED_PERMISSIONS)
            else:
                # For a new session, the rights were just read. For a known one they may be minutes old, so ask again.
                if rights is not None:
                    lacks = rights.lacks(account.library, _REQUIRED_PERMISSIONS)
                else:
                    lacks = _missing(gateway, account.user, account.library, _REQUIRED_PERMISSIONS)
            return Caller(account.user, lacks, account.library, account.workstation)
        except NoSessionError:
            self._retry_times.give_up(key)
            with suppress(ProblemError):  # the call for this token has already been made
                self._unknown_tokens.take(address)
            raise


def has_permission(gateway: Gateway, caller: Caller, org_unit: int, permission: str) -> bool:
    """Return whether the caller has a permission at an org unit (an id)."""
    return not _missing(gateway, caller.user, org_unit, [permission])


def permitted_at(gateway: Gateway, caller: Caller, org_units: Collection[int], permission: str) -> frozenset[int]:
    """Return at which of these org units (ids) the caller has a permission. One call, none without org units."""
    if not org_units:
        return frozenset()
    try:
        denied = permissions.denied_pairs(gateway, caller.user, sorted(org_units), [permission])
    except PermissionDeniedError:
        return frozenset()
    return frozenset(org_units) - {org_unit for org_unit, _permission in denied}


def _missing(gateway: Gateway, user: int, org_unit: int, permissions: Sequence[str]) -> frozenset[str]:
    try:
        return missing_permissions(gateway, user, org_unit, permissions)
    except PermissionDeniedError:
        return frozenset(permissions)
