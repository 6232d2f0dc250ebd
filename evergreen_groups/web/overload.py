"""What keeps requests from waiting in vain, or asking the ILS too much: they are refused, with a time to come back.

:class:`Breaker` refuses while the gateway is dead, :class:`Slots` while too many ask it already. Whoever asks too often
is refused by :mod:`evergreen_groups.web.admission`.
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
    """What a breaker does with a request."""

    CLOSED = "closed"
    """Lets it through."""
    OPEN = "open"
    """Refuses it."""
    PROBING = "probing"
    """Refuses it, while a single one finds out whether the gateway is back."""


class RequestOutcome(NamedTuple):
    """How a request ended: ``answered`` says whether the gateway did, ``cause`` (an error's code) why it didn't."""

    seconds_ago: float
    answered: bool
    cause: str = ""


class Breaker:
    """Counts failures in a row; after ``failures`` of them it opens for ``pause`` seconds, then lets one through.

    It also refuses while ``most_waiting`` are under way that each began longer than ``slow_after`` seconds ago, and
    nothing has been answered for as long: a gateway that accepts and never answers would hold every thread before the
    first failure is known. One that is slow because many ask it answers all the while. ``clock`` gives seconds. Safe to
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
        """What it does now."""
        with self._lock:
            if self._probe is not None:
                return BreakerState.PROBING
            return BreakerState.CLOSED if self._open_until is None else BreakerState.OPEN

    def last_outcome(self) -> RequestOutcome | None:
        """The outcome of the request that ended last; None where none has yet."""
        with self._lock:
            return RequestOutcome(self._clock() - self._last[0], *self._last[1:]) if self._last else None

    @contextmanager
    def watching(self, *, wait: float = 0.0) -> Iterator[None]:
        """Let through what is done inside, and learn from how it ends.

        ``wait`` is how many seconds it may wait for something else than the gateway.

        Raises:
            ProblemError: 503, the gateway is known to be dead; nothing was done.
        """
        ticket = object()
        self._enter(ticket, wait)
        cause, answered = "", None  # an error that isn't ours says nothing about the gateway
        try:
            yield
            answered = True
        except NotFoundError:
            answered = True
            raise
        except GatewayError as error:
            answered = not _is_dead(error)
            cause = "" if answered else error.code
            raise
        finally:
            self._leave(ticket, answered, cause)

    def _enter(self, ticket: object, wait: float) -> None:
        with self._lock:
            now = self._clock()
            if self._open_until is not None:
                # One at a time, or a gateway that has just come back gets all that waited at once.
                if self._probe is not None or now < self._open_until:
                    raise unreachable(self._open_until - now)
                self._probe = ticket
            elif self._is_stuck(now):
                raise _too_many_wait(self._slow_after)
            self._began[ticket] = now + wait

    def _is_stuck(self, now: float) -> bool:
        if now - self._answered_at < self._slow_after:
            return False
        return sum(now - began >= self._slow_after for began in self._began.values()) >= self._most_waiting

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


def _is_dead(error: GatewayError) -> bool:
    """Whether an error says that no usable answer comes from the gateway."""
    if isinstance(error, HTTPStatusError):
        return error.status >= 500
    # A refusal is an answer too: the gateway lives.
    return isinstance(error, TransportError)


class Slots:
    """Lets ``slots`` requests in at a time; another waits ``timeout`` seconds for one (None:
    for as long as it takes). Safe between threads.

    A semaphore wouldn't do: whoever has just left gets in again there before those who wait.
    """

    def __init__(self, slots: int, *, timeout: float | None) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._free = slots
        self._waiting: deque[threading.Event] = deque()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have a slot for what is done inside.

        Raises:
            ProblemError: 503, none became free in time; nothing was done.
        """
        self._come()
        try:
            yield
        finally:
            self._go()

    @contextmanager
    def given_back(self) -> Iterator[None]:
        """Do without the slot that one has for what is done inside, and wait for one after it."""
        self._go()
        try:
            yield
        finally:
            self._come()

    def _come(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            granted = threading.Event()
            self._waiting.append(granted)
        if granted.wait(self._timeout):
            return
        with self._lock:
            if granted.is_set():  # in the last moment
                return
            self._waiting.remove(granted)
        raise _too_many_wait(self._timeout or 0.0)

    def _go(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()  # the slot is handed on
            else:
                self._free += 1
