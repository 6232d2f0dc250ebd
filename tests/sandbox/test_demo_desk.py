"""The demo desk's pages, and its proxy to the web service."""

from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from support.gateway_server import Server, http, raw

from evergreen_groups.sandbox import Sandbox

PATRON_PAGES = ("/eg2/en-US/staff/circ/patron/1001/{}", "/eg/staff/circ/patron/1001/{}")


@pytest.fixture
def server() -> Iterator[Server]:
    """A web service that answers everything in the same way."""
    headers = {"Retry-After": "7", "X-Content-Type-Options": "nosniff"}
    answer = http("{}", status=418, content_type="application/problem+json", headers=headers)
    with Server(otherwise=raw(answer)) as server:
        yield server


@pytest.fixture
def desk(server: Server) -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        sandbox.serve_desk(server.url)
        yield sandbox


def fetch(
    url: str, path: str, command: str = "GET", body: str | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request(command, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "mark"),
    [
        ("/eg2/en-US/staff/circ/patron/1001/checkout", 'id="patron-grid"'),
        ("/eg2/fr-CA/staff/circ/patron/search", 'id="patron-grid"'),
        ("/eg/staff/circ/patron/1001/group", 'id="patron-summary-grid"'),
    ],
)
def test_the_clients_pages_load_the_panel(desk: Sandbox, path: str, mark: str) -> None:
    status, headers, page = fetch(desk.url, path)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert mark in page
    assert '<script src="/evergreen-groups/panel.js" defer></script>' in page


@pytest.mark.parametrize(
    ("release", "angular", "angularjs"),
    [
        ("3.11", ('class="eg-grid-body"></div>', "<hr"), ('ng-show="patron_stats().fines.group_balance_owed',)),
        ("3.13", ('class="eg-grid-body"></tbody>', "<hr"), ('ng-show="patron_stats().fines.group_balance_owed',)),
        ("3.15.8", ('id="patron-summary"', "data-colours"), ('ng-show="patron_stats().fines.group_balance_owed',)),
        ("3.15", ('id="patron-summary"', "data-colours"), ('ng-if="patron_stats().fines.group_balance_owed',)),
        ("3.17", ('id="patron-summary"', "data-colours"), ('ng-if="patron_stats().fines.group_balance_owed',)),
    ],
)
def test_the_clients_match_the_release(
    server: Server, release: str, angular: tuple[str, ...], angularjs: tuple[str, ...]
) -> None:
    with Sandbox(release=release) as sandbox:
        sandbox.serve_desk(server.url)
        new, old = (fetch(sandbox.url, path.format("checkout"))[2] for path in PATRON_PAGES)
        assert all(part in new for part in (*angular, f"Evergreen {release}<"))
        assert all(part in old for part in (*angularjs, f"Evergreen {release}<"))
        sandbox.serve_desk(server.url, "3.12")
        assert "<hr" in fetch(sandbox.url, PATRON_PAGES[0].format("checkout"))[2], "whatever the sandbox is otherwise"


def test_the_generated_attribute_has_a_random_name(desk: Sandbox) -> None:
    pages = {fetch(desk.url, "/eg2/en-US/staff/circ/patron/1001/checkout")[2] for _ in range(2)}
    assert len(pages) == 2
    assert not any("SCOPE" in page for page in pages)


def test_the_addresses_are_served(desk: Sandbox) -> None:
    assert set(desk.desk_addresses) == {"Angular", "AngularJS"}
    for address in desk.desk_addresses.values():
        assert fetch(desk.url, urlsplit(address).path)[0] == 200
    status, headers, _ = fetch(desk.url, "/")
    assert (status, headers["location"]) == (302, "/eg2/en-US/staff/login")


@pytest.mark.parametrize(
    "path", ["/eg2/en-US/staff/cat", "/eg2", "/sandbox/desk/", "/sandbox/desk/..%2fpages.py", "/sandbox/desk/none.js"]
)
def test_nothing_else_is_served(desk: Sandbox, path: str) -> None:
    assert fetch(desk.url, path)[0] == 404


def test_no_desk_unless_enabled(sandbox: Sandbox) -> None:
    for path in ("/", "/eg/staff/circ/patron/1001/checkout", "/sandbox/desk/desk.css", "/evergreen-groups/healthz"):
        assert fetch(sandbox.url, path)[0] == 404


def test_requests_are_proxied(desk: Sandbox, server: Server) -> None:
    path = "/evergreen-groups/api/v1/patrons/1001/summary?a=%20b"
    sent = {"Cookie": "eg.auth.token=x", "Authorization": "Bearer y", "X_Forwarded_For": "192.0.2.1", "TE": "trailers"}
    status, headers, _body = fetch(desk.url, path, "POST", "event=1", **sent)
    assert (status, headers["content-type"], headers["retry-after"]) == (418, "application/problem+json", "7")
    assert headers["x-content-type-options"] == "nosniff"
    (asked,) = server.requests
    assert (asked.method, asked.path, asked.body) == ("POST", path.replace("%20", " "), b"event=1")
    assert asked.headers["x-forwarded-for"] == "192.0.2.1, 127.0.0.1"
    assert asked.headers["x-forwarded-host"] == urlsplit(desk.url).netloc
    assert (asked.headers["cookie"], asked.headers["authorization"]) == ("eg.auth.token=x", "Bearer y")
    assert "te" not in asked.headers


def test_a_service_that_is_down_gives_503(desk: Sandbox) -> None:
    desk.serve_desk("http://127.0.0.1:9")
    status, headers, _ = fetch(desk.url, "/evergreen-groups/healthz")
    assert (status, headers["content-type"].partition(";")[0]) == (503, "text/html")
