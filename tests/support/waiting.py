"""Wait for another process, thread or server, and let deadlines expire."""

import signal
import threading
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

SECONDS = 60.0
"""Far longer than any machine needs, so that a timeout means a fault."""


def wait_until(look: Callable[[], Found]) -> Found:
    """Poll until a result is true and return it; AssertionError after a timeout."""
    deadline, pause = time.monotonic() + SECONDS, threading.Event()
    while not (found := look()):
        assert time.monotonic() < deadline, f"it has not come true in {SECONDS:g} seconds: {found!r}"
        pause.wait(0.01)
    return found


def expire_deadline() -> None:
    """Let the main thread's deadline expire now, by sending the signal of its timer."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
