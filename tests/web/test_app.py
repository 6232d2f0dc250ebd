"""The web service: its answers, the session it acts for, and its setup."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from support.circulators import take_away
from support.fault_proxy import Call, Fault, FaultProxy, HeldCalls, HttpAnswer
from support.gateway_server import Server, http_error, says, then_close
from support.mail_server import context_of
from support.web_caller import (
    API,
    Clock,
    MakeApp,
    bearer,
    client_of,
    cookie,
    end_session,
    events_settings,
    served,
    session,
    settings_of,
)

from evergreen_groups import hooks
from evergreen_groups.client import Client
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.gateway import Gateway
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings, ServeSettings, Settings
from evergreen_groups.web import PREFIX, close, create_app

ECHO = "opensrf.system.echo"
LOGIN, LOOK = "open-ils.auth.login", "open-ils.auth.session.retrieve"


@pytest.fixture
def caller(app: Flask) -> FlaskClient:
    return client_of(app)


class TestReading:
    @pytest.mark.parametrize("account", ["consortium_staff", "north_manager"])
    def test_it_answers_what_the_hooks_do_in_the_callers_name(
        self, caller: FlaskClient, sandbox: Sandbox, account: str
    ) -> None:
        token = session(sandbox.url, username=account)
        with Gateway(sandbox.url, token=token) as gateway:
            own = Client(gateway, account=account)
            expected = {
                f"{API}/patrons/1026/summary": hooks.as_json(hooks.patron_summary(own, 1026)),
                f"{API}/patrons/1053/block": hooks.as_json(hooks.block_decision(own, 1053)),
                f"{API}/patrons/by-barcode/20000000001053/block": hooks.as_json(hooks.block_decision(own, 1053)),
                f"{API}/groups/1006": hooks.as_json(hooks.group_summary(own, 1006)),
            }
        for address, document in expected.items():
            for headers in (bearer(token), cookie(token)):
                answer = caller.get(address, headers=headers)
                assert (answer.status_code, answer.content_type) == (200, "application/json")
                assert answer.get_json() == document

    def test_nobody_is_logged_in_to_read(self, caller: FlaskClient, proxy: FaultProxy, staff: dict[str, str]) -> None:
        for address in ("patrons/1001/summary", "patrons/1001/block", "groups/1001", "patrons/999999/block"):
            caller.get(f"{API}/{address}", headers=staff)
        assert LOGIN not in proxy.seen
        assert proxy.seen

    def test_a_session_that_has_ended_gets_no_further_though_it_is_remembered(
        self, caller: FlaskClient, sandbox: Sandbox
    ) -> None:
        token = session(sandbox.url, username="consortium_staff")
        addresses = [f"{API}/{rest}" for rest in ("patrons/1001/summary", "patrons/1001/block", "groups/1001")]
        for address in addresses:
            assert caller.get(address, headers=bearer(token)).status_code == 200
        end_session(sandbox.url, token)
        for address in addresses:
            answer = caller.get(address, headers=bearer(token))
            assert answer.status_code == 401
            assert answer.json is not None
            assert "token" in answer.json["detail"]
            assert "browser" not in answer.json["detail"]

    def test_the_log_says_which_permission_a_session_lacks(
        self, make_app: MakeApp, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The ILS's own limits require more permissions than staff commonly have."""
        caplog.set_level(logging.INFO)
        take_away(sandbox, "VIEW_GROUP_PENALTY_THRESHOLD")
        caller = client_of(make_app(settings_of(sandbox.url, policy=PolicySettings(limit="ils"))))
        patron = session(sandbox.url, barcode="20000000001001", type="opac")
        desk = session(sandbox.url, username="harbor_desk")
        for token, lacking in ((patron, "STAFF_LOGIN and VIEW_USER"), (desk, "VIEW_GROUP_PENALTY_THRESHOLD")):
            assert caller.get(f"{API}/patrons/1001/block", headers=bearer(token)).status_code == 403
            assert f"the session lacks the permission {lacking}\n" in caplog.text

    def test_a_deleted_patron_is_not_there(self, caller: FlaskClient, staff: dict[str, str]) -> None:
        for resource in ("summary", "block", "group"):
            assert caller.get(f"{API}/patrons/1031/{resource}", headers=staff).status_code == 404

    def test_many_at_once_get_each_their_own(self, make_app: MakeApp, sandbox: Sandbox) -> None:
        """Over real connections, no answer reaches another session or is about another patron."""
        app = make_app(settings_of(sandbox.url, serve=ServeSettings(port=0, threads=8)))
        hidden = {"north_manager": 1, "admin": 0}
        tokens = {account: session(sandbox.url, username=account) for account in hidden}

        def ask(number: int) -> None:
            account, patron = list(hidden)[number % 2], (1026, 1028)[number // 2 % 2]
            answer = requests.get(f"{url}{API}/patrons/{patron}/summary", headers=bearer(tokens[account]), timeout=60)
            document = answer.json()
            assert (document["patron"], document["hidden_members"]["count"]) == (patron, hidden[account])

        with served(app, ServeSettings(port=0, threads=8)) as url, ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(60)))


