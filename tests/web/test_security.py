"""Every route of the web service refuses unauthorized callers: no data, and no status 500."""

from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.circulators import take_away
from support.description import DOCUMENT
from support.web_caller import (
    API,
    SECRET,
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
from werkzeug.test import TestResponse

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import NamedReport, ReportSettings, ServeSettings
from evergreen_groups.settings.sections import DeskSettings
from evergreen_groups.web import PREFIX
from evergreen_groups.web.api import SECRET_HEADER
from evergreen_groups.web.app import LARGEST_BODY

pytestmark = pytest.mark.long

SCRIPTS = ("panel.js", "group.js", "tab.js", "texts.js", "desk.json", "reports/follow-up.js")
VALUES = {"patron": "1001", "barcode": "20000000001001", "group": "1001", "change": "1-kkkkkk"}
VALUES |= {"report": "old", "name": "LAKELAND"}
ADDRESSES = [PREFIX + re.sub("{(.+?)}", lambda found: VALUES[found[1]], path) for path in DOCUMENT["paths"]]
ADDRESSES.append(f"{PREFIX}/{SCRIPTS[-1]}")
"""All addresses but those of pages: see desk_pages/test_security.py, test_follow_ups.py and test_letters.py."""
PUBLIC = {f"{PREFIX}/{name}" for name in ("healthz", "readyz", "openapi.json", *SCRIPTS)}
CHANGING = [f"{API}/{path}" for path in ("plans", "changes", "changes/1-kkkkkk/undo")]
"""Routes that accept a POST."""
RECORDED = [f"{API}/groups", f"{API}/follow-ups"]
"""Routes that have data only if a report is recorded, as in test_groups.py and test_follow_ups.py."""
PRIVATE = sorted(
    set(ADDRESSES) - PUBLIC - {f"{PREFIX}/events", f"{PREFIX}/metrics", *CHANGING, *RECORDED} | {f"{API}/changes"}
)
MOVE = {"action": "move", "patrons": ["20000000001002"], "target": "20000000001051"}
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "CONNECT"}

JUNK = "0123456789abcdef0123456789abcdef"
KEYS = count(1)

DATA = re.compile(
    r"20000000001\d{3}|Okonkwo|Adaeze|Whitfield|Grace|28\.10|4\.90|family of the report|\"blocked\""
    r"|\"(steps|warnings|own_fines|under_way|changes)\""
)
"""Data about the patrons that these tests ask for."""

ELSEWHERE = {
    f"{API}/patrons/{{}}/summary": (1036, 999_999),
    f"{API}/patrons/{{}}/group": (1036, 999_999),
    f"{API}/patrons/{{}}/group/bills": (1036, 999_999),
    f"{API}/patrons/{{}}/group/slip": (1036, 999_999),
    f"{API}/patrons/{{}}/block": (1036, 999_999),
    f"{API}/patrons/by-barcode/{{}}/block": (20_000_000_001_036, 20_000_000_999_999),
    f"{API}/groups/{{}}": (1009, 999_999),
}
"""Records that the Harbor Street desk can't see, and records that don't exist."""

UNUSABLE = [
    "0", "-1", "1.0", "1e3", "0x3e9", " 1001", "1001 ", "1001\n", "+1001", "01001", "١٠٠١", "2147483648", "9" * 4000,
    "abc", "null", "1001;1036", "1001,1036", "1001'--", "1001\0", "{}", "[1001]", "../1036", "..", ".", "*", "%",
    "\x7f", "<script>", "1001\r\nX-Evil: 1", "\ud800", "é" * 200, "a" * 65,
]  # fmt: skip


@pytest.fixture
def app(make_app: MakeApp, sandbox: Sandbox, tmp_path: Path) -> Flask:
    (tmp_path / "reports" / "latest").mkdir(parents=True)
    for name in ("LAKELAND", "NORTH", "HARBOR"):
        page = tmp_path / "reports" / "latest" / f"{name}.html"
        page.write_text("<!DOCTYPE html><title>family of the report</title>")
    serve = ServeSettings(port=0, report=tmp_path / "reports", rate_limit=1_000_000)
    named = NamedReport(name="old", report=ReportSettings(output=tmp_path / "reports", split="library"))
    return make_app(replace(settings_of(sandbox.url, serve=serve, events=events_settings(tmp_path)), reports=(named,)))


