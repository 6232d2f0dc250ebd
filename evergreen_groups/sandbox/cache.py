"""Values that are forgotten after a while, as the services keep them in memcached."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any


class Cache:
    """Values by key, each for so many seconds."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], tuple[datetime, Any]] = {}

    def put(self, kind: str, key: str, value: Any, seconds: int) -> None:
        """Keep a value; the same key's earlier one is replaced."""
        moment = self._clock()
        with self._lock:
            self._kept = {name: kept for name, kept in self._kept.items() if kept[0] > moment}
            self._kept[kind, key] = (moment + timedelta(seconds=seconds), value)

    def get(self, kind: str, key: str) -> Any:
        """The value, or None where there is none or its time is over."""
        with self._lock:
            until, value = self._kept.get((kind, key), (None, None))
        return value if until is not None and until > self._clock() else None

    def pop(self, kind: str, key: str) -> Any:
        """The value, which is forgotten."""
        value = self.get(kind, key)
        with self._lock:
            self._kept.pop((kind, key), None)
        return value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
