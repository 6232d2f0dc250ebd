"""The circuit breaker alone, and in the service with a dead gateway."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from support.fault_proxy import Fault, FaultProxy, HeldCalls
from support.web_caller import API, Clock, MakeApp, client_of, served, settings_of

from evergreen_groups import errors
from evergreen_groups.breaker import BreakerState, CircuitBreaker, RequestOutcome
from evergreen_groups.policy import LimitRule
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings, ServeSettings
from evergreen_groups.web import PREFIX, service
from evergreen_groups.web.admission import Slots, not_let_in, unanswered
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.server import SPARE_REQUESTS

PAUSE, SLOW_AFTER, FAILURES, MOST_WAITING = 10.0, 3.0, 5, 4
DEAD = [
    errors.UnreachableError("no connection"),
    errors.TimedOutError("no answer"),
    errors.NotJSONError("an error page"),
    errors.HTTPStatusError("broken", status=500),
    errors.HTTPStatusError("bad gateway", status=502),
]
ANSWERED = [
    errors.NoSessionError("ended", textcode="NO_SESSION"),
    errors.HTTPStatusError("not here", status=404),
    errors.HTTPStatusError("not so", status=499),
    errors.NotFoundError("nobody"),
    None,
]
NEITHER = [ProblemError(400, "a bad id"), ZeroDivisionError()]


def breaker_of(clock: Clock) -> CircuitBreaker:
    limits = {"failures": FAILURES, "most_waiting": MOST_WAITING, "slow_after": SLOW_AFTER, "pause": PAUSE}
    return CircuitBreaker(clock, unanswered, not_let_in, **limits)


def use(breaker: CircuitBreaker, error: Exception | None = None) -> bool:
    """Run a call that ends with ``error``. Return whether the breaker let it through."""
    entered = False
    with suppress(Exception), breaker.watching():
        entered = True
        if error is not None:
            raise error
    return entered


def opened(clock: Clock) -> CircuitBreaker:
    breaker = breaker_of(clock)
    for _ in range(FAILURES):
        assert use(breaker, DEAD[0])
    return breaker


def test_one_that_answers_slowly_is_asked_on_and_one_that_answers_nobody_is_not() -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    with ExitStack() as stack:
        for _ in range(MOST_WAITING):
            stack.enter_context(breaker.watching())
        clock.now += SLOW_AFTER - 0.1
        assert use(breaker)  # answered while the others wait
        clock.now += SLOW_AFTER - 0.1
        assert use(breaker), "an answer has just come"
        clock.now += SLOW_AFTER
        assert not use(breaker), "none has for as long as that"


@pytest.mark.parametrize("error", DEAD, ids=lambda error: type(error).__name__)
def test_it_opens_after_failures_in_a_row(error: Exception) -> None:
    breaker = breaker_of(Clock())
    for _ in range(FAILURES):
        assert breaker.state is BreakerState.CLOSED
        assert use(breaker, error)
    assert breaker.state is BreakerState.OPEN
    with pytest.raises(ProblemError) as refused, breaker.watching():
        pytest.fail("let through")
    assert (refused.value.status, refused.value.code) == (503, "ils-unreachable")
    assert refused.value.retry_after == PAUSE


@pytest.mark.parametrize("error", ANSWERED, ids=lambda error: type(error).__name__)
def test_an_answer_is_no_failure_whatever_it_says(error: Exception | None) -> None:
    breaker = breaker_of(Clock())
    for _ in range(3):
        for _ in range(FAILURES - 1):
            assert use(breaker, DEAD[0])
        assert use(breaker, error)
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize("error", NEITHER, ids=lambda error: type(error).__name__)
def test_an_error_of_another_kind_tells_nothing(error: Exception) -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += PAUSE
    assert use(breaker, error)
    assert breaker.state is BreakerState.OPEN
    assert use(breaker), "the next one may find out"
    assert breaker.state is BreakerState.CLOSED


def test_a_single_request_finds_out_whether_the_gateway_is_back() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += PAUSE
    assert use(breaker, DEAD[0]), "a failure restarts the pause"
    clock.now += PAUSE - 4
    with pytest.raises(ProblemError) as refused, breaker.watching():
        pytest.fail("let through")
    assert refused.value.retry_after == 4
    clock.now += 3.9
    assert not use(breaker)
    clock.now += 0.1
    with breaker.watching():
        assert breaker.state is BreakerState.PROBING
        assert not use(breaker)
    assert breaker.state is BreakerState.CLOSED
    assert use(breaker)


@pytest.mark.parametrize("wait", [{}, {"wait": 5.0}], ids=["at the gateway", "first for something else"])
def test_requests_that_wait_long_keep_others_from_joining_them(wait: dict[str, float]) -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    with ExitStack() as waiting:
        for _ in range(MOST_WAITING):
            waiting.enter_context(breaker.watching(**wait))
        clock.now += SLOW_AFTER + sum(wait.values()) - 0.1
        assert use(breaker, ValueError()), "which says nothing of the gateway"
        clock.now += 0.1
        with pytest.raises(ProblemError) as refused, breaker.watching():
            pytest.fail("let through")
        assert (refused.value.status, refused.value.code) == (503, "too-many-waiting")
        assert refused.value.retry_after == SLOW_AFTER
        assert breaker.state is BreakerState.CLOSED
    assert use(breaker)


def test_the_last_outcome_and_how_long_ago_it_was() -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    assert breaker.last_outcome() is None
    with breaker.watching():
        clock.now += 2
    clock.now += 1
    assert breaker.last_outcome() == RequestOutcome(1.0, True)
    assert use(breaker, errors.UnreachableError("no connection"))
    assert breaker.last_outcome() == RequestOutcome(0.0, False, "unreachable")
    assert use(breaker, ZeroDivisionError())
    assert breaker.last_outcome() == RequestOutcome(0.0, False, "unreachable")


class TestSlots:
    def test_who_waits_gets_the_slot_that_is_left(self) -> None:
        slots = Slots(1, timeout=60)
        entered: list[str] = []

        def enter(name: str) -> None:
            with slots.taken():
                entered.append(name)

        with slots.taken():
            threads = []
            for name in ("first", "second"):
                threads.append(threading.Thread(target=enter, args=(name,), daemon=True))
                threads[-1].start()
                while len(slots._waiting) < len(threads):
                    pass
            assert entered == []
        enter("again")
        for thread in threads:
            thread.join(60)
        assert entered == ["first", "second", "again"]
        assert slots._free == 1

    def test_who_has_waited_in_vain_is_refused_and_takes_nothing(self) -> None:
        slots = Slots(2, timeout=0.01)
        with slots.taken(), slots.taken():
            with pytest.raises(ProblemError) as refused, slots.taken():
                pytest.fail("let in")
            assert (refused.value.status, refused.value.code) == (503, "too-many-waiting")
            assert refused.value.retry_after == 0.01
            assert not slots._waiting
        with slots.taken(), slots.taken():
            pass

    def test_a_slot_comes_back_whatever_happens(self) -> None:
        slots = Slots(1, timeout=0.01)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError), slots.taken():
                raise ZeroDivisionError


@pytest.fixture
def caller(app: Flask) -> FlaskClient:
    return client_of(app)


@pytest.mark.long
class TestGatewayTrouble:
    ADDRESS = f"{API}/patrons/1001/summary"

    @pytest.mark.parametrize(
        ("refusal", "status", "retry"),
        [
            ((408, "Timeout Error"), 504, True),
            ((500, "osrfMethodException : secret"), 502, False),
            ((404, "x"), 502, False),
            ((404, "osrfServiceException : Service Not Found"), 503, True),
        ],
    )
    def test_what_the_gateway_says_is_not_handed_on(
        self,
        caller: FlaskClient,
        proxy: FaultProxy,
        staff: dict[str, str],
        refusal: tuple[int, str],
        status: int,
        retry: bool,
    ) -> None:
        proxy.refuse = lambda call: refusal
        answer = caller.get(self.ADDRESS, headers=staff)
        assert (answer.status_code, "Retry-After" in answer.headers) == (status, retry)
        assert "osrf" not in answer.text
        assert "secret" not in answer.text

    def test_a_configuration_that_does_not_fit_the_ils(
        self, make_app: MakeApp, sandbox: Sandbox, staff: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        policy = PolicySettings(limits=(LimitRule(profile=None, library="NOWHERE", amount=None, comparison=None),))
        answer = client_of(make_app(settings_of(sandbox.url, policy=policy))).get(self.ADDRESS, headers=staff)
        assert (answer.status_code, "NOWHERE" in answer.text) == (500, False)
        assert "NOWHERE" in caplog.text

    def test_answers_that_contradict_each_other_are_no_answer(
        self, caller: FlaskClient, proxy: FaultProxy, staff: dict[str, str]
    ) -> None:
        proxy.answer = lambda call: [{"usr": "x"}] if ".search.mous." in call.method else None
        assert caller.get(self.ADDRESS, headers=staff).status_code == 502

    def test_a_gateway_that_never_answers_is_given_up_in_time(
        self, make_app: MakeApp, proxy: FaultProxy, staff: dict[str, str]
    ) -> None:
        without_deadline = client_of(make_app(settings_of(proxy.url)))
        assert without_deadline.get(self.ADDRESS, headers=staff).status_code == 200
        caller = client_of(make_app(settings_of(proxy.url, serve=ServeSettings(timeout=1))))
        proxy.decide = lambda call: Fault.LATE_ANSWER
        began = time.monotonic()
        answer = caller.get(self.ADDRESS, headers=staff)
        assert (answer.status_code, "Retry-After" in answer.headers) == (504, True)
        assert time.monotonic() - began < 30

    @pytest.mark.long
    def test_requests_that_need_the_idl_do_not_wait_for_each_other_without_end(
        self, make_app: MakeApp, proxy: FaultProxy, staff: dict[str, str]
    ) -> None:
        serve = ServeSettings(port=0, threads=4, timeout=1)
        proxy.decide = lambda call: Fault.NONE if call.method else Fault.LATE_ANSWER
        with served(make_app(settings_of(proxy.url, serve=serve)), serve) as url, ThreadPoolExecutor(4) as pool:
            began = time.monotonic()
            answers = pool.map(lambda _: requests.get(url + self.ADDRESS, headers=staff, timeout=60), range(4))
            assert {answer.status_code for answer in answers} == {504}
            assert time.monotonic() - began < 30

    def test_a_dead_gateway_is_left_alone_and_tried_again(
        self, caller: FlaskClient, proxy: FaultProxy, clock: Clock, staff: dict[str, str]
    ) -> None:
        assert caller.get(self.ADDRESS, headers=staff).status_code == 200
        proxy.decide = lambda call: Fault.DROP_REQUEST
        for _ in range(5):
            answer = caller.get(self.ADDRESS, headers=staff)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
        before = len(proxy.seen)
        clock.now += 4
        answer = caller.get(self.ADDRESS, headers=staff)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "6")
        assert len(proxy.seen) == before
        assert caller.get(f"{PREFIX}/healthz").get_json()["breaker"] == "open"
        proxy.decide = lambda call: Fault.NONE
        clock.now += 6
        assert caller.get(self.ADDRESS, headers=staff).status_code == 200
        assert caller.get(f"{PREFIX}/healthz").get_json()["breaker"] == "closed"

    def test_many_that_hang_all_at_once_leave_threads_for_the_others(
        self, make_app: MakeApp, proxy: FaultProxy, staff: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """None of the requests has waited long yet."""
        monkeypatch.setattr(service, "_WAIT_SECONDS", 0.1)
        serve = ServeSettings(port=0, threads=2, timeout=90)
        app = make_app(settings_of(proxy.url, serve=serve))
        many = 3 * SPARE_REQUESTS
        with served(app, serve) as url, ThreadPoolExecutor(many) as pool:

            def ask() -> int:
                return requests.get(url + self.ADDRESS, headers=staff, timeout=120).status_code

            assert ask() == 200
            held = HeldCalls(proxy)
            hanging = [pool.submit(ask) for _ in range(many)]
            held.wait_for(2)
            assert requests.get(f"{url}{PREFIX}/panel.js", timeout=60).status_code == 200
            ended = as_completed(hanging, timeout=60)
            assert {next(ended).result() for _ in range(many - 2)} == {503}
            assert not held.any_more()
            held.let_go()
            assert [one.result() for one in ended] == [200, 200]
            assert ask() == 200

    def test_requests_that_hang_leave_threads_for_the_others(
        self, make_app: MakeApp, proxy: FaultProxy, clock: Clock, staff: dict[str, str]
    ) -> None:
        serve = ServeSettings(port=0, threads=4, timeout=90)
        app = make_app(settings_of(proxy.url, serve=serve))
        with served(app, serve) as url, ThreadPoolExecutor(2) as pool:

            def ask() -> requests.Response:
                return requests.get(url + self.ADDRESS, headers=staff, timeout=120)

            assert ask().status_code == 200
            held = HeldCalls(proxy)
            hanging = [pool.submit(ask) for _ in range(2)]
            held.wait_for(2)
            clock.now += 3
            refused = ask()
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "3")
            assert requests.get(f"{url}{PREFIX}/panel.js", timeout=60).status_code == 200
            held.let_go()
            assert [one.result().status_code for one in hanging] == [200, 200]
            assert ask().status_code == 200
