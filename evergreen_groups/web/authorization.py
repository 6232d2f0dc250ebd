"""Whose session a token is, and whether it is a member of staff's who may look at patrons."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from evergreen_groups.errors import NoSessionError, PermissionDeniedError
from evergreen_groups.ils import STAFF_LOGIN, VIEW_USER, SessionAccount, missing_at
from evergreen_groups.message import Message
from evergreen_groups.ttl_cache import TimeToLiveCache
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.rate_limits import Counters, RateLimit, RetryTimes

if TYPE_CHECKING:
    from evergreen_groups.gateway import Gateway
    from evergreen_groups.limits import ReferenceData

log = logging.getLogger("evergreen_groups.web")

_NEEDED = (STAFF_LOGIN, VIEW_USER)
# Long enough for what a panel asks around one patron, short enough that somebody whose permission was taken away is
# out within half a minute; the rows themselves are checked by pcrud each time anyway.
SECONDS = 30.0
"""How long a caller is remembered."""
_SECOND_TRIES_FACTOR = 5


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever a session belongs to. ``user`` is an ``au.id``.

    ``lacks`` are the permissions missing at the session's org unit (``library``, an id) among those that staff need
    here; ``workstation`` is an ``aws.id``, None for a session without one.
    """

    user: int
    lacks: frozenset[str]
    library: int
    workstation: int | None


class Admission:
    """Finds out about callers, and remembers them for a while. Safe to share between threads.

    What is remembered is this process's own, the counts of requests may be shared by several.

    A session that ends in between gets no further: what is read is read with its token. ``clock`` gives seconds. Each
    token may come ``per_minute`` times a minute, and so may tokens of no session from one address: else the ILS would
    be asked about whatever somebody makes up. ``reference`` is told whose session it is, so that nobody asks again.
    """

    def __init__(
        self, clock: Callable[[], float], counters: Counters, reference: ReferenceData, *, per_minute: int
    ) -> None:
        self._reference = reference
        self._callers: TimeToLiveCache[Caller] = TimeToLiveCache(clock, SECONDS)
        self._requests = RateLimit(
            counters,
            "session",
            per_minute=per_minute,
            refusal=Message("Too many requests in this session. Wait a little."),
        )
        refusal = Message("Too many requests without a session come from there. Wait a little.")
        self._strangers = RateLimit(counters, "stranger", per_minute=per_minute, refusal=refusal)
        # Whoever makes tokens up has a new one each time. Somebody who has just logged in behind the same address comes
        # again with theirs after the time that they were told to wait, and is let through to the ILS.
        self._retry_times = RetryTimes(counters)
        self._second_tries = RateLimit(
            counters, "second-try", per_minute=_SECOND_TRIES_FACTOR * per_minute, refusal=refusal
        )

    @property
    def callers(self) -> TimeToLiveCache[Caller]:
        """Who is remembered."""
        return self._callers

    def admit(self, gateway: Gateway, address: str) -> Caller:
        """The caller with whose token ``gateway`` acts, who asks from ``address``.

        Evergreen's sessions don't keep what they were opened for, so a patron's own is recognised by its owner's
        permissions: staff have both. One that still waits for a second factor isn't found at all
        (``oils_auth_internal.c`` keeps those elsewhere).

        Raises:
            NoSessionError: the token is no session's.
            ProblemError: 403, it isn't a member of staff's who may look at patrons; 429, there were too many requests.
        """
        # Keys stay in memory for a while, tokens needn't.
        key = sha256(gateway.token.encode()).hexdigest()
        # Counted before the ILS is asked anything.
        self._requests.take(key)
        caller = self._callers.get(key, lambda: self._look(gateway, key, address))
        if caller.lacks:
            log.info("the session lacks the permission %s", " and ".join(sorted(caller.lacks)))
            raise ProblemError(
                403, "This is for staff who may look at patrons (STAFF_LOGIN and VIEW_USER).", code="staff-only"
            )
        return caller

    def _look(self, gateway: Gateway, key: str, address: str) -> Caller:
        if not self._callers.knows(key):  # where somebody makes tokens up, those who have been here still get in
            try:
                self._strangers.check(address)
            except ProblemError as refusal:
                if not self._retry_times.is_due(key, refusal.retry_after or 0.0, address):
                    raise
                self._second_tries.take(address)
        try:
            return self._ask(gateway)
        except NoSessionError:
            self._retry_times.give_up(key)
            with suppress(ProblemError):  # it has been asked for this one already
                self._strangers.take(address)
            raise

    def _ask(self, gateway: Gateway) -> Caller:
        account = SessionAccount.read(gateway)
        return Caller(account.user, self._lacks(gateway, account), account.library, account.workstation)

    def _lacks(self, gateway: Gateway, account: SessionAccount) -> frozenset[str]:
        """The permissions that are missing where they work, by an answer that came just now."""
        try:
            rights = self._reference.take(gateway, account)
        except PermissionDeniedError:
            return frozenset(_NEEDED)
        # A new session's rights tell these as well. What is known of an old one's is from minutes ago.
        if rights is not None:
            return rights.lacks(account.library, _NEEDED)
        return _missing(gateway, account.user, account.library, _NEEDED)


def may_view_everybody(gateway: Gateway, caller: Caller, root: int) -> bool:
    """Whether the caller may see the patrons of every library; ``root`` is the topmost org unit."""
    return has_permission(gateway, caller, root, VIEW_USER)


def has_permission(gateway: Gateway, caller: Caller, org_unit: int, permission: str) -> bool:
    """Whether the caller has a permission at an org unit (an id)."""
    return not _missing(gateway, caller.user, org_unit, [permission])


def _missing(gateway: Gateway, user: int, org_unit: int, permissions: Sequence[str]) -> frozenset[str]:
    try:
        return missing_at(gateway, user, org_unit, permissions)
    except PermissionDeniedError:
        return frozenset(permissions)
