"""The database server's clock, known without asking for the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that nobody sets; where there is one, it goes on while the machine is suspended."""
_PRECISE = 0.5
"""An answer that took longer (seconds) says too little about the time."""


class ServerClock:
    """A server's clock, as its distance from a local clock that nobody sets. Safe to share between threads.

    Servers whose own clocks differ agree on the time if they share a database.
    """

    def __init__(self) -> None:
        self._distance: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether the server has been asked yet."""
        return self._distance is not None

    def compare(self, ask: Callable[[], float]) -> None:
        """Ask the server for its time (seconds since 1970)."""
        began = time.clock_gettime(_ELAPSED)
        there = ask()
        ended = time.clock_gettime(_ELAPSED)
        if self._distance is None or ended - began <= _PRECISE:
            self._distance = there - (began + ended) / 2

    def now(self) -> datetime:
        """Return the server's time. It must be known."""
        if self._distance is None:
            raise RuntimeError("the server hasn't been asked for its time")
        return datetime.fromtimestamp(self._distance + time.clock_gettime(_ELAPSED), UTC)
