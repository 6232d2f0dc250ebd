"""Several worker processes that serve together, and the supervisor that starts them and watches over them.

Python uses one processor per process at a time. All workers accept connections from one shared socket, so when a worker
exits the others continue and the supervisor starts a replacement. The supervisor counts requests for the rate limits of
all workers and merges their metrics; everything else that must survive a worker is in the state database.
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
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Pipe, wait
from typing import TYPE_CHECKING, Any, Protocol

from evergreen_groups import exit_status
from evergreen_groups.metrics import counts_only, format_metrics, merge_metrics
from evergreen_groups.render import SERVICE
from evergreen_groups.web.rate_limits import OPERATIONS, Counters, SharedStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from multiprocessing.connection import Connection

    from prometheus_client.core import Metric

    from evergreen_groups.settings import Settings
    from evergreen_groups.web.server import Server
    from evergreen_groups.web.service import ReloadableService


@dataclass(eq=False)
class ServingProcess:
    """A worker as the supervisor sees it.

    The worker asks for counts over ``counting`` and gets its orders over ``orders``. ``began`` is its start time and
    ``seen`` the time of its last contact with the gateway, both in seconds of the monotonic clock. ``metrics`` are the
    metrics that it sent last.
    """

    pid: int
    counting: Connection[Any, Any]
    orders: Connection[Any, Any]
    began: float
    is_ready: bool = False
    takes_settings: bool = False
    metrics_requested: bool = False
    metrics: list[Metric] = field(default_factory=list)
    seen: float = 0.0


def connections_to(processes: Iterable[ServingProcess]) -> list[Connection[Any, Any]]:
    """Return the connections to these processes."""
    return [connection for process in processes for connection in (process.counting, process.orders)]


log = logging.getLogger("evergreen_groups.web")

MERGE_SECONDS = 5.0
"""Timeout for the merged metrics of all processes."""


class Worker:
    """The worker's side. ``settings`` are this worker's share of the settings; one worker at a time ``is_first``.

    ``request_counters`` counts together with the other workers. ``counting`` and ``orders`` lead to the supervisor.
    """

    def __init__(
        self,
        settings: Settings,
        counting: Connection[Any, Any],
        orders: Connection[Any, Any],
        *,
        is_first: bool,
    ) -> None:
        self.settings = settings
        self.is_first = is_first
        self.request_counters = Counters(SharedStorage(counting))
        for connection in (counting, orders):
            os.dup(connection.fileno())  # stays open until the process exits; the supervisor notices the exit by it
        self._orders = orders
        self._sending = threading.Lock()
        self._merging = threading.Lock()
        self._merged = threading.Event()
        self._exposition = b""
        self._stopping = False

    def serve(self, server: Server, reloadable: ReloadableService, reload: Callable[[], bool]) -> None:
        """Report that this worker is ready, and obey the supervisor's orders in a thread from now on.

        ``reload`` reads the settings again and returns whether they are now in use.
        """
        reloadable.counters.use_merged(self._merge_metrics)
        threading.Thread(
            target=self._follow_orders, args=(server, reloadable, reload), name="orders", daemon=True
        ).start()
        self._send("ready", server.url)

    def _follow_orders(self, server: Server, reloadable: ReloadableService, reload: Callable[[], bool]) -> None:
        with suppress(EOFError, OSError):
            while True:
                order, value = self._orders.recv()
                if order == "stop":
                    self._stopping = True
                    server.stop()
                elif order == "settings":
                    reloadable.counters.reload(taken=reload())
                    self._send("settings", None)
                elif order == "refused":
                    reloadable.counters.reload(taken=False)
                elif order == "metrics":
                    last = reloadable.current.breaker.last_outcome()
                    self._send("metrics", (last and last.seconds_ago, reloadable.counters.figures()))
                elif order == "merged":
                    self._exposition = value
                    self._merged.set()
        # The supervisor is gone. Without it no worker would be replaced or stopped, so this one stops too.
        if self._stopping:
            os._exit(exit_status.TERMINATED)
        log.error("the process that watches over this one has ended, so this one ends")
        server.stop()

    def _merge_metrics(self) -> bytes:
        """Return the merged metrics of all processes.

        Raises:
            TimeoutError: the supervisor doesn't respond.
        """
        with self._merging:
            self._merged.clear()
            self._send("merge", None)
            if not self._merged.wait(MERGE_SECONDS):
                raise TimeoutError("the figures of the other processes don't come")
            return self._exposition

    def _send(self, order: str, value: object) -> None:
        with self._sending:
            self._orders.send((order, value))


METRICS_SECONDS = 2.0
"""How long to wait for the metrics of a process before using the ones that it sent last."""


class MetricsMerge:
    """Collects the metrics of all ``processes`` and sends the merged result to the workers that asked for it.

    The counts of a process that has exited remain in the totals, as of its last answer.
    """

    def __init__(self, processes: Sequence[ServingProcess]) -> None:
        self._processes = processes
        self._waiting: list[ServingProcess] = []
        self._gone: list[Metric] = []
        self.until: float | None = None
        """When to send what has arrived, in seconds of the monotonic clock; None while no worker is waiting."""

    def begin(self, process: ServingProcess) -> None:
        """Request metrics from all processes for ``process``, except where a request is still open."""
        self._waiting.append(process)
        self.until = time.monotonic() + METRICS_SECONDS
        for one in self._processes:
            if one.is_ready and not one.metrics_requested:
                one.metrics_requested = True
                with suppress(OSError):  # it has just exited
                    one.orders.send(("metrics", None))

    def take(self, process: ServingProcess, seconds_ago: float | None, metrics: list[Metric]) -> None:
        """Store the metrics of a process. It last reached the gateway ``seconds_ago``; None means not yet."""
        process.metrics = metrics
        process.metrics_requested = False
        process.seen = 0.0 if seconds_ago is None else time.monotonic() - seconds_ago

    def remove(self, process: ServingProcess) -> None:
        """Keep the counts of a process that has exited, and stop waiting for its metrics."""
        self._gone = merge_metrics([self._gone, counts_only(process.metrics)])
        self._waiting = [one for one in self._waiting if one is not process]

    def end_if_due(self) -> None:
        """Send the merged metrics once all have arrived or the time is up."""
        if self.until is None or (
            time.monotonic() < self.until and any(one.metrics_requested for one in self._processes)
        ):
            return
        latest_first = sorted(self._processes, key=lambda one: one.seen, reverse=True)
        text = format_metrics(merge_metrics([*(one.metrics for one in latest_first), self._gone]))
        waiting, self._waiting, self.until = self._waiting, [], None
        for process in waiting:
            with suppress(OSError):
                process.orders.send(("merged", text))


SHORT_LIFE = 10.0
"""A process that exits sooner than this many seconds after its start is restarted after a pause."""
LONGEST_PAUSE = 30.0
_LEAST_THREADS = 2


def worker_settings(settings: Settings) -> Settings:
    """Return one worker's settings: with its share of the threads."""
    serve = settings.serve
    return replace(settings, serve=replace(serve, threads=max(_LEAST_THREADS, serve.threads // serve.processes)))


class Manager(Protocol):
    """Receives the state of the service (systemd, for example)."""

    def ready(self, status: str = "") -> None:
        """The service answers requests, for the first time or after a reload."""

    def reloading(self) -> None:
        """The settings are being read again."""

    def stopping(self) -> None:
        """The service accepts no more requests."""


class Supervisor:
    """Starts the worker processes and watches over them.

    ``reread`` returns the current settings, or logs why they are invalid and returns None. ``opened`` is called with
    the service's root URL once the first worker is ready. ``grace`` returns how many seconds requests may take to
    finish.
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
        self._metrics_merge = MetricsMerge(self._processes)
        self._starts: list[float] = []
        """When to start further processes, in seconds of the monotonic clock."""
        self._short_lives = 0
        self._was_ready = self._is_reloading = False
        self._signals: set[int] = set()
        self._kill_at: float | None = None
        self.status = exit_status.DONE
        """The exit status of the supervisor."""

    def run(self) -> Worker | None:
        """Watch over the processes until a signal ends them. Return None in the supervisor, a Worker in each worker."""
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
                signal.signal(number, lambda received, _frame: self._signals.add(received))
            try:
                worker = self._watch(woken, former)
            finally:
                if worker is None:
                    self._kill_all()
        return worker

    def _watch(self, woken: socket.socket, former: dict[signal.Signals, Any]) -> Worker | None:
        # Start only one process at first, so that invalid settings are reported once.
        self._starts = [time.monotonic()]
        while self._starts or self._processes:
            now = time.monotonic()
            due = [at for at in self._starts if at <= now]
            self._starts = [at for at in self._starts if at > now]
            for _ in due:
                if worker := self._start():
                    return worker
            for ready in wait([woken, *connections_to(self._processes)], self._longest_wait()):
                if ready is woken:
                    with suppress(BlockingIOError):
                        woken.recv(4096)
                else:
                    self._receive(ready)
            self._act_on_signals(former)
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self.status = exit_status.TERMINATED
                self._kill_all()
            self._metrics_merge.end_if_due()
        return None

    def _start(self) -> Worker | None:
        """Start a process. Return its Worker in that process, None in the supervisor."""
        # The request counters sometimes run a timer thread, and forking a process with several threads isn't safe.
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
            connection.close()  # a copy left open would hide the exit of this process or of the supervisor
        return Worker(worker_settings(self._settings), its_counting, its_orders, is_first=not others)

    def _longest_wait(self) -> float | None:
        times = [*self._starts, *([self._kill_at] if self._kill_at is not None else [])]
        if self._metrics_merge.until is not None:
            times.append(self._metrics_merge.until)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _receive(self, connection: Any) -> None:
        """Handle one message from a process."""
        process = next((one for one in self._processes if connection in (one.counting, one.orders)), None)
        if process is None:
            return
        try:
            message = connection.recv()
            if connection is process.counting:
                number, *operation = message
                connection.send((number, self._run_operation(*operation)))
            else:
                self._take(process, *message)
        except (EOFError, OSError):
            self._remove(process)

    def _run_operation(self, operation: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> object:
        if operation not in OPERATIONS:
            raise OSError(f"{operation} isn't counted")
        return self._counters.use(lambda store: getattr(store, operation)(*arguments, **named))

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
        elif order == "metrics":
            self._metrics_merge.take(process, *value)
        elif order == "merge":
            self._metrics_merge.begin(process)

    def _remove(self, process: ServingProcess) -> None:
        """Reap a process that has exited, or kill one that can't be reached, and schedule a replacement."""
        self._processes.remove(process)
        for connection in (process.counting, process.orders):
            connection.close()
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL if self._kill_at is None else 0)
        _pid, ended = os.waitpid(process.pid, 0)
        self._metrics_merge.remove(process)
        self._end_reload()
        status = os.waitstatus_to_exitcode(ended)
        if self._kill_at is not None:
            if status:
                self.status = exit_status.TERMINATED
        elif not self._was_ready:
            self.status = status if status > 0 else exit_status.FAILED  # the worker has printed the reason itself
        else:
            lived = time.monotonic() - process.began
            self._short_lives = self._short_lives + 1 if lived < SHORT_LIFE else 0
            pause = min(LONGEST_PAUSE, 2.0 ** (self._short_lives - 1)) if self._short_lives > 1 else 0.0
            log.error("a process of the service has ended (%s); another is started", status)
            self._starts.append(time.monotonic() + pause)

    def _act_on_signals(self, former: dict[signal.Signals, Any]) -> None:
        noted, self._signals = self._signals, set()
        if noted & {signal.SIGTERM, signal.SIGINT} and self._kill_at is None:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, former[number])  # a second signal has its usual effect
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
            # Each worker reads the settings itself: they contain immutable mappings, which can't be pickled.
            self._order_all("settings", None)
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
