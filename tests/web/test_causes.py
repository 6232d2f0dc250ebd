"""``healthz`` gives a code for why the gateway is unreachable, without names or addresses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flask import Flask
from support.gateway_server import Server, http_error, says, then_close
from support.mail_server import context_of
from support.web_caller import MakeApp, client_of, settings_of

from evergreen_groups.web import PREFIX


def health(app: Flask) -> dict[str, str]:
    answer = client_of(app).get(f"{PREFIX}/healthz")
    assert answer.status_code == 200
    ready = client_of(app).get(f"{PREFIX}/readyz")
    assert ready.status_code == (200 if answer.get_json()["gateway"] == "answers" else 503)
    return answer.get_json()


def test_nobody_listens_there(make_app: MakeApp) -> None:
    assert health(make_app(settings_of("http://127.0.0.1:1"))) == {
        "status": "up", "gateway": "does not answer", "cause": "unreachable", "breaker": "closed"
    }  # fmt: skip


def test_the_name_is_not_known(make_app: MakeApp) -> None:
    found = health(make_app(settings_of("https://secret-name.example.invalid")))
    assert found["cause"] == "host-unknown"
    assert "secret-name" not in str(found)


def test_another_web_server(make_app: MakeApp) -> None:
    with Server(otherwise=http_error(500)) as server:
        assert health(make_app(settings_of(server.url)))["cause"] == "web-server-failed"


def test_a_certificate_of_its_own(make_app: MakeApp, mail_certificates: Path) -> None:
    with Server(otherwise=then_close(says(500)), tls=context_of(mail_certificates, "right")) as server:
        settings = settings_of(server.url.replace("127.0.0.1", "localhost"))
        app = make_app(settings)
        assert health(app)["cause"] == "certificate-authority-unknown"
        problem = app.extensions["evergreen-groups"].health.check_gateway()
        assert "set ca_bundle in [gateway]" in str(problem)
        trusted = replace(settings.gateway, ca_bundle=mail_certificates / "right.pem")
        assert health(make_app(replace(settings, gateway=trusted)))["gateway"] == "answers", "it is trusted now"
