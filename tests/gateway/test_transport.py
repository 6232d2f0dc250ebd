"""Addresses and requests: what is sent, what comes back, what can fail, what is retried, and what never is."""

import gzip
import socket
import threading
import time
import tracemalloc
import zlib
from contextlib import contextmanager
from decimal import Decimal
from http.client import HTTPConnection

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
    then_close,
)
from support.mail_server import free_port
from support.waiting import wait_until

from evergreen_groups import errors, threads
from evergreen_groups.gateway import Gateway, RetryPolicy
from evergreen_groups.gateway.address import Address

GOOD = http(envelope("good"))
SHORT = {"timeout": 0.1, "grace": 0.4}
LONG = {"timeout": 30, "grace": 30}
"""More time than any answer needs to arrive."""


def call(gateway, **how):
    return gateway.call("open-ils.actor", "open-ils.actor.thing", 1, **how).value


def test_head_and_body_leave_together():
    came = []

    def answer():
        line, _address = listener.accept()
        with line:
            came.append(line.recv(65_536))
            line.sendall(GOOD)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        with Gateway(f"http://127.0.0.1:{listener.getsockname()[1]}") as gateway:
            assert call(gateway) == "good"
        thread.join(60)
    assert came[0].partition(b"\r\n\r\n")[2].startswith(b"service=open-ils.actor&")


