"""The doctor before other servers: certificates, something else than a gateway, and the mail server."""

from __future__ import annotations

import io
import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from support.fault_proxy import FaultProxy, HttpAnswer, fault_proxy
from support.gateway_server import Server, envelope, http, raw
from support.installation import Installation, only, said
from support.mail_server import SECRET, Post, mail_section
from support.mail_server import server as mail_server
from support.redis_server import RedisServer
from support.sandbox_caller import Caller

from evergreen_groups.doctor import Finding, Verdict
from evergreen_groups.mail import Letter, build_message
from evergreen_groups.mail.mailer import Outbox
from evergreen_groups.message import own_pip
from evergreen_groups.render.doctor import write_diagnosis_json
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State, schema

OK, WARNING, FAILED, SKIPPED = Verdict

AUTHORITY = """
[ca]
default_ca = here
[here]
database = index.txt
rand_serial = yes
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
default_md = sha256
policy = names
copy_extensions = copy
[names]
commonName = supplied
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority, and of its for 127.0.0.1: for long, for two days, over, not begun."""
    openssl = shutil.which("openssl")
    assert openssl, "these tests need the openssl command"
    folder = tmp_path_factory.mktemp("certificates")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "90", "-subj", "/CN=Test CA",
        "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    (folder / "ca.cnf").write_text(AUTHORITY)
    (folder / "index.txt").touch()
    now = datetime.now(UTC)
    long, short, over, soon = (f"{now + timedelta(days=days):%Y%m%d%H%M%SZ}" for days in (60, 3, -1, 2))
    begins = {"early": soon}
    hosts = dict.fromkeys(("long", "short", "over", "early"), "IP:127.0.0.1") | {"other": "DNS:other.example"}
    for name, end in (("long", long), ("short", short), ("over", over), ("early", long), ("other", long)):
        run("req", "-new", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
            "-addext", f"subjectAltName={hosts[name]}")  # fmt: skip
        run("ca", "-batch", "-notext", "-config", "ca.cnf", "-in", f"{name}.csr", "-out", f"{name}.pem",
            "-startdate", begins.get(name, "20200101000000Z"), "-enddate", end)  # fmt: skip
    return folder


@pytest.mark.parametrize(
    ("name", "bundle", "verdict", "cause", "advice"),
    [
        ("long", "ca.pem", OK, "days left: 59", ""),
        ("short", "ca.pem", WARNING, "days left: 2", "renew the certificate"),
        ("over", "ca.pem", FAILED, "has expired", "renew the certificate"),
        ("early", "ca.pem", FAILED, "is not yet valid", "this machine's clock"),
        ("other", "ca.pem", FAILED, "is for other.example, not for 127.0.0.1", "the certificate's name"),
        ("long", None, FAILED, "unable to get local issuer certificate", "set [gateway] ca_bundle"),
        ("long", "index.txt", FAILED, "holds no certificate", "set ca_bundle"),
        ("long", "none.pem", FAILED, "No such file", "set ca_bundle"),
    ],
)
def test_certificates(
    tmp_path: Path, certificates: Path, name: str, bundle: str | None, verdict: Verdict, cause: str, advice: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    with Server(tls=context) as server:
        house = Installation(tmp_path, server.url, more=f'ca_bundle = "{certificates / bundle}"\n' if bundle else "")
        found = {finding.check: finding for finding in house.examined().findings}
    assert found["certificate"].verdict is verdict
    assert cause in found["certificate"].found
    assert advice in found["certificate"].advice
    assert found["gateway"].verdict is (SKIPPED if verdict is FAILED else OK)


def test_a_port_that_speaks_no_tls(tmp_path: Path) -> None:
    with Server(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        house = Installation(tmp_path, f"https://127.0.0.1:{server.port}")
        found = {finding.check: finding for finding in house.examined().findings}
    assert "it doesn't use TLS" in found["certificate"].found


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (http("<html>Welcome</html>", content_type="text/html"), "not JSON"),
        (http("", status=301, headers={"Location": "https://new.example/"}), "redirects to https://new.example/"),
        (http("{}", content_type="application/json"), "not an OpenSRF envelope"),
        (http(envelope("something else")), "unexpected echo"),
    ],
)
def test_something_else_answers(tmp_path: Path, answer: bytes, cause: str) -> None:
    with Server(otherwise=raw(answer)) as server:
        (failed, *rest) = Installation(tmp_path, server.url).examined().failed
    assert (failed.check, rest) == ("gateway", [])
    assert cause in failed.found
    assert failed.advice


