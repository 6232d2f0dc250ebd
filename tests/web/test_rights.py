"""Every route follows the reader's session and rights, though callers and their rights are cached for a while."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.circulators import change_rows
from support.fault_proxy import Fault, FaultProxy
from support.follow_ups import draft as entry_of
from support.follow_ups import note_run, save
from support.gateways import gateway_of
from support.web_caller import Clock, MakeApp, bearer, client_of, end_session, session, settings_of
from werkzeug.datastructures import Headers

from evergreen_groups.client import Client
from evergreen_groups.gateway import RetryPolicy
from evergreen_groups.ils import RIGHTS_SECONDS
from evergreen_groups.nightly.output import publish
from evergreen_groups.report import Criteria, Report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import ReportSettings, ServeSettings
from evergreen_groups.state import State
from evergreen_groups.web import service

PREFIX = "/evergreen-groups"
OPEN = {
    *("desk.json", "desk/<name>", "events", "group.js", "healthz", "metrics", "openapi.json", "panel.js", "readyz"),
    *("reports/follow-up.js", "tab.js", "texts.js"),
}
"""Routes that answer anyone, or have another secret."""


@pytest.fixture
def report(proxy: FaultProxy, state: State, tmp_path: Path) -> Report:
    """Record and publish a report by library, with a follow-up entry for each group."""
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        report = Client(gateway, account="consortium_staff", state=state).report(Criteria(contact=True))
    note_run(state, report)
    save(state, *(entry_of(group.number, note="SECRET") for group in report.groups), url=proxy.url)
    publish(report, tmp_path / "reports")
    return report


@pytest.fixture
def app(make_app: MakeApp, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setattr(service, "_RETRIES", RetryPolicy(tries=1))  # no pauses
    serve = ServeSettings(port=0, rate_limit=1_000_000, report=tmp_path / "reports")
    return make_app(settings_of(proxy.url, serve=serve, report=ReportSettings(contact=True, split="library")))


def requests_of(app: Flask, group: int) -> Iterator[tuple[str, str]]:
    """Yield a method and an address for each route that needs a session."""
    values: dict[str, Any] = {
        **{"patron": 1001, "member": 1001, "barcode": "20000000001001", "group": group, "change": "0" * 32},
        **{"report": "children"},
    }
    for rule in app.url_map.iter_rules():
        if rule.rule.removeprefix(f"{PREFIX}/") in OPEN or "static" in rule.endpoint:
            continue
        names = ("index", "LAKELAND", "LAKELAND.csv") if "name" in rule.arguments else ("",)
        for name in names:
            _, address = rule.build({**values, "name": name}, append_unknown=False) or ("", "")
            for method in rule.methods - {"HEAD", "OPTIONS"}:
                of_group = "reports/" in address or address.endswith("/follow-up")
                yield method, f"{address}?group={group}" if of_group else address


def ask(client: FlaskClient, method: str, address: str, token: str) -> int:
    headers = Headers({**bearer(token), "Idempotency-Key": "k" * 32, "Accept": "text/html"})
    return client.open(address, method=method, headers=headers).status_code


def test_an_ended_session_gets_nothing_from_any_route(app: Flask, sandbox: Sandbox, report: Report) -> None:
    client, answered = client_of(app), 0
    for method, address in requests_of(app, report.groups[0].number):
        token = session(sandbox.url, username="consortium_staff")
        answered += ask(client, method, address, token) < 400
        end_session(sandbox.url, token)
        status = ask(client, method, address, token)
        assert status == 401 if method == "GET" else status >= 400, address
    assert answered > 20


def test_without_evergreen_no_route_answers(app: Flask, sandbox: Sandbox, proxy: FaultProxy, report: Report) -> None:
    client, token = client_of(app), session(sandbox.url, username="consortium_staff")
    for method, address in requests_of(app, report.groups[0].number):
        ask(client, method, address, token)
        proxy.decide = lambda _: Fault.DROP_REQUEST
        status = ask(client, method, address, token)
        assert status == 503 if method == "GET" else status >= 400, address
        proxy.heal()
        app.extensions["evergreen-groups"].breaker._open_until = None


@pytest.mark.parametrize("before", ["HARBOR", "everywhere"])
def test_rights_count_half_a_minute_later_at_the_latest(
    app: Flask, sandbox: Sandbox, clock: Clock, report: Report, before: str
) -> None:
    """A branch's login that is widened to the consortium, and one that is narrowed to its branch."""
    client, token = client_of(app), session(sandbox.url, username="harbor_desk")
    everywhere = {group.number for group in report.groups}
    branch = {group.number for group in report.groups if any(member.library == "HARBOR" for member in group.members)}

    def grant(depth: int) -> None:
        change_rows(sandbox, "INSERT OR REPLACE INTO grants VALUES (4, 'VIEW_USER', ?)", depth)

    def seen() -> list[object]:
        def get(path: str, **query: Any) -> Any:
            return client.get(f"{PREFIX}/{path}", query_string=query, headers=bearer(token))

        numbers = [{one["group"] for one in get(f"api/v1/{name}").json["groups"]} for name in ("groups", "follow-ups")]
        forms = {group for group in everywhere if get("reports/follow-up", group=group).status_code == 200}
        part = get("reports/latest/MILL").status_code
        return [*numbers, forms, part]

    as_before, afterward = [branch, branch, branch, 403], [everywhere, everywhere, everywhere, 200]
    depths = [2, 0]
    if before == "everywhere":
        as_before, afterward, depths = afterward, as_before, depths[::-1]
    grant(depths[0])
    assert seen() == as_before
    grant(depths[1])
    clock.now += RIGHTS_SECONDS
    assert seen() == afterward
