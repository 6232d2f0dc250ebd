"""Every address of the desk's pages refuses unauthorized callers: no data, and never a write."""

from __future__ import annotations

import logging
import re

import pytest
from flask import Flask
from support.circulators import take_away
from support.desk_page import GROUP, ClerkNamed, DeskClerk, card
from support.fault_proxy import FaultProxy
from support.web_caller import client_of, cookie, end_session, session

from evergreen_groups.gateway import Gateway
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.web.desk.forms import LARGEST_FORM

pytestmark = pytest.mark.long  # too slow for a plain pytest run

NGUYEN, RUTH, GRACE = 1017, 1038, 1036
READ = [f"{GROUP.format(NGUYEN)}{part}" for part in ("", ".csv", "/history", "/statement", "/slip", "/members/1016")]
WRITTEN = [f"{GROUP.format(NGUYEN)}{part}" for part in ("/plan", "/change", "/undo", "/within", "/follow-up")]
FILES = [f"/evergreen-groups/desk/{name}" for name in ("desk.css", "desk.js", "colours.js")]
DATA = re.compile(r"Nguyễn|2000000000\d{4}|\$\d")
FROM_ELSEWHERE = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
]


def test_every_address_is_here(app: Flask) -> None:
    rules = {rule.rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("desk_pages.")}
    addresses = (address.replace(str(NGUYEN), "<patron>") for address in [*READ, *WRITTEN])
    there = {address.replace("/members/1016", "/members/<member>") for address in addresses}
    assert rules == there | {"/evergreen-groups/desk/<name>"}


