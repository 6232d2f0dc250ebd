"""Clients that send a body slowly don't delay other requests, and get their answer in the end."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from flask import Flask
from support.desk_caller import plan_body
from support.web_caller import API, SECRET, MakeApp, bearer, events_settings, served, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import ServeSettings
from evergreen_groups.web import PREFIX
from evergreen_groups.web.api import SECRET_HEADER

THREADS = 2
BODY = json.dumps(plan_body("move", 1052, target=1001)).encode()
EVENT = json.dumps({"event": 1, "hook": "au.updated", "patron": 1001}).encode()
SLOW = 300


@pytest.fixture
def app(make_app: MakeApp, sandbox: Sandbox, tmp_path: Path) -> Flask:
    serve = ServeSettings(port=0, threads=THREADS, rate_limit=1_000_000)
    return make_app(settings_of(sandbox.url, serve=serve, events=events_settings(tmp_path)))


def begun(url: str, path: str, headers: dict[str, str], body: bytes) -> socket.socket:
    """Open a connection and send the headers and part of the body."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=60)
    headers = {"Host": parts.netloc, "Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body[:10])
    return connection


@pytest.mark.parametrize(("kind", "status"), [("session", 201), ("stranger", 401), ("event", 200)])
def test_however_many_bodies_come_slowly_others_are_answered(
    app: Flask, sandbox: Sandbox, kind: str, status: int
) -> None:
    token = session(sandbox.url, username="consortium_staff")
    path, body = (f"{PREFIX}/events", EVENT) if kind == "event" else (f"{API}/plans", BODY)
    headers = {"session": bearer(token), "stranger": bearer("0" * 32), "event": {SECRET_HEADER: SECRET}}[kind]
    with served(app, ServeSettings(port=0, threads=THREADS)) as url, ExitStack() as stack:
        summary = f"{url}{API}/patrons/1001/summary"
        assert requests.get(summary, headers=bearer(token), timeout=60).status_code == 200
        slow = [stack.enter_context(closing(begun(url, path, headers, body))) for _ in range(SLOW)]
        began = time.monotonic()
        assert requests.get(summary, headers=bearer(token), timeout=60).status_code == 200
        # They are closed after ten seconds without a byte. A busy machine may take more than one for a quick answer.
        assert time.monotonic() - began < 5
        for connection in slow[-3:]:
            connection.sendall(body[10:])
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == status


def test_one_that_ends_before_it_is_whole_gets_no_answer(app: Flask, sandbox: Sandbox) -> None:
    headers = bearer(session(sandbox.url, username="consortium_staff"))
    with (
        served(app, ServeSettings(port=0, threads=THREADS)) as url,
        closing(begun(url, f"{API}/plans", headers, BODY)) as connection,
    ):
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
