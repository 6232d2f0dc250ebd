"""Functions that run in other threads: as many as the caller wants at once, or every tenth of a second."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Value = TypeVar("Value")


def ordered_map(function: Callable[[Item], Value], items: Iterable[Item], concurrency: int) -> Iterator[Value]:
    """Yield ``function(item)`` for each item, in the items' order, with up to ``concurrency`` calls running at once.

    Items are taken as needed, never more than ``concurrency`` ahead of the last value yielded. The first exception, in
    the items' order, is raised, and calls that haven't begun never do.
    """
    if concurrency <= 1 or (isinstance(items, Sequence) and len(items) == 1):
        yield from map(function, items)
        return
    if isinstance(items, Sequence) and len(items) <= concurrency:
        # The calling thread takes the first item, since it would only wait.
        others = [begin(partial(function, item)) for item in items[1:]]
        yield from map(function, items[:1])
        for other in others:
            yield other.result()
        return
    # Calls under way end by themselves, at the latest on their timeout or when the gateway is closed.
    source = iter(items)
    under_way = deque(begin(partial(function, item)) for item in islice(source, concurrency))
    while under_way:
        value = under_way.popleft().result()
        # Before yielding, so that the next call runs while the caller works on this value.
        under_way.extend(begin(partial(function, item)) for item in islice(source, 1))
        yield value


# Every request of a web service needs several threads, and starting one takes about as long as much of its work.
_IDLE_SECONDS = 10.0
_idle: list[SimpleQueue[Callable[[], None]]] = []
os.register_at_fork(after_in_child=_idle.clear)  # a forked process doesn't have these threads


def begin(function: Callable[[], Value]) -> Future[Value]:
    """Run a function in an idle or a new daemon thread. The future raises what the function raises."""
    future: Future[Value] = Future()
    try:
        tasks = _idle.pop()
    except IndexError:
        tasks = SimpleQueue()
        threading.Thread(target=_work, args=(tasks,), name="evergreen", daemon=True).start()

    def task() -> None:
        try:
            value = function()
        except BaseException as error:
            _idle.append(tasks)
            future.set_exception(error)
        else:
            _idle.append(tasks)  # before the result is set: its reader may need a thread at once
            future.set_result(value)

    tasks.put(task)
    return future


def _work(tasks: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        try:
            task = tasks.get(timeout=_IDLE_SECONDS)
        except Empty:
            try:
                _idle.remove(tasks)
            except ValueError:  # another thread has just taken this one
                continue
            return
        task()
        del task  # don't keep the result in memory while idle


_TICK = 0.1  # seconds between two looks


class Watcher:
    """Calls functions every 0.1 s, each until it returns False, in one thread that runs while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks: dict[Callable[[], bool], None] = {}
        self._is_running = False

    def add(self, look: Callable[[], bool]) -> None:
        """Call a function from now on, unless it is being called already."""
        with self._lock:
            self._looks[look] = None
            if not self._is_running:
                # Set before the thread begins, which may be at once: it must not find that it isn't needed.
                self._is_running = True
                try:
                    begin(self._run)
                except RuntimeError:  # Python is exiting, and starts no more threads
                    self._is_running = False

    @contextmanager
    def watching(self, look: Callable[[], bool]) -> Iterator[None]:
        """Call a function while the block runs, and never once it has ended."""
        self.add(look)
        try:
            yield
        finally:
            with self._lock:
                self._looks.pop(look, None)

    def _run(self) -> None:
        while True:
            time.sleep(_TICK)
            with self._lock:
                for look in list(self._looks):
                    if not self._wants_more(look):
                        del self._looks[look]
                if not self._looks:
                    self._is_running = False
                    return

    @staticmethod
    def _wants_more(look: Callable[[], bool]) -> bool:
        try:
            return look()
        except Exception as error:  # the deadlines of all others depend on this thread
            logger.warning("a watched function failed: %s", type(error).__name__)
            return False


watcher = Watcher()
"""The watcher of this process."""
os.register_at_fork(after_in_child=watcher.__init__)  # type: ignore[misc]  # a forked process doesn't have the thread
