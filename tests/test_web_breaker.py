"""The circuit breaker: by itself, and a dead gateway behind the service."""

from __future__ import annotations

from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_caller import Clock

from evergreen_groups.errors import HTTPStatusError, NoSessionError, NotJSONError, TimedOutError, UnreachableError
from evergreen_groups.web.breaker import Breaker, State
from evergreen_groups.web.problems import ProblemError

PAUSE, PATIENCE, FAILURES, MOST_WAITING = 10.0, 3.0, 5, 4
DEAD = [
    UnreachableError("no connection"),
    TimedOutError("no answer"),
    NotJSONError("an error page"),
    HTTPStatusError("bad gateway", status=502),
]
ANSWERED = [NoSessionError("ended", textcode="NO_SESSION"), HTTPStatusError("not here", status=404), None]
NEITHER = [ProblemError(400, "a bad id"), ZeroDivisionError()]


def breaker_of(clock: Clock) -> Breaker:
    return Breaker(clock, failures=FAILURES, most_waiting=MOST_WAITING, patience=PATIENCE, pause=PAUSE)


def use(breaker: Breaker, error: Exception | None = None) -> bool:
    """Do something that ends with ``error``; whether it was let through."""
    entered = False
    with suppress(Exception), breaker.watching():
        entered = True
        if error is not None:
            raise error
    return entered


def opened(clock: Clock) -> Breaker:
    breaker = breaker_of(clock)
    for _ in range(FAILURES):
        assert use(breaker, DEAD[0])
    return breaker


@pytest.mark.parametrize("error", DEAD, ids=lambda error: type(error).__name__)
def test_it_opens_after_failures_in_a_row(error: Exception) -> None:
    breaker = breaker_of(Clock())
    for _ in range(FAILURES):
        assert breaker.state is State.CLOSED
        assert use(breaker, error)
    assert breaker.state is State.OPEN
    with pytest.raises(ProblemError) as refused, breaker.watching():
        pytest.fail("let through")
    assert refused.value.status == 503
    assert refused.value.retry_after == PAUSE


@pytest.mark.parametrize("error", ANSWERED, ids=lambda error: type(error).__name__)
def test_an_answer_is_no_failure_whatever_it_says(error: Exception | None) -> None:
    breaker = breaker_of(Clock())
    for _ in range(3):
        for _ in range(FAILURES - 1):
            assert use(breaker, DEAD[0])
        assert use(breaker, error)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("error", NEITHER, ids=lambda error: type(error).__name__)
def test_an_error_of_another_kind_tells_nothing(error: Exception) -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += PAUSE
    assert use(breaker, error)
    assert breaker.state is State.OPEN
    assert use(breaker), "the next one may find out"
    assert breaker.state is State.CLOSED


def test_a_single_request_finds_out_whether_the_gateway_is_back() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += PAUSE - 0.1
    assert not use(breaker)
    clock.now += 0.1
    with breaker.watching():
        assert breaker.state is State.PROBING
        assert not use(breaker)
    assert breaker.state is State.CLOSED
    assert use(breaker)


def test_a_probe_that_fails_begins_the_pause_anew() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += PAUSE
    assert use(breaker, DEAD[0])
    clock.now += PAUSE - 0.1
    assert not use(breaker)
    clock.now += 0.1
    assert use(breaker)


def test_requests_that_wait_long_keep_others_from_joining_them() -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    with ExitStack() as waiting:
        for _ in range(MOST_WAITING):
            waiting.enter_context(breaker.watching())
        assert use(breaker), "they have only begun"
        clock.now += PATIENCE
        assert not use(breaker)
        assert breaker.state is State.CLOSED
    assert use(breaker)


@given(st.lists(st.one_of(st.sampled_from([*DEAD, *ANSWERED, *NEITHER]), st.floats(0.0, 15.0)), max_size=40))
def test_it_refuses_only_within_a_pause_after_enough_failures(events: list[object]) -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    in_a_row, shut_until = 0, 0.0
    for event in events:
        if isinstance(event, float):
            clock.now += event
            continue
        error = event if isinstance(event, Exception) else None
        shut = clock.now < shut_until
        assert use(breaker, error) is not shut
        if shut or error in NEITHER:
            continue
        in_a_row = in_a_row + 1 if error in DEAD else 0
        if in_a_row >= FAILURES:
            shut_until = clock.now + PAUSE
        elif in_a_row == 0:
            shut_until = 0.0
