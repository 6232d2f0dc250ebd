"""What keeps requests from waiting in vain, or asking the ILS too much: they are refused, with a time to come back.

:class:`Breaker` refuses while the gateway is dead, :class:`Slots` while too many ask it already, and :class:`RateLimit`
whoever asks too often.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import NamedTuple

from evergreen_groups.errors import GatewayError, HTTPStatusError, TransportError
from evergreen_groups.web.problems import ProblemError, unreachable

# A bound on memory: whoever makes up keys without end pushes out the oldest.
MOST_KEYS = 10_000
"""How many keys a rate limit remembers; those that asked the longest time ago are forgotten first."""


class BreakerState(Enum):
    """What a breaker does with a request."""

    CLOSED = "closed"
    """Lets it through."""
    OPEN = "open"
    """Refuses it."""
    PROBING = "probing"
    """Refuses it, while a single one finds out whether the gateway is back."""


class RequestOutcome(NamedTuple):
    """How a request ended: ``answered`` says whether the gateway did."""

    seconds_ago: float
    answered: bool


class Breaker:
    """Counts failures in a row; after ``failures`` of them it opens for ``pause`` seconds, then lets one through.

    It also refuses while ``most_waiting`` are under way that each began longer than ``slow_after`` seconds ago: a
    gateway that accepts and never answers would hold every thread before the first failure is known. ``clock`` gives
    seconds. Safe to share between threads.
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
        self._last: tuple[float, bool] | None = None

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
            return RequestOutcome(self._clock() - self._last[0], self._last[1]) if self._last else None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Let through what is done inside, and learn from how it ends.

        Raises:
            ProblemError: 503, the gateway is known to be dead; nothing was done.
        """
        ticket = object()
        self._enter(ticket)
        answered: bool | None = None  # an error that isn't ours says nothing about the gateway
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
                # One at a time, or a gateway that has just come back gets all that waited at once.
                if self._probe is not None or now < self._open_until:
                    raise unreachable(self._open_until - now)
                self._probe = ticket
            elif sum(now - began >= self._slow_after for began in self._began.values()) >= self._most_waiting:
                raise _too_many_wait(self._slow_after)
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


class RateLimit:
    """Lets each key make ``per_minute`` requests a minute, a tenth of them at once.

    ``clock`` gives seconds; ``refusal`` is the answer to whoever asks too often. Safe to share between threads.
    """

    def __init__(self, clock: Callable[[], float], *, per_minute: int, refusal: str) -> None:
        self._clock = clock
        self._refusal = refusal
        self._interval = 60.0 / per_minute
        # A desk opens a patron with several requests at once.
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
            raise ProblemError(
                429, "{refusal}", code="too-many-requests", values={"refusal": self._refusal}, retry_after=seconds
            )


class RetryTimes:
    """When each key that was refused for now may be tried again. Safe to share between threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._from: OrderedDict[str, float] = OrderedDict()

    def is_due(self, key: str, seconds: float) -> bool:
        """Whether the key's time has come; one that is new is to wait ``seconds``."""
        with self._lock:
            now = self._clock()
            due = self._from.setdefault(key, now + seconds)
            if len(self._from) > MOST_KEYS:
                self._from.popitem(last=False)
            return now >= due

    def give_up(self, key: str) -> None:
        """Put the key off for good: waiting has shown that there is nothing to wait for."""
        with self._lock:
            if key in self._from:
                self._from[key] = float("inf")


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