class TestConnections:
    def test_idle_ones_are_closed_soon(self, monkeypatch):
        """Much earlier than any server would: it holds a process of Apache's for each."""
        monkeypatch.setattr(threads, "_IDLE_SECONDS", 0.1)
        before = set(threading.enumerate())
        closed = threading.Event()

        def wait_for_the_end(line, request):
            results(1)(line, request)
            assert line.sock.recv(1) == b""
            closed.set()
            line.keep = False

        with Server(otherwise=wait_for_the_end) as server, connect(server) as gateway:
            for _ in range(2):  # and again later
                began = time.monotonic()
                call(gateway)
                assert closed.wait(60)
                assert time.monotonic() - began > 0.2
                closed.clear()
            assert server.connections == [0, 1]
        for thread in set(threading.enumerate()) - before:
            thread.join(60)
            assert not thread.is_alive()

    def test_one_closed_while_idle_is_no_failure(self):
        """No retry is allowed here, and every connection is closed after one answer."""
        answers = then_close(results(1))
        with Server(otherwise=answers) as server, connect(server, retries=RetryPolicy(tries=1)) as gateway:
            assert [call(gateway) for _ in range(20)] == [1] * 20

    @pytest.mark.parametrize("ending", [hang_up, reset])
    def test_one_closed_under_the_client_is_no_failure(self, ending):
        """The second request of each connection arrives while the server is closing."""
        script = [results(1), ending, results(2), ending, results(3)]
        with Server(script) as server, connect(server, retries=RetryPolicy(tries=1)) as gateway:
            assert [call(gateway) for _ in range(3)] == [1, 2, 3]
            assert server.connections == [0, 0, 1, 1, 2]

    def test_all_pooled_ones_may_have_gone_stale(self):
        barrier = threading.Barrier(3)

        def answer_once(line, request):
            if server.connections.count(request.connection) > 1:
                hang_up(line, request)
                return
            if request.connection < 3:
                barrier.wait(60)
            results(request.connection)(line, request)

        with (
            Server(otherwise=answer_once) as server,
            connect(server, concurrency=3, retries=RetryPolicy(tries=1)) as gateway,
        ):
            assert sorted(gateway.map(lambda _: call(gateway), range(3))) == [0, 1, 2]
            assert sorted(gateway.map(lambda _: call(gateway), range(3))) == [3, 4, 5]

    def test_an_answer_that_came_twice_is_not_the_next_requests(self):
        """The extra answer comes before the true one, as from a proxy that repeats what it believes was lost."""
        twice = raw(http(envelope("first")) + http(envelope("second")))
        with Server([results("first"), twice, results("second")]) as server, connect(server) as gateway:
            assert [call(gateway), call(gateway)] == ["first", "second"]
            assert [request.connection for request in server.requests] == [0, 0, 1]

    def test_a_kept_connection_may_have_to_wait_for_room_to_send(self, monkeypatch):
        send, waits = HTTPConnection.send, []
        monkeypatch.setattr(
            HTTPConnection, "send", lambda it, data: [waits.append(it.sock.gettimeout()), send(it, data)]
        )
        with Server([results("a"), results("b")]) as server, connect(server) as gateway:
            assert [call(gateway), call(gateway), server.requests[1].connection, min(waits) > 0] == ["a", "b", 0, True]

    def test_what_lies_behind_an_answer_is_nobodys(self):
        with Server([raw(GOOD + http(envelope("behind"))), results("next")]) as server, connect(server) as gateway:
            assert [call(gateway), call(gateway)] == ["good", "next"]
            assert [request.connection for request in server.requests] == [0, 1]

    def test_what_lies_behind_a_large_answer_is_still_on_its_way(self):
        large, sent = http(envelope("x" * 3_000_000)), threading.Event()

        def with_more(line, request):
            line.send(large + http(envelope("behind")))
            sent.set()

        with Server([with_more, results("next")]) as server, connect(server) as gateway:
            assert len(call(gateway)) == 3_000_000
            assert sent.wait(60)
            assert call(gateway) == "next"
            assert [request.connection for request in server.requests] == [0, 1]

    def test_what_comes_while_nobody_asks_is_nobodys(self):
        come = threading.Event()

        def later(line, request):
            line.send(GOOD)
            come.wait()
            line.send(http(envelope("late")))
            sent.set()

        sent = threading.Event()
        with Server([later, results("next")]) as server, connect(server) as gateway:
            assert call(gateway) == "good"
            come.set()
            assert sent.wait(60)
            assert call(gateway) == "next"
            assert [request.connection for request in server.requests] == [0, 1]

    def test_a_write_has_one_of_its_own(self):
        with Server(otherwise=results(1)) as server, connect(server) as gateway:
            for write in (False, True, False, True):
                call(gateway, write=write)
            assert server.connections == [0, 1, 0, 2]
            assert [request.headers.get("connection") for request in server.requests] == [None, "close"] * 2

    def test_no_more_at_once_than_the_concurrency(self):
        under_way, most, lock = set(), [0], threading.Lock()
        two_came = threading.Event()

        def answer(line, request):
            with lock:
                under_way.add(request.connection)
                most[0] = max(most[0], len(under_way))
                if len(under_way) == 2:
                    two_came.set()
            assert two_came.wait(60)
            line.closing.wait(0.01)  # time for a third one to arrive
            with lock:
                under_way.discard(request.connection)
            results(1)(line, request)

        with Server(otherwise=answer) as server, connect(server, concurrency=2) as gateway:
            threads = [threading.Thread(target=call, args=(gateway,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert len(server.requests) == 8
            assert set(server.connections) == {0, 1}
        assert most == [2]

    def test_nobody_listens(self):
        with Gateway(f"http://127.0.0.1:{free_port()}", retries=QUICK) as gateway:
            with pytest.raises(errors.UnreachableError, match=r"^no connection to \S+: Connection refused") as caught:
                call(gateway)
            assert gateway.statistics.calls == QUICK.tries
        assert not caught.value.sent

    def test_no_such_host(self):
        with (
            Gateway("https://ils.invalid", retries=RetryPolicy(tries=1)) as gateway,
            pytest.raises(errors.UnreachableError, match=r"no connection to https://ils\.invalid: ") as caught,
        ):
            call(gateway)
        assert (caught.value.code, caught.value.sent) == ("host-unknown", False)


class TestRequests:
    def test_parameters_are_json_and_blanks_are_percent_20(self):
        with Server(otherwise=results(1)) as server, connect(server, locale="fr-CA", timeout=20) as gateway:
            gateway.call("open-ils.actor", "open-ils.actor.thing", "a b+c&d/é", {"x": [1, None, True]})
            [request] = server.requests
        assert request.path == "/osrf-gateway-v1"
        assert b"+" not in request.body
        assert b"a%20b%2Bc%26d%2F" in request.body
        assert request.params == ["a b+c&d/é", {"x": [1, None, True]}]
        assert request.form[:2] == [("service", "open-ils.actor"), ("method", "open-ils.actor.thing")]
        assert request.form[-2:] == [("timeout", "20"), ("locale", "fr-CA")]

    def test_none_reaches_32_kb(self):
        with Server(otherwise=results(1)) as server, connect(server) as gateway:
            with pytest.raises(errors.RequestTooLargeError):
                gateway.call("open-ils.actor", "open-ils.actor.thing", "x" * 32_000)
            gateway.call("open-ils.actor", "open-ils.actor.thing", "x" * 31_000)
            assert len(server.requests) == 1
            assert len(server.requests[0].body) < 32_000

    @pytest.mark.parametrize(
        "value", [float("nan"), float("inf"), Decimal("NaN"), {"a": [None, 1.5, float("-inf")]}, [Decimal("Infinity")]]
    )
    def test_what_json_does_not_know_is_not_sent(self, value):
        with Server() as server, connect(server) as gateway:
            with pytest.raises(ValueError, match=r"not JSON compliant|non-finite"):
                gateway.call("open-ils.actor", "open-ils.actor.thing", value)
            assert server.requests == []

    def test_half_a_letter_is_sent_as_it_would_be_read(self):
        """A command line that isn't valid UTF-8 yields lone surrogates, which servers fail on."""
        with Server(otherwise=results(1)) as server, connect(server) as gateway:
            gateway.call("open-ils.actor", "open-ils.actor.thing", {"barcode": ["\udcff\\udcff\U0001f600"]})
            assert server.requests[0].params == [{"barcode": ["\ufffd\\udcff\U0001f600"]}]

    @pytest.mark.parametrize("suffix", ["", "/", "/osrf-gateway-v1", "/osrf-gateway-v1/"])
    def test_the_address_may_name_the_gateway_itself(self, suffix):
        with Server(otherwise=results(1)) as server, Gateway(server.url + suffix) as gateway:
            call(gateway)
            assert gateway.url == server.url
            assert server.requests[0].path == "/osrf-gateway-v1"

    def test_statistics_count_bodies(self):
        body = envelope("x" * 1000)
        with Server(otherwise=raw(http(body))) as server, connect(server) as gateway:
            call(gateway)
            assert gateway.statistics.bytes_sent == len(server.requests[0].body)
            assert gateway.statistics.bytes_received == len(body)


TWICE = gzip.compress(gzip.compress(envelope("x" * 1000).encode(), mtime=0), mtime=0)


class TestAnswers:
    def test_compressed_ones_are_read(self):
        packed = gzip.compress(envelope("x" * 10_000).encode())
        answer = raw(http(packed, headers={"Content-Encoding": "gzip"}))
        with Server(otherwise=answer) as server, connect(server) as gateway:
            assert call(gateway) == "x" * 10_000
            assert gateway.statistics.bytes_received == len(packed)
            assert "gzip" in server.requests[0].headers["accept-encoding"]

    @pytest.mark.parametrize("packed", [False, True])
    def test_enormous_ones_are_refused(self, packed):
        body = b"x" * (65 * 1024 * 1024)
        headers = {"Content-Encoding": "gzip"} if packed else {}
        answer = raw(http(gzip.compress(body, 1) if packed else body, headers=headers))
        with Server([answer], results(1)) as server, connect(server) as gateway:
            with pytest.raises(errors.UnexpectedAnswerError, match="16 MB"):
                call(gateway)
            assert len(server.requests) == 1
            assert call(gateway) == 1

    @pytest.mark.parametrize(
        ("packed", "packing"),
        [
            *((TWICE, packing) for packing in ("gzip, gzip", "br", "deflate", "x-unknown")),
            (TWICE[:-20], "gzip"),
            (b"nonsense", "gzip"),
        ],
        ids=["twice", "br", "deflate", "unknown", "cut off", "nonsense"],
    )
    def test_packed_otherwise_than_asked_for_damaged_or_cut_off(self, packed, packing):
        answer = raw(http(packed, headers={"Content-Encoding": packing}))
        with Server(otherwise=answer) as server, connect(server) as gateway, pytest.raises(errors.NotJSONError) as told:
            call(gateway)
        assert told.value.code == "broken-compression", "nothing is unpacked, and what is packed isn't read as text"
        assert server.requests[0].headers["accept-encoding"] == "gzip"

    @pytest.mark.long
    def test_a_little_that_unpacks_to_very_much_is_given_up_early(self):
        pack = zlib.compressobj(9, wbits=31)
        packed = b"".join([*(pack.compress(bytes(2**20)) for _ in range(300)), pack.flush()])
        assert len(packed) < 400_000
        answer = raw(http(packed, headers={"Content-Encoding": "gzip"}))
        with Server(otherwise=answer) as server, connect(server) as gateway:
            tracemalloc.start()
            try:
                with pytest.raises(errors.UnexpectedAnswerError, match="16 MB"):
                    call(gateway)
                assert tracemalloc.get_traced_memory()[1] < 4 * 16 * 2**20
            finally:
                tracemalloc.stop()

    def test_several_parts_are_read(self):
        parts = [gzip.compress(part) for part in (b'{"payload":["', b"x" * 300_000, b'"],"status":200}')]
        answer = raw(http(b"".join(parts), headers={"Content-Encoding": "gzip"}))
        with Server(otherwise=answer) as server, connect(server) as gateway:
            assert call(gateway) == "x" * 300_000

    def test_very_many_tiny_values_are_refused_before_they_are_read(self):
        answer = raw(http('{"payload":[[' + "[]," * 2_000_000 + '[]]],"status":200}'))
        with Server(otherwise=answer) as server, connect(server) as gateway:
            with pytest.raises(errors.UnexpectedAnswerError, match="over 2,000,000 values"):
                call(gateway)
            assert len(server.requests) == 1

    def test_nothing_is_taken_from_netrc(self, tmp_path, monkeypatch):
        netrc = tmp_path / ".netrc"
        netrc.write_text("default login somebody password secret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setattr("evergreen_groups.gateway.address.Address.loopback", False)
        with Server(otherwise=results(1)) as server, connect(server, allow_plain_http=True) as gateway:
            call(gateway)
            gateway.call("a", "b", write=True)
        assert [request.headers.get("authorization") for request in server.requests] == [None, None]

    def test_a_redirect_says_where_it_points_without_query(self):
        there = {"Location": "https://user:pw@other.example/osrf-gateway-v1?token=abc#x"}
        with Server(otherwise=raw(http("", status=302, headers=there))) as server, connect(server) as gateway:
            with pytest.raises(
                errors.HTTPStatusError, match=r"https://other\.example/osrf-gateway-v1; check the address"
            ) as caught:
                call(gateway)
            assert len(server.requests) == 1
        assert caught.value.status == 302
        assert "token" not in str(caught.value)
        assert "pw" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"timeout": 0}, {"grace": -1}, {"connect_timeout": 0}, {"concurrency": 0}])
def test_settings_that_cannot_be(settings):
    with pytest.raises(errors.ConfigurationError):
        Gateway("https://ils.example", **settings)


@pytest.mark.parametrize(
    ("base", "spellings"),
    [
        (
            "https://ils.example.org",
            [
                "https://ils.example.org/",
                "HTTPS://ILS.example.ORG",
                "https://ils.example.org:443",
                "https://ils.example.org:0443/",
                "https://ils.example.org:",
                "https://ils.example.org.",
                "https://Ils.Example.Org.:443//",
                "https://ils%2Eexample.org",
                "https://ils.example.org/osrf-gateway-v1",
                "https://ils.example.org/osrf-gateway-v1/",
                " https://ils.example.org ",
            ],
        ),
        ("http://ils.example.org", ["http://ILS.example.org:80/"]),
        ("https://ils.example.org:8443", ["https://ILS.example.org.:8443/"]),
        ("https://ils.example.org:80", ["https://ils.example.org:80/"]),
        ("https://ils.example.org/opac", ["https://ils.example.org/%6fpac/", "https://ils.example.org/a/../opac"]),
        ("https://ils.example.org/%C3%A9", ["https://ils.example.org/é/", "https://ils.example.org/%c3%a9"]),
        ("https://xn--bcher-kva.example", ["https://bücher.example", "https://BÜCHER.example.", "https://XN--bcher-kva.example"]),
        ("http://[::1]:8080", ["http://[0:0:0:0:0:0:0:1]:8080/", "http://[::0001]:8080"]),
        ("https://[2001:db8::a]", ["https://[2001:DB8::A]:443/"]),
    ],
)  # fmt: skip
def test_every_spelling_is_one_address(base: str, spellings: list[str]) -> None:
    assert {Address.parse(spelling).base for spelling in [base, *spellings]} == {base}


@pytest.mark.parametrize("other", ["http://ils.example.org", "https://ils.example.org:80", "https://ils.example.org/A"])
def test_what_differs_is_another_address(other: str) -> None:
    assert Address.parse(other).base == other


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = envelope("good").encode()


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
    "answers HTML": (raw(http("<html></html>", content_type="text/html")), errors.NotJSONError),
    "says 404": (http_error(404), errors.HTTPStatusError),
    "says 403": (http_error(403), errors.HTTPStatusError),
    "says 404 in the body": (says(404), errors.MethodNotFoundError),
    "says 404 of no transport": (says(404, "Internal Server Error : Something Else"), errors.MethodNotFoundError),
    "redirects": (raw(http("", status=301, headers={"Location": "/elsewhere"})), errors.HTTPStatusError),
    "answers twice": (results(1, 2), errors.UnexpectedAnswerError),
    "answers nothing where one result was due": (results(), errors.UnexpectedAnswerError),
    "doesn't speak HTTP": (raw(b"SSH-2.0-OpenSSH_9.6\r\n", close=True), errors.NotJSONError),
}


