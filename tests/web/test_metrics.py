"""The service's metrics: who may read them, correct counts, and no names in them."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
import requests
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families
from support.fault_proxy import Fault, FaultProxy
from support.report_samples import report_of, sample_report
from support.web_caller import API, SECRET, MakeApp, bearer, client_of, metrics_settings, served, settings_of

from evergreen_groups.doctor.interface import METHODS
from evergreen_groups.metrics import FAMILIES
from evergreen_groups.report import History
from evergreen_groups.web import PREFIX, metrics_served, service_of

VERSION = "opensrf.open-ils.system.ils_version"
Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    """Return each sample's value, keyed by name and label values in the order of the label names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
    }


def shown(app: Flask) -> Samples:
    return samples(client_of(app).get(f"{PREFIX}/metrics", headers=bearer(SECRET)).text)


@pytest.fixture
def app(make_app: MakeApp, proxy: FaultProxy, tmp_path: Path) -> Flask:
    return make_app(settings_of(proxy.url, metrics=metrics_settings(tmp_path)))


def test_nothing_is_shown_without_a_token(make_app: MakeApp, proxy: FaultProxy) -> None:
    answer = client_of(make_app(settings_of(proxy.url))).get(f"{PREFIX}/metrics", headers=bearer(SECRET))
    assert (answer.status_code, answer.get_json()["code"]) == (404, "no-metrics")
    assert "token_file in [metrics]" in answer.get_json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [{}, bearer("x"), bearer(""), {"Authorization": f"Basic {SECRET}"}, {"Authorization": SECRET}, bearer("é" * 20)],
)
def test_nothing_is_shown_for_another_token(app: Flask, headers: dict[str, str]) -> None:
    answer = client_of(app).get(f"{PREFIX}/metrics", headers=headers)
    assert (answer.status_code, answer.get_json()["code"]) == (403, "metrics-token-wrong")
    assert b"evergreen_groups_" not in answer.data


def test_everything_declared_is_shown_and_nothing_else(app: Flask, staff: dict[str, str]) -> None:
    caller = client_of(app)
    caller.get(f"{API}/patrons/1001/summary", headers=staff)
    answer = caller.get(f"{PREFIX}/metrics", headers=bearer(SECRET))
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", answer.text, re.MULTILINE))
    declared = {family.name: family.kind for family in FAMILIES}
    assert {name: kind for name, kind in kinds.items() if not name.startswith("process_")}.items() <= declared.items()
    assert declared.keys() - kinds.keys() <= {family.name for family in FAMILIES if family.nightly}
    assert "_created" not in answer.text


def test_requests_are_counted_by_route_and_name_nobody(app: Flask, staff: dict[str, str]) -> None:
    caller = client_of(app)
    for patron in (1001, 1002, 1003, 999_999):
        caller.get(f"{API}/patrons/{patron}/summary", headers=staff)
    caller.get(f"{API}/patrons/by-barcode/20000000001001/block", headers=staff)
    caller.get("/20000000001001")
    caller.open(f"{API}/patrons/1001/summary", method="ABRACADABRA", headers=staff)
    text = caller.get(f"{PREFIX}/metrics", headers=bearer(SECRET)).text
    found, name = samples(text), "evergreen_groups_requests_total"
    route = f"{API}/patrons/<patron>/summary"
    assert found[name, "GET", route, "200"] == 3
    assert found[name, "GET", route, "404"] == 1
    assert found[name, "GET", f"{API}/patrons/by-barcode/<barcode>/block", "200"] == 1
    assert found[name, "GET", "(no such address)", "404"] == 1
    assert found[name, "(unknown method)", "(no such address)", "405"] == 1
    assert found["evergreen_groups_request_seconds_count", route] == 4
    labels = " ".join(re.findall(r"{.*}", text))  # only labels, because a metric's value may contain the same digits
    assert not re.search(r"20000000001001|1001|Okonkwo|ABRACADABRA", labels)