def test_the_mail_server_is_tried_and_gets_no_mail(sandbox: Sandbox, tmp_path: Path, mail_certificates: Path) -> None:
    def found(password: str) -> Finding:
        house.environ["EVERGREEN_GROUPS_MAIL_PASSWORD"] = password
        (finding,) = [finding for finding in house.examined().findings if finding.check == "mail"]
        return finding

    post = Post()
    with mail_server(post, mail_certificates) as port:
        house = Installation(tmp_path, sandbox.url, more=mail_section(port, mail_certificates))
        right, wrong = found(SECRET), found("wrong")
        with State(house.state) as state:
            mail = build_message(
                Letter("Fines", "Nothing", "<p>Nothing</p>"),
                sender="groups@library.example",
                recipient="a@library.example",
                written_at=datetime.now(UTC),
                run="r",
            )
            Outbox(state.database).add([mail])
        waiting = found(SECRET)
        with State(house.state) as state, state.database.writing() as connection:
            connection.execute(update(schema.mails).values(held_since=datetime.now(UTC)))
        held = found(SECRET)
        house.more = house.more.replace("recipients", "# ")
        house.more += '[[reports]]\nname = "old"\nrecipients = {"*" = ["a@library.example"]}\n'
        house.write()
        of_another_report = found("wrong")
    assert (right.verdict, right.found) == (OK, "localhost")
    assert (wrong.verdict, "refused the login (535)" in wrong.found) == (FAILED, True)
    assert (waiting.verdict, waiting.found == "mails waiting to be sent: 1") == (WARNING, True)
    assert (held.verdict, held.found == "mails held since a restore: 1") == (WARNING, True)
    assert "refused the login (535)" in of_another_report.found
    assert post.taken == []
    assert SECRET not in repr((right, wrong, waiting))


def test_the_shared_counters_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(password: str) -> Finding:
        house.environ["EVERGREEN_GROUPS_REDIS_PASSWORD"] = password
        (finding,) = house.examined(only=["counters"]).findings
        return finding

    with RedisServer(tmp_path, SECRET) as counters:
        house = Installation(tmp_path, "http://127.0.0.1:9", more=f'[redis]\nurl = "{counters.url}"\n')
        right, wrong, none = found(SECRET), found("another"), found("")
        assert counters.client().dbsize() == 0
    stopped = found(SECRET)
    monkeypatch.setitem(sys.modules, "limits.storage", None)
    missing = found(SECRET)
    assert (right.verdict, right.found) == (OK, f"127.0.0.1:{counters.port}")
    for one in (wrong, none):
        assert (one.verdict, one.code) == (FAILED, "redis-login-refused")
        assert "password_file" in one.advice
    assert (stopped.verdict, stopped.code) == (FAILED, "redis-unusable")
    assert (missing.verdict, missing.advice) == (FAILED, f"{own_pip()} install 'evergreen-groups[serve,redis]'")
    assert SECRET not in repr((right, wrong, none, stopped, missing))


# --- What it says of the server: one line, the same for an account and for a site without one ---


VERSION = "opensrf.open-ils.system.ils_version"
AT_HOME = "open-ils.actor.user.penalties.update_at_home"


def of_server(house: Installation) -> Finding:
    (found,) = [finding for finding in house.examined(only=["server"]).findings if finding.check == "server"]
    return found


