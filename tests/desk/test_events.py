"""Events from the ILS: decided once (by all servers), recorded, recalculated on request, never silently lost."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, select
from support.documents import document
from support.fault_proxy import Fault, FaultProxy, HeldCalls
from support.gateways import client_of, gateway_of
from support.recalculations import METHOD, penalties, recalculates
from support.states import state_in

from evergreen_groups import hooks
from evergreen_groups.client import Client
from evergreen_groups.desk import Event, EventOutcome
from evergreen_groups.desk import events as handler
from evergreen_groups.desk.events import AuditTrail
from evergreen_groups.errors import (
    BusyError,
    DataError,
    NotFoundError,
    PermissionDeniedError,
    StateError,
    TimedOutError,
    TransportError,
)
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State, schema
from evergreen_groups.state.database import Database

HOOK = "penalty.PATRON_EXCEEDS_FINES"
OVER, WITHIN, BY_STAFF = 1030, 1042, 1053  # over the limit but not blocked, a stale block, no staff block yet


def trail_of(database: Database, gateway: str) -> list[Row[Any]]:
    """Return all rows for a gateway, latest first."""
    events = schema.events
    with database.reading() as connection:
        query = select(events).where(events.c.gateway == gateway).order_by(events.c.id.desc())
        return list(connection.execute(query))


def trail(directory: Path, client: Client) -> list[Row[Any]]:
    return trail_of(state_in(directory / "state").database, client.gateway.url)


def test_an_event_is_decided_and_written_down(client: Client, sandbox: Sandbox, tmp_path: Path) -> None:
    outcome = hooks.handle_event(client, Event(41, HOOK, OVER))
    assert outcome == EventOutcome(41, OVER, over_limit=True, recalculated=False)
    found = {"event": 41, "patron": OVER, "over_limit": True, "recalculated": False, "replayed": False}
    assert document(outcome) == {"version": 2, "kind": "event-outcome", **found}
    assert hooks.handle_event(client, Event(42, "au.updated", WITHIN)).over_limit is False
    assert penalties(sandbox, OVER) == []
    lines = trail(tmp_path, client)
    assert [(line.event, line.hook, line.patron, line.done, line.blocked) for line in lines] == [
        (42, "au.updated", WITHIN, True, False),
        (41, HOOK, OVER, True, True),
    ]
    assert all(line.at.tzinfo for line in lines)


def test_the_ils_recalculates_where_it_is_asked_to(client: Client, sandbox: Sandbox, tmp_path: Path) -> None:
    for event, patron in ((1, OVER), (2, WITHIN), (3, OVER), (4, WITHIN)):
        assert hooks.handle_event(client, Event(event, HOOK, patron), recalculate=True).recalculated
    assert penalties(sandbox, OVER) == [(1, None)]
    assert penalties(sandbox, WITHIN) == []
    assert [line.reason for line in trail(tmp_path, client)] == [
        "still not blocked for fines",
        "still blocked for fines",
        "no longer blocked for fines",
        "now blocked for fines",
    ]
    assert [step.patron for entry in client.changes.entries() for step in entry.steps] == [WITHIN, OVER] * 2


def test_a_block_by_staff_is_left_alone(client: Client, sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox._store.insert("ausp", {"usr": BY_STAFF, "standing_penalty": 1, "org_unit": 1, "staff": 1})
    before = penalties(sandbox, BY_STAFF)
    assert not hooks.handle_event(client, Event(1, HOOK, BY_STAFF), recalculate=True).recalculated
    assert penalties(sandbox, BY_STAFF) == before
    assert "staff set a block" in trail(tmp_path, client)[0].reason


def test_a_replayed_event_changes_nothing(client: Client, sandbox: Sandbox, tmp_path: Path) -> None:
    first = hooks.handle_event(client, Event(7, HOOK, OVER), recalculate=True)
    (row,) = sandbox._store.rows("ausp", {"usr": OVER})
    sandbox._store.delete("ausp", row["id"])
    before = client.gateway.statistics.calls
    again = hooks.handle_event(client, Event(7, HOOK, OVER), recalculate=True)
    assert again == EventOutcome(7, OVER, first.over_limit, first.recalculated, replayed=True)
    assert client.gateway.statistics.calls == before
    assert penalties(sandbox, OVER) == []
    assert len(trail(tmp_path, client)) == 1


def test_a_decision_alone_reads_no_penalties(mover: Client, proxy: FaultProxy) -> None:
    hooks.handle_event(mover, Event(7, HOOK, OVER))
    assert proxy.seen
    assert [method for method in proxy.seen if ".ausp" in method] == []


def test_an_id_that_the_ils_gives_out_again_is_another_event(client: Client, tmp_path: Path) -> None:
    """Event ids start over when the ILS is restored from a backup."""
    for event in (Event(7, HOOK, OVER), Event(7, HOOK, WITHIN), Event(7, "au.updated", OVER)):
        assert not hooks.handle_event(client, event).replayed
        assert hooks.handle_event(client, event).replayed
    assert [line.blocked for line in trail(tmp_path, client)] == [True, False, True]


def test_another_gateways_events_are_others(client: Client, mover: Client) -> None:
    assert not hooks.handle_event(client, Event(7, HOOK, OVER)).replayed
    assert not hooks.handle_event(mover, Event(7, HOOK, OVER)).replayed


def test_a_failure_is_in_the_trail_and_the_event_may_come_again(
    mover: Client, proxy: FaultProxy, tmp_path: Path
) -> None:
    mover.gateway.login()
    proxy.decide = lambda call: Fault.DROP_REQUEST
    with pytest.raises(TransportError):
        hooks.handle_event(mover, Event(7, HOOK, OVER))
    proxy.decide = lambda call: Fault.NONE
    assert not hooks.handle_event(mover, Event(7, HOOK, OVER)).replayed
    lines = [(line.done, line.blocked, line.recalculated) for line in trail(tmp_path, mover)]
    assert lines == [(True, True, False), (False, None, False)]
    assert trail(tmp_path, mover)[1].reason in ("CutOffError", "UnreachableError")


@pytest.mark.parametrize("fault", [Fault.DROP_REQUEST, Fault.DROP_ANSWER])
def test_a_recalculation_whose_answer_is_lost(mover: Client, proxy: FaultProxy, sandbox: Sandbox, fault: Fault) -> None:
    mover.gateway.call("open-ils.actor", "opensrf.system.echo", 1)  # makes the client look up the release
    proxy.seen.clear()
    proxy.decide = lambda call: fault if call.method == METHOD else Fault.NONE
    if fault is Fault.DROP_ANSWER:  # the penalties show that the recalculation ran
        assert hooks.handle_event(mover, Event(7, HOOK, OVER), recalculate=True).recalculated
    else:
        with pytest.raises(DataError, match="the result will be known by"):
            hooks.handle_event(mover, Event(7, HOOK, OVER), recalculate=True)
    assert proxy.seen.count(METHOD) == 1


def test_a_recalculation_that_evergreen_refuses(mover: Client, proxy: FaultProxy, tmp_path: Path) -> None:
    refused = {"ilsevent": 5000, "textcode": "PERM_FAILURE", "desc": "no", "ilsperm": "UPDATE_USER", "ilspermloc": 11}
    proxy.answer = lambda call: refused if call.method == METHOD else None
    with pytest.raises(PermissionDeniedError):
        hooks.handle_event(mover, Event(7, HOOK, OVER), recalculate=True)
    assert [(line.done, line.reason) for line in trail(tmp_path, mover)] == [
        (False, "PermissionDeniedError (PERM_FAILURE)")
    ]


def test_deleted_and_unknown_patrons(client: Client, sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox._store.update("au", OVER, {"deleted": "t"})
    outcome = hooks.handle_event(client, Event(1, "au.updated", OVER), recalculate=True)
    assert outcome == EventOutcome(1, OVER, over_limit=None, recalculated=False)
    with pytest.raises(NotFoundError):
        hooks.handle_event(client, Event(2, "au.updated", 999_999))
    assert [(line.done, line.reason) for line in trail(tmp_path, client)] == [
        (False, "NotFoundError"),
        (True, "the patron has been deleted"),
    ]


def test_an_event_waits_its_turn(client: Client, tmp_path: Path) -> None:
    client.gateway.login()
    with ThreadPoolExecutor(1) as threads:
        with state_in(tmp_path / "state").change_lease(client.gateway.url, [OVER]):
            waiting = threads.submit(hooks.handle_event, client, Event(1, HOOK, OVER), recalculate=True)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
        assert waiting.result(timeout=60).recalculated


def test_an_event_does_not_wait_for_changes_of_others(client: Client, tmp_path: Path) -> None:
    client.gateway.login()
    with state_in(tmp_path / "state").change_lease(client.gateway.url, [OVER + 1, OVER + 2], [OVER]):
        assert hooks.handle_event(client, Event(1, HOOK, OVER), recalculate=True).recalculated


def test_an_event_does_not_wait_for_ever(client: Client, tmp_path: Path) -> None:
    client.gateway.login()

    def hurry(seconds: float) -> None:
        hooks.handle_event(client_of(client.gateway.within(seconds), tmp_path), Event(1, HOOK, OVER), recalculate=True)

    def hurry_or_not_so_much() -> None:
        try:
            hurry(1.0)
        except TimedOutError:  # a busy machine may need longer to reach the wait
            hurry(20.0)

    began = time.monotonic()
    with state_in(tmp_path / "state").change_lease(client.gateway.url, [OVER]), pytest.raises(BusyError):
        hurry_or_not_so_much()
    assert time.monotonic() - began < 60
    assert trail(tmp_path, client)[0].reason == "BusyError"


def test_the_trail_is_private(client: Client, sandbox: Sandbox, tmp_path: Path) -> None:
    hooks.handle_event(client, Event(1, HOOK, OVER))
    directory = tmp_path / "state"
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    (patron,) = sandbox._store.rows("au", {"id": OVER})
    content = b"".join(path.read_bytes() for path in directory.iterdir()).decode("utf-8", "replace")
    assert not any(word in content for word in (patron["family_name"], f"2000000000{OVER}", client.gateway.token))


# --- Several servers ---

EVENT = Event(7, HOOK, OVER)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extend the timeout: the last of nine callers waits for the other eight, which takes a busy machine a while."""
    monkeypatch.setattr(handler, "TIMEOUT", 60.0)


@contextmanager
def server(state: State, proxy: FaultProxy) -> Iterator[Client]:
    """A server with its own connections to the ILS and to the database."""
    with State(state.directory, state.address) as own, gateway_of(proxy.url, "consortium_staff") as gateway:
        gateway.login()
        yield Client(gateway, account="consortium_staff", state=own)


@pytest.fixture
def servers(state: State, proxy: FaultProxy) -> Iterator[list[Client]]:
    with ExitStack() as stack:
        yield [stack.enter_context(server(state, proxy)) for _ in range(3)]


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
def test_other_events_do_not_wait(servers: list[Client], proxy: FaultProxy) -> None:
    held = HeldCalls(proxy, recalculates)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(hooks.handle_event, servers[0], EVENT, recalculate=True)
        held.wait_for()
        others = [hooks.handle_event(servers[1], Event(number, HOOK, OVER)) for number in range(8, 18)]
        assert not any(outcome.replayed for outcome in others)
        held.let_go()
        assert not first.result(60).replayed


@pytest.mark.long
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


@pytest.mark.long
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
