"""Wait for what another process, thread or server does in its own time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

SECONDS = 60.0
"""How long: far more than any machine needs, for whoever waits so long has found a fault."""


def wait_until(look: Callable[[], Found]) -> Found:
    """Look until something true is found, and give it back; AssertionError when it has taken too long."""
    deadline, pause = time.monotonic() + SECONDS, threading.Event()
    while not (found := look()):
        assert time.monotonic() < deadline, f"it has not come true in {SECONDS:g} seconds: {found!r}"
        pause.wait(0.01)
    return found