@pytest.fixture
def caller(app: Flask, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.setattr("evergreen_groups.state.record_ids._SUFFIX_LETTERS", "k")  # for ids as in ADDRESSES
    return app.test_client(use_cookies=False)


@pytest.fixture
def staff(sandbox: Sandbox, caller: FlaskClient) -> str:
    """Return the token of a session that may see all patrons and has made change 1."""
    token = session(sandbox.url, username="consortium_staff")
    posted(caller, f"{API}/changes", {"plan": planned(caller, token)}, **bearer(token))
    return token


def planned(caller: FlaskClient, token: str) -> str:
    """Make a plan with the token's session and return its id."""
    plan = {"action": "lead", "patrons": ["20000000001002"], "off": True}
    if not posted(caller, f"{API}/plans", plan, **bearer(token)).get_json()["steps"]:
        plan["off"] = False
    return str(posted(caller, f"{API}/plans", plan, **bearer(token)).get_json()["id"])


def posted(caller: FlaskClient, address: str, body: object, **headers: str) -> TestResponse:
    """POST the body with a new idempotency key."""
    return caller.post(address, json=body, headers={"Idempotency-Key": f"key-{next(KEYS)}", **headers})


def body_of(address: str, plan: str = "a-plan") -> object:
    """Return a suitable body for a POST to the address."""
    return {"plans": MOVE, "changes": {"plan": plan}}.get(address.rpartition("/")[2], {})


def asked(caller: FlaskClient, address: str, staff: str, **headers: str) -> TestResponse:
    """Ask for the address, or POST a suitable body to it, with a plan of the staff's."""
    if address.partition("?")[0] in CHANGING:
        return posted(caller, address, body_of(address.partition("?")[0], planned(caller, staff)), **headers)
    return caller.get(address, headers=headers)


def check(answer: TestResponse, *statuses: int) -> None:
    """Check that the answer has one of ``statuses`` and only a problem document."""
    assert answer.status_code in statuses
    assert not DATA.search(answer.text)
    assert answer.content_type == "application/problem+json"
    problem = json.loads(answer.text)
    assert problem.keys() == {"type", "title", "status", "detail", "code"}
    assert problem["status"] == answer.status_code


def test_authorized_callers_get_in(caller: FlaskClient, staff: str) -> None:
    """Without this test, the rest of the file would pass with a service that refuses every caller."""
    for address in PRIVATE:
        for headers in (bearer(staff), cookie(staff)):
            answer = caller.get(address, headers=headers, follow_redirects=True)
            assert answer.status_code == 200, address
            assert DATA.search(answer.text), address
    for address in CHANGING[::-1]:
        answer = posted(caller, address, body_of(address, planned(caller, staff)), **bearer(staff))
        assert answer.status_code in (200, 201), answer.text
        assert DATA.search(answer.text), address


class TestWhoHasNoBusinessThere:
    @pytest.mark.parametrize("address", ELSEWHERE)
    def test_staff_of_another_library_learn_nothing(self, caller: FlaskClient, sandbox: Sandbox, address: str) -> None:
        headers = bearer(session(sandbox.url, username="harbor_desk"))
        hidden, unknown = (caller.get(address.format(value), headers=headers) for value in ELSEWHERE[address])
        check(hidden, 404)
        assert (hidden.status_code, hidden.data, dict(hidden.headers)) == (404, unknown.data, dict(unknown.headers))

    @pytest.mark.parametrize("address", PRIVATE)
    def test_pages_of_other_origins(self, caller: FlaskClient, sandbox: Sandbox, staff: str, address: str) -> None:
        for header in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            check(caller.get(address, headers={**cookie(staff), **header}), 403)
        own = {"Origin": sandbox.url, "Sec-Fetch-Site": "same-origin"}
        assert caller.get(address, headers={**cookie(staff), **own}, follow_redirects=True).status_code == 200

    @pytest.mark.parametrize(
        ("address", "headers"),
        [
            ("127.0.0.1", {}),
            ("127.0.0.1", {SECRET_HEADER: ""}),
            ("127.0.0.1", {SECRET_HEADER: SECRET + "x"}),
            ("127.0.0.1", {SECRET_HEADER: SECRET[:-1]}),
            ("127.0.0.1", {SECRET_HEADER: "ü" * 26}),
            ("127.0.0.1", {"Authorization": f"Bearer {SECRET}"}),
            ("203.0.113.5", {SECRET_HEADER: SECRET}),
            ("203.0.113.5", {SECRET_HEADER: SECRET, "X-Forwarded-For": "127.0.0.1"}),
            ("127.0.0.1", {SECRET_HEADER: SECRET, "X-Forwarded-For": "203.0.113.5"}),
            ("127.0.0.1", {SECRET_HEADER: SECRET, "X-Forwarded-For": "127.0.0.1, 203.0.113.5"}),
            ("127.0.0.1", {SECRET_HEADER: SECRET, "X-Forwarded-Host": "ils.example.org"}),
        ],
    )
    def test_events_from_strangers(self, caller: FlaskClient, address: str, headers: dict[str, str]) -> None:
        event = {"event": 1, "hook": "au.updated", "patron": 1001}
        check(caller.post(f"{PREFIX}/events", json=event, headers=headers, environ_base={"REMOTE_ADDR": address}), 403)

    def test_a_session_does_for_no_event(self, caller: FlaskClient, staff: str) -> None:
        event = {"event": 1, "hook": "au.updated", "patron": 1001}
        check(caller.post(f"{PREFIX}/events", json=event, headers=bearer(staff)), 403)
        check(caller.post(f"{PREFIX}/events", json=event, headers=cookie(staff)), 403)


class TestWhoMayChangeNothing:
    """Unauthorized callers can't plan or change anything, and don't learn any names."""

    @pytest.fixture(autouse=True)
    def nothing_was_changed(self, sandbox: Sandbox, staff: str) -> Iterator[None]:
        def patrons() -> list[object]:
            return sandbox._store.read().execute("SELECT id, usrgroup, master_account FROM au ORDER BY id").fetchall()

        before = patrons()
        yield
        assert patrons() == before

    @pytest.mark.parametrize("address", [*PRIVATE, *RECORDED, *CHANGING])
    def test_no_session(self, caller: FlaskClient, sandbox: Sandbox, staff: str, address: str) -> None:
        ended = session(sandbox.url, username="consortium_staff")
        end_session(sandbox.url, ended)
        own = {"Origin": sandbox.url, "Sec-Fetch-Site": "same-origin"}
        for headers in (
            {},
            bearer(JUNK),
            {**cookie(JUNK), **own},
            bearer("' OR 1=1 --"),
            bearer("a" * 5000),
            bearer(ended),
            {**cookie(ended), **own},
            {"Cookie": f"eg.auth.token.provisional={quote(json.dumps(staff))}", **own},
            {"Authorization": f"Basic {staff}"},
            {"X-Auth-Token": staff, "X-Forwarded-User": "admin", "X-Forwarded-For": "127.0.0.1"},
            {SECRET_HEADER: SECRET},
        ):
            answer = asked(caller, address, staff, **headers)
            check(answer, 401)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        check(asked(caller, f"{address}?token={staff}&authtoken={staff}&ses={staff}", staff), 401)

    @pytest.mark.parametrize("address", [*PRIVATE, *RECORDED, *CHANGING])
    def test_patrons_and_staff_who_may_not_look(
        self, caller: FlaskClient, sandbox: Sandbox, staff: str, address: str
    ) -> None:
        take_away(sandbox, "VIEW_USER", user=4)
        own = session(sandbox.url, barcode="20000000001001", type="opac")
        for token in (own, session(sandbox.url, username="harbor_desk")):
            check(asked(caller, address, staff, **bearer(token)), 403)
        check(caller.get(address.replace("1001", "1002"), headers=bearer(own)), 403, 405)

    @pytest.mark.parametrize("address", CHANGING)
    def test_forms_and_scripts_of_other_sites(
        self, caller: FlaskClient, sandbox: Sandbox, staff: str, address: str
    ) -> None:
        """Unless ``SameSite`` prevents it, a browser sends the cookie, but marks the request as cross-site."""
        body, key = body_of(address, planned(caller, staff)), {"Idempotency-Key": "of-another-site"}
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        as_text = {"Content-Type": "text/plain"}
        for foreign in (
            {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "none"},
            {"Origin": sandbox.url.replace("http:", "https:")},
            {"Origin": sandbox.url + ".evil.example"},
            {},
        ):
            headers = {**cookie(staff), **foreign}
            answer = posted(caller, address, body, **headers)
            check(answer, 403)
            assert answer.get_json(force=True)["code"] == "foreign-write"
            if foreign:
                check(posted(caller, address, body, **bearer(staff), **foreign), 403)
            check(caller.post(address, data=b"plan=x", headers={**headers, **form, **key}), 403)
            check(caller.post(address, data=json.dumps(body), headers={**headers, **as_text, **key}), 403)
            check(caller.post(address, data=json.dumps(body), headers={**headers, **as_text}), 403)

    @pytest.mark.parametrize("address", CHANGING[1:])
    def test_a_form_of_our_own_site_has_no_key(
        self, caller: FlaskClient, sandbox: Sandbox, staff: str, address: str
    ) -> None:
        own = {**cookie(staff), "Origin": sandbox.url, "Sec-Fetch-Site": "same-origin"}
        body = json.dumps(body_of(address, planned(caller, staff)))
        keyless = caller.post(address, data=body, headers={**own, "Content-Type": "application/json"})
        check(keyless, 400)
        assert keyless.get_json(force=True)["code"] == "key-missing"
        for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            check(caller.post(address, data=body, headers={**own, "Content-Type": content_type}), 400, 415)

    def test_switched_off(self, make_app: MakeApp, sandbox: Sandbox, staff: str, caller: FlaskClient) -> None:
        plan = planned(caller, staff)
        looking = client_of(make_app(settings_of(sandbox.url, desk=DeskSettings(changes=False))))
        for address in CHANGING:
            refused = posted(looking, address, body_of(address, plan), **bearer(staff))
            check(refused, 403)
            assert refused.get_json(force=True)["code"] == "changes-off"
            check(posted(looking, address, body_of(address, plan)), 401)
        for address in (f"{API}/changes", f"{API}/changes/1-kkkkkk", f"{API}/patrons/1001/summary"):
            assert looking.get(address, headers=bearer(staff)).status_code == 200


class TestInput:
    @pytest.mark.parametrize("address", ELSEWHERE)
    def test_invalid_ids_and_barcodes(self, caller: FlaskClient, staff: str, address: str) -> None:
        for value in UNUSABLE:
            path = address.format(quote(value, safe="", errors="surrogatepass"))
            answer = caller.get(path, headers=bearer(staff))
            check(answer, 400, 404)
            assert "X-Evil" not in answer.headers
            check(caller.get(path), 401, 404)  # without a session, a caller isn't told what is wrong with the path

    @pytest.mark.parametrize(
        "body",
        [
            "", "{", "null", "[]", "1", '"x"', "[" * LARGEST_BODY, "{}", '{"event": 1}', "\xff",
            '{"event": 1, "hook": "au.updated"}',
            '{"event": 1, "hook": "au.updated", "patron": 1001, "patron": 1002}',
            "event=1&hook=au.updated&patron=1001&patron=1002",
            '{"event": true, "hook": "au.updated", "patron": 1001}',
            '{"event": 0, "hook": "au.updated", "patron": 1001}',
            '{"event": 1.5, "hook": "au.updated", "patron": 1001}',
            '{"event": 9223372036854775808, "hook": "au.updated", "patron": 1001}',
            '{"event": 1, "hook": "au.updated", "patron": 2147483648}',
            '{"event": 1, "hook": "au.updated", "patron": "1001 OR 1=1"}',
            '{"event": 1, "hook": "au.updated", "patron": "' + "9" * 3000 + '"}',
            '{"event": 1, "hook": "au.updated", "patron": ' + "9" * 3000 + "}",
            '{"event": 1, "hook": "au.updated", "patron": [1001]}',
            '{"event": 1, "hook": "", "patron": 1001}',
            '{"event": 1, "hook": 5, "patron": 1001}',
            '{"event": 1, "hook": "a\\nb", "patron": 1001}',
            '{"event": 1, "hook": "' + "a" * 101 + '", "patron": 1001}',
        ],
    )  # fmt: skip
    def test_bodies_that_are_no_event(self, caller: FlaskClient, body: str) -> None:
        raw = body.encode("latin-1")
        for content_type in ("application/json", "application/x-www-form-urlencoded"):
            headers = {SECRET_HEADER: SECRET, "Content-Type": content_type}
            check(caller.post(f"{PREFIX}/events", data=raw, headers=headers), 400)

    @pytest.mark.parametrize("content_type", ["", "text/plain", "text/xml", "multipart/form-data; boundary=x", "a"])
    def test_bodies_of_other_types(self, caller: FlaskClient, content_type: str) -> None:
        headers = {SECRET_HEADER: SECRET, "Content-Type": content_type}
        check(caller.post(f"{PREFIX}/events", data=b"event=1&hook=x&patron=1001", headers=headers), 415)

    def test_bodies_that_are_too_large(self, caller: FlaskClient, staff: str) -> None:
        headers = {SECRET_HEADER: SECRET, "Content-Type": "application/json"}
        check(caller.post(f"{PREFIX}/events", data=b" " * (LARGEST_BODY + 1), headers=headers), 413)
        for address in PRIVATE:  # an unread body does no harm
            assert caller.get(address, data=b" " * 100_000, headers=bearer(staff)).status_code in (200, 303)

    @pytest.mark.parametrize("address", ADDRESSES)
    def test_methods_that_a_route_does_not_take(self, caller: FlaskClient, staff: str, address: str) -> None:
        taken = {"POST"} if address.endswith("/events") or address in CHANGING else {"GET", "HEAD"}
        if address in (f"{API}/changes", f"{API}/follow-ups"):
            taken = {"GET", "HEAD", "POST"}
        headers = {**bearer(staff), "X-HTTP-Method-Override": min(taken), "X-HTTP-Method": min(taken)}
        for method in METHODS - taken:
            answer = caller.open(f"{address}?_method={min(taken)}", method=method, headers=headers)
            assert answer.status_code == 405
            assert set(answer.headers["Allow"].split(", ")) == taken
            assert not DATA.search(answer.text)

    @pytest.mark.parametrize("address", PRIVATE)
    def test_head_gives_a_status_and_no_data(self, caller: FlaskClient, staff: str, address: str) -> None:
        assert caller.head(address).status_code == 401
        answer = caller.head(address, headers=bearer(staff), follow_redirects=True)
        assert (answer.status_code, answer.data) == (200, b"")


class TestAddresses:
    """Use a real connection, because clients and test clients normalize addresses."""

    TRICKS = (
        "/", "//", "/..", "/evergreen-groups", "/evergreen-groups/", "/api/v1/groups/1001",
        "/evergreen-groups//healthz", "/evergreen-groups/./healthz", "/evergreen-groups/../healthz", "/healthz",
        "/evergreen-groups/healthz/", "/evergreen-groups/healthz/..", "/evergreen-groups/healthz%00",
        "/evergreen-groups/healthz%2f..", "/evergreen-groups/%2e%2e/%2e%2e/etc/passwd", "/EVERGREEN-GROUPS/healthz",
        "/evergreen-groups/reports/../../../../etc/passwd", "/evergreen-groups/reports/latest/../latest",
        "/evergreen-groups/reports/..%2f..%2fetc%2fpasswd", "/evergreen-groups/reports/report.html",
        "/evergreen-groups/static/panel.js", "/evergreen-groups/panel.js/../openapi.json",
        "/evergreen-groups/panel.js.map",
        "/evergreen-groups/api/v1/patrons/1001%252fsummary", "/evergreen-groups/api/v1/patrons/1001/summary/",
        "/evergreen-groups/api/v1/patrons//1001/summary", "/evergreen-groups/api/v1/patrons/1001//summary",
        "/evergreen-groups/api/v1/patrons/by-barcode//block", "/evergreen-groups/api/v1/patrons/by-barcode/block/extra",
        "/evergreen-groups/api/v1/patrons/1001/../1036/summary", "/evergreen-groups/api/v1/patrons/%2e%2e/groups/1001",
        "/evergreen-groups/api/v2/patrons/1001/summary", "/evergreen-groups/api/v1", "/evergreen-groups/%c0%ae%c0%ae/",
        "/evergreen-groups/%ff%fe", "/evergreen-groups/api/v1/patrons/1001/summary;x=y", "/evergreen-groups\\healthz",
        "/evergreen-groups/events/", "/osrf-gateway-v1", "/evergreen-groups/" + "a" * 8000,
        "/evergreen-groups/api/v1/patrons/" + "9" * 8000 + "/summary",
        "/evergreen-groups/api/v1/changes/", "/evergreen-groups/api/v1/changes/1/", "/evergreen-groups/api/v1/plans/1",
        "/evergreen-groups/api/v1/changes//1", "/evergreen-groups/api/v1/changes/1/undo/",
        "/evergreen-groups/api/v1/changes/1%00", "/evergreen-groups/api/v1/changes/%2e%2e/plans",
    )  # fmt: skip

    def test_tricks_lead_nowhere(self, app: Flask, staff: str) -> None:
        with served(app) as url:
            for token in (None, staff):
                for path in self.TRICKS:
                    status, answer = raw_get(url, path, token)
                    assert status in ((400, 404) if token else (400, 401, 404)), path[:100]
                    assert not DATA.search(answer), path[:100]
                    assert "root:" not in answer, path[:100]

    @pytest.mark.parametrize(
        "request_text",
        [
            "GET / HTTP/9.9\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01\r\n\r\n",
            "GET\r\n\r\n",
            "GET /evergreen-groups/healthz HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            "GET /evergreen-groups/healthz HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            "POST /evergreen-groups/events HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "POST /evergreen-groups/events HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
            f"POST /evergreen-groups/events HTTP/1.1\r\nContent-Length: {10**9}\r\n\r\n",
            "GET /evergreen-groups/healthz HTTP/1.1\r\nX: " + "a" * 100_000 + "\r\n\r\n",
            "GET /evergreen-groups/" + "a" * 300_000 + " HTTP/1.1\r\n\r\n",
        ],
        ids=lambda text: repr(text[:40]),
    )
    @pytest.mark.long
    def test_malformed_requests_do_no_harm(self, app: Flask, request_text: str) -> None:
        with served(app) as url:
            answer = raw(url, request_text.encode("latin-1"))
            assert re.match(r"HTTP/1.[01] (?!500)[45]\d\d ", answer)
            assert raw_get(url, f"{PREFIX}/healthz", None)[0] == 200


def raw(url: str, request: bytes) -> str:
    """Send bytes unchanged and return the response."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.settimeout(60)
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before everything was sent; the answer says why
        parts = []
        try:
            while part := connection.recv(65536):
                parts.append(part)
        except ConnectionResetError:
            pass
    return b"".join(parts).decode("latin-1")


def raw_get(url: str, path: str, token: str | None, *headers: str) -> tuple[int, str]:
    lines = [f"GET {path} HTTP/1.1", "Host: ils.example.org", "Connection: close", *headers]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    answer = raw(url, ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    return int(answer.split(" ", 2)[1]), answer


def test_every_answer_has_the_headers_that_keep_it_to_itself(caller: FlaskClient, staff: str) -> None:
    for address in [*ADDRESSES, "/", f"{PREFIX}/nothing", f"{API}/groups/x"]:
        for method in ("GET", "POST"):
            for headers in ({}, cookie(staff), {**cookie(staff), "Origin": "https://evil.example"}):
                answer = caller.open(address, method=method, headers=headers)
                kept = address.endswith((".js", "/desk.json")) and answer.status_code == 200
                expected = "no-cache" if kept else "no-store"
                assert answer.headers["Cache-Control"] == expected
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Referrer-Policy"] == "no-referrer"
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
                assert "Set-Cookie" not in answer.headers
                assert "Server" not in answer.headers
                assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]


def test_nothing_about_patrons_and_no_secret_is_logged(
    caller: FlaskClient, sandbox: Sandbox, staff: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    own = session(sandbox.url, barcode="20000000001001", type="opac")
    event = {"event": 1, "hook": "au.updated", "patron": 1001}
    for address in ADDRESSES:
        for headers in (bearer(staff), cookie(own), bearer(JUNK), {SECRET_HEADER: SECRET}):
            caller.get(address, headers=headers)
            caller.post(address, headers=headers, json=event)
            caller.get(f"{address}?name=Okonkwo", headers=headers)
            posted(caller, address, body_of(address), **headers)
    text = caplog.text
    assert f"GET {API}/patrons/<patron>/summary 200" in text
    assert f"POST {API}/changes/<change>/undo 200" in text
    for secret in (staff, own, JUNK, SECRET, "sandbox", "20000000001", "Okonkwo", "patrons/1001"):
        assert secret not in text.replace("evergreen_groups.sandbox", ""), secret