@pytest.mark.parametrize("failure", PASSING.values(), ids=PASSING)
def test_a_read_is_tried_again(failure):
    with Server([failure, failure, results("good")]) as server, connect(server, **LONG) as gateway:
        assert call(gateway) == "good"
        assert len(server.requests) == 3
        assert (gateway.statistics.calls, gateway.statistics.retries) == (3, 2)


@pytest.mark.parametrize("failure", SLOW.values(), ids=SLOW)
def test_a_read_that_takes_too_long_is_tried_again(failure):
    # On a busy machine even a good answer may be late, and is then requested again.
    retries = RetryPolicy(tries=50, first_delay=0.001, longest_delay=0.002)
    script = [failure, failure]
    with Server(script, results("good")) as server, connect(server, **SHORT, retries=retries) as gateway:
        assert call(gateway) == "good"
        assert len(server.requests) == gateway.statistics.calls == gateway.statistics.retries + 1 >= 3


@pytest.mark.parametrize("write", [pytest.param(False, marks=pytest.mark.long), True], ids=["read", "write"])
@pytest.mark.parametrize("failure", [*PASSING, *SLOW])
def test_a_read_is_not_tried_for_ever_and_a_write_is_never_repeated(failure, write):
    action, times = (PASSING[failure], LONG) if failure in PASSING else (SLOW[failure], SHORT)
    tries = 1 if write else QUICK.tries
    with Server([action] * tries, otherwise=results("good")) as server, connect(server, **times) as gateway:
        with pytest.raises(errors.TransportError) as caught:
            call(gateway, write=write)
        assert gateway.statistics.calls == tries
        wait_until(lambda: len(server.requests) >= tries)  # the server may read more slowly than the call ends
        assert len(server.requests) == tries
    assert caught.value.sent
    if failure in SLOW or failure.startswith(("hangs up", "resets")):
        assert type(caught.value) is (errors.TimedOutError if failure in SLOW else errors.CutOffError)


@pytest.mark.parametrize(("write", "tries"), [(False, QUICK.tries), (True, 1)])
def test_a_method_that_dies_may_have_failed_for_a_passing_reason(write, tries):
    with Server(otherwise=says(500)) as server, connect(server, **LONG) as gateway:
        with pytest.raises(errors.ServerError, match="status 500, osrfMethodException"):
            call(gateway, write=write)
        assert len(server.requests) == tries


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(("failure", "kind"), LASTING.values(), ids=LASTING)
def test_failures_that_last_are_not_repeated(failure, kind, write):
    with Server([failure], otherwise=results("good")) as server, connect(server) as gateway:
        with pytest.raises(kind) as caught:
            call(gateway, write=write)
        assert len(server.requests) == 1
    assert type(caught.value) is kind


class TestTime:
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
