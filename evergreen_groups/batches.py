"""Cut what is read, asked or written into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from sys import maxsize
from typing import TypeVar

Value = TypeVar("Value")


def batched(values: Iterable[Value], count: int) -> Iterator[list[Value]]:
    """Split values, as they are needed, into lists of ``count``. From Python 3.12, itertools has this function."""
    waiting = iter(values)
    while batch := list(islice(waiting, count)):
        yield batch


def batched_by_size(
    values: Iterable[Value],
    room: int,
    size_of: Callable[[Value], int],
    longest: Callable[[int], int] = lambda _count: maxsize,
) -> Iterator[list[Value]]:
    """Split values, as they are needed, into lists with a total size of at most ``room``, or one larger value.

    ``longest`` returns the maximum length; it is called again when a list reaches the last one, with its length.
    """
    batch: list[Value] = []
    used, most = 0, longest(0)
    for value in values:
        size = size_of(value)
        if len(batch) >= most:
            most = longest(len(batch))
        if batch and (used + size > room or len(batch) >= most):
            yield batch
            batch, used = [], 0
        batch.append(value)
        used += size
    if batch:
        yield batch
