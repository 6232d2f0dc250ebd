"""Views of a gateway: for another session, and with a deadline, over the same connections."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
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

from evergreen_groups.errors import HTTPStatusError, NoSessionError, TimedOutError, UnreachableError
from evergreen_groups.gateway import TOKEN as TOKEN_PLACE
from evergreen_groups.gateway import Gateway, RetryPolicy

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
        with pytest.raises(NoSessionError):
            call(view)
        view.logout()
        assert server.posts == [THING]


def test_closing():
    with Server(otherwise=session_server(results("good"))) as server, connect_as_staff(server) as gateway:
        first, second = gateway.acting_as(CALLERS), gateway.within(60).acting_as(CALLERS)
        first.close()
        with pytest.raises(UnreachableError, match="closed"):
            call(first)
        assert call(second) == "good"
        gateway.close()
        for view in (second, gateway.acting_as(CALLERS)):
            with pytest.raises(UnreachableError, match="closed"):
                call(view)


@pytest.mark.parametrize("status", [200, 500])
def test_a_views_token_is_blanked_in_what_came_back_and_not_kept(status):
    answer = raw(http(envelope({"said": CALLERS}), status=status))
    with Server(otherwise=answer) as server, connect(server, retries=RetryPolicy(tries=1)) as gateway:
        view = gateway.acting_as(CALLERS)
        if status == 200:
            came_back = view.call("open-ils.actor", THING, TOKEN_PLACE).raw
        else:
            with pytest.raises(HTTPStatusError) as refused:
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
        with pytest.raises(TimedOutError):
            call_on_and_on(view)
        with pytest.raises(TimedOutError, match="time for the whole job is up"):
            call(view)
        assert view.seconds_left == 0
        assert call(gateway) == "good"


def test_a_deadline_ends_a_call_that_hangs(gateway_time):
    with Server(otherwise=too_late(gateway_time)) as server, connect(server, token=CALLERS) as gateway:
        began = time.monotonic()
        with pytest.raises(TimedOutError, match=r"no whole answer within [123]\d(\.\d+)? seconds"):
            call(gateway.within(30))
        assert time.monotonic() - began < 30
        assert 0 < int(dict(server.requests[0].form)["timeout"]) <= 30


def test_a_deadline_ends_trying_again(monkeypatch):
    monkeypatch.setattr(RetryPolicy, "delays", lambda _policy: iter([0.0, 90.0, 0.0]))
    with Server(otherwise=http_error(503)) as server, connect(server, token=CALLERS) as gateway:
        began = time.monotonic()
        with pytest.raises(HTTPStatusError, match="503"):
            call(gateway.within(60))
        assert time.monotonic() - began < 60
        assert len(server.requests) == 2


def test_a_deadline_ends_waiting_for_a_connection():
    busy, let_go = threading.Event(), threading.Event()

    def hold(line, request):
        busy.set()
        let_go.wait(40)
        results("good")(line, request)

    with Server(otherwise=hold) as server, connect(server, token=CALLERS, concurrency=1) as gateway:
        with ThreadPoolExecutor(1) as threads:
            held = threads.submit(call, gateway)
            assert busy.wait(60)
            with pytest.raises(TimedOutError, match="no connection became free"):
                call(gateway.within(0.2))
            assert not held.done()
            let_go.set()
            assert held.result(60) == "good"
        assert server.posts == [THING]


def test_a_write_keeps_to_the_deadline_and_goes_out_once(gateway_time):
    with Server(otherwise=too_late(gateway_time)) as server, connect(server, token=CALLERS) as gateway:
        with pytest.raises(TimedOutError) as late:
            call(gateway.within(60), write=True)
        assert late.value.sent
        assert server.posts == [THING]


def test_a_view_gets_classes_once_for_all():
    with Server(otherwise=raw(http(CLASSES))) as server, connect(server) as gateway:
        assert "au" in gateway.acting_as(CALLERS).idl("au")
        assert "au" in gateway.idl("au")
        assert len(server.requests) == 1


ASKED = {
    "a login": lambda gateway: gateway.login(),
    "the IDL": lambda gateway: gateway.idl("au"),
}
ANSWERS = {"a login": results(logged_in()), "the IDL": raw(http(CLASSES))}


@pytest.mark.parametrize("what", ASKED)
def test_a_deadline_holds_for_what_a_call_needs_first(what, gateway_time):
    script = {"otherwise": too_late(gateway_time)}
    with Server(**script) as server, connect_as_staff(server, retries=RetryPolicy(tries=5)) as gateway:
        began = time.monotonic()
        with pytest.raises(TimedOutError):
            ASKED[what](gateway.within(60))
        assert time.monotonic() - began < 30
        assert len(server.requests) == 1
        late = gateway.within(0.0)
        with pytest.raises(TimedOutError, match="time for the whole job is up"):
            ASKED[what](late)
        assert len(server.requests) == 1


@pytest.mark.parametrize("what", ASKED)
def test_a_deadline_ends_waiting_for_another_thread_that_asks_for_it(what):
    busy, let_go = threading.Event(), threading.Event()

    def hold(line, request):
        busy.set()
        let_go.wait(40)
        ANSWERS[what](line, request)

    with Server(otherwise=hold) as server, connect_as_staff(server) as gateway:
        with ThreadPoolExecutor(1) as threads:
            held = threads.submit(ASKED[what], gateway)
            assert busy.wait(60)
            with pytest.raises(TimedOutError, match="time for the whole job is up"):
                ASKED[what](gateway.within(0.2))
            assert not held.done()
            let_go.set()
            held.result(60)
        assert len(server.requests) == 1
