"""Letters over HTTP: who may make them of which groups, and marking them as sent."""

from __future__ import annotations

import csv
import io
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lxml.html
import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.circulators import change_rows, make_stock_circulator, take_away
from support.fault_proxy import FaultProxy
from support.follow_ups import note_run
from support.gateways import gateway_of
from support.letters import FAMILY, LEAD, OTHER_ADULT, change, penalize, IN_COLLECTIONS
from support.web_caller import MakeApp, client_of, cookie, session, settings_of
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from evergreen_groups.follow_up import FollowUps, FollowUp
from evergreen_groups.report import Criteria, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import NamedReport, ReportSettings, ServeSettings, Settings
from evergreen_groups.settings.sections import DeskSettings, LanguageSettings
from evergreen_groups.state import State

PAGE, FILE = "/evergreen-groups/reports/letters", "/evergreen-groups/reports/letters.csv"
SAVE = "/evergreen-groups/reports/follow-up"
OF_PAGE = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """The state that the services of ``make_app`` use."""
    with State(tmp_path / "state") as state:
        yield state


@pytest.fixture
def settings(proxy: FaultProxy) -> Settings:
    settings = settings_of(proxy.url, serve=ServeSettings(port=0, rate_limit=1_000_000))
    report = ReportSettings(contact=True)
    return replace(settings, language=LanguageSettings(timezone="UTC"), report=report)


@pytest.fixture
def listed(state: State, sandbox: Sandbox, proxy: FaultProxy) -> list[int]:
    """Record a run of the report. Return its groups."""
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        report = build_report(gateway, Criteria(contact=True))
    note_run(state, report)
    return [group.number for group in report.groups]


class Reader:
    """Somebody who has the report open in a browser."""

    def __init__(self, app: Flask, sandbox: Sandbox, account: str = "consortium_staff") -> None:
        self._client: FlaskClient = client_of(app)
        self._headers = {**OF_PAGE, **cookie(session(sandbox.url, username=account))}

    def get(self, groups: list[int], path: str = PAGE, **more: str) -> TestResponse:
        query = MultiDict([*more.items(), *(("group", str(number)) for number in groups)])
        return self._client.get(path, query_string=query, headers=self._headers)

    def page(self, groups: list[int]) -> lxml.html.HtmlElement:
        found = self.get(groups)
        assert found.status_code == 200, found.text
        return lxml.html.document_fromstring(found.text)

    def mark(self, page: lxml.html.HtmlElement) -> TestResponse:
        """Press *Mark as sent*."""
        (form,) = page.xpath("//section[@class='bar']/form")
        assert form.get("action") == SAVE
        (button,) = form.xpath(".//button[@name]")
        fields = [(one.get("name"), one.get("value")) for one in form.xpath(".//input")]
        fields.append((button.get("name"), button.get("value")))
        return self._client.post(SAVE, data=MultiDict(fields), headers=self._headers)


@pytest.fixture
def reader(make_app: MakeApp, settings: Settings, sandbox: Sandbox) -> Reader:
    return Reader(make_app(settings), sandbox)


def follow_ups(state: State, proxy: FaultProxy) -> dict[int, FollowUp]:
    found = FollowUps(state.database, proxy.url).of_report("")
    assert found is not None
    return dict(found.by_group)


def entries(state: State, proxy: FaultProxy) -> dict[int, list[str]]:
    """Return what was agreed, by group."""
    return {
        number: [f"{entry.what.value} {entry.how.value if entry.how else ''}" for entry in one.entries]
        for number, one in follow_ups(state, proxy).items()
        if one.entries
    }


def lines(page: lxml.html.HtmlElement) -> list[str]:
    return [one.text_content() for one in page.xpath("//section[@class='bar']//li")]


def test_a_sheet_for_each_family_and_who_gets_none(reader: Reader, listed: list[int], sandbox: Sandbox) -> None:
    found = reader.get([FAMILY, *(number for number in listed if number != FAMILY)])
    page = lxml.html.document_fromstring(found.text)
    sheets = page.xpath("//article")
    assert len(sheets) + sum(line.count("group ") for line in lines(page)) == len(listed)
    assert any("Adaeze Okonkwo" in sheet.text_content() for sheet in sheets)
    assert found.headers["Cache-Control"] == "no-store"
    assert found.headers["Referrer-Policy"] == "same-origin"
    policy = found.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self'" in policy
    assert "unsafe-inline" not in policy
    penalize(sandbox, OTHER_ADULT, IN_COLLECTIONS)
    change(sandbox, LEAD, locale="cs-CZ")
    page = reader.page([FAMILY])
    assert lines(page) == [f"Not written to: in collections (group {FAMILY})"]
    assert not page.xpath("//article | //form")


def test_figures_are_current_and_of_the_callers_session(
    make_app: MakeApp, settings: Settings, reader: Reader, listed: list[int], sandbox: Sandbox
) -> None:
    make_stock_circulator(sandbox)  # works at one library
    other = next(number for number in listed if number != FAMILY)
    clerk = Reader(make_app(settings), sandbox)
    del other, clerk


def test_marked_only_when_pressed_and_once(reader: Reader, listed: list[int], state: State, proxy: FaultProxy) -> None:
    page = reader.page(listed)
    written = len(page.xpath("//article"))
    assert entries(state, proxy) == {}
    done = reader.mark(page)
    assert (done.status_code, done.headers["Location"]) == (303, "/evergreen-groups/reports/latest")
    assert list(entries(state, proxy).values()) == [["contacted letter"]] * written
    assert FAMILY in entries(state, proxy)
    assert reader.mark(page).status_code == 303
    assert list(entries(state, proxy).values()) == [["contacted letter"]] * written
