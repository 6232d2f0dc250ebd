"""The changes that this process is making. Long ones run in the background."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from evergreen_groups.web.problems import ProblemError

if TYPE_CHECKING:
    from evergreen_groups.changes import PlanRun, StoredStep

log = logging.getLogger("evergreen_groups.web")

MAX_AWAITED_STEPS = 10
"""Maximum number of steps for which a desk waits. A step takes about three calls."""

MAX_RUNNING = 4
"""Maximum number of long changes at a time."""

RETRY_SECONDS = 5.0

Begin = Callable[[], AbstractContextManager["PlanRun[StoredStep]"]]
"""Begins a change: the block gets it once it can no longer be refused."""


class _StoppingError(Exception):
    """The service is stopping, so the remaining steps aren't started."""


class ChangeRuns:
    """The changes that this process is making. Safe to share between threads."""

    def __init__(self) -> None:
        self._running, self._counting = 0, threading.Lock()
        self._executor = ThreadPoolExecutor(MAX_RUNNING, thread_name_prefix="change")
        self._free = threading.Semaphore(MAX_RUNNING)
        self._stopping = threading.Event()
        self._beginning = threading.Lock()  # keeps a change from starting after the executor has shut down

    @property
    def is_any_running(self) -> bool:
        return self._running > 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the block as a running change."""
        with self._counting:
            self._running += 1
        try:
            yield
        finally:
            with self._counting:
                self._running -= 1

    def begin(self, begin: Begin, *, on_accepted: Callable[[], object] = lambda: None) -> str:
        """Start a long change. Return its id as soon as the change can no longer be refused.

        ``on_accepted`` is called once it is certain that ``begin`` will run: unless too many changes are running.
        """
        begun: Future[str] = Future()
        with self._beginning:
            if self._stopping.is_set() or not self._free.acquire(blocking=False):
                raise ProblemError(
                    503,
                    "Too many long changes are in progress. Nothing was changed; try again in a moment.",
                    code="too-many-changes",
                    retry_after=RETRY_SECONDS,
                )
            on_accepted()
            self._executor.submit(self._run, begin, begun)
        return begun.result()

    def close(self) -> None:
        """Let each change finish its current step. No further change can start."""
        with self._beginning:
            self._stopping.set()
        self._executor.shutdown()

    def _run(self, begin: Begin, begun: Future[str]) -> None:
        try:
            with self.running(), begin() as change:
                begun.set_result(change.id)
                change.apply(self._check)
        except BaseException as error:
            if not begun.done():
                begun.set_exception(error)
            elif not isinstance(error, _StoppingError):
                # The journal has the change's outcome. This log entry only says that the thread failed.
                log.error("a long change ended early (%s)", type(error).__name__)  # noqa: TRY400 - patron data
        finally:
            self._free.release()

    def _check(self, doing: str, done: int, total: int | None = None) -> None:  # noqa: ARG002 - Progress's signature
        if self._stopping.is_set():
            raise _StoppingError
