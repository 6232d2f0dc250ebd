"""A browser that sends a body slowly doesn't delay other requests, and gets its answer in the end."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from flask import Flask
from support.desk_caller import plan_body
from support.web_caller import API, bearer, served, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import ServeSettings, Settings
from evergreen_groups.web.server import SPARE_REQUESTS

THREADS = 2
BODY = json.dumps(plan_body("move", 1052, target=1001)).encode()


@pytest.fixture
def app(make_app: Callable[[Settings], Flask], sandbox: Sandbox) -> Flask:
    return make_app(settings_of(sandbox.url, serve=ServeSettings(port=0, threads=THREADS, rate_limit=1_000_000)))


@pytest.fixture
def admitted(app: Flask, monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Return a semaphore that is released for each caller admitted."""
    admission, count = app.extensions["evergreen-groups"].admission, threading.Semaphore(0)
    admit = admission.admit

    def admit_and_count(*arguments: Any) -> Any:
        caller = admit(*arguments)
        count.release()
        return caller

    monkeypatch.setattr(admission, "admit", admit_and_count)
    return count


def begun(url: str, token: str) -> socket.socket:
    """Open a connection and send the headers and part of the body."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=60)
    headers = {"Host": parts.netloc, "Content-Type": "application/json", "Content-Length": str(len(BODY))}
    lines = [f"POST {API}/plans HTTP/1.1", *(f"{name}: {text}" for name, text in {**headers, **bearer(token)}.items())]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + BODY[:10])
    return connection


def test_a_body_that_comes_slowly_holds_no_place(app: Flask, sandbox: Sandbox, admitted: threading.Semaphore) -> None:
    token = session(sandbox.url, username="consortium_staff")
    with served(app, ServeSettings(port=0, threads=THREADS)) as url, ExitStack() as stack:
        slow = []
        for _ in range(THREADS + SPARE_REQUESTS + 1):
            slow.append(stack.enter_context(closing(begun(url, token))))
            assert admitted.acquire(timeout=60), "the body of whoever came before is waited for"
        answer = requests.get(f"{url}{API}/patrons/1001/group", headers=bearer(token), timeout=60)
        assert answer.status_code == 200
        for connection in slow:
            connection.sendall(BODY[10:])
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert (response.status, json.loads(response.read())["kind"]) == (201, "plan")


def test_a_body_is_not_waited_for_before_it_is_known_whose_it_is(app: Flask) -> None:
    with served(app, ServeSettings(port=0, threads=THREADS)) as url, closing(begun(url, "0" * 32)) as connection:
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 401


def test_one_that_ends_before_it_is_whole_is_refused(app: Flask, sandbox: Sandbox) -> None:
    token = session(sandbox.url, username="consortium_staff")
    with served(app, ServeSettings(port=0, threads=THREADS)) as url, closing(begun(url, token)) as connection:
        connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 400