@pytest.mark.apache(reason="it counts calls")
def test_calls_are_counted_by_method_and_outcome(app: Flask, staff: dict[str, str], proxy: FaultProxy) -> None:
    caller, name = client_of(app), "evergreen_groups_gateway_calls_total"
    caller.get(f"{API}/patrons/1001/summary", headers=staff)
    found = shown(app)
    counted = {key: value for key, value in found.items() if key[0] == name}
    assert sum(counted.values()) == len(proxy.seen)
    for key in counted:
        assert key[1] in {"the IDL", VERSION, *(method.name for method in METHODS)}
        assert found["evergreen_groups_gateway_seconds_total", key[1], key[3]] > 0
    proxy.decide = lambda call: Fault.DROP_REQUEST
    caller.get(f"{API}/patrons/1002/summary", headers=staff)
    failed = {key: value for key, value in shown(app).items() if key[0] == name and key[2] == "failed"}
    assert sum(failed.values()) >= 2  # a call and its retry; other calls may run at the same time
    assert shown(app)["evergreen_groups_gateway_retries_total",] >= 1
    assert shown(app)["evergreen_groups_gateway_answers",] == 0
    proxy.decide = lambda call: Fault.NONE
    before = sum(value for key, value in shown(app).items() if key[0] == name and key[2] == "refused")
    caller.get(f"{API}/patrons/1001/summary", headers=bearer("f" * 32))
    assert sum(value for key, value in shown(app).items() if key[0] == name and key[2] == "refused") == before + 1


def test_what_is_turned_away_is_counted_by_its_reason(app: Flask, staff: dict[str, str], proxy: FaultProxy) -> None:
    caller = client_of(app)
    proxy.decide = lambda call: Fault.DROP_REQUEST
    for _ in range(8):
        caller.get(f"{API}/patrons/1001/summary", headers=staff)
    found = shown(app)
    assert found["evergreen_groups_refusals_total", "ils-unreachable"] == 8
    assert found["evergreen_groups_breaker_closed", "desks"] == 0
    assert found["evergreen_groups_breaker_closed", "events"] == 1


def test_what_is_found_in_the_caches_is_counted(app: Flask, staff: dict[str, str]) -> None:
    for _ in range(3):
        client_of(app).get(f"{API}/patrons/1001/block", headers=staff)
    found = shown(app)
    assert found["evergreen_groups_cache_misses_total", "callers"] == 1
    assert found["evergreen_groups_cache_hits_total", "callers"] == 2


@pytest.mark.parametrize("known", [True, False])
def test_the_last_report_by_library_to_the_cent(app: Flask, proxy: FaultProxy, known: bool) -> None:
    """Fines that aren't all known have no series."""
    report = report_of(sample_report().groups[:4]) if known else sample_report()
    History(app.extensions["evergreen-groups"].state.database, proxy.url).record(report)
    text = client_of(app).get(f"{PREFIX}/metrics", headers=bearer(SECRET)).text
    shown_sums = dict(
        re.findall(r'^evergreen_groups_report_group_fines\{library="([^"]+)",report=""\} (\S+)$', text, re.MULTILINE)
    )
    assert (set(shown_sums) > {"*"}) is ("*" in shown_sums) is known
    assert not known or Decimal(shown_sums["*"]) == report.totals.group_fines
    assert samples(text)["evergreen_groups_report_groups", "*", ""] == len(report.groups)
    assert samples(text)["evergreen_groups_database_up",] == 1
    assert samples(text)["evergreen_groups_journal_open_steps",] == 0


def test_a_database_that_cannot_be_used(app: Flask) -> None:
    directory = app.extensions["evergreen-groups"].state.directory
    directory.mkdir(exist_ok=True, mode=0o700)
    (directory / "state.sqlite3").write_text("no database")
    (directory / "state.sqlite3").chmod(0o600)
    assert shown(app)["evergreen_groups_database_up",] == 0
    answer = client_of(app).get(f"{PREFIX}/readyz")
    assert (answer.status_code, answer.get_json()) == (503, {"gateway": "answers", "database": "does not answer"})


def test_an_address_of_their_own(app: Flask) -> None:
    with metrics_served(service_of(app).counters, "127.0.0.1:0") as url:
        answer = requests.get(url, timeout=60)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert samples(answer.text)["evergreen_groups_database_up",] == 1
        other = requests.get(url.replace("/metrics", "/evergreen-groups/healthz"), timeout=60)
        assert (other.status_code, other.text) == (404, "The metrics are at /metrics.\n")
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=60)


def test_no_count_is_lost_between_threads(make_app: MakeApp, proxy: FaultProxy, tmp_path: Path) -> None:
    app = make_app(settings_of(proxy.url, metrics=metrics_settings(tmp_path)))
    with served(app) as url, ThreadPoolExecutor(8) as pool, requests.Session() as asking:
        list(pool.map(lambda _: asking.get(f"{url}{PREFIX}/desk.json", timeout=60), range(200)))
    assert shown(app)["evergreen_groups_requests_total", "GET", f"{PREFIX}/desk.json", "200"] == 200
