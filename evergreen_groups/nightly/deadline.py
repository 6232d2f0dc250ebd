"""A time limit for a block of the main thread, enforced even where a system call hangs."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import NoReturn, Self

from evergreen_groups import exit_status
from evergreen_groups.errors import DeadlineError
from evergreen_groups.message import Message

_GRACE = 30.0
CUT_OFF = Message("the run hung after its deadline and was killed")


class _ExpiredError(BaseException):
    """Raised by the signal handler. A BaseException, so that error handlers in the block don't catch it."""


class Deadline:
    """Ends a ``with`` block after ``seconds`` and raises DeadlineError. A signal interrupts any wait.

    The block then has ``grace`` seconds to clean up: close the gateway and remove temporary files. If it still hangs,
    for example on a dead network disk, the whole process ends after writing ``message`` to standard error. Main thread
    only.
    """

    def __init__(self, seconds: float, *, grace: float = _GRACE, message: str = CUT_OFF) -> None:
        self._seconds = seconds
        self._message = message
        # A second thread, because Python runs signal handlers only between bytecodes, and a call to a dead network disk
        # never returns to them.
        self._last_resort = threading.Timer(seconds + grace, self._exit_process)
        self._last_resort.daemon = True

    def __enter__(self) -> Self:
        # Only a signal interrupts a system call in the main thread.
        self._previous_handler = signal.signal(signal.SIGALRM, self._expired)
        self._last_resort.start()
        # Set last: an alarm that arrived before the block began would not be caught.
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # First stop the alarm. With the default handler restored, a late alarm would kill the process.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._previous_handler)
        self._last_resort.cancel()
        # If the timer has already fired, let it end the process before anything else happens.
        self._last_resort.join()
        if isinstance(error, _ExpiredError):
            raise DeadlineError(
                "the run took longer than {seconds:g} seconds",
                advice="raise --deadline, or find out with -v what is slow",
                setting="report.deadline",
                values={"seconds": self._seconds},
            ) from None

    def _expired(self, _signal: int, _frame: FrameType | None) -> NoReturn:
        raise _ExpiredError

    def _exit_process(self) -> NoReturn:
        os.write(2, f"{self._message}\n".encode())  # bypasses the lock of sys.stderr, which a hung thread may hold
        # A normal exit would wait for the threads that hang.
        os._exit(exit_status.DEADLINE)
