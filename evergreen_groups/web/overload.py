"""Refuses requests, with a time to retry, when waiting would be pointless or Evergreen is overloaded.

:class:`Breaker` refuses while the gateway doesn't respond, :class:`Slots` while too many requests use it. Rate limits
are in :mod:`evergreen_groups.web.admission`.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import NamedTuple

from evergreen_groups.errors import GatewayError, HTTPStatusError, NotFoundError, TransportError
from evergreen_groups.web.problems import ProblemError, unreachable


class BreakerState(Enum):
    """What a breaker does with the next request."""

    CLOSED = "closed"
    """Lets it through."""
    OPEN = "open"
    """Refuses it."""
    PROBING = "probing"
    """Refuses it while one request tests whether the gateway is back."""


class RequestOutcome(NamedTuple):
    """How a request ended: whether the gateway ``answered``, and if not, the ``cause`` (an error code)."""

    seconds_ago: float
    answered: bool
    cause: str = ""


class Breaker:
    """A circuit breaker. After ``failures`` in a row it opens for ``pause`` seconds, then lets one request through.

    It also refuses while ``most_waiting`` requests have each been running for ``slow_after`` seconds and nothing has
    been answered for as long. A gateway that accepts connections and never responds would block every thread before the
    first timeout; one that is merely slow under load still answers now and then. ``clock`` returns seconds. Safe to
    share between threads.
    """

    def __init__(
        self, clock: Callable[[], float], *, failures: int, most_waiting: int, slow_after: float, pause: float
    ) -> None:
        self._clock = clock
        self._failures = failures
        self._most_waiting = most_waiting
        self._slow_after = slow_after
        self._pause = pause
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
        """Return the outcome of the request that ended last; None before the first one."""
        with self._lock:
            return RequestOutcome(self._clock() - self._last[0], *self._last[1:]) if self._last else None

    @contextmanager
    def watching(self, *, wait: float = 0.0) -> Iterator[None]:
        """Run the block if the gateway is usable, and learn from how the block ends.

        ``wait`` is how many seconds the block may wait for anything other than the gateway.

        Raises:
            ProblemError: 503, the gateway is known not to respond; the block didn't run.
        """
        ticket = object()
        self._enter(ticket, wait)
        cause, answered = "", None  # stays None for unrelated errors, which say nothing about the gateway
        try:
            yield
            answered = True
        except NotFoundError:
            answered = True
            raise
        except GatewayError as error:
            # A refusal is an answer too.
            is_broken = error.status >= 500 if isinstance(error, HTTPStatusError) else isinstance(error, TransportError)
            answered = not is_broken
            cause = "" if answered else error.code
            raise
        finally:
            self._leave(ticket, answered, cause)

    def _enter(self, ticket: object, wait: float) -> None:
        with self._lock:
            now = self._clock()
            if self._open_until is not None:
                # One at a time, or a gateway that has just come back would get all waiting requests at once.
                if self._probe is not None or now < self._open_until:
                    raise unreachable(self._open_until - now)
                self._probe = ticket
            elif now - self._answered_at >= self._slow_after:
                waiting = sum(now - began >= self._slow_after for began in self._began.values())
                if waiting >= self._most_waiting:
                    raise _too_many_wait(self._slow_after)
            self._began[ticket] = now + wait

    def _leave(self, ticket: object, answered: bool | None, cause: str) -> None:
        with self._lock:
            now = self._clock()
            del self._began[ticket]
            was_probe, self._probe = self._probe is ticket, None if self._probe is ticket else self._probe
            if answered is None:
                return
            self._last = (now, answered, cause)
            if answered:
                self._answered_at = now
                self._in_a_row, self._open_until = 0, None
                return
            self._in_a_row += 1
            if was_probe or self._in_a_row >= self._failures:
                self._open_until = now + self._pause


def _too_many_wait(seconds: float) -> ProblemError:
    return ProblemError(
        503, "Too many requests wait for the ILS already.", code="too-many-waiting", retry_after=seconds
    )


class Slots:
    """Lets ``slots`` requests in at a time. Others wait ``timeout`` seconds for a slot.

    Requests are served in order of arrival. With a semaphore, a thread that has just released a slot could take it
    again before those that wait. Safe to share between threads.
    """

    def __init__(self, slots: int, *, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._free = slots
        self._waiting: deque[threading.Event] = deque()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a slot for the block.

        Raises:
            ProblemError: 503, no slot became free in time; the block didn't run.
        """
        with self._lock:
            granted = None if self._free else threading.Event()
            if granted is None:
                self._free -= 1
            else:
                self._waiting.append(granted)
        if granted is not None and not granted.wait(self._timeout):
            with self._lock:
                if not granted.is_set():  # it may have been granted just after the timeout
                    self._waiting.remove(granted)
                    raise _too_many_wait(self._timeout)
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().set()  # hands the slot over
                else:
                    self._free += 1
