"""PostgreSQL doesn't answer: reads go on, and requests that need the database are told to retry later."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from support.desk_caller import caller_of
from support.postgresql import Cluster
from support.web_caller import PASSWORD, SECRET, client_of, events_settings, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings.sections import StateSettings
from evergreen_groups.state import engine
from evergreen_groups.web import PREFIX, close, create_app
from evergreen_groups.web.api import SECRET_HEADER

pytestmark = pytest.mark.long  # starts its own PostgreSQL

NGUYEN, WHITFIELD = 1017, 1036


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A site whose replica never catches up, so summaries ask the database who was changed recently."""
    with Sandbox(differences=["replica"], replica_delay=math.inf) as sandbox:
        yield sandbox


@pytest.fixture
def app(cluster: Cluster, sandbox: Sandbox, tmp_path: Path) -> Iterator[Flask]:
    environ = {"STATE_DIRECTORY": str(tmp_path / "state"), "CACHE_DIRECTORY": str(tmp_path / "cache")}
    with cluster.database() as name:
        settings = settings_of(
            sandbox.url, events=events_settings(tmp_path), state=StateSettings(database=cluster.url(name))
        )
        app = create_app(settings, {**environ, "EVERGREEN_GROUPS_PASSWORD": PASSWORD})
        yield app
        close(app)


def test_summaries_and_monitoring_do_not_wait(
    app: Flask, cluster: Cluster, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
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


def test_what_needs_the_database_is_told_to_come_back(app: Flask, cluster: Cluster, sandbox: Sandbox) -> None:
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
