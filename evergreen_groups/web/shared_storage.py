"""Counts that several processes make together, in the memory of the one that started them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from limits.storage import MovingWindowSupport, Storage

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

COUNTED = ("incr", "get", "get_expiry", "check", "clear", "acquire_entry", "get_moving_window")
"""What may be asked of the process that counts."""

COUNTING_SECONDS = 2.0
"""How long it may take for an answer."""


class SharedStorage(Storage, MovingWindowSupport):
    """Counts of the library ``limits`` that the process at the other end of ``connection`` keeps.

    One question at a time. What isn't answered in time raises ``limits``' own StorageError. Questions have numbers, for
    its answer may still come, and is none to the next one.
    """

    STORAGE_SCHEME = None

    def __init__(self, connection: Connection[Any, Any]) -> None:
        super().__init__(wrap_exceptions=True)
        self._connection = connection
        self._lock = threading.Lock()
        self._number = 0

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return OSError, EOFError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        return int(self._ask("incr", key, expiry, amount))

    def get(self, key: str) -> int:
        return int(self._ask("get", key))

    def get_expiry(self, key: str) -> float:
        return float(self._ask("get_expiry", key))

    def check(self) -> bool:
        return bool(self._ask("check"))

    def reset(self) -> int | None:
        raise NotImplementedError

    def clear(self, key: str) -> None:
        self._ask("clear", key)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return bool(self._ask("acquire_entry", key, limit, expiry, amount))

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        start, count = self._ask("get_moving_window", key, limit, expiry)
        return float(start), int(count)

    def _ask(self, operation: str, *arguments: object) -> Any:
        with self._lock:
            self._number += 1
            self._connection.send((self._number, operation, arguments))
            deadline = time.monotonic() + COUNTING_SECONDS
            while self._connection.poll(max(0.0, deadline - time.monotonic())):
                number, answer = self._connection.recv()
                if number == self._number:
                    return answer
            raise TimeoutError("no answer")
