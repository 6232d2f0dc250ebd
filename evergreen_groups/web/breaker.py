"""A circuit breaker: while the gateway is dead, requests are refused at once rather than each waiting for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import NamedTuple

from evergreen_groups.errors import GatewayError, HTTPStatusError, TransportError
from evergreen_groups.web.problems import ProblemError


class State(Enum):
    """What a breaker does with a request."""

    CLOSED = "closed"
    """Lets it through."""
    OPEN = "open"
    """Refuses it."""
    PROBING = "probing"
    """Refuses it, while a single one finds out whether the gateway is back."""


class Outcome(NamedTuple):
    """How a request ended: ``answered`` says whether the gateway did."""

    seconds_ago: float
    answered: bool


class Breaker:
    """Counts failures in a row; after ``failures`` of them it opens for ``pause`` seconds, then lets one through.

    It also refuses while ``most_waiting`` are under way that each began longer than ``patience`` seconds ago: a gateway
    that accepts and never answers would hold every thread before the first failure is known. ``clock`` gives seconds.
    Safe to share between threads.
    """

    def __init__(
        self, clock: Callable[[], float], *, failures: int, most_waiting: int, patience: float, pause: float
    ) -> None:
        self._clock = clock
        self._failures = failures
        self._most_waiting = most_waiting
        self._patience = patience
        self._pause = pause
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._open_until: float | None = None
        self._probe: object | None = None
        self._began: dict[object, float] = {}
        self._last: tuple[float, bool] | None = None

    @property
    def state(self) -> State:
        """What it does now."""
        with self._lock:
            if self._probe is not None:
                return State.PROBING
            return State.CLOSED if self._open_until is None else State.OPEN

    def last_outcome(self) -> Outcome | None:
        """The outcome of the request that ended last; None where none has yet."""
        with self._lock:
            return Outcome(self._clock() - self._last[0], self._last[1]) if self._last else None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Let through what is done inside, and learn from how it ends.

        Raises:
            ProblemError: 503, the gateway is known to be dead; nothing was done.
        """
        ticket = object()
        self._enter(ticket)
        answered: bool | None = None  # an error that isn't ours tells nothing about the gateway
        try:
            yield
            answered = True
        except GatewayError as error:
            answered = not _is_dead(error)
            raise
        finally:
            self._leave(ticket, answered)

    def _enter(self, ticket: object) -> None:
        with self._lock:
            now = self._clock()
            if self._open_until is not None:
                if self._probe is not None or now < self._open_until:
                    raise ProblemError(503, "The ILS can't be reached.", retry_after=self._open_until - now)
                self._probe = ticket
            elif sum(now - began >= self._patience for began in self._began.values()) >= self._most_waiting:
                raise ProblemError(503, "Too many requests wait for the ILS already.", retry_after=self._patience)
            self._began[ticket] = now

    def _leave(self, ticket: object, answered: bool | None) -> None:
        with self._lock:
            now = self._clock()
            del self._began[ticket]
            was_probe, self._probe = self._probe is ticket, None if self._probe is ticket else self._probe
            if answered is None:
                return
            self._last = (now, answered)
            if answered:
                self._in_a_row, self._open_until = 0, None
                return
            self._in_a_row += 1
            if was_probe or self._in_a_row >= self._failures:
                self._open_until = now + self._pause


def _is_dead(error: GatewayError) -> bool:
    """Whether an error says that no usable answer comes from the gateway."""
    if isinstance(error, HTTPStatusError):
        return error.status >= 500
    return isinstance(error, TransportError)
