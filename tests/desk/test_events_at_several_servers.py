"""An event that arrives at several servers, or several times at once, is processed once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from support.audit_trail import trail_of
from support.fault_proxy import FaultProxy, HeldCalls
from support.gateways import gateway_of
from support.recalculations import penalties, recalculates

from evergreen_groups import hooks
from evergreen_groups.client import Client
from evergreen_groups.desk import Event, EventOutcome
from evergreen_groups.desk import events as handler
from evergreen_groups.desk.events import AuditTrail
from evergreen_groups.errors import BusyError, StateError
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State

pytestmark = pytest.mark.long  # starts services

HOOK = "penalty.PATRON_EXCEEDS_FINES"
OVER = 1030
EVENT = Event(7, HOOK, OVER)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extend the timeout: the last of nine callers waits for the other eight, which takes a busy machine a while."""
    monkeypatch.setattr(handler, "TIMEOUT", 60.0)


@contextmanager
def server(state: State, proxy: FaultProxy) -> Iterator[Client]:
    """A server with its own connections to the ILS and to the database."""
    with State(state.directory, state.database.url_text) as own, gateway_of(proxy.url, "consortium_staff") as gateway:
        gateway.login()
        yield Client(gateway, account="consortium_staff", state=own)


@pytest.fixture
def servers(state: State, proxy: FaultProxy) -> Iterator[list[Client]]:
    with ExitStack() as stack:
        yield [stack.enter_context(server(state, proxy)) for _ in range(3)]


def test_it_is_worked_on_once(state: State, servers: list[Client], proxy: FaultProxy, sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(9) as threads:
        outcomes = list(threads.map(lambda one: hooks.handle_event(one, EVENT, recalculate=True), servers * 3))
    assert [outcome.replayed for outcome in outcomes].count(False) == 1
    assert all(outcome.over_limit and outcome.recalculated for outcome in outcomes)
    assert len([call for call in proxy.calls if recalculates(call)]) == 1
    assert penalties(sandbox, OVER) == [(1, None)]
    (entry,) = trail_of(state.database, proxy.url)
    assert entry.done
    assert len(servers[0].changes.entries()) == 1


def test_the_second_waits_for_the_first_and_has_its_outcome(servers: list[Client], proxy: FaultProxy) -> None:
    held = HeldCalls(proxy, recalculates)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(hooks.handle_event, servers[0], EVENT, recalculate=True)
        held.wait_for()
        second = threads.submit(hooks.handle_event, servers[1], EVENT, recalculate=True)
        with pytest.raises(TimeoutError):
            second.result(timeout=0.3)
        held.let_go()
        assert not first.result(60).replayed
        assert second.result(60) == replace(first.result(), replayed=True)


def test_other_events_do_not_wait(servers: list[Client], proxy: FaultProxy) -> None:
    held = HeldCalls(proxy, recalculates)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(hooks.handle_event, servers[0], EVENT, recalculate=True)
        held.wait_for()
        others = [hooks.handle_event(servers[1], Event(number, HOOK, OVER)) for number in range(8, 18)]
        assert not any(outcome.replayed for outcome in others)
        held.let_go()
        assert not first.result(60).replayed


def test_it_waits_no_longer_than_until_its_deadline(state: State, proxy: FaultProxy) -> None:
    with server(state, proxy) as busy, server(state, proxy) as other:
        hurried = Client(other.gateway.within(0.5), account="consortium_staff", state=other.state)
        with busy.state.event_lease(f"{proxy.url} 7 {HOOK} {OVER}", 0.0):
            began = time.monotonic()
            with pytest.raises(BusyError, match="another run is still handling this event"):
                hooks.handle_event(hurried, EVENT)
            assert time.monotonic() - began < 30
        assert [(line.done, line.reason) for line in trail_of(state.database, proxy.url)] == [(False, "BusyError")]
        assert not hooks.handle_event(busy, EVENT).replayed  # the event may be sent again


def test_what_is_done_is_done_once(state: State) -> None:
    """The database enforces this, regardless of which program writes."""
    trail = AuditTrail(state.database, "https://ils.example.org")
    for done in (False, False, True, False):
        trail.write(EVENT, done=done, blocked=True if done else None)
    with pytest.raises(StateError, match="rejected a write"):
        trail.write(EVENT, done=True)
    assert trail.outcome_of(EVENT) == EventOutcome(7, OVER, over_limit=True, recalculated=False, replayed=True)
    assert [line.done for line in trail_of(state.database, "https://ils.example.org")] == [False, True, False, False]
    assert trail.outcome_of(replace(EVENT, id=8)) is None
    assert AuditTrail(state.database, "https://other.example.org").outcome_of(EVENT) is None
