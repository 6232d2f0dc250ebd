"""Decides whether a session belongs to staff who may view patrons, and limits how often each session asks."""

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

_DAY = 24 * 3600
_STORE_RETRY_SECONDS = 30.0
"""Seconds without another attempt after a store has failed, so that requests don't wait for it one by one."""
_CLEANUP_SECONDS = 10.0
_PREFIX = "evergreen-groups"
MAX_REFUSED_KEYS = 10_000
"""Maximum number of refused keys to remember per address and day, far more than the staff who log in from there."""
Result = TypeVar("Result")


class Counters:
    """Counts requests. While the shared store is unreachable, this process counts on its own.

    Safe to share between threads.
    """

    def __init__(self, shared: Shared | None = None) -> None:
        self._local = MemoryStorage()
        self._local_lock = threading.Lock()
        self._next_cleanup = 0.0
        self._shared = shared
        self._retry_at = 0.0

    @classmethod
    def configured(cls, url: str | None, password: str | None) -> Counters:
        """Return counters in the store at ``url`` (``redis://host:port/number``, ``rediss``, ``valkey``), or in memory.

        Raises:
            ConfigurationError: the URL is invalid or contains a password, or the client library isn't installed.
        """
        return cls(None if url is None else counter_store(url, password))

    def use(self, action: Callable[[MemoryStorage | Shared], Result]) -> Result:
        """Run ``action`` with the shared store, or with this process's own while the shared one is unreachable."""
        if self._shared is not None and time.monotonic() >= self._retry_at:
            try:
                return action(self._shared)
            except StorageError as error:
                self._retry_at = time.monotonic() + _STORE_RETRY_SECONDS
                # Log only the type: the message may contain the server's address and user name.
                log.warning(
                    "the shared counters can't be reached (%s): this process counts by itself for now",
                    type(error.storage_error).__name__,
                )
        with self._local_lock:
            self._drop_idle_keys()
            return action(self._local)

    def _drop_idle_keys(self) -> None:
        """Drop keys without recent requests. The library keeps every key, and anyone can send any number of them."""
        if time.monotonic() >= self._next_cleanup:
            self._next_cleanup = time.monotonic() + _CLEANUP_SECONDS
            for key in [key for key, requests in list(self._local.events.items()) if not requests]:
                del self._local.events[key]


class RateLimit:
    """Allows each key ``per_minute`` requests a minute, in bursts of a tenth of that but at least ``least``.

    ``name`` separates these keys from those of other limits. ``refusal`` is the message when the limit is exceeded.
    Safe to share between threads.
    """

    def __init__(self, counters: Counters, name: str, *, per_minute: int, refusal: str, least: int = 1) -> None:
        self._counters = counters
        self._name = name
        self._refusal = refusal
        # Opening a patron sends several requests at once.
        at_once = max(least, per_minute // 10)
        self._item = RateLimitItemPerSecond(at_once, max(1, math.ceil(60 * at_once / per_minute)), namespace=_PREFIX)

    def take(self, key: str) -> None:
        """Count a request.

        Raises:
            ProblemError: 429, the limit is exceeded. Its ``retry_after`` says when to try again.
        """
        if not self._counters.use(lambda store: MovingWindowRateLimiter(store).hit(self._item, self._name, key)):
            self._refuse(key)

    def check(self, key: str) -> None:
        """Raise the same error as :meth:`take`, without counting a request."""
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
    """Remembers when each refused key may be tried again. Safe to share between threads.

    At most :data:`MAX_REFUSED_KEYS` keys per address and day are remembered, because an attacker sends a new key each
    time. Further keys are refused as long as the address is.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def is_due(self, key: str, seconds: float, address: str) -> bool:
        """Return whether the key may be tried now. A new key from ``address`` must first wait ``seconds``."""

        def look(store: MemoryStorage | Shared) -> bool:
            if store.get(_known(key)):
                return not store.get(_waiting(key))
            if store.get(_count(address)) >= MAX_REFUSED_KEYS:
                return False
            store.incr(_count(address), _DAY)
            store.incr(_known(key), _DAY)
            if seconds > 0:
                store.incr(_waiting(key), math.ceil(seconds))
            return seconds <= 0

        return self._counters.use(look)

    def give_up(self, key: str) -> None:
        """Put the key off for a day, after a second attempt found no session either."""

        def put_off(store: MemoryStorage | Shared) -> None:
            if store.get(_known(key)):
                store.clear(_waiting(key))
                store.incr(_waiting(key), _DAY)

        self._counters.use(put_off)


def _count(address: str) -> str:
    return f"{_PREFIX}/retry/of/{address}"


def _known(key: str) -> str:
    return f"{_PREFIX}/retry/known/{key}"


def _waiting(key: str) -> str:
    return f"{_PREFIX}/retry/waiting/{key}"


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
        self._callers: TimeToLiveCache[Caller] = TimeToLiveCache(clock, CALLER_CACHE_SECONDS)
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

    @property
    def callers(self) -> TimeToLiveCache[Caller]:
        """The cache of admitted callers."""
        return self._callers

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
        caller = self._callers.get(key, lambda: self._look(gateway, key, address))
        if caller.lacks:
            log.info("the session lacks the permission %s", " and ".join(sorted(caller.lacks)))
            raise ProblemError(
                403, "This is for staff who may look at patrons (STAFF_LOGIN and VIEW_USER).", code="staff-only"
            )
        return caller

    def _look(self, gateway: Gateway, key: str, address: str) -> Caller:
        if not self._callers.knows(key):  # cached callers get in even while someone sends invented tokens
            try:
                self._unknown_tokens.check(address)
            except ProblemError as refusal:
                if not self._retry_times.is_due(key, refusal.retry_after or 0.0, address):
                    raise
                self._retries.take(address)
        try:
            return self._ask(gateway)
        except NoSessionError:
            self._retry_times.give_up(key)
            with suppress(ProblemError):  # the call for this token has already been made
                self._unknown_tokens.take(address)
            raise

    def _ask(self, gateway: Gateway) -> Caller:
        account = SessionAccount.read(gateway)
        return Caller(account.user, self._lacks(gateway, account), account.library, account.workstation)

    def _lacks(self, gateway: Gateway, account: SessionAccount) -> frozenset[str]:
        """Return the permissions that the user lacks at the session's library, from a fresh answer."""
        try:
            rights = self._reference.store_account(gateway, account)
        except PermissionDeniedError:
            return frozenset(_REQUIRED_PERMISSIONS)
        # For a new session, the rights were just read. For a known one they may be minutes old, so ask again.
        if rights is not None:
            return rights.lacks(account.library, _REQUIRED_PERMISSIONS)
        return _missing(gateway, account.user, account.library, _REQUIRED_PERMISSIONS)


def may_view_all_patrons(gateway: Gateway, caller: Caller, root: int) -> bool:
    """Return whether the caller may view the patrons of all libraries. ``root`` is the top org unit's id."""
    return has_permission(gateway, caller, root, VIEW_USER)


def has_permission(gateway: Gateway, caller: Caller, org_unit: int, permission: str) -> bool:
    """Return whether the caller has a permission at an org unit (an id)."""
    return not _missing(gateway, caller.user, org_unit, [permission])


def _missing(gateway: Gateway, user: int, org_unit: int, permissions: Sequence[str]) -> frozenset[str]:
    try:
        return missing_permissions(gateway, user, org_unit, permissions)
    except PermissionDeniedError:
        return frozenset(permissions)
