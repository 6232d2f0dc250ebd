"""Sending a call: timeouts, what is retried, and what never is."""

import threading
import time
from contextlib import contextmanager

import pytest
from support.gateway_server import (
    QUICK,
    Server,
    connect,
    cut,
    drip,
    envelope,
    hang_up,
    http,
    http_error,
    raw,
    reset,
    results,
    says,
    stall,
)
from support.waiting import wait_until

from evergreen_groups import errors
from evergreen_groups.gateway import RetryPolicy

GOOD = http(envelope("good"))
SHORT = {"timeout": 0.1, "grace": 0.4}
LONG = {"timeout": 30, "grace": 30}
"""More than any machine needs for an answer that arrives."""
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = envelope("good").encode()


def call(gateway, **how):
    return gateway.call("open-ils.actor", "open-ils.actor.thing", 1, **how).value


@contextmanager
def quicker_than(seconds):
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


SLOW = {
    "stalls": stall,
    "drips": drip(GOOD, 0.02),
    "drips the headers": drip(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 100, 0.005),
}
PASSING = {
    "hangs up before it answers": hang_up,
    "hangs up amid the headers": cut(GOOD, 20),
    "hangs up amid the body": cut(GOOD, len(GOOD) - 5),
    "hangs up amid a chunk": raw(CHUNKED + b"10\r\n{", close=True),
    "hangs up between chunks": raw(CHUNKED + b"1\r\n{\r\n", close=True),
    "resets the connection": reset,
    "cuts off the JSON": raw(http(envelope("good")[:-5])),
    "answers nothing at all": raw(http("")),
    "says 408": http_error(408),
    "says 408 in the body": says(408, "Timeout Error : Request Timeout"),
    "says 500": http_error(500),
    "says 502": http_error(502),
    "says 503": http_error(503),
}
NOT_HTTP = {
    "a negative chunk length": CHUNKED + b"-5\r\n" + BODY,
    "a negative length of the second chunk": CHUNKED + b"5\r\n" + BODY[:5] + b"\r\n-5\r\n" + BODY[5:],
    "no chunk length": CHUNKED + b"zz\r\n" + BODY,
    "a chunk length of other digits": CHUNKED + "٥\r\n".encode() + BODY,
    "an enormous chunk length": CHUNKED + b"F" * 40 + b"\r\n" + BODY,
    "an endless chunk length": CHUNKED + b"F" * 70_000 + b"\r\n" + BODY,
    "two lengths": http(BODY, headers={"Content-Length": "7"}),
    "too many headers": http(BODY, headers={f"X-{number}": "y" for number in range(200)}),
    "an endless header": http(BODY, headers={"X": "y" * 70_000}),
    "another HTTP": b"HTTP/9 200 OK\r\n\r\n" + BODY,
}
"""Whatever the HTTP library raises for these is a transport error."""
PASSING |= {name: raw(answer, close=True) for name, answer in NOT_HTTP.items()}
LASTING = {
    "answers HTML": raw(http("<html></html>", content_type="text/html")),
    "says 404": http_error(404),
    "says 403": http_error(403),
    "says 404 in the body": says(404),
    "redirects": raw(http("", status=301, headers={"Location": "/elsewhere"})),
    "answers twice": results(1, 2),
    "answers nothing where one result was due": results(),
    "doesn't speak HTTP": raw(b"SSH-2.0-OpenSSH_9.6\r\n", close=True),
}


@pytest.mark.parametrize("failure", PASSING.values(), ids=PASSING)
class TestFailuresThatMayPass:
    def test_a_read_is_tried_again(self, failure):
        with Server([failure, failure, results("good")]) as server, connect(server, **LONG) as gateway:
            assert call(gateway) == "good"
            assert len(server.requests) == 3
            assert (gateway.statistics.calls, gateway.statistics.retries) == (3, 2)

    @pytest.mark.long
    def test_a_read_is_not_tried_for_ever(self, failure):
        with Server(otherwise=failure) as server, connect(server, **LONG) as gateway:
            with pytest.raises(errors.TransportError) as caught:
                call(gateway)
            assert len(server.requests) == QUICK.tries
        assert caught.value.sent

    def test_a_write_is_never_repeated(self, failure):
        with Server([failure], otherwise=results("good")) as server, connect(server, **LONG) as gateway:
            with pytest.raises(errors.TransportError) as caught:
                call(gateway, write=True)
            assert len(server.requests) == 1
        assert caught.value.sent