@pytest.mark.parametrize("is_web_only", [True, False])
@pytest.mark.parametrize(
    ("number", "bus", "line"),
    [
        ("3.11", "xmpp", "Evergreen 3.11.7 (XMPP, Apache)"),
        ("3.15", "redis", "Evergreen 3.15.14 (Redis, Apache)"),
        ("3.16", "xmpp", "Evergreen 3.16.10 (XMPP, Apache)"),
        (None, "redis", "Evergreen git, 3.17+ (Redis, Apache)"),
    ],
)
def test_one_line_says_what_the_server_is(
    tmp_path: Path, number: str | None, bus: str, line: str, is_web_only: bool
) -> None:
    with Sandbox(release=number, bus=bus) as sandbox:
        house = Installation(tmp_path, sandbox.url)
        if is_web_only:
            house.config.write_text(f'[gateway]\nurl = "{sandbox.url}"\n')
        found = of_server(house)
    assert (found.verdict, found.found, found.advice) == (OK, line, "")


@pytest.fixture(scope="module")
def rust() -> Iterator[Sandbox]:
    with Sandbox(gateway="rust") as sandbox:
        yield sandbox


class TestRust:
    """The gateway that is written in Rust, which says of no method whether it is there."""

    @pytest.fixture
    def proxy(self, rust: Sandbox) -> Iterator[FaultProxy]:
        rust.reset()
        with fault_proxy(rust.url) as running:
            yield running

    def test_nothing_is_wrong_and_no_worker_is_behind_after_it(
        self, proxy: FaultProxy, rust: Sandbox, tmp_path: Path
    ) -> None:
        diagnosis = Installation(tmp_path, proxy.url).examined()
        assert [said(finding) for finding in diagnosis.findings if finding.verdict is not OK] == []
        assert [one.found for one in diagnosis.findings if one.check == "server"] == [
            "Evergreen git, 3.17+ (Redis, Rust)"
        ]
        caller = Caller(rust.url)
        form = caller.form("open-ils.actor", "opensrf.system.echo", '"mine"')
        assert b'["mine"]' in caller.send("POST", "/osrf-gateway-v1", form)[2]

    @pytest.mark.long
    def test_of_a_method_that_fails_it_is_said_that_nobody_knows(self, proxy: FaultProxy, tmp_path: Path) -> None:
        refused = HttpAnswer(b'{"payload":[],"status":400}', 400, "text/json")
        proxy.instead = lambda call: refused if call.method == AT_HOME else None
        (finding,) = only(Installation(tmp_path, proxy.url).examined(), WARNING, FAILED)
        assert (finding.verdict, finding.code) == (WARNING, "methods-untold")
        assert finding.values["methods"] == [AT_HOME]


@pytest.mark.parametrize(
    ("answer", "beginning"),
    [
        ("3-x", "Evergreen 3-x (Redis, "),
        ("our \x1b[31m 3!", "Evergreen ? (Redis, "),
        ("", "Evergreen ? (Redis, "),
        (7, "Evergreen ? (Redis, "),
    ],
)
def test_names_that_are_no_releases(
    sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path, answer: object, beginning: str
) -> None:
    proxy.garble = lambda call: {"payload": [answer], "status": 200} if call.method == VERSION else None
    found = of_server(Installation(tmp_path, proxy.url))
    assert found.verdict is OK
    assert found.found.startswith(beginning)


@pytest.mark.apache(reason="the other one is named, and tells less")
def test_programs_get_the_facts_by_name(sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path) -> None:
    house = Installation(tmp_path, proxy.url)

    def document() -> Any:
        stream = io.StringIO()
        write_diagnosis_json(house.examined(only=["server"]), stream)
        return json.loads(stream.getvalue())["server"]

    services = ("open-ils.actor", "open-ils.circ", "open-ils.fielder")
    assert document() == {
        "release": None,
        "at_least": "3.17",
        "supported": True,
        "versions": dict.fromkeys(services, "HEAD"),
        "gateway": "opensrf",
        "bus": "redis",
        "row_checks": "in-query",
    }
    proxy.answer = lambda call: "3-10-5" if call.method == VERSION else None
    found = document()
    assert (found["release"], found["supported"]) == ("3.10.5", False)


def test_a_server_that_was_not_asked_is_none(tmp_path: Path) -> None:
    house = Installation(tmp_path, "http://127.0.0.1:9")
    stream = io.StringIO()
    write_diagnosis_json(house.examined(), stream)
    assert json.loads(stream.getvalue())["server"] is None
