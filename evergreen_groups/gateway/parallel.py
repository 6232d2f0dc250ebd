"""Running a few calls side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
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
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evergreen")
    try:
        return executor.submit(function)
    finally:
        executor.shutdown(wait=False)


def _few(function: Callable[[Item], Value], items: Sequence[Item]) -> Iterator[Value]:
    """The same for items that may all be under way: the first in the calling thread, which would only wait for it."""
    if not items:
        return
    executor = ThreadPoolExecutor(max_workers=len(items) - 1, thread_name_prefix="evergreen")
    try:
        others = [executor.submit(function, item) for item in items[1:]]
        yield function(items[0])
        for other in others:
            yield other.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
