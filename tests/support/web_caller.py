"""The web service with a gateway, for tests: its settings, sessions to call it with, and serving it for real."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flask import Flask
from flask.testing import FlaskClient

from evergreen_groups.gateway import Gateway
from evergreen_groups.settings import GatewaySettings, MetricsSettings, ServeSettings, Settings
from evergreen_groups.settings.sections import EventsSettings
from evergreen_groups.web import SPARE_REQUESTS, Server, open_listener

API = "/evergreen-groups/api/v1"
PASSWORD = "sandbox"
SECRET = "events-secret-of-the-tests"
MakeApp = Callable[[Settings], Flask]


class Clock:
    """Seconds that pass on a test's command."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def settings_of(url: str, *, serve: ServeSettings | None = None, **sections: Any) -> Settings:
    """Return settings of a service on a free port, without a rate limit."""
    gateway = GatewaySettings(url=url, username="consortium_staff")
    return Settings(gateway=gateway, serve=serve or ServeSettings(port=0, rate_limit=1_000_000), **sections)


def events_settings(directory: Path, **options: Any) -> EventsSettings:
    """Return settings for events taken with ``SECRET``, which is written to a file."""
    return EventsSettings(secret_file=_secret_in(directory / "events-secret"), **options)


def metrics_settings(directory: Path, **options: Any) -> MetricsSettings:
    """Return settings for metrics protected by ``SECRET``, which is written to a file."""
    return MetricsSettings(token_file=_secret_in(directory / "metrics-token"), **options)


def _secret_in(file: Path) -> Path:
    file.write_text(SECRET)
    file.chmod(0o600)
    return file


def session(url: str, **login: Any) -> str:
    """Return a token for a user name or barcode; ``type`` is ``staff`` by default. The session stays open."""
    arguments = {"password": PASSWORD, "type": "staff", **login}
    with Gateway(url) as gateway:
        event = gateway.call("open-ils.auth", "open-ils.auth.login", arguments).value
    return str(event["payload"]["authtoken"])


def end_session(url: str, token: str) -> None:
    with Gateway(url) as gateway:
        gateway.call("open-ils.auth", "open-ils.auth.session.delete", token)


def client_of(app: Flask) -> FlaskClient:
    """Return a client that sends a test's cookies, and stores none."""
    return app.test_client(use_cookies=False)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def cookie(token: str) -> dict[str, str]:
    return {"Cookie": f"eg.auth.token={quote(json.dumps(token), safe='')}"}


@contextmanager
def served(app: Flask, serve: ServeSettings | None = None) -> Iterator[str]:
    """Serve the app on a free port, like the command does; yields the base URL."""
    serve = serve or ServeSettings(port=0)
    server = Server(app, open_listener(serve), threads=serve.threads + SPARE_REQUESTS)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.url
    finally:
        server.stop()
        thread.join()
