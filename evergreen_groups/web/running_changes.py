"""Changes made in the name of a request: it is answered after a while, and they go on until they have ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

log = logging.getLogger("evergreen_groups.web")

ANSWERED_AFTER = 4.0
"""Seconds after which a request is answered although its change is still under way: by then a family has moved."""

LONGEST = 900.0
"""Seconds that a change may take in all; what it hasn't begun by then it leaves, and says so."""


class RunningChanges:
    """The changes that are being made by this process. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def run(self, apply: Callable[[Callable[[int], None]], int]) -> int:
        """Apply a change; gives the number of the journal's entry, be it ended or still under way.

        ``apply`` gets what to call with that number before its first step, and gives it back. What it raises before
        that is raised here, and afterwards as well while somebody waits.
        """
        begun: list[int] = []
        changed = threading.Condition()
        future: Future[int] = Future()

        def note(entry: int) -> None:
            with changed:
                begun.append(entry)
                changed.notify_all()

        def work() -> None:
            try:
                future.set_result(apply(note))
            except Exception as error:
                future.set_exception(error)
                log.warning("a change ended early: %s", type(error).__name__)  # its text may name a patron
            finally:
                with changed:
                    changed.notify_all()
                with self._lock:
                    self._threads.discard(threading.current_thread())

        # A daemon: a server that is stopped waits for it in close(), and not for ever.
        thread = threading.Thread(target=work, daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()
        with changed:
            changed.wait_for(lambda: bool(begun) or future.done())
            changed.wait_for(future.done, ANSWERED_AFTER)
        return future.result() if future.done() else begun[0]

    def wait(self, seconds: float) -> None:
        """Wait for what is under way, so long at most; the journal has what is left open then."""
        deadline = time.monotonic() + seconds
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
