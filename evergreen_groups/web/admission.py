"""Which requests are let in: those of staff who may view patrons, not too often, and only while Evergreen copes.

:class:`Admission` asks who a session belongs to. :class:`RateLimit` refuses a key that sends too many requests, a
circuit breaker refuses requests while the gateway doesn't respond, and :class:`Slots` while too many requests use it.
A refusal says when to try again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar

from limits.errors import StorageError

from evergreen_groups.errors import (
    GatewayError,
    HTTPStatusError,
    NoSessionError,
    NotFoundError,
    PermissionDeniedError,
    TransportError,
)
from evergreen_groups.ils import RIGHTS_SECONDS, VIEW_USER, permissions
from evergreen_groups.ttl_cache import TimeToLiveCache
from evergreen_groups.web.problems import ProblemError, unreachable

if TYPE_CHECKING:
    from limits.storage import RedisStorage

    from evergreen_groups.gateway import Gateway
    from evergreen_groups.ils import ReferenceData, SessionRights


log = logging.getLogger("evergreen_groups.web")

_TOO_MANY = "Too many attempts. Try again in a moment."
_DAY = 24 * 3600
_STORE_RETRY_SECONDS = 30.0
"""Seconds without another attempt after a store has failed, so that requests don't wait for it one by one."""
_PREFIX = "evergreen-groups"
_KNOWN, _WAITING = f"{_PREFIX}/retry/known/", f"{_PREFIX}/retry/waiting/"
MAX_REFUSED_KEYS = 10_000
"""Maximum number of refused keys to remember per address and day, far more than the staff who log in from there."""
Result = TypeVar("Result")


class LocalCounters:
    """The counters of this process, with the methods of a store of *limits* that are used here.

    The library's own store in memory starts a thread for each count, which looks through all of them. Not safe to
    share between threads.
    """

    _LOOK_SECONDS = 60.0  # anyone can send any number of keys, so those that have ended are dropped every minute

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, float]] = {}  # with the time when the count ends
        self._look_at = 0.0

    def __len__(self) -> int:
        return len(self._counts)

    def incr(self, key: str, expiry: int) -> int:
        """Add one to a count, which ends ``expiry`` seconds after its first. Return the count."""
        now = time.time()
        if now >= self._look_at:
            self._counts = {key: (count, ends) for key, (count, ends) in self._counts.items() if ends > now}
            self._look_at = now + self._LOOK_SECONDS
        count, ends = self._counts.get(key, (0, 0.0))
        if ends <= now:
            count, ends = 0, now + expiry
        self._counts[key] = count + 1, ends
        return count + 1

    def get(self, key: str) -> int:
        """Return a count; 0 if it has ended."""
        count, ends = self._counts.get(key, (0, 0.0))
        return count if ends > time.time() else 0

    def get_expiry(self, key: str) -> float:
        """Return the time when a count ends."""
        return self._counts.get(key, (0, time.time()))[1]

    def clear(self, key: str) -> None:
        """Forget a count."""
        self._counts.pop(key, None)


class Counters:
    """Counts requests. While the shared store is unreachable, this process counts on its own.

    Safe to share between threads.
    """

    def __init__(self, shared: RedisStorage | None = None) -> None:
        self._local = LocalCounters()
        self._local_lock = threading.Lock()
        self._shared = shared
        self._retry_at = -math.inf  # at once

    def use(self, action: Callable[[LocalCounters | RedisStorage], Result]) -> Result:
        """Run ``action`` with the shared store, or with this process's own while the shared one is unreachable."""
        if self._shared is not None and time.monotonic() >= self._retry_at:
            try:
                return action(self._shared)
            except StorageError as error:
                self._retry_at = time.monotonic() + _STORE_RETRY_SECONDS
                # Log only the type: the message may contain the server's address and user name.
                log.warning(
                    "the shared counters can't be reached (%s): this process counts alone for now",
                    type(error.storage_error).__name__,
                )
        with self._local_lock:
            return action(self._local)


