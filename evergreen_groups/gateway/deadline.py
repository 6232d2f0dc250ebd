"""A time by which everything has to be over, on the monotonic clock; None is none."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evergreen_groups.errors import TimedOutError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from evergreen_groups.gateway.call import Call


def seconds_left(deadline: float | None, call: Call) -> float | None:
    """How long there is left for a call, in seconds; raises TimedOutError when nothing is."""
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise _too_late(call)
    return left


@contextmanager
def held(lock: threading.Lock, deadline: float | None, call: Call) -> Iterator[None]:
    """Hold a lock that another thread may hold for long; raises TimedOutError where it does until it is too late."""
    # -1 is how Lock.acquire spells waiting for ever.
    left = -1 if deadline is None else max(0.0, deadline - time.monotonic())
    if not lock.acquire(timeout=left):
        raise _too_late(call)
    try:
        yield
    finally:
        lock.release()


def _too_late(call: Call) -> TimedOutError:
    return TimedOutError(
        "not asked any more, the time for the whole job is up",
        advice="try again later",
        code="job-timed-out",
        **call.names,
    )
