"""Clients that stop in the middle of their headers are turned away after a time limit."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterable
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from support.web_caller import Clock, served

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HALF = len(WHOLE) // 2


def application(_environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
    start("200 OK", [("Content-Length", "5")])
    return [b"hello"]


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=20)
    connection.sendall(WHOLE[:HALF])
    return connection


def is_answered(connection: socket.socket) -> bool:
    connection.sendall(WHOLE[HALF:])
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.read() == b"hello"


def others_come(url: str) -> None:
    """Wait for the server to look at all earlier connections, by letting two later ones be answered."""
    for _ in range(2):
        with closing(connected(url)) as other:
            assert is_answered(other)


def test_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for module in ("waitress.channel", "waitress.server"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(time=clock))
    with served(application) as url, closing(connected(url)) as quicker, closing(connected(url)) as slower:  # type: ignore[arg-type]  # no Flask, as good
        others_come(url)
        clock.now += 9
        others_come(url)
        assert is_answered(quicker)
        clock.now += 2
        others_come(url)
        assert slower.recv(1) == b""
