"""A circuit breaker: refuse calls to a server that has stopped answering, and let one call at a time find out more."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import NamedTuple


class BreakerState(Enum):
    """What a breaker does with the next call."""

    CLOSED = "closed"
    """Lets it through."""
    OPEN = "open"
    """Refuses it."""
    PROBING = "probing"
    """Refuses it while one call tests whether the server is back."""


class RequestOutcome(NamedTuple):
    """How a call ended: whether the server ``answered``, and if not, the ``cause`` (an error code)."""

    seconds_ago: float
    answered: bool
    cause: str = ""


class CircuitBreaker:
    """A circuit breaker. After ``failures`` in a row it opens for ``pause`` seconds, then lets one call through.

    It also refuses while ``most_waiting`` calls have each been running for ``slow_after`` seconds and nothing has been
    answered for as long. A server that accepts connections and never responds would block every thread before the
    first timeout; one that is merely slow under load still answers now and then.

    ``clock`` returns seconds. ``cause_of`` returns why an error means that the server didn't answer: empty if it is an
    answer, None if it says nothing about that. ``refusal`` returns the error for a refused call, from after how many
    seconds to try again and whether too many are waiting. Safe to share between threads.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        cause_of: Callable[[Exception], str | None],
        refusal: Callable[[float, bool], Exception],
        *,
        failures: int,
        pause: float,
        most_waiting: int = sys.maxsize,
        slow_after: float = math.inf,
    ) -> None:
        self._clock = clock
        self._cause_of = cause_of
        self._refusal = refusal
        self._failures = failures
        self._pause = pause
        self._most_waiting = most_waiting
        self._slow_after = slow_after
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._open_until: float | None = None
        self._probe: object | None = None
        self._began: dict[object, float] = {}
        self._last: tuple[float, bool, str] | None = None
        self._answered_at = -math.inf

    @property
    def state(self) -> BreakerState:
        """The current state."""
        with self._lock:
            if self._probe is not None:
                return BreakerState.PROBING
            return BreakerState.CLOSED if self._open_until is None else BreakerState.OPEN

    def last_outcome(self) -> RequestOutcome | None:
        """Return the outcome of the call that ended last; None before the first one."""
        with self._lock:
            return RequestOutcome(self._clock() - self._last[0], *self._last[1:]) if self._last else None

    @contextmanager
    def watching(self, *, wait: float = 0.0) -> Iterator[None]:
        """Run the block if the server is usable, and learn from how the block ends. Raise the refusal if not.

        ``wait`` is how many seconds the block may wait for anything other than the server.
        """
        ticket = object()
        self._enter(ticket, wait)
        cause: str | None = None
        try:
            yield
            cause = ""
        except Exception as error:
            cause = self._cause_of(error)
            raise
        finally:
            self._leave(ticket, cause)

    def _enter(self, ticket: object, wait: float) -> None:
        with self._lock:
            now = self._clock()
            if self._open_until is not None:
                # One at a time, or a server that has just come back would get all waiting calls at once.
                if self._probe is not None or now < self._open_until:
                    raise self._refusal(self._open_until - now, False)
                self._probe = ticket
            elif now - self._answered_at >= self._slow_after:
                waiting = sum(now - began >= self._slow_after for began in self._began.values())
                if waiting >= self._most_waiting:
                    raise self._refusal(self._slow_after, True)
            self._began[ticket] = now + wait

    def _leave(self, ticket: object, cause: str | None) -> None:
        with self._lock:
            now = self._clock()
            del self._began[ticket]
            was_probe = self._probe is ticket
            if was_probe:
                self._probe = None
            if cause is None:
                return
            self._last = (now, not cause, cause)
            if not cause:
                self._answered_at = now
                self._in_a_row, self._open_until = 0, None
                return
            self._in_a_row += 1
            if was_probe or self._in_a_row >= self._failures:
                self._open_until = now + self._pause