def test_made_up_tokens_are_soon_refused_without_a_call_and_block_no_session(
    make_app: MakeApp, sandbox: Sandbox, proxy: FaultProxy, clock: Clock
) -> None:
    caller = client_of(make_app(settings_of(proxy.url, serve=ServeSettings(rate_limit=30))))
    known, new = (bearer(session(sandbox.url, username=name)) for name in ("consortium_staff", "admin"))

    def status(headers: dict[str, str], address: str = "203.0.113.5") -> int:
        headers = {**headers, "X-Forwarded-For": address}
        return caller.get(f"{API}/patrons/1001/block", headers=headers).status_code

    assert status(known) == 200
    assert [status(bearer(f"{number:032}")) for number in range(5)] == [401, 401, 401, 429, 429]
    before = len(proxy.seen)
    assert status(bearer("f" * 32)) == 429
    assert len(proxy.seen) == before
    assert status(bearer("f" * 32), "203.0.113.6") == 401
    clock.now += 5  # not long enough for another attempt
    assert (status(known), status(new)) == (200, 429)
    clock.now += 60
    assert (status(known), status(new)) == (200, 200)


@pytest.mark.parametrize("name", ["panel.js", "group.js", "tab.js", "texts.js", "desk.json"])
def test_a_script_is_fetched_again_only_when_it_has_changed(caller: FlaskClient, name: str) -> None:
    first = caller.get(f"{PREFIX}/{name}")
    kind = "text/javascript; charset=utf-8" if name.endswith(".js") else "application/json"
    assert (first.status_code, first.content_type) == (200, kind)
    second = caller.get(f"{PREFIX}/{name}", headers={"If-None-Match": first.headers["ETag"]})
    assert (second.status_code, second.data) == (304, b"")
    assert caller.get(f"{PREFIX}/{name}", headers={"If-None-Match": '"other"'}).status_code == 200


class TestHealth:
    @pytest.mark.apache(reason="it counts echoes")
    def test_it_says_whether_the_gateway_answers_and_asks_it_seldom(
        self, caller: FlaskClient, proxy: FaultProxy, clock: Clock
    ) -> None:
        asked: list[str] = []
        proxy.before_answer = lambda call: asked.append(call.service) if call.method == ECHO else None
        for _ in range(3):
            answer = caller.get(f"{PREFIX}/healthz")
            assert answer.get_json() == {"status": "up", "gateway": "answers", "breaker": "closed"}
        assert asked == ["open-ils.auth", "open-ils.actor", "open-ils.pcrud"], "once for each service"
        clock.now += 16
        proxy.decide = lambda call: Fault.DROP_REQUEST
        for _ in range(3):
            answer = caller.get(f"{PREFIX}/healthz")
            assert (answer.status_code, answer.get_json()["gateway"]) == (200, "does not answer")

    @pytest.mark.parametrize("service", ["open-ils.auth", "open-ils.actor", "open-ils.pcrud"])
    @pytest.mark.parametrize(
        "debug", ["osrfServiceException : Service Not Found", "Internal Server Error : Transport Error"]
    )
    def test_a_stopped_service_is_no_gateway_that_answers(
        self, caller: FlaskClient, proxy: FaultProxy, service: str, debug: str
    ) -> None:
        proxy.refuse = lambda call: (404, debug) if call.service == service else None
        assert caller.get(f"{PREFIX}/healthz").get_json()["gateway"] == "does not answer"

    def test_one_request_at_a_time_looks(self, make_app: MakeApp, proxy: FaultProxy, clock: Clock) -> None:
        serve = ServeSettings(port=0, threads=3)
        with served(make_app(settings_of(proxy.url, serve=serve)), serve) as url, ThreadPoolExecutor(1) as pool:

            def gateway() -> str:
                return str(requests.get(f"{url}{PREFIX}/healthz", timeout=60).json()["gateway"])

            for known in ("not known yet", "answers"):
                held = HeldCalls(proxy, lambda call: call.method == ECHO)
                looking = pool.submit(gateway)
                held.wait_for()
                before = proxy.seen.count(ECHO)
                assert [gateway() for _ in range(3)] == [known] * 3
                assert proxy.seen.count(ECHO) == before
                held.let_go()
                assert looking.result() == "answers"
                clock.now += 16

    def test_what_requests_have_seen_of_the_gateway_will_do(
        self, caller: FlaskClient, proxy: FaultProxy, staff: dict[str, str]
    ) -> None:
        caller.get(f"{API}/patrons/1001/block", headers=staff)
        before = len(proxy.seen)
        assert caller.get(f"{PREFIX}/healthz").get_json()["gateway"] == "answers"
        assert len(proxy.seen) == before


