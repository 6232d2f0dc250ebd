"""A limit on how long a run may take, whatever it is waiting for."""

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
CUT_OFF = Message("the run did not end at its deadline, and was cut off")


class _ExpiredError(BaseException):
    """Raised by the signal, wherever the block is: like Ctrl-C, it isn't for those who catch errors there."""


class Deadline:
    """Ends a ``with`` block after ``seconds``, by a signal, so that no wait is left out; DeadlineError comes out of it.

    The block's own clean-up then has ``grace`` seconds: to close the gateway and remove temporary files. A block that
    is still there after that, because something doesn't come back at all (a dead network disk, say), is ended
    together with the process, which writes the line ``message`` on standard error. Only for the main thread.
    """

    def __init__(self, seconds: float, *, grace: float = _GRACE, message: str = CUT_OFF) -> None:
        self._seconds = seconds
        self._message = message
        # A thread beside it, for a signal's handler runs between two steps of Python, and a dead network disk takes
        # none.
        self._last_resort = threading.Timer(seconds + grace, self._end_the_process)
        self._last_resort.daemon = True

    def __enter__(self) -> Self:
        # A signal, for nothing else gets the main thread out of a system call that doesn't come back.
        self._before = signal.signal(signal.SIGALRM, self._expired)
        self._last_resort.start()
        # Last, for the alarm has to find the block: one that came before it would be nobody's to catch.
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # First: with the handler given back, an alarm that still came would end the process.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        self._last_resort.cancel()
        # A timer that has just begun to end the process must have done so, or not, before anything goes on.
        self._last_resort.join()
        if isinstance(error, _ExpiredError):
            raise DeadlineError(
                "the run was not done after {seconds:g} seconds and was ended",
                advice="give it more with --deadline, or see with -v what it waits for",
                setting="report.deadline",
                values={"seconds": self._seconds},
            ) from None

    def _expired(self, _signal: int, _frame: FrameType | None) -> NoReturn:
        raise _ExpiredError

    def _end_the_process(self) -> NoReturn:
        os.write(2, f"{self._message}\n".encode())  # whoever has standard error's lock may never let go of it
        # Without Python's own end, which waits for threads: waiting is what brought us here.
        os._exit(exit_status.DEADLINE)
