"""Whose session a token is, and whether it is a member of staff's who may look at patrons."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from limits import RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from evergreen_groups.errors import NoSessionError, PermissionDeniedError
from evergreen_groups.ils import STAFF_LOGIN, VIEW_USER, SessionAccount, missing_permissions
from evergreen_groups.message import Message
from evergreen_groups.state import counter_store
from evergreen_groups.ttl_cache import TimeToLiveCache
from evergreen_groups.web.problems import ProblemError

if TYPE_CHECKING:
    from limits.storage import RedisStorage

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import ReferenceData
    from evergreen_groups.web.processes import SharedStorage

if TYPE_CHECKING:
    Shared: TypeAlias = RedisStorage | SharedStorage

log = logging.getLogger("evergreen_groups.web")

_A_DAY = 24 * 3600
_PAUSE = 30.0
"""For how many seconds a store that has failed isn't asked again: nobody is to wait for it at each request."""
_TIDIED_EVERY = 10.0  # seconds
_PREFIX = "evergreen-groups"
MOST_REMEMBERED = 10_000
"""How many refused keys of one place are remembered in a day: far more than log in there."""
Result = TypeVar("Result")


class Counters:
    """Where requests are counted. While a shared store can't be reached, each process counts by itself.

    Safe to share between threads.
    """

    def __init__(self, shared: Shared | None = None) -> None:
        self._own = MemoryStorage()
        self._own_lock = threading.Lock()
        self._tidy_at = 0.0
        self._shared = shared
        self._not_before = 0.0

    @classmethod
    def configured(cls, url: str | None, password: str | None) -> Counters:
        """Those in the store at ``url`` (``redis://host:port/number``, or ``rediss``, ``valkey``), if there is one.

        Raises:
            ConfigurationError: it isn't such an address, has a password in it, or what speaks to it isn't installed.
        """
        return cls(None if url is None else counter_store(url, password))

    def use(self, action: Callable[[MemoryStorage | Shared], Result]) -> Result:
        """Do something with the store that counts now."""
        if self._shared is not None and time.monotonic() >= self._not_before:
            try:
                return action(self._shared)
            except StorageError as error:
                self._not_before = time.monotonic() + _PAUSE
                # The kind alone: what it says may have the address and the user in it.
                log.warning(
                    "the shared counters can't be reached (%s): this process counts by itself for now",
                    type(error.storage_error).__name__,
                )
        with self._own_lock:
            self._tidy()
            return action(self._own)

    def _tidy(self) -> None:
        """Forget the keys whose requests are over: the library keeps each that ever came, and anybody can make one."""
        if time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + _TIDIED_EVERY
            for key in [key for key, requests in list(self._own.events.items()) if not requests]:
                del self._own.events[key]


class RateLimit:
    """Lets each key make ``per_minute`` requests a minute: a tenth of them in a tenth of the time, ``least`` at least.

    ``name`` keeps its keys apart from those of others, ``refusal`` is the answer to whoever asks too often. Safe to
    share between threads.
    """

    def __init__(self, counters: Counters, name: str, *, per_minute: int, refusal: str, least: int = 1) -> None:
        self._counters = counters
        self._name = name
        self._refusal = refusal
        # A desk opens a patron with several requests at once.
        at_once = max(least, per_minute // 10)
        self._item = RateLimitItemPerSecond(at_once, max(1, math.ceil(60 * at_once / per_minute)), namespace=_PREFIX)

    def take(self, key: str) -> None:
        """Count a request.

        Raises:
            ProblemError: 429, there were too many; it says when to come back.
        """
        if not self._counters.use(lambda store: MovingWindowRateLimiter(store).hit(self._item, self._name, key)):
            self._refuse(key)

    def check(self, key: str) -> None:
        """Raise what :meth:`take` would, and count nothing."""
        if not self._counters.use(lambda store: MovingWindowRateLimiter(store).test(self._item, self._name, key)):
            self._refuse(key)

    def _refuse(self, key: str) -> None:
        stats = self._counters.use(
            lambda store: MovingWindowRateLimiter(store).get_window_stats(self._item, self._name, key)
        )
        raise ProblemError(
            429,
            "{refusal}",
            code="too-many-requests",
            values={"refusal": self._refusal},
            retry_after=max(0.1, stats.reset_time - time.time()),
        )


class RetryTimes:
    """When each key that was refused for now may be tried again. Safe to share between threads.

    Of one place no more than :data:`MOST_REMEMBERED` keys a day are remembered, for whoever makes keys up has a new one
    each time; those beyond are refused as long as the place is.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def is_due(self, key: str, seconds: float, place: str) -> bool:
        """Whether the key's time has come; one that is new, from ``place``, is to wait ``seconds``."""

        def look(store: MemoryStorage | Shared) -> bool:
            if store.get(_known(key)):
                return not store.get(_waiting(key))
            if store.get(_count(place)) >= MOST_REMEMBERED:
                return False
            store.incr(_count(place), _A_DAY)
            store.incr(_known(key), _A_DAY)
            if seconds > 0:
                store.incr(_waiting(key), math.ceil(seconds))
            return seconds <= 0

        return self._counters.use(look)

    def give_up(self, key: str) -> None:
        """Put the key off for a day: waiting has shown that there is nothing to wait for."""

        def put_off(store: MemoryStorage | Shared) -> None:
            if store.get(_known(key)):
                store.clear(_waiting(key))
                store.incr(_waiting(key), _A_DAY)

        self._counters.use(put_off)


def _count(place: str) -> str:
    return f"{_PREFIX}/retry/of/{place}"


def _known(key: str) -> str:
    return f"{_PREFIX}/retry/known/{key}"


def _waiting(key: str) -> str:
    return f"{_PREFIX}/retry/waiting/{key}"


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
            rights = self._reference.store_account(gateway, account)
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
        return missing_permissions(gateway, user, org_unit, permissions)
    except PermissionDeniedError:
        return frozenset(permissions)
