"""Counts requests and limits how many each key may send: in this process, or for all instances in a Redis server."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from limits import RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from evergreen_groups.web.problems import ProblemError

if TYPE_CHECKING:
    from limits.storage import RedisStorage

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

    def __init__(self, shared: RedisStorage | None = None) -> None:
        self._local = MemoryStorage()
        self._local_lock = threading.Lock()
        self._next_cleanup = 0.0
        self._shared = shared
        self._retry_at = 0.0

    def use(self, action: Callable[[MemoryStorage | RedisStorage], Result]) -> Result:
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
            # The library keeps every key, also without recent requests, and anyone can send any number of keys.
            if time.monotonic() >= self._next_cleanup:
                self._next_cleanup = time.monotonic() + _CLEANUP_SECONDS
                for key in [key for key, requests in list(self._local.events.items()) if not requests]:
                    del self._local.events[key]
            return action(self._local)


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

        known, waiting, count = _known(key), _waiting(key), f"{_PREFIX}/retry/of/{address}"

        def look(store: MemoryStorage | RedisStorage) -> bool:
            if store.get(known):
                return not store.get(waiting)
            if store.get(count) >= MAX_REFUSED_KEYS:
                return False
            store.incr(count, _DAY)
            store.incr(known, _DAY)
            if seconds > 0:
                store.incr(waiting, math.ceil(seconds))
            return seconds <= 0

        return self._counters.use(look)

    def give_up(self, key: str) -> None:
        """Put the key off for a day, after a second attempt found no session either."""

        def put_off(store: MemoryStorage | RedisStorage) -> None:
            if store.get(_known(key)):
                store.clear(_waiting(key))
                store.incr(_waiting(key), _DAY)

        self._counters.use(put_off)


def _known(key: str) -> str:
    return f"{_PREFIX}/retry/known/{key}"


def _waiting(key: str) -> str:
    return f"{_PREFIX}/retry/waiting/{key}"