class RateLimit:
    """Allows each key ``per_minute`` requests a minute, ``at_once`` of them (default: all) at the same time.

    ``name`` separates these keys from those of other limits. Safe to share between threads.
    """

    def __init__(self, counters: Counters, name: str, *, per_minute: int, at_once: int | None = None) -> None:
        self._counters = counters
        self._name = f"{_PREFIX}/limit/{name}/"
        self._at_once = per_minute if at_once is None else at_once
        self._seconds = math.ceil(60 * self._at_once / per_minute)

    def take(self, key: str) -> None:
        """Count a request. A ProblemError (429) says that the limit is exceeded, and when to try again."""
        name = self._name + key
        if self._counters.use(lambda store: store.incr(name, self._seconds)) > self._at_once:
            raise self._refusal(name)

    def check(self, key: str) -> None:
        """Raise the same error as :meth:`take`, without counting a request."""
        name = self._name + key
        if self._counters.use(lambda store: store.get(name)) >= self._at_once:
            raise self._refusal(name)

    def _refusal(self, name: str) -> ProblemError:
        seconds = self._counters.use(lambda store: store.get_expiry(name)) - time.time()
        return ProblemError(429, _TOO_MANY, code="too-many-requests", retry_after=seconds)


class RetryTimes:
    """Remembers when each refused key may be tried again. Safe to share between threads.

    At most :data:`MAX_REFUSED_KEYS` keys per address and day are remembered, because an attacker sends a new key each
    time. Further keys are refused as long as the address is.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def is_due(self, key: str, seconds: float, address: str) -> bool:
        """Return whether the key may be tried now. A new key from ``address`` must first wait ``seconds``."""
        known, waiting, count = _KNOWN + key, _WAITING + key, f"{_PREFIX}/retry/of/{address}"

        def look(store: LocalCounters | RedisStorage) -> bool:
            if store.get(known):
                return not store.get(waiting)
            if store.get(count) >= MAX_REFUSED_KEYS:
                return False
            store.incr(count, _DAY)
            store.incr(known, _DAY)
            if seconds <= 0:
                return True
            store.incr(waiting, math.ceil(seconds))
            return False

        return self._counters.use(look)

    def give_up(self, key: str) -> None:
        """Put the key off for a day, after a second attempt found no session either."""

        def put_off(store: LocalCounters | RedisStorage) -> None:
            if store.get(_KNOWN + key):
                store.clear(_WAITING + key)
                store.incr(_WAITING + key, _DAY)

        self._counters.use(put_off)


def unanswered(error: Exception) -> str | None:
    """Return why the gateway didn't answer, for a breaker: empty if it did, None if the error is unrelated."""
    if isinstance(error, NotFoundError):
        return ""
    if not isinstance(error, GatewayError):
        return None
    # A refusal is an answer too.
    is_broken = error.status >= 500 if isinstance(error, HTTPStatusError) else isinstance(error, TransportError)
    return error.code if is_broken else ""


def not_let_in(seconds: float, too_many: bool) -> ProblemError:
    """Return the error (503) for a request that a breaker refuses."""
    if not too_many:
        return unreachable(seconds)
    return ProblemError(503, _TOO_MANY, code="too-many-waiting", retry_after=seconds)


