"""Services that share a PostgreSQL: with wrong clocks, where it doesn't answer, and killed in the middle of changes."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from flask import Flask
from support.clerk_runs import town
from support.command import Command, clock_ahead, serving
from support.desk_caller import NEW_GROUP, Answer, DeskCaller, caller_of
from support.fault_proxy import Fault, FaultProxy
from support.postgresql import Cluster, shared_cluster
from support.web_caller import API, PASSWORD, SECRET, bearer, client_of, events_settings, session, settings_of

from evergreen_groups import threads
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings.sections import StateSettings
from evergreen_groups.state import database, postgresql
from evergreen_groups.web import PREFIX, close, create_app
from evergreen_groups.web.api import SECRET_HEADER

pytestmark = pytest.mark.long  # starts databases, and services in processes of their own


NGUYEN, WHITFIELD = 1017, 1036
FROZEN_SECONDS = float(os.environ.get("TESTS_FROZEN_SECONDS", "10"))
"""How long to freeze the database. From a minute on, with the product's own time limits."""


class TestASilentDatabase:
    """PostgreSQL doesn't answer: reads go on, and requests that need the database are told to retry later."""

    @pytest.fixture
    def sandbox(self) -> Iterator[Sandbox]:
        """A site whose replica never catches up, so summaries ask the database who was changed recently."""
        with Sandbox(differences=["replica"], replica_delay=math.inf) as sandbox:
            yield sandbox

    @pytest.fixture
    def app(self, cluster: Cluster, sandbox: Sandbox, tmp_path: Path) -> Iterator[Flask]:
        environ = {"STATE_DIRECTORY": str(tmp_path / "state"), "CACHE_DIRECTORY": str(tmp_path / "cache")}
        with cluster.database() as name:
            settings = settings_of(
                sandbox.url, events=events_settings(tmp_path), state=StateSettings(database=cluster.url(name))
            )
            app = create_app(settings, {**environ, "EVERGREEN_GROUPS_PASSWORD": PASSWORD})
            yield app
            close(app)

    def test_summaries_and_monitoring_do_not_wait(
        self, app: Flask, cluster: Cluster, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The database timeouts are so long that waiting for it would fail the test."""
        for limit in ("_SECONDS_TO_PING", "_SECONDS_TO_CONNECT", "_SECONDS_TO_ANSWER"):
            monkeypatch.setattr(postgresql, limit, 600.0)
        monkeypatch.setattr(threads, "_IDLE_SECONDS", 0.1)
        desk = caller_of(app, sandbox)
        assert desk.apply(desk.planned("move", WHITFIELD, target=NGUYEN)).status == 200
        before = desk.send("GET", f"patrons/{NGUYEN}/summary")
        assert before.status == 200
        assert WHITFIELD in [member["id"] for member in before.body["members"]]
        with cluster.frozen():
            frozen = desk.send("GET", f"patrons/{NGUYEN}/summary")
            assert (frozen.status, frozen.body) == (200, before.body)
            ready = client_of(app).get(f"{PREFIX}/readyz")
            assert (ready.status_code, ready.get_json()["database"]) == (503, "does not answer")
        for thread in threading.enumerate():
            if thread.name == "evergreen":  # let threads that still wait for the database close their connections
                thread.join(60)

    @pytest.mark.parametrize("seconds", [FROZEN_SECONDS])
    def test_panels_go_on_however_long_it_is_frozen(
        self, app: Flask, cluster: Cluster, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, seconds: float
    ) -> None:
        """Ten panels a second are answered within three seconds, and threads don't pile up."""
        if seconds < 60:  # as many attempts to connect as in minutes
            monkeypatch.setattr(postgresql, "_SECONDS_TO_PING", 0.3)
            monkeypatch.setattr(database, "_OPEN_SECONDS", 0.3)
            monkeypatch.setattr(postgresql, "_SECONDS_TO_CONNECT", 2)  # the driver's least
        desk = caller_of(app, sandbox)
        assert desk.send("GET", f"patrons/{NGUYEN}/summary").status == 200
        took: list[float] = []
        counts: list[int] = []

        def panel() -> None:
            began = time.monotonic()
            assert desk.send("GET", f"patrons/{NGUYEN}/summary").status in (200, 429)
            took.append(time.monotonic() - began)

        with cluster.frozen(), ThreadPoolExecutor(32) as desks:
            began = time.monotonic()
            panels = []
            for number in range(int(seconds * 10)):
                panels.append(desks.submit(panel))
                time.sleep(max(0.0, began + number / 10 - time.monotonic()))
                counts.append(threading.active_count())
            for one in panels:
                one.result()
        print(f"{len(took)} panels, slowest {max(took):.2f} s, threads {max(counts)}")
        assert max(took) < 3
        half = len(counts) // 2
        assert max(counts[half:]) <= max(counts[:half]) + 5

    def test_what_needs_the_database_is_told_to_come_back(self, app: Flask, cluster: Cluster, sandbox: Sandbox) -> None:
        """Once the database answers again, plans, keys and outcomes are unchanged."""
        desk = caller_of(app, sandbox)
        made, waiting = desk.planned("move", WHITFIELD, target=NGUYEN), desk.planned("lead", NGUYEN)
        first = desk.apply(made, "first")
        event = {"event": 41, "hook": "penalty.PATRON_EXCEEDS_FINES", "patron": NGUYEN}
        with cluster.frozen():
            for refused in (
                desk.send("GET", "changes"),
                desk.plan("lead", WHITFIELD),
                desk.apply(waiting, "second"),
                desk.apply(made, "first"),
                desk.undo(first.body["id"]),
                desk.change(first.body["id"]),
            ):
                assert (refused.status, refused.code) == (503, "state-not-available")
                assert int(refused.headers["Retry-After"]) >= 1
            answer = client_of(app).post(f"{PREFIX}/events", json=event, headers={SECRET_HEADER: SECRET})
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        while (again := desk.apply(made, "first")).status == 503:
            assert again.code == "state-not-available", "for a moment longer"
        assert again.body == first.body
        assert desk.apply(waiting, "second").body["done"]
        assert desk.undo(first.body["id"]).body["done"]


AHEAD, BEHIND = 3 * 24 * 3600, -20 * 60


class RemoteCaller(DeskCaller):
    """Calls the API of a service in another process."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self.headers = url, bearer(token)

    def send(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        answer = requests.request(method, f"{self._url}{API}/{path}", json=body, headers=sent, timeout=60)
        return Answer(answer.status_code, answer.json(), answer.headers)


@pytest.fixture
def desks(sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path) -> Iterator[list[RemoteCaller]]:
    """One session at a server that is ahead, and at one that is behind."""
    cluster, token = shared_cluster(), session(sandbox.url, username="consortium_staff")
    with cluster.database() as name, ExitStack() as stack:
        config = f'[state]\ndatabase = "{cluster.url(name)}"\n'
        callers = []
        for seconds in (AHEAD, BEHIND):
            (tmp_path / f"{seconds}").mkdir()
            command = Command(tmp_path / f"{seconds}", proxy.url)
            command.config.write_text(config)
            command.environ |= {"STATE_DIRECTORY": str(tmp_path / f"{seconds}" / "state"), **clock_ahead(seconds)}
            _, _, address = stack.enter_context(serving(command, "serve", "--port", "0"))
            callers.append(RemoteCaller(address, token))
        yield callers


@pytest.mark.parametrize("ahead_first", [True, False])
def test_a_removal_that_comes_in_late_is_not_sent_twice(
    desks: list[RemoteCaller], proxy: FaultProxy, ahead_first: bool
) -> None:
    first, second = desks if ahead_first else desks[::-1]
    proxy.decide = lambda call: Fault.HELD_REQUEST if call.method == NEW_GROUP else Fault.NONE
    change = first.apply(first.planned("remove", 1052)).body["id"]
    proxy.decide = lambda call: Fault.NONE
    assert second.change(change).states[0] == "sending"
    assert second.apply(second.planned("remove", 1052)).states[0] == "not done"
    proxy.let_go()
    assert second.change(change).states[0] == first.change(change).states[0] == "done"
    assert proxy.seen.count(NEW_GROUP) == 1


def test_a_sender_that_is_behind_knows_its_own_change(desks: list[RemoteCaller], proxy: FaultProxy) -> None:
    _, behind = desks
    proxy.decide = lambda call: Fault.DROP_ANSWER if call.method == NEW_GROUP else Fault.NONE
    assert behind.apply(behind.planned("remove", 1052)).states[0] == "done"


def test_plans_outlive_a_plan_of_a_server_that_is_ahead(desks: list[RemoteCaller]) -> None:
    ahead, behind = desks
    plan = behind.planned("lead", 1052)
    ahead.planned("lead", 1002)
    assert ahead.apply(plan).body["done"]


# --- Two clerks who act at random: nothing twice, nothing lost (tests/bench/clerks.py runs a thousand sequences) ---

SEQUENCES = 24


@pytest.mark.parametrize(
    ("servers", "database", "kill", "outage"), [(3, "postgresql", 0.5, 0.05), (1, "sqlite", 0.1, 0.0)]
)
def test_clerks_at_services_that_are_killed(servers: int, database: str, kill: float, outage: float) -> None:
    with town(servers, SEQUENCES, database=database) as place:
        errors = [error for number in range(SEQUENCES) for error in place.sequence(number, kill=kill, outage=outage)]
        assert errors == []
        assert place.tally["changes"] > SEQUENCES
        assert min(place.tally[name] for name in ("changes undone", "faults", "services killed")) > 0
        assert "a bug:" not in place.servers.errors
