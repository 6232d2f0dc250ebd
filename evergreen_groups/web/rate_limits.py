"""How often somebody may ask: counted in this process, in the one that started it and others, or in a Redis or Valkey
that several servers share.

The counting is the library ``limits``' own. Flask-Limiter, which is made of it, decides before a view function runs;
here it depends on what the ILS says of a session, so the library is asked directly.
"""

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

from evergreen_groups.state import counter_store
from evergreen_groups.web.problems import ProblemError

if TYPE_CHECKING:
    from limits.storage import RedisStorage

    from evergreen_groups.web.shared_storage import SharedStorage

    Shared = RedisStorage | SharedStorage

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
