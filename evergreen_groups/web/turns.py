"""Turns: some requests at a time, in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from evergreen_groups.web.problems import ProblemError


class Turns:
    """Lets ``places`` requests in at a time; another waits ``patience`` seconds for its turn. Safe between threads.

    A semaphore wouldn't do: whoever has just left gets in again there before those who wait.
    """

    def __init__(self, places: int, *, patience: float) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._free = places
        self._waiting: deque[threading.Event] = deque()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have a place for what is done inside.

        Raises:
            ProblemError: 503, none became free in time; nothing was done.
        """
        self._come()
        try:
            yield
        finally:
            self._go()

    def _come(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Event()
            self._waiting.append(turn)
        if turn.wait(self._patience):
            return
        with self._lock:
            if turn.is_set():  # in the last moment
                return
            self._waiting.remove(turn)
        raise ProblemError(503, "Too many requests wait for the ILS already.", retry_after=self._patience)

    def _go(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()  # the place is handed on
            else:
                self._free += 1
