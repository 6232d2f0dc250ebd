"""How often somebody may ask."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from evergreen_groups.web.problems import ProblemError

MOST_KEYS = 10_000
"""How many keys are remembered; those that asked the longest time ago are forgotten first."""


class RateLimit:
    """Lets each key make ``per_minute`` requests a minute, a tenth of them at once.

    ``clock`` gives seconds; ``refusal`` is what whoever asks too often is told. Safe to share between threads.
    """

    def __init__(self, clock: Callable[[], float], *, per_minute: int, refusal: str) -> None:
        self._clock = clock
        self._refusal = refusal
        self._interval = 60.0 / per_minute
        self._burst = max(1.0, per_minute / 10)
        self._lock = threading.Lock()
        self._due: OrderedDict[str, float] = OrderedDict()  # when each key's requests so far are paid off

    def take(self, key: str) -> None:
        """Count a request.

        Raises:
            ProblemError: 429, there were too many; it says when to come back.
        """
        with self._lock:
            due, wait = self._owed(key)
            self._due.pop(key, None)
            self._due[key] = due if wait > 0 else due + self._interval
            if len(self._due) > MOST_KEYS:
                self._due.popitem(last=False)
        self._refuse_for(wait)

    def check(self, key: str) -> None:
        """Raise what :meth:`take` would, and count nothing."""
        with self._lock:
            _due, wait = self._owed(key)
        self._refuse_for(wait)

    def _owed(self, key: str) -> tuple[float, float]:
        """When the key's requests so far are paid off, and how long it has to wait before the next."""
        now = self._clock()
        due = max(self._due.get(key, now), now)
        return due, due - now - (self._burst - 1) * self._interval

    def _refuse_for(self, seconds: float) -> None:
        if seconds > 0:
            raise ProblemError(429, self._refusal, retry_after=seconds)
