"""A cache whose values expire after a time to live."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")

# A key is a session or so: more than a consortium has desks, and a bound on what invented tokens can fill.
MOST = 10_000
"""How many values a cache holds; of more than that the oldest go."""


class TimeToLiveCache(Generic[Value]):
    """Values by key, each for ``seconds`` of ``clock``. Safe to share between threads.

    ``hits`` counts the values that were there, ``misses`` those that had to be read.
    """

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._values: OrderedDict[str, tuple[float, Value]] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def knows(self, key: str) -> bool:
        """Whether the value has been read before, be it too old by now."""
        with self._lock:
            return key in self._values

    def get(self, key: str, read: Callable[[], Value]) -> Value:
        """The value, read where it isn't there or too old. What can't be read isn't cached."""
        now = self._clock()
        with self._lock:
            cached = self._values.get(key)
            if cached is not None and now < cached[0]:
                self.hits += 1
                return cached[1]
            self.misses += 1
        value = read()  # outside the lock: a slow ILS is to hold up nobody else
        self.put(key, value)
        return value

    def put(self, key: str, value: Value) -> None:
        """Keep a value that was read just now."""
        with self._lock:
            # Two that read the same at once both put it in, the later one last: no harm, and nobody waits for the
            # other.
            self._values.pop(key, None)
            self._values[key] = (self._clock() + self._seconds, value)
            if len(self._values) > MOST:
                self._values.popitem(last=False)

    def forget(self, key: str) -> None:
        """Have the value read again when it is next needed."""
        with self._lock:
            self._values.pop(key, None)
