"""Calls side by side, in threads that are kept for the next."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from evergreen_groups.gateway.parallel import begin, ordered_map


def test_few_are_all_under_way_at_once() -> None:
    together = threading.Barrier(4)
    assert list(ordered_map(lambda number: (together.wait(30), number)[1], [1, 2, 3, 4], 4)) == [1, 2, 3, 4]


def test_each_may_have_others_beside_it() -> None:
    """However deep, and however many at once: nobody waits for a thread that waits for another."""

    def deep(levels: int) -> int:
        return 1 if levels == 0 else sum(ordered_map(deep, [levels - 1] * 3, 3))

    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(deep, [4] * 8)) == [81] * 8


def test_the_first_error_is_raised_and_the_threads_go_on() -> None:
    def fail(number: int) -> int:
        if number:
            raise ValueError(number)
        return number

    for _ in range(3):
        with pytest.raises(ValueError, match="1"):
            list(ordered_map(fail, [0, 1, 2], 3))
    assert begin(lambda: 7).result(30) == 7


def test_a_thread_is_used_again() -> None:
    seen = {begin(threading.get_ident).result(30) for _ in range(20)}
    assert len(seen) < 20


def test_a_forked_process_waits_for_no_thread_of_the_other() -> None:
    begin(lambda: None).result(30)
    process = os.fork()
    if not process:
        status = 1
        try:
            status = 0 if begin(lambda: 7).result(30) == 7 else 1
        finally:
            os._exit(status)
    assert os.waitpid(process, 0)[1] == 0
