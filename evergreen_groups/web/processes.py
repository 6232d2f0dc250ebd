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
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Pipe, wait
from typing import TYPE_CHECKING, Any, Protocol

from limits.storage import MovingWindowSupport, Storage

from evergreen_groups import exit_status
from evergreen_groups.metrics import counts_only, format_metrics, merge_metrics
from evergreen_groups.render import SERVICE
from evergreen_groups.web.admission import Counters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from types import FrameType

    from prometheus_client.core import Metric

    from evergreen_groups.settings import Settings
    from evergreen_groups.web.server import Server
    from evergreen_groups.web.service import Succession


@dataclass(eq=False)
class ServingProcess:
    """One of them; over ``counting`` it asks, over ``orders`` it is told what to do.

    ``began`` is when it was started, ``seen`` when it last heard of the gateway (both in seconds of the monotonic
    clock), and ``figures`` are those that it gave last.
    """

    pid: int
    counting: Connection[Any, Any]
    orders: Connection[Any, Any]
    began: float
    is_ready: bool = False
    takes_settings: bool = False
    asked_for_figures: bool = False
    figures: list[Metric] = field(default_factory=list)
    seen: float = 0.0


def connections_to(processes: Iterable[ServingProcess]) -> list[Connection[Any, Any]]:
    """All that lead to these."""
    return [connection for process in processes for connection in (process.counting, process.orders)]


COUNTED = ("incr", "get", "get_expiry", "check", "clear", "acquire_entry", "get_moving_window")
"""What may be asked of the process that counts."""

COUNTING_SECONDS = 2.0
"""How long it may take for an answer."""


class SharedStorage(Storage, MovingWindowSupport):
    """Counts of the library ``limits`` that the process at the other end of ``connection`` keeps.

    One question at a time. What isn't answered in time raises ``limits``' own StorageError. Questions have numbers, for
    its answer may still come, and is none to the next one.
    """

    STORAGE_SCHEME = None

    def __init__(self, connection: Connection[Any, Any]) -> None:
        super().__init__(wrap_exceptions=True)
        self._connection = connection
        self._lock = threading.Lock()
        self._number = 0

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return OSError, EOFError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        return int(self._ask("incr", key, expiry, amount))

    def get(self, key: str) -> int:
        return int(self._ask("get", key))

    def get_expiry(self, key: str) -> float:
        return float(self._ask("get_expiry", key))

    def check(self) -> bool:
        return bool(self._ask("check"))

    def reset(self) -> int | None:
        raise NotImplementedError

    def clear(self, key: str) -> None:
        self._ask("clear", key)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return bool(self._ask("acquire_entry", key, limit, expiry, amount))

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        start, count = self._ask("get_moving_window", key, limit, expiry)
        return float(start), int(count)

    def _ask(self, operation: str, *arguments: object) -> Any:
        with self._lock:
            self._number += 1
            self._connection.send((self._number, operation, arguments))
            deadline = time.monotonic() + COUNTING_SECONDS
            while self._connection.poll(max(0.0, deadline - time.monotonic())):
                number, answer = self._connection.recv()
                if number == self._number:
                    return answer
            raise TimeoutError("no answer")


log = logging.getLogger("evergreen_groups.web")

GATHERING_SECONDS = 5.0
"""How long it may take until all figures have come together."""


class Worker:
    """One of the processes. ``settings`` are its own share of them, ``is_first`` is so of one at a time.

    ``asked`` counts requests together with the others. ``counting`` and ``orders`` lead to the process that started it.
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
        self.asked = Counters(SharedStorage(counting))
        for connection in (counting, orders):
            os.dup(connection.fileno())  # open until the process has ended, whose end the other side sees by this
        self._orders = orders
        self._sending = threading.Lock()
        self._gathering = threading.Lock()
        self._gathered = threading.Event()
        self._exposition = b""
        self._stopping = False

    def serve(self, server: Server, succession: Succession, reload: Callable[[], bool]) -> None:
        """Say that requests are answered, and do from now on, in a thread, what the process that started this one says.

        ``reload`` has the settings as they are now count, and gives whether they do.
        """
        succession.counters.use_merged(self._gather)
        threading.Thread(target=self._obey, args=(server, succession, reload), name="orders", daemon=True).start()
        self._send("ready", server.url)

    def _obey(self, server: Server, succession: Succession, reload: Callable[[], bool]) -> None:
        with suppress(EOFError, OSError):
            while True:
                order, value = self._orders.recv()
                if order == "stop":
                    self._stopping = True
                    server.stop()
                elif order == "settings":
                    succession.counters.reload(taken=reload())
                    self._send("settings", None)
                elif order == "refused":
                    succession.counters.reload(taken=False)
                elif order == "figures":
                    last = succession.current.breaker.last_outcome()
                    self._send("figures", (last and last.seconds_ago, succession.counters.figures()))
                elif order == "gathered":
                    self._exposition = value
                    self._gathered.set()
        # Whoever started this one is gone: nobody would start another, or end this one.
        if self._stopping:
            os._exit(exit_status.TERMINATED)
        log.error("the process that watches over this one has ended, so this one ends")
        server.stop()

    def _gather(self) -> bytes:
        """The figures of all processes.

        Raises:
            TimeoutError: they don't come, which says that the process that watches over this one hangs.
        """
        with self._gathering:
            self._gathered.clear()
            self._send("gather", None)
            if not self._gathered.wait(GATHERING_SECONDS):
                raise TimeoutError("the figures of the other processes don't come")
            return self._exposition

    def _send(self, order: str, value: object) -> None:
        with self._sending:
            self._orders.send((order, value))


SECONDS = 2.0
"""How long a process may take to give its figures before those that it gave last are taken."""


class Gathering:
    """Asks each of ``processes``, which come and go, and gives those that want to know the figures of all.

    What one has counted that has ended stays counted, as far as it was known.
    """

    def __init__(self, processes: Sequence[ServingProcess]) -> None:
        self._processes = processes
        self._waiting: list[ServingProcess] = []
        self._gone: list[Metric] = []
        self.until: float | None = None
        """When those that want to know get what there is, in seconds of the monotonic clock; None: nobody does."""

    def begin(self, process: ServingProcess) -> None:
        """One wants to know: ask all, but for those who have been asked and haven't answered yet."""
        self._waiting.append(process)
        self.until = time.monotonic() + SECONDS
        for one in self._processes:
            if one.is_ready and not one.asked_for_figures:
                one.asked_for_figures = True
                with suppress(OSError):  # it has just ended
                    one.orders.send(("figures", None))

    def take(self, process: ServingProcess, seconds_ago: float | None, figures: list[Metric]) -> None:
        """What one has counted; it last heard of the gateway ``seconds_ago``, None where it hasn't yet."""
        process.figures = figures
        process.asked_for_figures = False
        process.seen = 0.0 if seconds_ago is None else time.monotonic() - seconds_ago

    def bury(self, process: ServingProcess) -> None:
        """One has ended."""
        self._gone = merge_metrics([self._gone, counts_only(process.figures)])
        self._waiting = [one for one in self._waiting if one is not process]

    def end_if_due(self) -> None:
        """Give those that wait the figures, when all have come or it is time."""
        if self.until is None or (
            time.monotonic() < self.until and any(one.asked_for_figures for one in self._processes)
        ):
            return
        latest_first = sorted(self._processes, key=lambda one: one.seen, reverse=True)
        text = format_metrics(merge_metrics([*(one.figures for one in latest_first), self._gone]))
        waiting, self._waiting, self.until = self._waiting, [], None
        for process in waiting:
            with suppress(OSError):
                process.orders.send(("gathered", text))


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