@pytest.mark.parametrize("failure", SLOW.values(), ids=SLOW)
class TestAnswersThatTakeTooLong:
    """The server may read slowly, so a request can show up after the call gave up."""

    def test_a_read_is_tried_again(self, failure):
        # On a busy machine even a good answer may be late, and is then requested again.
        often = RetryPolicy(tries=50, first_delay=0.001, longest_delay=0.002)
        with (
            Server([failure, failure], otherwise=results("good")) as server,
            connect(server, **SHORT, retries=often) as gateway,
        ):
            assert call(gateway) == "good"
            assert len(server.requests) == gateway.statistics.calls == gateway.statistics.retries + 1 >= 3

    @pytest.mark.long
    def test_a_read_is_not_tried_for_ever(self, failure):
        with Server(otherwise=failure) as server, connect(server, **SHORT) as gateway:
            with pytest.raises(errors.TransportError) as caught:
                call(gateway)
            assert gateway.statistics.calls == QUICK.tries
            wait_until(lambda: len(server.requests) >= QUICK.tries)
            assert len(server.requests) == QUICK.tries
        assert caught.value.sent

    def test_a_write_is_never_repeated(self, failure):
        with Server([failure], otherwise=results("good")) as server, connect(server, **SHORT) as gateway:
            with pytest.raises(errors.TransportError) as caught:
                call(gateway, write=True)
            assert gateway.statistics.calls == 1
            wait_until(lambda: server.requests)
            assert len(server.requests) == 1
        assert caught.value.sent


class TestAMethodThatDies:
    """A method may have failed for a passing reason, reported in the body of an HTTP 200."""

    def test_a_read_is_tried_again(self):
        with Server([says(500), says(503), results("good")]) as server, connect(server, **LONG) as gateway:
            assert call(gateway) == "good"
            assert len(server.requests) == 3

    @pytest.mark.parametrize(("write", "tries"), [(False, QUICK.tries), (True, 1)])
    def test_then_it_is_an_error_that_says_what_the_server_said(self, write, tries):
        with Server(otherwise=says(500)) as server, connect(server, **LONG) as gateway:
            with pytest.raises(errors.ServerError, match="status 500, osrfMethodException"):
                call(gateway, write=write)
            assert len(server.requests) == tries


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("failure", LASTING.values(), ids=LASTING)
def test_failures_that_last_are_not_repeated(failure, write):
    with Server([failure], otherwise=results("good")) as server, connect(server) as gateway:
        with pytest.raises(errors.EvergreenGroupsError):
            call(gateway, write=write)
        assert len(server.requests) == 1


class TestTime:
    def test_a_dripping_server_does_not_hold_a_call_for_ever(self):
        """Every byte arrives within the read timeout; the whole answer doesn't."""
        slow = drip(http(envelope("x" * 10_000)), 0.02)
        with (
            Server(otherwise=slow) as server,
            connect(server, **SHORT, retries=RetryPolicy(tries=1)) as gateway,
            quicker_than(60),
            pytest.raises(errors.TimedOutError, match=r"0\.5 seconds"),
        ):
            call(gateway)

    def test_one_call_may_have_another_timeout(self):
        with Server(otherwise=stall) as server, connect(server, grace=0.1, retries=RetryPolicy(tries=1)) as gateway:
            with quicker_than(30), pytest.raises(errors.TimedOutError):
                call(gateway, timeout=0.1)
            wait_until(lambda: server.requests)  # the server may read more slowly than the call ends
            assert ("timeout", "1") in server.requests[0].form

    def test_no_try_begins_after_the_total_time(self, monkeypatch):
        monkeypatch.setattr(RetryPolicy, "delays", lambda _policy: iter([0.0, 0.0, 120.0, 0.0]))
        policy = RetryPolicy(tries=100, total_seconds=100)
        with Server(otherwise=http_error(503)) as server, connect(server, retries=policy) as gateway:
            with quicker_than(60), pytest.raises(errors.HTTPStatusError):
                call(gateway)
            assert len(server.requests) == 3

    def test_delays_double_with_jitter_up_to_the_longest(self):
        policy = RetryPolicy(tries=8, first_delay=0.5, longest_delay=8)
        whole = [0.5, 1, 2, 4, 8, 8, 8]
        for _ in range(50):
            delays = list(policy.delays())
            assert all(full / 2 <= delay <= full for delay, full in zip(delays, whole, strict=True))
        assert len({round(next(policy.delays()), 6) for _ in range(20)}) > 1

    def test_closing_ends_what_other_threads_have_under_way(self):
        with Server(otherwise=stall) as server:
            gateway = connect(server)
            caught = []

            def work():
                try:
                    call(gateway)
                except errors.TransportError as error:
                    caught.append(error)

            worker = threading.Thread(target=work)
            worker.start()
            while not server.requests:
                worker.join(0.01)
            with quicker_than(30):
                gateway.close()
                worker.join(30)
            assert not worker.is_alive()
        assert [type(error) for error in caught] == [errors.CutOffError]
