"""Views of a gateway, parallel calls in threads that are reused, replicas, and the names that the package exports."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from support import gateways
from support.gateway_server import (
    TOKEN,
    Action,
    Line,
    Request,
    Server,
    connect,
    connect_as_staff,
    envelope,
    event,
    http,
    http_error,
    logged_in,
    raw,
    results,
    session_server,
    stall,
)
from support.gateway_time import GatewayTime
from support.recorded import gateway_of

from evergreen_groups import errors
from evergreen_groups.gateway import TOKEN as TOKEN_PLACE
from evergreen_groups.gateway import Credentials, Gateway, RetryPolicy
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.threads import begin, ordered_map

THING = "open-ils.actor.thing"
CALLERS = "another-sessions-own-token"
OVER = results(event("NO_SESSION", 1001))
CLASSES = '<IDL xmlns="http://opensrf.org/spec/IDL/base/v1"><class id="au"><fields/></class></IDL>'


def call(gateway: Gateway, **how: object) -> object:
    return gateway.call("open-ils.actor", THING, TOKEN_PLACE, 6001, **how).value


def too_late(time: GatewayTime) -> Action:
    """Stay silent for longer than any timeout."""

    def act(line: Line, request: Request) -> None:
        time.pass_over()
        stall(line, request)

    return act


def call_on_and_on(gateway: Gateway) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        call(gateway)


def test_a_view_acts_with_its_own_token_over_the_same_connection():
    with Server(otherwise=session_server(results("good"))) as server, connect_as_staff(server) as gateway:
        with gateway.acting_as(CALLERS) as view:
            assert call(view) == "good"
            assert (view.token, view.url, repr(view)) == (CALLERS, gateway.url, repr(gateway))
        call(gateway)
        assert [request.params[0] for request in server.requests if request.osrf_method == THING] == [CALLERS, TOKEN]
        assert set(server.connections) == {0}
        assert gateway.statistics.calls == len(server.requests)
        assert "open-ils.auth.session.delete" not in server.posts


def test_a_views_session_that_has_ended_stays_ended():
    with Server(otherwise=session_server(OVER)) as server, connect_as_staff(server) as gateway:
        view = gateway.acting_as(CALLERS)
        with pytest.raises(errors.NoSessionError):
            call(view)
        view.logout()
        assert server.posts == [THING]


def test_closing():
    with Server(otherwise=session_server(results("good"))) as server, connect_as_staff(server) as gateway:
        first, second = gateway.acting_as(CALLERS), gateway.within(60).acting_as(CALLERS)
        first.close()
        with pytest.raises(errors.UnreachableError, match="closed"):
            call(first)
        assert call(second) == "good"
        gateway.close()
        for view in (gateway, second, gateway.acting_as(CALLERS)):
            with pytest.raises(errors.UnreachableError, match="closed"):
                call(view)


@pytest.mark.parametrize("status", [200, 500])
def test_a_views_token_is_blanked_in_what_came_back_and_not_kept(status):
    answer = raw(http(envelope({"said": CALLERS}), status=status))
    with Server(otherwise=answer) as server, connect(server, retries=RetryPolicy(tries=1)) as gateway:
        view = gateway.acting_as(CALLERS)
        if status == 200:
            came_back = view.call("open-ils.actor", THING, TOKEN_PLACE).raw
        else:
            with pytest.raises(errors.HTTPStatusError) as refused:
                call(view)
            came_back = f"{refused.value} {refused.value.raw}"
        assert "said" in came_back
        assert CALLERS not in f"{came_back} {view!r} {view._session!r}"
        assert CALLERS not in gateway._sender.redactor._secrets


def test_a_deadline_holds_for_all_calls_together():
    with Server(otherwise=session_server(results("good"))) as server, connect_as_staff(server) as gateway:
        assert gateway.seconds_left is None
        gateway.login()
        view = gateway.within(60)
        assert 0 < view.seconds_left <= 60
        assert gateway.within(600).within(60).seconds_left <= 60
        assert view.within(600).seconds_left <= 60
        assert call(view) == "good"
        view = view.within(0.2)
        with pytest.raises(errors.TimedOutError):
            call_on_and_on(view)
        with pytest.raises(errors.TimedOutError, match="the deadline has passed"):
            call(view)
        assert view.seconds_left == 0
        assert call(gateway) == "good"


def test_a_deadline_ends_a_call_that_hangs(gateway_time):
    with Server(otherwise=too_late(gateway_time)) as server, connect(server, token=CALLERS) as gateway:
        began = time.monotonic()
        with pytest.raises(errors.TimedOutError, match=r"no answer within [123]\d(\.\d+)? seconds"):
            call(gateway.within(30))
        assert time.monotonic() - began < 30
        assert 0 < int(dict(server.requests[0].form)["timeout"]) <= 30


def test_a_deadline_ends_trying_again(monkeypatch):
    monkeypatch.setattr(RetryPolicy, "delays", lambda _policy: iter([0.0, 90.0, 0.0]))
    with Server(otherwise=http_error(503)) as server, connect(server, token=CALLERS) as gateway:
        began = time.monotonic()
        with pytest.raises(errors.HTTPStatusError, match="503"):
            call(gateway.within(60))
        assert time.monotonic() - began < 60
        assert len(server.requests) == 2


def test_a_write_keeps_to_the_deadline_and_goes_out_once(gateway_time):
    with Server(otherwise=too_late(gateway_time)) as server, connect(server, token=CALLERS) as gateway:
        with pytest.raises(errors.TimedOutError) as late:
            call(gateway.within(60), write=True)
        assert late.value.sent
        assert server.posts == [THING]


def test_a_view_gets_classes_once_for_all():
    with Server(otherwise=raw(http(CLASSES))) as server, connect(server) as gateway:
        assert "au" in gateway.acting_as(CALLERS).idl("au")
        assert "au" in gateway.idl("au")
        assert len(server.requests) == 1


STAFF = {"credentials": Credentials(username="desk", password="pw")}
ASKED = {"a login": lambda gateway: gateway.login(), "the IDL": lambda gateway: gateway.idl("au")}
ANSWERS = {"a login": results(logged_in()), "the IDL": raw(http(CLASSES))}


@pytest.mark.parametrize("what", ASKED)
def test_a_deadline_holds_for_what_a_call_needs_first(what, gateway_time):
    script = {"otherwise": too_late(gateway_time)}
    with Server(**script) as server, connect_as_staff(server, retries=RetryPolicy(tries=5)) as gateway:
        began = time.monotonic()
        with pytest.raises(errors.TimedOutError):
            ASKED[what](gateway.within(60))
        assert time.monotonic() - began < 30
        assert len(server.requests) == 1
        late = gateway.within(0.0)
        with pytest.raises(errors.TimedOutError, match="the deadline has passed"):
            ASKED[what](late)
        assert len(server.requests) == 1


@pytest.mark.parametrize("what", [*ASKED, "a connection"])
def test_a_deadline_ends_waiting_for_another_thread(what):
    ask, answer = ASKED.get(what, call), ANSWERS.get(what, results("good"))
    words = "the deadline has passed" if what in ASKED else "all connections are busy"
    session = {} if what in ASKED else {"credentials": None, "token": CALLERS}
    busy, let_go = threading.Event(), threading.Event()

    def hold(line, request):
        busy.set()
        let_go.wait(40)
        answer(line, request)

    with Server(otherwise=hold) as server, connect(server, **{**STAFF, **session}, concurrency=1) as gateway:
        with ThreadPoolExecutor(1) as threads:
            held = threads.submit(ask, gateway)
            assert busy.wait(60)
            with pytest.raises(errors.TimedOutError, match=words):
                ask(gateway.within(0.2))
            assert not held.done()
            let_go.set()
            held.result(60)
        assert len(server.requests) == 1


def test_each_may_have_others_beside_it() -> None:
    """Threads never wait for each other, however deep and however many the calls."""

    def deep(levels: int) -> int:
        return 1 if levels == 0 else sum(ordered_map(deep, [levels - 1] * 3, 3))

    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(deep, [4] * 8)) == [81] * 8


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
                raise errors.PermissionDeniedError("no", textcode="PERM_FAILURE")
            return item

        values = ordered_map(work, count(), concurrency)
        got = [next(values) for _ in range(5)]
        with pytest.raises(errors.PermissionDeniedError):
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


@pytest.mark.parametrize(("exchange_id", "may_be"), [("releases-056", False), ("3.11/releases-056", True)])
def test_what_a_server_says_of_copies(exchange_id: str, may_be: bool) -> None:
    """A server that can't tell may have replicas."""
    with gateway_of(exchange_id) as gateway:
        assert gateway.reads_replicas is may_be
        assert gateway.reads_replicas is may_be  # and the server isn't asked again


def test_a_gateway_that_gives_no_reason_says_nothing_of_copies() -> None:
    """The Rust gateway doesn't say that a method is missing."""
    with (
        Sandbox(release="3.11", gateway="rust") as sandbox,
        gateways.gateway_of(sandbox.url, "consortium_staff") as gateway,
    ):
        assert gateway.reads_replicas
