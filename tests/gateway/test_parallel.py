"""Parallel calls, in threads that are reused."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gateway_server import results, session_server

from evergreen_groups.errors import PermissionDeniedError
from evergreen_groups.gateway.gateway import begin, ordered_map


def test_few_are_all_under_way_at_once() -> None:
    together = threading.Barrier(4)
    assert list(ordered_map(lambda number: (together.wait(30), number)[1], [1, 2, 3, 4], 4)) == [1, 2, 3, 4]


def test_each_may_have_others_beside_it() -> None:
    """Threads never wait for each other, however deep and however many the calls."""

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


class TestMap:
    @pytest.mark.parametrize("concurrency", [1, 3])
    @given(st.lists(st.integers(), max_size=30))
    @settings(max_examples=30, deadline=None)
    def test_values_in_order(self, concurrency, items):
        assert list(ordered_map(lambda item: item * 2, items, concurrency)) == [item * 2 for item in items]

    def test_side_by_side(self):
        barrier = threading.Barrier(3)
        assert list(ordered_map(lambda item: barrier.wait(60) >= 0, range(6), 3)) == [True] * 6

    def test_items_are_taken_as_they_are_needed(self):
        taken = []
        source = (taken.append(item) or item for item in count())
        values = ordered_map(lambda item: item, source, 3)
        assert [next(values) for _ in range(5)] == [0, 1, 2, 3, 4]
        assert len(taken) <= 8
        values.close()

    @pytest.mark.parametrize("concurrency", [1, 3])
    def test_the_first_exception_ends_it(self, concurrency):
        begun = []

        def work(item):
            begun.append(item)
            if item == 5:
                raise PermissionDeniedError("no", textcode="PERM_FAILURE")
            return item

        values = ordered_map(work, count(), concurrency)
        got = [next(values) for _ in range(5)]
        with pytest.raises(PermissionDeniedError):
            next(values)
        assert got == [0, 1, 2, 3, 4]
        assert max(begun) <= 5 + concurrency
        with pytest.raises(StopIteration):
            next(values)

    def test_an_exception_of_the_items_ends_it(self):
        def items():
            yield 1
            raise ZeroDivisionError

        values = ordered_map(lambda item: item, items(), 3)
        with pytest.raises(ZeroDivisionError):
            list(values)

    def test_calls_of_a_gateway(self, gateways):
        gateway, server = gateways(
            session_server(lambda line, request: results(request.params[0] * 2)(line, request)), concurrency=4
        )
        values = gateway.map(lambda number: gateway.call("a", "a.double", number).value, range(50))
        assert list(values) == [number * 2 for number in range(50)]
        assert len(set(server.connections)) <= 4
