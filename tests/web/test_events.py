"""Events that the ILS sends to the web service."""

from __future__ import annotations

import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient
from support.fault_proxy import Fault, FaultProxy, HeldCalls
from support.mail_server import free_port
from support.web_caller import SECRET, MakeApp, client_of, events_settings, served, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import ServeSettings
from evergreen_groups.settings.sections import StateSettings
from evergreen_groups.state.database import FILE_NAME
from evergreen_groups.web import PREFIX
from evergreen_groups.web.api import SECRET_HEADER

ADDRESS = f"{PREFIX}/events"
EVENT = {"event": 41, "hook": "penalty.PATRON_EXCEEDS_FINES", "patron": 1053}
HEADERS = {SECRET_HEADER: SECRET}


@pytest.fixture
def caller(make_app: MakeApp, proxy: FaultProxy, tmp_path: Path) -> FlaskClient:
    """A service on a gateway that records calls."""
    return client_of(make_app(settings_of(proxy.url, events=events_settings(tmp_path))))


def test_the_outcome_is_the_answer(caller: FlaskClient) -> None:
    answer = caller.post(ADDRESS, json=EVENT, headers=HEADERS)
    assert answer.status_code == 200
    document = answer.get_json()
    assert (document["event"], document["patron"], document["over_limit"]) == (41, 1053, True)
    assert (document["recalculated"], document["replayed"]) == (False, False)
    assert caller.post(ADDRESS, json=EVENT, headers=HEADERS).get_json() == {**document, "replayed": True}


def test_a_form_says_the_same(caller: FlaskClient) -> None:
    """Forms are accepted like JSON, and numbers in JSON may be strings, because the ILS builds both from templates."""
    texts = {name: str(value) for name, value in EVENT.items()}
    for body in ({"data": texts}, {"json": {**texts, "event": "42"}}):
        answer = caller.post(ADDRESS, headers=HEADERS, **body)
        assert (answer.status_code, answer.get_json()["over_limit"]) == (200, True)


def test_the_ils_recalculates_where_that_is_configured(
    make_app: MakeApp, sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path
) -> None:
    sandbox._store.insert("pgpt", {"org_unit": 1, "grp": 1, "penalty": 1, "threshold": "5.00"})
    caller = client_of(make_app(settings_of(proxy.url, events=events_settings(tmp_path, recalculate=True))))
    answer = caller.post(ADDRESS, json=EVENT, headers=HEADERS)
    assert (answer.status_code, answer.get_json()["recalculated"]) == (200, True)
    assert [row["standing_penalty"] for row in sandbox._store.rows("ausp", {"usr": 1053})] == [1]


@pytest.mark.differs("copies-unsaid", reason="plain reads are taken to come from copies")
def test_what_failed_is_said_and_it_may_be_sent_again(
    caller: FlaskClient, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.refuse = lambda call: (500, "osrfMethodException : x") if call.method.startswith("open-ils.pcrud") else None
    failed = caller.post(ADDRESS, json=EVENT, headers=HEADERS)
    assert failed.status_code == 502
    detail = failed.get_json(force=True)["detail"]
    assert "open-ils.pcrud" in detail
    assert ("evergreen_groups.web", logging.WARNING, f"ServerError: {detail}") in caplog.record_tuples
    proxy.refuse = lambda call: None
    assert caller.post(ADDRESS, json=EVENT, headers=HEADERS).get_json()["replayed"] is False


def test_a_gateway_that_is_down(caller: FlaskClient, proxy: FaultProxy) -> None:
    proxy.decide = lambda call: Fault.DROP_REQUEST
    answer = caller.post(ADDRESS, json=EVENT, headers=HEADERS)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)


def test_a_database_that_is_down(make_app: MakeApp, sandbox: Sandbox, tmp_path: Path) -> None:
    """As with an unavailable gateway, nothing is broken and the event may be sent again."""
    address = f"postgresql+psycopg://groups@127.0.0.1:{free_port()}/groups"
    settings = settings_of(sandbox.url, events=events_settings(tmp_path), state=StateSettings(database=address))
    answer = client_of(make_app(settings)).post(ADDRESS, json=EVENT, headers=HEADERS)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert answer.get_json(force=True)["code"] == "database-unavailable"