class Slots:
    """Lets ``slots`` requests in at a time. Others wait ``timeout`` seconds for a slot.

    Requests are served in order of arrival. With a semaphore, a thread that has just released a slot could take it
    again before those that wait. Safe to share between threads.
    """

    def __init__(self, slots: int, *, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._free = slots
        self._waiting: deque[threading.Event] = deque()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a slot for the block. A ProblemError (503) says that none became free in time."""
        with self._lock:
            granted = None if self._free else threading.Event()
            if granted is None:
                self._free -= 1
            else:
                self._waiting.append(granted)
        if granted is not None and not granted.wait(self._timeout):
            with self._lock:
                if not granted.is_set():  # it may have been granted just after the timeout
                    self._waiting.remove(granted)
                    raise not_let_in(self._timeout, True)
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().set()  # hands the slot over
                else:
                    self._free += 1


_REQUIRED_PERMISSIONS = (permissions.STAFF_LOGIN, VIEW_USER)
_RETRIES_FACTOR = 5


@dataclass(frozen=True, slots=True)
class Caller:
    """The user that a session belongs to. ``user`` is an ``au.id``.

    ``rights`` are what the session may see, read at most :data:`RIGHTS_SECONDS` ago. ``library`` is the session's org
    unit (an id). ``workstation`` is an ``aws.id``, None for a session without one.
    """

    user: int
    rights: SessionRights
    library: int
    workstation: int | None

    @property
    def lacks(self) -> frozenset[str]:
        """The permissions that staff need here but that the user doesn't have at the session's org unit."""
        return self.rights.lacks(self.library, _REQUIRED_PERMISSIONS)


class Admission:
    """Admits callers and caches them for :data:`RIGHTS_SECONDS`. Safe to share between threads.

    The cache is private to the process; the request counts may be shared by several.

    Each token may ask ``per_minute`` times a minute. The same limit applies to all unknown tokens from one address, or
    invented tokens would cause any number of calls to Evergreen. ``reference`` reads the session's account and rights.
    """

    def __init__(
        self, clock: Callable[[], float], counters: Counters, reference: ReferenceData, *, per_minute: int
    ) -> None:
        self._reference = reference
        self.callers: TimeToLiveCache[Caller] = TimeToLiveCache(clock, RIGHTS_SECONDS)
        self._requests = RateLimit(counters, "session", per_minute=per_minute)
        # A tenth at once: a clerk at the address of someone who invents tokens waits for seconds, not for a minute.
        tenth = max(1, per_minute // 10)
        self._unknown_tokens = RateLimit(counters, "stranger", per_minute=per_minute, at_once=tenth)
        # An attacker sends a new token each time. A clerk who has just logged in at the same address repeats the same
        # token after the wait, and then gets through to Evergreen.
        self._retry_times = RetryTimes(counters)
        retries = max(1, _RETRIES_FACTOR * per_minute // 10)
        self._retries = RateLimit(counters, "second-try", per_minute=_RETRIES_FACTOR * per_minute, at_once=retries)

    def admit(self, gateway: Gateway, address: Callable[[], str], *, verify: bool = True) -> Caller:
        """Return the caller whose token ``gateway`` uses.

        ``address`` returns the client's address. It is called if the token isn't known yet. A cached caller's session
        may have ended: ``verify`` asks Evergreen, in one call.

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
        if verify and self.callers.is_fresh(key):
            try:
                permissions.account_of_session(gateway, prolong=False)
            except NoSessionError:
                self.callers.forget(key)
                raise
        caller = self.callers.get(key, lambda: self._look(gateway, key, address()))
        if caller.lacks:
            log.info("the session lacks the permission %s", " and ".join(sorted(caller.lacks)))
            raise ProblemError(403, "Your login needs STAFF_LOGIN and VIEW_USER.", code="staff-only")
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
            account, rights = self._reference.renew_session(gateway)
            return Caller(account.user, rights, account.library, account.workstation)
        except NoSessionError:
            self._retry_times.give_up(key)
            with suppress(ProblemError):  # the call for this token has already been made
                self._unknown_tokens.take(address)
            raise


def permitted_at(gateway: Gateway, caller: Caller, org_units: Collection[int], permission: str) -> frozenset[int]:
    """Return at which of these org units (ids) the caller has a permission. One call, none without org units."""
    if not org_units:
        return frozenset()
    try:
        denied = permissions.denied_pairs(gateway, caller.user, sorted(org_units), [permission])
    except PermissionDeniedError:
        return frozenset()
    return frozenset(org_units) - {org_unit for org_unit, _permission in denied}