class TestMaking:
    def test_without_a_gateway(self) -> None:
        with pytest.raises(ConfigurationError, match="no configuration found; run `evergreen-groups init`"):
            create_app(Settings(), {})

    def test_events_need_a_service_account(self, tmp_path: Path) -> None:
        settings = settings_of("http://127.0.0.1:1", events=events_settings(tmp_path))
        with pytest.raises(ConfigurationError, match="no password is set"):
            create_app(settings, {})
        settings = replace(settings, gateway=replace(settings.gateway, username=None))
        with pytest.raises(ConfigurationError, match="username"):
            create_app(settings, {"EVERGREEN_GROUPS_PASSWORD": "x"})

    def test_it_needs_no_gateway_to_start_and_none_to_stop(self) -> None:
        app = create_app(settings_of("http://127.0.0.1:1"), {})
        assert client_of(app).get(f"{PREFIX}/openapi.json").status_code == 200
        close(app)

    def test_a_mount_that_takes_the_prefix_off(self, caller: FlaskClient, staff: dict[str, str]) -> None:
        mount = {"SCRIPT_NAME": PREFIX}
        address = "/api/v1/patrons/1001/block"
        assert caller.get(address, headers=staff, environ_overrides=mount).status_code == 200
        assert caller.get("/healthz", environ_overrides=mount).status_code == 200
        assert caller.get(address, headers=staff).status_code == 404

    def test_the_origin_is_the_gateways_unless_it_is_given(
        self, make_app: MakeApp, sandbox: Sandbox, staff: dict[str, str]
    ) -> None:
        serve = ServeSettings(origin="https://ils.example.org")
        for settings, origin in (
            (settings_of(sandbox.url), sandbox.url),
            (settings_of(sandbox.url, serve=serve), "https://ils.example.org"),
        ):
            caller = client_of(make_app(settings))
            answer = caller.get(f"{API}/patrons/1001/block", headers={**staff, "Origin": origin})
            assert answer.status_code == 200


def test_too_little_memory_is_no_bug(
    caller: FlaskClient, staff: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def exhaust(found: object) -> None:
        raise MemoryError

    monkeypatch.setattr(hooks, "as_json", exhaust)
    answer = caller.get(f"{API}/patrons/1001/block", headers=staff)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert "bug" not in answer.text + caplog.text


def test_a_bug_is_answered_and_its_message_goes_nowhere(
    caller: FlaskClient, staff: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(found: object) -> None:
        raise KeyError("Okonkwo, Adaeze")

    monkeypatch.setattr(hooks, "as_json", broken)
    caplog.set_level(logging.DEBUG)
    answer = caller.get(f"{API}/patrons/1001/block", headers=staff)
    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert "Okonkwo" not in answer.text + caplog.text
    assert "KeyError" in caplog.text
    assert "test_app.py" in caplog.text


def health(app: Flask) -> dict[str, str]:
    answer = client_of(app).get(f"{PREFIX}/healthz")
    assert answer.status_code == 200
    ready = client_of(app).get(f"{PREFIX}/readyz")
    assert ready.status_code == (200 if answer.get_json()["gateway"] == "answers" else 503)
    return answer.get_json()


@pytest.mark.parametrize(
    ("url", "cause"), [("http://127.0.0.1:1", "unreachable"), ("https://secret-name.example.invalid", "host-unknown")]
)
def test_no_gateway_is_there(make_app: MakeApp, url: str, cause: str) -> None:
    assert health(make_app(settings_of(url))) == {
        "status": "up", "gateway": "does not answer", "cause": cause, "breaker": "closed"
    }  # fmt: skip


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


CACHED = (
    "",  # the IDL
    "open-ils.auth.session.retrieve",
    "open-ils.actor.user.perm.check.multi_org",
    "open-ils.actor.user.has_work_perm_at.batch",
    "open-ils.pcrud.search.aou.atomic",
    "open-ils.pcrud.id_list.aou.atomic",
    "open-ils.pcrud.search.pgt.atomic",
    "open-ils.pcrud.search.pgpt.atomic",
    "open-ils.actor.settings.value_for_all_orgs.atomic",
)
"""Calls of a summary that are cached for the next: sessions, permissions, org units, profiles, thresholds."""

MALFORMED = {"hash": {}, "text": "x", "nothing in a list": [None], "a record of nothing": {"__c": "au", "__p": []}}


@pytest.mark.long
@pytest.mark.parametrize("wrong", MALFORMED)
@pytest.mark.parametrize("method", CACHED)
def test_after_a_malformed_answer_the_next_request_is_right(
    make_app: MakeApp, sandbox: Sandbox, proxy: FaultProxy, method: str, wrong: str
) -> None:
    app = make_app(settings_of(proxy.url, policy=PolicySettings("ils")))
    token = session(sandbox.url, username="consortium_staff")
    met: list[str] = []

    def alter(call: Call, answer: HttpAnswer) -> HttpAnswer | None:
        if call.method != method:
            return None
        met.append(method)
        return HttpAnswer.of({"payload": [MALFORMED[wrong]], "status": 200})

    def ask() -> tuple[int, object]:
        answer = client_of(app).get(f"{API}/patrons/1026/summary", headers=bearer(token))
        return answer.status_code, answer.get_json().get("group_fines")

    proxy.alter = alter
    status, fines = ask()
    assert met
    if status == 200:  # without knowing who may see thresholds, the service asks at each library
        assert (method, fines) == ("open-ils.actor.user.has_work_perm_at.batch", "40.40")
    else:
        assert fines is None
    proxy.alter = lambda call, answer: None
    assert ask() == (200, "40.40")
