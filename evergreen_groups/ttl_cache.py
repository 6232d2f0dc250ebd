"""A cache whose values expire after a time to live."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")

# Most keys stand for sessions. This is more than a consortium has desks, and bounds the memory that a client with
# invented session tokens can fill.
MOST = 10_000
"""The maximum number of values in a cache. The oldest are dropped first."""


class TimeToLiveCache(Generic[Value]):
    """Values by key, each valid for ``seconds`` on ``clock``. Thread-safe. Counts ``hits`` and ``misses``."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._values: OrderedDict[str, tuple[float, Value]] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def knows(self, key: str) -> bool:
        """Return whether the cache has a value for the key, even an expired one."""
        with self._lock:
            return key in self._values

    def is_fresh(self, key: str) -> bool:
        """Return whether the cache has a value for the key that hasn't expired."""
        with self._lock:
            return key in self._values and self._clock() < self._values[key][0]

    def get(self, key: str, read: Callable[[], Value]) -> Value:
        """Return the value. If it is missing or expired, call ``read``, whose exceptions aren't cached."""
        now = self._clock()
        with self._lock:
            cached = self._values.get(key)
            if cached is not None and now < cached[0]:
                self.hits += 1
                return cached[1]
            self.misses += 1
        value = read()  # outside the lock, so that a slow ILS doesn't delay requests for other keys
        self.put(key, value)
        return value

    def put(self, key: str, value: Value) -> None:
        """Store a fresh value."""
        with self._lock:
            # Two threads may read the same key at the same time. The later value wins, and neither waits for the other.
            self._values.pop(key, None)  # so that the key moves to the end, the place of the newest
            self._values[key] = (self._clock() + self._seconds, value)
            if len(self._values) > MOST:
                self._values.popitem(last=False)

    def forget(self, key: str) -> None:
        """Drop the value, so that the next :meth:`get` reads it again."""
        with self._lock:
            self._values.pop(key, None)
