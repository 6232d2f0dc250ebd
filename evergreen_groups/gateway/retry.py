"""When a read is tried again, and how long to wait before."""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from evergreen_groups.errors import (
    CutOffError,
    HTTPStatusError,
    ServerError,
    ServiceNotFoundError,
    TimedOutError,
    TransportError,
    UnexplainedError,
    UnreachableError,
)

log = logging.getLogger("evergreen_groups.gateway")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a read is tried; all times are in seconds.

    The delay doubles from ``first_delay`` up to ``longest_delay``, and each is shortened at random by up to half, so
    that many clients don't come back at the same moment. No try begins after ``total_seconds``. ``unexplained``: a
    failure of which the gateway gives no reason is tried again as well.
    """

    # The waits of 0.5, 1 and 2 s get over a reload of Apache or of a service. What takes longer is for whoever started
    # us to try again.
    tries: int = 4
    first_delay: float = 0.5
    longest_delay: float = 8.0
    # Three times the gateway's 60 s: a service that hangs is asked three times, not four.
    total_seconds: float = 180.0
    unexplained: bool = True

    def before(self, deadline: float | None) -> RetryPolicy:
        """Return this policy with no try that begins after ``deadline``, on the monotonic clock (None: no end)."""
        if deadline is None:
            return self
        return replace(self, total_seconds=min(self.total_seconds, deadline - time.monotonic()))

    def delays(self) -> Iterator[float]:
        """Yield the wait before the second try, the third, and so on: ``tries`` - 1 of them."""
        for number in range(self.tries - 1):
            whole = min(self.longest_delay, self.first_delay * 2.0**number)
            yield whole * random.uniform(0.5, 1.0)  # noqa: S311  # spreads load, guards nothing

    def run(self, attempt: Callable[[], T], stop: threading.Event, on_retry: Callable[[], None]) -> T:
        """Return what ``attempt`` returns, trying again after an error that may pass by itself.

        ``on_retry`` is called before each further try. Once ``stop`` is set, the last error is raised at once.
        """
        began = time.monotonic()
        delays = self.delays()
        while True:
            try:
                return attempt()
            except (TransportError, ServerError) as error:
                delay = next(delays, None)
                if (
                    delay is None
                    or not may_pass(error)
                    or (isinstance(error, UnexplainedError) and not self.unexplained)
                ):
                    raise
                if time.monotonic() - began + delay > self.total_seconds or stop.wait(delay):
                    raise
                log.info("%s %s: %s; trying again", error.service, error.method, type(error).__name__)
                on_retry()


def may_pass(error: TransportError | ServerError) -> bool:
    """Say whether the same request may well succeed a little later."""
    # A method that dies may do so because of a database or another service that is away for a moment. Nobody can tell
    # that from a query that it will never take, which costs a few seconds more then.
    if isinstance(error, ServerError):
        return True
    # A refusal (4xx) stays one; 5xx is what a proxy says while the server behind it restarts.
    if isinstance(error, HTTPStatusError):
        return error.status >= 500
    if isinstance(error, UnreachableError):
        # A certificate doesn't get better within seconds.
        return not isinstance(error.__cause__, ssl.SSLCertVerificationError)
    return isinstance(error, TimedOutError | CutOffError | ServiceNotFoundError)
