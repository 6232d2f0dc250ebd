"""Results over HTTP: each reader sees families of their libraries, and no one sees figures of staff."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from openpyxl import load_workbook
from support.bills_and_items import ELM
from support.circulators import change_rows
from support.fault_proxy import FaultProxy
from support.follow_ups import draft, save
from support.gateways import gateway_of
from support.moved_nights import move_back
from support.payments import bills_of, pay
from support.web_caller import MakeApp, bearer, client_of, session, settings_of

from evergreen_groups.follow_up import How, Stays, read_payments, record_payments, record_stays
from evergreen_groups.ils import OrgUnits
from evergreen_groups.nightly.output import publish
from evergreen_groups.report import Criteria, History, Report, Run, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import ReportSettings, ServeSettings
from evergreen_groups.settings.sections import LanguageSettings
from evergreen_groups.state import State

PAGE = "/evergreen-groups/reports/results"


def night(state: State, url: str, account: str = "consortium_staff") -> Report:
    """Record a night as the program does, with payments."""
    with gateway_of(url, account) as gateway:
        report = build_report(gateway, Criteria(min_total=Decimal("5.00")))
        report = replace(report, changes=History(state.database, url).compare(report))
        stays, now = Stays(state.database, url), state.database.now()
        read = read_payments(gateway, OrgUnits.read(gateway), stays.watched(now), now)
    with state.database.writing() as connection:
        History(state.database, url).record(report, connection)
        record_stays(connection, url, report, Run.of(report), read)
        record_payments(connection, url, read)
    return report


@pytest.fixture
def report(proxy: FaultProxy, sandbox: Sandbox, state: State, tmp_path: Path) -> Report:
    """Two nights, 70 days apart: all families were written to, and one person has paid 1.00."""
    report = night(state, proxy.url)
    save(state, *(draft(one.number, how=How.LETTER, note="SECRET") for one in report.groups), url=proxy.url)
    move_back(state.database, sandbox, 70)
    debtor = next(one for group in report.groups for one in group.members if bills_of(sandbox, one.id))
    pay(sandbox, debtor.id, "1.00", at=state.database.now() - timedelta(60))
    publish(night(state, proxy.url), tmp_path / "reports")
    return report


@pytest.fixture
def app(make_app: MakeApp, proxy: FaultProxy, tmp_path: Path) -> Flask:
    serve = ServeSettings(port=0, report=tmp_path / "reports")
    by_library = ReportSettings(split="library")
    return make_app(settings_of(proxy.url, serve=serve, report=by_library, language=LanguageSettings(timezone="UTC")))


def asked(app: Flask, url: str, account: str, address: str = f"{PAGE}.json") -> Any:
    return client_of(app).get(address, headers=bearer(session(url, username=account)))


def all_contacted(document: dict[str, Any]) -> int:
    return sum(one["contacted"] for one in document["months"] if one["library"] is None)


def test_who_sees_everyone_gets_all_libraries(app: Flask, proxy: FaultProxy, report: Report) -> None:
    answer = asked(app, proxy.url, "consortium_staff")
    document = answer.get_json()
    assert all_contacted(document) == len(report.groups)
    [month] = [one for one in document["months"] if one["library"] is None and one["contacted"]]
    assert (month["paid"][0]["contacted_at_least"], month["not_contacted"]) == ("1.00", 0)
    assert month["paid"][0]["not_contacted"] is None, "no family to compare with"
    libraries = {one["library"] for one in document["months"]} - {None}
    assert libraries == {Run.of(report).listings[group.number].contact_library for group in report.groups}
    assert "SECRET" not in answer.text


def test_a_branch_sees_its_own_families_alone(app: Flask, proxy: FaultProxy, report: Report) -> None:
    mine = {"HARBOR"}
    listings = Run.of(report).listings.values()
    expected = sum(one.contact_library in mine for one in listings)
    document = asked(app, proxy.url, "harbor_desk").get_json()
    assert {one["library"] for one in document["months"]} <= {None, *mine}
    assert 0 < all_contacted(document) <= expected < len(report.groups)
    page = asked(app, proxy.url, "harbor_desk", PAGE).text
    for other in {one.contact_library for one in listings} - mine:
        assert other not in page
        assert asked(app, proxy.url, "harbor_desk", f"{PAGE}?library={other}").status_code == 404


def test_a_report_of_all_libraries_is_for_those_who_see_all(
    make_app: MakeApp, proxy: FaultProxy, report: Report, tmp_path: Path
) -> None:
    (tmp_path / "report.html").write_text("")
    whole = make_app(settings_of(proxy.url, serve=ServeSettings(port=0, report=tmp_path / "report.html")))
    for ending in ("", ".json", ".xlsx"):
        assert asked(whole, proxy.url, "harbor_desk", PAGE + ending).status_code == 403
        assert asked(whole, proxy.url, "consortium_staff", PAGE + ending).status_code == 200
    assert client_of(whole).get(PAGE).status_code == 401


def test_page_json_and_xlsx_say_the_same(app: Flask, proxy: FaultProxy, report: Report) -> None:
    document = asked(app, proxy.url, "consortium_staff").get_json()
    content = asked(app, proxy.url, "consortium_staff", f"{PAGE}.xlsx").data
    for sheet, rows in zip(load_workbook(io.BytesIO(content)), (document["months"], document["weeks"]), strict=True):
        cells = [[cell.value for cell in row] for row in sheet][1:]
        said = [(row[0], row[1].date().isoformat(), row[2]) for row in cells]
        assert said == [(one["library"] or "All libraries", one["from"], one["contacted"]) for one in rows]


def test_hidden_payments_are_unknown_and_the_page_says_so(
    app: Flask, proxy: FaultProxy, sandbox: Sandbox, state: State, report: Report
) -> None:
    said = "Payments of some members can't be seen."
    assert said not in asked(app, proxy.url, "consortium_staff", PAGE).text
    at_harbor = [one for one in report.groups if {member.library for member in one.members} == {"HARBOR"}]
    moved = next(member for one in at_harbor for member in one.members if member.own_fines == 0)
    change_rows(sandbox, "UPDATE au SET home_ou = ? WHERE id = ?", ELM, moved.id)
    night(state, proxy.url, "harbor_desk")
    assert said in asked(app, proxy.url, "consortium_staff", PAGE).text
    document = asked(app, proxy.url, "consortium_staff").get_json()
    assert not document["all_payments_known"]
    [month] = [one for one in document["months"] if one["library"] is None and one["contacted"]]
    assert (month["paid"][0]["contacted"], month["paid"][0]["contacted_at_least"]) == (None, "1.00")


def test_payments_of_contacted_families_cost_at_most_four_calls(
    proxy: FaultProxy, sandbox: Sandbox, state: State
) -> None:
    report = night(state, proxy.url)
    debtor = next(one for group in report.groups for one in group.members if bills_of(sandbox, one.id))
    pay(sandbox, debtor.id, "1.00")
    stays = Stays(state.database, proxy.url)
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        org_units, now = OrgUnits.read(gateway), state.database.now()
        gateway.idl("mbts", "mp", "au")
        persons = stays.watched(now) | frozenset(range(1_000_000, 1_002_900))  # 1,000 families
        before = gateway.statistics.calls
        read = read_payments(gateway, org_units, persons, now)
        assert gateway.statistics.calls - before <= 4
    assert [booking.amount for booking in read.paid[debtor.id]] == [Decimal("1.00")]


def test_every_page_of_the_report_leads_there(app: Flask, proxy: FaultProxy, report: Report) -> None:
    for name in ("HARBOR", "index.html"):
        page = asked(app, proxy.url, "consortium_staff", f"/evergreen-groups/reports/latest/{name}").text
        assert f'href="{PAGE}' in page
