"""How often each session may ask."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from evergreen_groups.web.problems import ProblemError

MOST_KEYS = 10_000
"""How many keys are remembered; those that asked the longest time ago are forgotten first."""


class RateLimit:
    """Lets each key make ``per_minute`` requests a minute, a tenth of them at once.

    ``clock`` gives seconds. Safe to share between threads.
    """

    def __init__(self, clock: Callable[[], float], *, per_minute: int) -> None:
        self._clock = clock
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
            now = self._clock()
            due = max(self._due.pop(key, now), now)
            wait = due - now - (self._burst - 1) * self._interval
            self._due[key] = due if wait > 0 else due + self._interval
            if len(self._due) > MOST_KEYS:
                self._due.popitem(last=False)
        if wait > 0:
            raise ProblemError(429, "Too many requests in this session. Wait a little.", retry_after=wait)
