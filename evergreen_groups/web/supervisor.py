"""Several processes that serve together: started from one that listens, counts for all of them, and watches over them.

Python works on one processor at a time in each process. What these have to know together is little: how often somebody
has asked, which is counted here, and what each has counted for monitoring. All else that has to outlive a process is in
the state's database, as it is for several instances. Each answers what it takes from the socket that they share, so
when one ends the others go on, and another is started in its place.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing.connection import Pipe, wait
from typing import TYPE_CHECKING, Any, Protocol

from evergreen_groups import exit_status
from evergreen_groups.render import SERVICE
from evergreen_groups.web.gathering import Gathering
from evergreen_groups.web.rate_limits import Counters
from evergreen_groups.web.serving_process import ServingProcess, connections_to
from evergreen_groups.web.shared_storage import COUNTED
from evergreen_groups.web.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from evergreen_groups.settings import Settings

log = logging.getLogger("evergreen_groups.web")

SHORT_LIFE = 10.0
"""A process that ends sooner after its start, in seconds, is started again after a pause."""
LONGEST_PAUSE = 30.0
_LEAST_THREADS = 2


def share_of(settings: Settings) -> Settings:
    """The settings as each of the processes has them: with its share of the threads."""
    serve = settings.serve
    return replace(settings, serve=replace(serve, threads=max(_LEAST_THREADS, serve.threads // serve.processes)))


class Manager(Protocol):
    """Is told what the service does."""

    def ready(self, status: str = "") -> None:
        """It answers requests, or does again."""

    def reloading(self) -> None:
        """The settings are being read anew."""

    def stopping(self) -> None:
        """No more requests are taken."""


class Supervisor:
    """Starts the processes, and watches over them.

    ``reread`` gives the settings as they are now, None where they are wrong, which it logs. ``opened`` is called with
    the root of the address once there is an answer. ``grace`` is how many seconds requests have to finish in.
    """

    def __init__(
        self,
        settings: Settings,
        manager: Manager,
        *,
        reread: Callable[[], Settings | None],
        opened: Callable[[str], None],
        grace: Callable[[Settings], float],
        listeners: tuple[socket.socket, ...],
    ) -> None:
        self._settings = settings
        self._manager = manager
        self._reread = reread
        self._opened = opened
        self._grace = grace
        self._listeners = listeners
        self._count = settings.serve.processes
        self._processes: list[ServingProcess] = []
        self._counters = Counters()
        self._gathering = Gathering(self._processes)
        self._starts: list[float] = []
        """When others are to be started, in seconds of the monotonic clock."""
        self._short_lives = 0
        self._was_ready = self._is_reloading = False
        self._signals: set[int] = set()
        self._kill_at: float | None = None
        self.status = exit_status.DONE
        """How this process is to end."""

    def run(self) -> Worker | None:
        """Watch over the processes until a signal ends them all: gives None. In each of them it gives its own part."""
        waking, woken = socket.socketpair()
        waking.setblocking(False)
        woken.setblocking(False)
        former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        worker = None
        with ExitStack() as stack:
            stack.enter_context(waking)
            stack.enter_context(woken)
            stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(waking.fileno()))
            for number, handler in former.items():
                stack.callback(signal.signal, number, handler)
                signal.signal(number, self._note)
            try:
                worker = self._watch(woken, former)
            finally:
                if worker is None:
                    self._kill_all()
        return worker

    def _watch(self, woken: socket.socket, former: dict[signal.Signals, Any]) -> Worker | None:
        # The first alone: what is wrong with the settings is said once.
        self._starts = [time.monotonic()]
        while self._starts or self._processes:
            for started in self._due():
                if started is not None:
                    return started
            for ready in wait([woken, *connections_to(self._processes)], self._longest_wait()):
                if ready is woken:
                    with suppress(BlockingIOError):
                        woken.recv(4096)
                else:
                    self._hear(ready)
            self._act_on_signals(former)
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self.status = exit_status.TERMINATED
                self._kill_all()
            self._gathering.end_if_due()
        return None

    def _due(self) -> Iterator[Worker | None]:
        """Start those whose time has come; in one that was started, give its own part."""
        now = time.monotonic()
        due = [at for at in self._starts if at <= now]
        self._starts = [at for at in self._starts if at > now]
        for _ in due:
            yield self._start()

    def _start(self) -> Worker | None:
        # What counts has a timer of its own now and then, and a process isn't forked from one with several threads.
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(1.0)
        counting, its_counting = Pipe()
        orders, its_orders = Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            its_counting.close()
            its_orders.close()
            self._processes.append(ServingProcess(pid, counting, orders, time.monotonic()))
            return None
        others = self._processes[:]
        self._processes.clear()
        for connection in (counting, orders, *connections_to(others)):
            connection.close()  # else nobody would notice that this process, or the one that watches, has ended
        return Worker(share_of(self._settings), its_counting, its_orders, is_first=not others)

    def _longest_wait(self) -> float | None:
        times = [*self._starts, *([self._kill_at] if self._kill_at is not None else [])]
        if self._gathering.until is not None:
            times.append(self._gathering.until)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _hear(self, connection: Any) -> None:
        """Take what one of them sends."""
        process = next((one for one in self._processes if connection in (one.counting, one.orders)), None)
        if process is None:
            return
        try:
            message = connection.recv()
            if connection is process.counting:
                number, operation, arguments = message
                connection.send((number, self._counted(operation, arguments)))
            else:
                self._take(process, *message)
        except (EOFError, OSError):
            self._bury(process)

    def _counted(self, operation: str, arguments: tuple[Any, ...]) -> object:
        if operation not in COUNTED:
            raise OSError(f"{operation} isn't counted")
        return self._counters.use(lambda store: getattr(store, operation)(*arguments))

    def _take(self, process: ServingProcess, order: str, value: Any) -> None:
        if order == "ready":
            process.is_ready = True
            if not self._was_ready and self._kill_at is None:
                self._was_ready = True
                self._opened(value)
                self._manager.ready(f"serving at {value}{SERVICE}/")
                self._starts += [time.monotonic()] * (self._count - 1)
        elif order == "settings":
            process.takes_settings = False
            self._end_reload()
        elif order == "figures":
            self._gathering.take(process, *value)
        elif order == "gather":
            self._gathering.begin(process)

    def _bury(self, process: ServingProcess) -> None:
        """One has ended, or can't be spoken to any more, and is ended then; another is started in its place."""
        self._processes.remove(process)
        for connection in (process.counting, process.orders):
            connection.close()
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL if self._kill_at is None else 0)
        _pid, ended = os.waitpid(process.pid, 0)
        self._gathering.bury(process)
        self._end_reload()
        status = os.waitstatus_to_exitcode(ended)
        if self._kill_at is not None:
            if status:
                self.status = exit_status.TERMINATED
        elif not self._was_ready:
            self.status = status if status > 0 else exit_status.FAILED  # what is wrong, it has said itself
        else:
            lived = time.monotonic() - process.began
            self._short_lives = self._short_lives + 1 if lived < SHORT_LIFE else 0
            pause = min(LONGEST_PAUSE, 2.0 ** (self._short_lives - 1)) if self._short_lives > 1 else 0.0
            log.error("a process of the service has ended (%s); another is started", status)
            self._starts.append(time.monotonic() + pause)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signals.add(number)

    def _act_on_signals(self, former: dict[signal.Signals, Any]) -> None:
        noted, self._signals = self._signals, set()
        if noted & {signal.SIGTERM, signal.SIGINT} and self._kill_at is None:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, former[number])  # a second one does what it always does
            self._manager.stopping()
            self._starts = []
            self._kill_at = time.monotonic() + self._grace(self._settings) + 5
            for listener in self._listeners:
                listener.close()
            self._order_all("stop", None)
        elif signal.SIGHUP in noted and self._kill_at is None:
            self._reload()

    def _reload(self) -> None:
        self._manager.reloading()
        self._is_reloading = True
        settings = self._reread()
        if settings is None:
            self._order_all("refused", None)
        else:
            self._settings = settings
            for process in self._processes:
                process.takes_settings = process.is_ready
            self._order_all("settings", None)  # each reads them itself: a pipe takes no mappings that can't be changed
        self._end_reload()

    def _end_reload(self) -> None:
        if self._is_reloading and not any(one.takes_settings for one in self._processes):
            self._is_reloading = False
            self._manager.ready()

    def _order_all(self, order: str, value: object) -> None:
        for process in self._processes:
            with suppress(OSError):
                process.orders.send((order, value))

    def _kill_all(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
        self._processes.clear()
