"""Services that share a PostgreSQL and a Valkey, a PostgreSQL that doesn't answer, and servers with wrong clocks."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from support.clerk_runs import town
from support.command import Command
from support.desk_caller import NEW_GROUP, Answer, DeskCaller, caller_of
from support.fault_proxy import Call, Fault, FaultProxy
from support.follow_ups import record_report
from support.postgresql import Cluster, shared_cluster
from support.recalculations import recalculates
from support.redis_server import RedisServer
from support.service_process import serving
from support.web_caller import API, PASSWORD, SECRET, bearer, client_of, events_settings, session, settings_of
from support.wrong_clocks import clock_ahead

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings.sections import StateSettings
from evergreen_groups.state import State, engine
from evergreen_groups.web import PREFIX, close, create_app
from evergreen_groups.web.api import SECRET_HEADER

pytestmark = pytest.mark.long  # each test starts the service in three processes
RATE_LIMIT = 1  # per minute: higher limits have windows of seconds, too short for a busy machine


class Servers:
    """The addresses of three services, used in turn, and of their ``database``."""

    def __init__(self, addresses: list[str], database: str) -> None:
        self.database = database
        self.addresses = addresses
        self._next = cycle(addresses)

    def get(self, path: str, headers: dict[str, str]) -> requests.Response:
        return requests.get(f"{next(self._next)}{path}", headers=headers, timeout=60)

    def event(self, number: int) -> requests.Response:
        event = {"event": number, "hook": "penalty.PATRON_EXCEEDS_FINES", "patron": 1053}
        address = f"{next(self._next)}{PREFIX}/events"
        return requests.post(address, json=event, headers={SECRET_HEADER: SECRET}, timeout=60)


@contextmanager
def started(directory: Path, proxy: FaultProxy, config: str, **environ: str) -> Iterator[str]:
    """Yield the address of a service in a process of its own."""
    directory.mkdir()
    command = Command(directory, proxy.url)
    command.environ |= {"STATE_DIRECTORY": str(directory / "state"), **environ}
    command.config.write_text(config)
    with serving(command, "serve", "--port", "0") as (_, _, address):
        yield address


@pytest.fixture
def servers(sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path) -> Iterator[Servers]:
    with ExitStack() as stack:
        cluster = shared_cluster()
        name = stack.enter_context(cluster.database())
        counters = stack.enter_context(RedisServer(tmp_path))
        secret = tmp_path / "secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        config = f"""
[state]
database = "{cluster.url(name)}"
[redis]
url = "{counters.url}"
[serve]
rate_limit = {RATE_LIMIT}
[events]
secret_file = "{secret}"
recalculate = true
deadline = 120
"""
        addresses = [stack.enter_context(started(tmp_path / one, proxy, config)) for one in ("one", "two", "three")]
        yield Servers(addresses, cluster.url(name))


def test_each_event_is_taken_once(servers: Servers, sandbox: Sandbox, proxy: FaultProxy) -> None:
    """Send each event to all servers at once, and again afterward."""
    sandbox._store.insert("pgpt", {"org_unit": 1, "grp": 1, "penalty": 1, "threshold": "5.00"})
    recalculated: list[Call] = []
    proxy.before_answer = lambda call: recalculated.append(call) if recalculates(call) else None
    with ThreadPoolExecutor(9) as pool:
        answers: list[Any] = [answer.json() for answer in pool.map(servers.event, [41, 42, 43] * 3)]
    assert [answer.get("over_limit") for answer in answers] == [True] * 9
    for number in (41, 42, 43):
        assert [answer["replayed"] for answer in answers if answer["event"] == number].count(False) == 1
        assert servers.event(number).json()["replayed"] is True
    assert len(recalculated) <= 3


def test_a_rate_limit_is_one(servers: Servers, sandbox: Sandbox) -> None:
    token = bearer(session(sandbox.url, username="harbor_desk"))
    statuses = [servers.get(f"{API}/patrons/1001/block", token).status_code for _ in range(9)]
    assert statuses == [200] + [429] * 8
    other = bearer(session(sandbox.url, username="admin"))
    assert servers.get(f"{API}/patrons/1001/block", other).status_code == 200


def test_made_up_tokens_are_one_stranger_s(servers: Servers, sandbox: Sandbox, proxy: FaultProxy) -> None:
    made_up = [servers.get(f"{API}/patrons/1001/block", bearer(f"{number:032}")).status_code for number in range(9)]
    assert made_up == [401] + [429] * 8
    before = len(proxy.seen)
    new = bearer(session(sandbox.url, username="admin"))
    waiting = [servers.get(f"{API}/patrons/1001/block", new) for _ in range(3)]
    assert [answer.status_code for answer in waiting] == [429] * 3, "whoever of them is asked"
    assert all("Retry-After" in answer.headers for answer in waiting)
    assert [method for method in proxy.seen[before:] if "pcrud" in method] == []


def test_of_entries_saved_at_once_one_is_first_at_all_servers(
    servers: Servers, sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path
) -> None:
    with State(tmp_path, servers.database) as state:
        report = record_report(state, proxy.url)
    # The rate limit is one request for each session.
    tokens = [bearer(session(sandbox.url, username="consortium_staff")) for _ in range(21)]
    path = f"{API}/follow-ups"

    def save(number: int) -> requests.Response:
        entry = {"group": report.groups[number // 9].number, "note": f"{number % 9 if number < 9 else 0}"}
        headers = {**tokens[number], "Idempotency-Key": f"{number}" if number < 9 else "same"}
        address = servers.addresses[number % 3]
        return requests.post(f"{address}{path}", json={"entries": [entry]}, headers=headers, timeout=60)

    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(save, range(9)))
        repeated = list(pool.map(save, range(9, 18)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 8
    (first,) = [answer.json()["entries"] for answer in answers if answer.status_code == 200]
    assert [answer.json()["newer"] for answer in answers if answer.status_code == 409] == [first] * 8
    assert {answer.text for answer in repeated} == {repeated[0].text}
    assert repeated[0].status_code == 200
    read = [servers.get(path, token).json() for token in tokens[18:]]
    assert read[0] == read[1] == read[2]
    assert read[0]["counts"]["waiting"] == 2


NGUYEN, WHITFIELD = 1017, 1036


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
            monkeypatch.setattr(engine, limit, 600.0)
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
            if thread.name == "state":  # let threads that still wait for the database close their connections
                thread.join(60)

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
        assert desk.apply(made, "first").body == first.body
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
        servers = [started(tmp_path / f"{by}", proxy, config, **clock_ahead(by)) for by in (AHEAD, BEHIND)]
        yield [RemoteCaller(stack.enter_context(server), token) for server in servers]


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


SEQUENCES = 24


def test_three_services_that_are_killed() -> None:
    with town(3, SEQUENCES, database="postgresql") as place:
        errors = list(chain.from_iterable(place.sequence(number, kill=0.5, outage=0.05) for number in range(SEQUENCES)))
        assert errors == []
        assert place.kills > 0
        assert place.tally.changes > SEQUENCES
        assert place.tally.undone > 0
        assert place.tally.faults.total() > 0
        assert "a bug:" not in place.servers.errors


def test_one_service_with_faults() -> None:
    with town(1, SEQUENCES, database="sqlite") as place:
        errors = list(chain.from_iterable(place.sequence(number, kill=0.1) for number in range(SEQUENCES)))
        assert errors == []
        assert place.tally.changes > SEQUENCES
        assert "a bug:" not in place.servers.errors
