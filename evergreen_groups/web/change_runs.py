"""Applying plans for desks: a short one while the desk waits, a long one in a thread of its own that is asked after."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from evergreen_groups.errors import EvergreenGroupsError
from evergreen_groups.web.problems import ProblemError

if TYPE_CHECKING:
    from evergreen_groups.progress import Progress

log = logging.getLogger("evergreen_groups.web")

MOST_WAITED_FOR = 10
"""How many steps a desk waits for: each is three calls or so."""

AT_ONCE = 4
"""How many long changes are made at once."""

RETRY_SECONDS = 5.0

Apply = Callable[[Callable[[str], None], "Progress"], str]
"""Applies a plan: it gets what is to be called with the change's id once nothing can refuse it any more, and what
is to be called after each step; it gives the id."""


class _StoppingError(EvergreenGroupsError):
    """The service ends; the steps that are left aren't begun."""


class ChangeRuns:
    """The long changes that are being made by this process. Safe to share between threads."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="change")
        self._free = threading.Semaphore(AT_ONCE)
        self._stopping = threading.Event()
        self._beginning = threading.Lock()  # none is begun when the threads have been told to end

    def begin(self, apply: Apply, *, taken: Callable[[], object] = lambda: None) -> str:
        """Begin a long change, and give its id as soon as nothing can refuse it any more.

        ``taken`` is called once it is certain that ``apply`` will be.

        Raises:
            ProblemError: 503, too many are being made.
        """
        begun: Future[str] = Future()
        with self._beginning:
            if self._stopping.is_set() or not self._free.acquire(blocking=False):
                raise ProblemError(
                    503,
                    "Too many long changes are being made. Nothing was changed; try again in a moment.",
                    code="too-many-changes",
                    retry_after=RETRY_SECONDS,
                )
            taken()
            self._executor.submit(self._run, apply, begun)
        return begun.result()

    def finish(self) -> None:
        """Wait until all changes that were begun have been made; no other is begun."""
        self._executor.shutdown()

    def close(self) -> None:
        """Let each change finish the step that it is at, and begin no other."""
        with self._beginning:
            self._stopping.set()
        self._executor.shutdown()

    def _run(self, apply: Apply, begun: Future[str]) -> None:
        try:
            id = apply(begun.set_result, self._check)
            if not begun.done():  # it had been applied before
                begun.set_result(id)
        except BaseException as error:
            if not begun.done():
                begun.set_exception(error)
            elif not isinstance(error, _StoppingError):
                # What becomes of the change stands in the journal; this says only that something else went wrong.
                log.error("a long change ended early (%s)", type(error).__name__)  # noqa: TRY400 - patron data
        finally:
            self._free.release()

    def _check(self, doing: str, done: int, total: int | None = None) -> None:  # noqa: ARG002 - what Progress takes
        if self._stopping.is_set():
            raise _StoppingError("the service ends", code="service-ends")
