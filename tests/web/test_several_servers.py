"""Three servers share a PostgreSQL and a Valkey, behind a proxy that sends each request to the next one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import requests
from support.command import Command
from support.fault_proxy import Call, FaultProxy
from support.follow_ups import record_report
from support.postgresql import Cluster, own_cluster
from support.recalculations import recalculates
from support.redis_server import RedisServer
from support.service_process import serving
from support.web_caller import API, SECRET, bearer, session

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State
from evergreen_groups.web import PREFIX
from evergreen_groups.web.api import SECRET_HEADER

pytestmark = pytest.mark.long  # each test starts the service in three processes
RATE_LIMIT = 1  # per minute: higher limits have windows of seconds, too short for a busy machine


class Servers:
    """The addresses of three services, used in turn, and of their ``database``."""

    def __init__(self, addresses: list[str], cluster: Cluster, database: str) -> None:
        self.cluster = cluster
        self.database = database
        self.addresses = addresses
        self._next = cycle(addresses)

    def get(self, path: str, headers: dict[str, str]) -> requests.Response:
        return requests.get(f"{next(self._next)}{path}", headers=headers, timeout=60)

    def event(self, number: int) -> requests.Response:
        event = {"event": number, "hook": "penalty.PATRON_EXCEEDS_FINES", "patron": 1053}
        address = f"{next(self._next)}{PREFIX}/events"
        return requests.post(address, json=event, headers={SECRET_HEADER: SECRET}, timeout=60)


@pytest.fixture
def servers(sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path) -> Iterator[Servers]:
    with ExitStack() as stack:
        cluster = stack.enter_context(own_cluster())
        name = stack.enter_context(cluster.database())
        counters = stack.enter_context(RedisServer(tmp_path))
        secret = tmp_path / "secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        addresses = []
        for machine in ("one", "two", "three"):
            (tmp_path / machine).mkdir()
            command = Command(tmp_path / machine, proxy.url)
            command.environ["STATE_DIRECTORY"] = str(tmp_path / machine / "state")
            command.config.write_text(
                f"""
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
            )
            _, _, address = stack.enter_context(serving(command, "serve", "--port", "0"))
            addresses.append(address)
        yield Servers(addresses, cluster, cluster.url(name))


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


def test_without_the_database_the_desks_go_on_and_events_are_told_to_come_back(
    servers: Servers, sandbox: Sandbox
) -> None:
    token = bearer(session(sandbox.url, username="harbor_desk"))
    assert servers.event(51).status_code == 200
    servers.cluster.stop("immediate")
    assert servers.get(f"{API}/patrons/1001/summary", token).status_code == 200
    for _ in range(3):
        failed = servers.event(52)
        assert failed.status_code >= 500
        document = json.loads(failed.text)
        assert "PostgreSQL" in document["detail"] or "database" in document["detail"]
    servers.cluster.run_server()
    answers = [servers.event(number) for number in (51, 52, 52)]
    assert [answer.json()["replayed"] for answer in answers] == [True, False, True]