def test_a_disk_that_is_full(caller: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once there is room again, the event may be sent again."""
    connect = sqlite3.connect

    def connect_to_full_disk(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA max_page_count=1")  # SQLite keeps as many as there are
        connection.execute("PRAGMA cache_spill=OFF")
        return connection

    assert caller.post(ADDRESS, json=EVENT, headers=HEADERS).status_code == 200
    state = caller.application.extensions["evergreen-groups"].state
    state.close()
    monkeypatch.setattr(sqlite3, "connect", connect_to_full_disk)
    answers = [caller.post(ADDRESS, json={**EVENT, "event": number}, headers=HEADERS) for number in range(100, 160)]
    refused = next(answer for answer in answers if answer.status_code != 200)
    assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    assert refused.get_json(force=True)["code"] == "database-unavailable"


def test_a_database_that_is_damaged(caller: FlaskClient, staff: dict[str, str], tmp_path: Path) -> None:
    """Nobody is told to try again: only an administrator can help."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700, exist_ok=True)
    (directory / FILE_NAME).write_bytes(b"damaged " * 1000)
    event = caller.post(ADDRESS, json=EVENT, headers=HEADERS)
    desk = caller.get(f"{PREFIX}/api/v1/changes", headers=staff)
    for answer in (event, desk):
        assert (answer.status_code, "Retry-After" in answer.headers) == (500, False)
        assert "ry again" not in answer.text


def test_a_service_account_that_is_refused(make_app: MakeApp, sandbox: Sandbox, tmp_path: Path) -> None:
    settings = settings_of(sandbox.url, events=events_settings(tmp_path))
    settings = replace(settings, gateway=replace(settings.gateway, username="nobody"))
    answer = client_of(make_app(settings)).post(ADDRESS, json=EVENT, headers=HEADERS)
    assert (answer.status_code, "login refused" in answer.text) == (502, True)


def test_a_patron_who_is_not_there(caller: FlaskClient) -> None:
    answer = caller.post(ADDRESS, json={**EVENT, "patron": 999_999}, headers=HEADERS)
    assert answer.status_code == 404


def test_addresses_that_are_allowed(make_app: MakeApp, sandbox: Sandbox, tmp_path: Path) -> None:
    allow = (ip_network("10.1.0.0/16"),)
    caller = client_of(make_app(settings_of(sandbox.url, events=events_settings(tmp_path, allow=allow))))

    def status(peer: str, forwarded: str | None = None) -> int:
        headers = {**HEADERS, **({"X-Forwarded-For": forwarded} if forwarded else {})}
        base = {"REMOTE_ADDR": peer}
        return caller.post(ADDRESS, json=EVENT, headers=headers, environ_base=base).status_code

    assert status("10.1.2.3") == 200
    assert status("127.0.0.1", "10.1.2.3") == 200
    assert status("127.0.0.1") == 403
    assert status("10.2.0.1") == 403


@pytest.mark.differs("copies-unsaid", reason="plain reads are taken to come from copies")
def test_events_leave_threads_for_the_desks(make_app: MakeApp, proxy: FaultProxy, tmp_path: Path) -> None:
    serve = ServeSettings(port=0, threads=5)
    app = make_app(settings_of(proxy.url, serve=serve, events=events_settings(tmp_path)))
    with served(app, serve) as url, ThreadPoolExecutor(3) as pool:

        def send(number: int) -> requests.Response:
            return requests.post(url + ADDRESS, json={**EVENT, "event": number}, headers=HEADERS, timeout=60)

        assert send(1).status_code == 200
        held = HeldCalls(proxy, lambda call: call.method.startswith("open-ils.pcrud"))
        waiting = [pool.submit(send, number) for number in (2, 3, 4)]
        held.wait_for(3)
        assert send(5).status_code == 503
        assert requests.get(f"{url}{PREFIX}/panel.js", timeout=60).status_code == 200
        held.let_go()
        assert [one.result().status_code for one in waiting] == [200, 200, 200]
        assert send(5).status_code == 200


def test_a_secret_in_another_alphabet(make_app: MakeApp, sandbox: Sandbox, tmp_path: Path) -> None:
    events = events_settings(tmp_path)
    secret = "тайное-слово-событий"
    (tmp_path / "events-secret").write_text(secret + "\n", encoding="utf-8")
    caller = client_of(make_app(settings_of(sandbox.url, events=events)))
    as_sent = secret.encode().decode("latin-1")
    assert caller.post(ADDRESS, json=EVENT, headers={SECRET_HEADER: as_sent}).status_code == 200


def test_none_are_taken_without_a_secret(make_app: MakeApp, sandbox: Sandbox) -> None:
    caller = client_of(make_app(settings_of(sandbox.url)))
    assert caller.post(ADDRESS, json=EVENT, headers={SECRET_HEADER: ""}).status_code == 404


def test_over_a_real_connection(make_app: MakeApp, sandbox: Sandbox, tmp_path: Path) -> None:
    """Send an event as Evergreen's reactor does on loopback, and as Apache would forward it for an outside client."""
    with served(make_app(settings_of(sandbox.url, events=events_settings(tmp_path)))) as url:
        assert requests.post(url + ADDRESS, json=EVENT, headers=HEADERS, timeout=30).status_code == 200
        forwarded = {**HEADERS, "X-Forwarded-For": "203.0.113.5"}
        assert requests.post(url + ADDRESS, json=EVENT, headers=forwarded, timeout=30).status_code == 403