def test_what_every_answer_has(clerk: DeskClerk, app: Flask) -> None:
    for address in [*READ[:1], *READ[2:], GROUP.format("999999"), GROUP.format("abc")]:
        headers = clerk.get(address).response.headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'self'" in policy
        assert headers["X-Frame-Options"] == "SAMEORIGIN"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "same-origin"
        text = clerk.get(address).response.text
        assert not re.search(r"<script(?! src=)|<style|\son\w+=|\sstyle=|javascript:", text)
    others = client_of(app).get("/evergreen-groups/healthz").headers
    assert others["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in others["Content-Security-Policy"]


def test_the_files(app: Flask) -> None:
    caller = client_of(app)
    for address in FILES:
        answer = caller.get(address)
        assert answer.status_code == 200
        assert not DATA.search(answer.text)
        again = caller.get(address, headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status_code == 304
    assert caller.get("/evergreen-groups/desk/panel.js").status_code == 404
    assert caller.get("/evergreen-groups/desk/..%2fapp.py").status_code == 404


def test_who_has_no_business_there(app: Flask, sandbox: Sandbox, proxy: FaultProxy) -> None:
    caller = client_of(app)
    ended = session(sandbox.url, username="consortium_staff")
    end_session(sandbox.url, ended)
    own = session(sandbox.url, barcode="20000000001017", type="opac")
    take_away(sandbox, "VIEW_USER", user=4)
    blind = session(sandbox.url, username="harbor_desk")
    same_origin = {"Origin": proxy.url, "Sec-Fetch-Site": "same-origin"}
    for headers, status in (({}, 401), (cookie(ended), 401), (cookie(own), 403), (cookie(blind), 403)):
        answers = [caller.get(address, headers=headers) for address in READ]
        answers += [caller.post(address, headers={**headers, **same_origin}, data={"form": "x"}) for address in WRITTEN]
        for answer in answers:
            assert answer.status_code == status
            assert answer.content_type.startswith("text/html")
            assert not DATA.search(answer.text)


def test_a_link_in_a_mail_leads_here_and_nothing_else_from_elsewhere(clerk: DeskClerk) -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for address in READ:
        assert clerk.get(address, **followed).status == 200
        for headers in FROM_ELSEWHERE:
            page = clerk.get(address, **headers)
            if headers.get("Sec-Fetch-Dest") != "document":
                assert page.status == 403, headers
                assert not DATA.search(page.response.text)


def test_nothing_is_written_for_another_site(clerk: DeskClerk, admin: Gateway) -> None:
    page = clerk.open(NGUYEN)
    form = [("form", page.form("/plan").fields["form"]), ("action", "remove"), ("member", str(NGUYEN))]
    plan = clerk.post(WRITTEN[0], form).form("/change")
    agreed = {**dict(plan.form_values()), "do": "apply"}
    for headers in [*FROM_ELSEWHERE, {"Sec-Fetch-Site": "none"}]:
        response = clerk._client.post(WRITTEN[1], data=agreed, headers={**clerk.headers, **headers})
        assert response.status_code == 403, headers
    for address in WRITTEN[:3]:
        assert clerk._client.post(address, data=agreed, headers=clerk.headers).status_code == 403
    for address in WRITTEN[:4]:
        assert clerk.get(f"{address}?action=remove&member={NGUYEN}").status == 405
    assert clerk.get(f"{WRITTEN[4]}?action=remove&member={NGUYEN}").status == 400, "shows a form, but of no group"
    assert admin.pcrud.retrieve("au", NGUYEN).usrgroup == 1004


def test_a_form_is_of_the_session_that_it_was_made_for(
    clerk: DeskClerk, clerk_named: ClerkNamed, admin: Gateway
) -> None:
    other = clerk_named("admin")
    plan = clerk.open(NGUYEN).send("/plan", card=card(RUTH))
    fields = [*plan.form("/change").form_values(), ("do", "apply")]
    for form in ("", "0" * 64, other.open(NGUYEN).form("/plan").fields["form"], "é"):
        for address in WRITTEN:
            page = clerk.post(address, [("form", form), *((name, value) for name, value in fields if name != "form")])
            assert page.status == 403
            assert "You have logged in again since this page was opened" in page.text
    # With a form from the caller's own session, another session's plan isn't found.
    own = [("form", other.open(NGUYEN).form("/plan").fields["form"])]
    page = other.post(WRITTEN[1], own + [(name, value) for name, value in fields if name != "form"])
    assert "Done" not in page.outcome
    assert "Nothing was moved" in page.message
    assert admin.pcrud.retrieve("au", RUTH).usrgroup == 1009


def test_anothers_change_is_not_undone(clerk: DeskClerk, clerk_named: ClerkNamed, admin: Gateway) -> None:
    done = clerk.open(NGUYEN).send("/plan", card=card(RUTH)).send("/change", ("do", "apply"))
    undo = done.form("/undo").fields
    other = clerk_named("admin")
    form = other.open(NGUYEN).form("/plan").fields["form"]
    page = other.post(WRITTEN[2], [("form", form), ("entry", undo["entry"]), ("key", undo["key"])])
    assert "was made by another user" in page.message
    assert admin.pcrud.retrieve("au", RUTH).usrgroup == 1004


def test_who_is_hidden_stays_hidden(clerk_named: ClerkNamed) -> None:
    desk = clerk_named("harbor_desk")
    form = desk.open(NGUYEN).form("/plan").fields["form"]
    for fields in (
        [("action", "join"), ("patron", str(GRACE))],
        [("action", "join"), ("card", card(GRACE))],
        [("action", "join"), ("card", "Whitfield")],
        [("action", "move"), ("member", str(NGUYEN)), ("target_id", str(GRACE))],
        [("action", "remove"), ("member", str(GRACE))],
        [("action", "recalculate"), ("patron", str(GRACE))],
    ):
        page = desk.post(WRITTEN[0], [("form", form), *fields])
        text = page.text.replace("Whitfield not found", "")  # which repeats what was typed
        assert not re.search("Whitfield|Grace|ELM", text), fields


def test_odd_forms(clerk: DeskClerk) -> None:
    form = clerk.open(NGUYEN).form("/plan").fields["form"]
    for fields in (
        [],
        [("action", "explode")],
        [("action", "remove"), ("member", "1; DROP")],
        [("action", "remove"), ("member", "9" * 30)],
        [("action", "join"), ("card", "x" * 101)],
        [("action", "move"), ("member", "1017"), ("target_id", "-1")],
        [("action", "undo"), ("entry", "2-k7q4tz\n")],
        [("action", "remove"), *(("member", str(id)) for id in range(1, 1003))],
    ):
        assert clerk.post(WRITTEN[0], [("form", form), *fields]).status == 400, fields[:2]
    for plan in ("", "a\0b", "a b", "x" * 65):  # PostgreSQL rejects NUL characters, which would look like an outage
        fields = [("form", form), ("action", "join"), ("patron", str(RUTH)), ("do", "apply"), ("plan", plan)]
        assert clerk.post(WRITTEN[1], fields).status == 400, plan
    for entry, key in (("1", "a" * 32), ("2-k7q4tz", "short"), ("2-k7q4tz", "a" * 15 + "é")):
        assert clerk.post(WRITTEN[2], [("form", form), ("entry", entry), ("key", key)]).status == 400, (entry, key)
    assert clerk.post(WRITTEN[0], [("form", form), ("card", "x" * LARGEST_FORM)]).status == 413
    own = {"Origin": clerk.origin, "Sec-Fetch-Site": "same-origin", **clerk.headers}
    assert clerk._client.post(WRITTEN[0], json={"form": form}, headers=own).status_code == 415


def test_nothing_of_a_patron_is_logged(clerk: DeskClerk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        page = clerk.open(NGUYEN).send("/plan", card="Whitfield")
        clerk.open(NGUYEN).send("/plan", card=card(RUTH)).send("/change", ("do", "apply"))
        clerk.post(WRITTEN[3], [("form", page.form("/plan").fields["form"]), ("within", "Nguyễn")])
        clerk.open(999_999)
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("evergreen_groups"))
    assert "/patrons/<patron>/group/change 303" in logged
    for text in ("Nguyễn", "Whitfield", card(RUTH), str(RUTH), "999999", clerk.headers["Cookie"][-40:-6]):
        assert text not in logged
