"""Running a few calls side by side."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def ordered_map(function: Callable[[Item], Value], items: Iterable[Item], concurrency: int) -> Iterator[Value]:
    """Yield ``function(item)`` for each item, in the items' order, up to ``concurrency`` of them under way at once.

    Items are taken as they are needed, never more than ``concurrency`` ahead of the value last yielded, so neither
    the items nor the values need fit in memory. The first exception, in the items' order, is raised; what hasn't
    begun then never does. With a concurrency of 1, or a list of one item, everything happens in the
    calling thread.
    """
    if concurrency <= 1 or (isinstance(items, Sequence) and len(items) == 1):
        yield from map(function, items)
        return
    if isinstance(items, Sequence) and len(items) <= concurrency:
        yield from _few(function, items)
        return
    source = iter(items)
    executor = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="evergreen")
    try:
        under_way: deque[Future[Value]] = deque(executor.submit(function, item) for item in islice(source, concurrency))
        while under_way:
            value = under_way.popleft().result()
            # Before the value is handed out, so that the next call runs while the caller works on this one.
            under_way.extend(executor.submit(function, item) for item in islice(source, 1))
            yield value
    finally:
        # Calls still under way end by themselves, at the latest when their time is up or the gateway is closed.
        executor.shutdown(wait=False, cancel_futures=True)


def begin(function: Callable[[], Value]) -> Future[Value]:
    """Begin something that is needed later, in a thread of its own; what it raises is raised by the result."""
    return _helpers.begin(function)


def _few(function: Callable[[Item], Value], items: Sequence[Item]) -> Iterator[Value]:
    """The same for items that may all be under way: the first in the calling thread, which would only wait for it."""
    if not items:
        return
    others = [_helpers.begin(partial(function, item)) for item in items[1:]]
    yield function(items[0])
    for other in others:
        yield other.result()


class _Helpers:
    """Threads beside the calling one, as many as are needed at once. Safe to share between threads.

    Each is kept for a while for whoever needs one next: a service needs several for each request, and to start one
    takes as long as much of what it does. They don't keep the process from ending.
    """

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[Callable[[], None]]] = []
        os.register_at_fork(after_in_child=self._idle.clear)  # of another process's threads none is here

    def begin(self, function: Callable[[], Value]) -> Future[Value]:
        """Have one do something; what it raises is raised by the result."""
        future: Future[Value] = Future()
        try:
            tasks = self._idle.pop()
        except IndexError:
            tasks = SimpleQueue()
            threading.Thread(target=self._work, args=(tasks,), name="evergreen", daemon=True).start()
        tasks.put(partial(self._do, tasks, function, future))
        return future

    def _work(self, tasks: SimpleQueue[Callable[[], None]]) -> None:
        while True:
            try:
                task = tasks.get(timeout=_IDLE_SECONDS)
            except Empty:
                try:
                    self._idle.remove(tasks)
                except ValueError:  # somebody has just taken this one
                    continue
                return
            task()
            del task  # what came of it isn't kept for as long as nothing else is to be done

    def _do(self, tasks: SimpleQueue[Callable[[], None]], function: Callable[[], Value], future: Future[Value]) -> None:
        try:
            value = function()
        except BaseException as error:
            self._idle.append(tasks)
            future.set_exception(error)
        else:
            self._idle.append(tasks)  # before the result is known: whoever waits for it may need one at once
            future.set_result(value)


_IDLE_SECONDS = 10.0
_helpers = _Helpers()
