"""``healthz`` gives a code for why the gateway is unreachable, without names or addresses."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from support.gateway_server import Server, http_error, says, then_close
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
    settings = settings_of("https://secret-name.example.invalid")
    assert health(make_app(settings))["cause"] == "host-unknown"
    assert "secret-name" not in client_of(make_app(settings)).get(f"{PREFIX}/healthz").text


def test_another_web_server(make_app: MakeApp) -> None:
    with Server(otherwise=http_error(500)) as server:
        assert health(make_app(settings_of(server.url)))["cause"] == "web-server-failed"


@pytest.fixture
def own_certificate(tmp_path: Path) -> Path:
    openssl = shutil.which("openssl")
    assert openssl, "these tests need the openssl command"
    words = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out own.pem -days 2 -subj /CN=x"
    )
    subject = ("-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run([openssl, *words.split(), *subject], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "own.pem"


def test_a_certificate_of_its_own(make_app: MakeApp, own_certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own_certificate, own_certificate.with_name("key.pem"))
    with Server(otherwise=then_close(says(500)), tls=context) as server:
        settings = settings_of(server.url)
        app = make_app(settings)
        assert health(app)["cause"] == "certificate-authority-unknown"
        problem = app.extensions["evergreen-groups"].health.check_gateway()
        assert "set ca_bundle in [gateway]" in str(problem)
        trusting = replace(settings, gateway=replace(settings.gateway, ca_bundle=own_certificate))
        assert health(make_app(trusting))["gateway"] == "answers", "it is trusted now"
