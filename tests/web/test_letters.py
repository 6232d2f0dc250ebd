"""Letters over HTTP: who may make them of which groups, and marking them as sent."""

from __future__ import annotations

import csv
import io
import logging
from dataclasses import replace

import lxml.html
import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.circulators import USER, change_rows, make_stock_circulator, take_away
from support.command import Command
from support.debts import owe
from support.fault_proxy import Fault, FaultProxy
from support.follow_ups import draft, note_run, record_report, save
from support.gateways import gateway_of
from support.letters import CHILDREN, FAMILY, IN_COLLECTIONS, LEAD, OTHER_ADULT, change, penalize
from support.web_caller import MakeApp, client_of, cookie, session, settings_of
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from evergreen_groups.follow_up import FollowUp, FollowUps, FollowUpStatus, What
from evergreen_groups.report import Criteria, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import NamedReport, ReportSettings, ServeSettings, Settings
from evergreen_groups.settings.sections import DeskSettings, LanguageSettings
from evergreen_groups.state import State

PAGE, FILE = "/evergreen-groups/reports/letters", "/evergreen-groups/reports/letters.csv"
SAVE = "/evergreen-groups/reports/follow-up"
OF_PAGE = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.fixture
def settings(proxy: FaultProxy) -> Settings:
    return settings_of(proxy.url, language=LanguageSettings(timezone="UTC"), report=ReportSettings(contact=True))


@pytest.fixture
def listed(state: State, sandbox: Sandbox, proxy: FaultProxy) -> list[int]:
    """Record a run of the report. Return its groups."""
    return [group.number for group in record_report(state, proxy.url, contact=True).groups]


class Reader:
    """Somebody who has the report open in a browser."""

    def __init__(self, app: Flask, sandbox: Sandbox, account: str = "consortium_staff") -> None:
        self._client: FlaskClient = client_of(app)
        self._headers = {**OF_PAGE, **cookie(session(sandbox.url, username=account))}

    def get(self, groups: list[int], path: str = PAGE, **more: str) -> TestResponse:
        query = MultiDict([*more.items(), *(("group", str(number)) for number in groups)])
        return self._client.get(path, query_string=query, headers=self._headers)

    def refusal(self, groups: list[int], path: str = PAGE) -> str:
        found = self.get(groups, path)
        assert found.status_code >= 400
        return str(lxml.html.document_fromstring(found.text).text_content())

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
    assert lines(page) == [f"No letter: in collections (group {FAMILY})"]
    assert not page.xpath("//article | //form")


def test_figures_are_current_whatever_the_group_owes_now(reader: Reader, listed: list[int], sandbox: Sandbox) -> None:
    for patron in (OTHER_ADULT, *CHILDREN):
        owe(sandbox, patron)
    (sheet,) = reader.page([FAMILY]).xpath("//article")
    assert [one.text for one in sheet.xpath(".//h2/span[@class='number']")] == ["$4.90"]
    owe(sandbox, LEAD)
    assert lines(reader.page([FAMILY])) == [f"No letter: the contact and the children owe nothing (group {FAMILY})"]
    for patron in (LEAD, OTHER_ADULT, *CHILDREN):
        change(sandbox, patron, usrgroup=patron + 1000)
    assert lines(reader.page([FAMILY])) == [f"No letter: no adult, and no parent or guardian (group {FAMILY})"]


def test_marked_only_when_pressed_and_once(reader: Reader, listed: list[int], state: State, proxy: FaultProxy) -> None:
    page = reader.page(listed)
    written = len(page.xpath("//article"))
    assert entries(state, proxy) == {}
    done = reader.mark(page)
    assert (done.status_code, done.headers["Location"]) == (303, f"/evergreen-groups/reports/latest?saved={written}")
    assert list(entries(state, proxy).values()) == [["contacted letter"]] * written
    assert FAMILY in entries(state, proxy)
    assert reader.mark(page).status_code == 303
    assert list(entries(state, proxy).values()) == [["contacted letter"]] * written


def test_marking_as_sent_reopens_no_closed_group(
    reader: Reader, listed: list[int], state: State, proxy: FaultProxy
) -> None:
    save(state, draft(FAMILY, What.CLOSED, how=None), url=proxy.url)
    assert reader.mark(reader.page([FAMILY])).status_code == 303
    assert entries(state, proxy) == {FAMILY: ["closed ", "contacted letter"]}
    assert follow_ups(state, proxy)[FAMILY].status(state.database.now().date(), 30) is FollowUpStatus.CLOSED


def test_a_colleagues_newer_entry_is_shown_first(
    reader: Reader, listed: list[int], state: State, proxy: FaultProxy
) -> None:
    page = reader.page([FAMILY])
    save(state, draft(FAMILY, note="theirs"), url=proxy.url)
    refused = reader.mark(page)
    assert refused.status_code == 409
    assert "A colleague has added an entry" in refused.text
    assert "theirs" in lxml.html.document_fromstring(refused.text).find_class("newer")[0].text_content()
    assert entries(state, proxy) == {FAMILY: ["contacted phone"]}
    assert reader.mark(reader.page([FAMILY])).status_code == 303
    assert entries(state, proxy) == {FAMILY: ["contacted phone", "contacted letter"]}


def test_who_may_not_save_prints_and_is_told_why(
    make_app: MakeApp, settings: Settings, listed: list[int], sandbox: Sandbox
) -> None:
    off = Reader(make_app(replace(settings, desk=DeskSettings(changes=False))), sandbox).page([FAMILY])
    take_away(sandbox, "UPDATE_USER")
    without = Reader(make_app(settings), sandbox).page([FAMILY])
    for page, why in (
        (off, "setting: changes in [desk]"),
        (without, "your login needs the permission UPDATE_USER at HARBOR"),
    ):
        assert len(page.xpath("//article")) == 1
        assert not page.xpath("//form")
        assert page.xpath("//button/@id") == ["print"]
        assert [line for line in lines(page) if why in line]


def test_letters_only_to_whom_the_session_sees_and_marks_only_what_it_may(
    make_app: MakeApp, settings: Settings, listed: list[int], state: State, sandbox: Sandbox, proxy: FaultProxy
) -> None:
    account = make_stock_circulator(sandbox)  # sees the patrons of a system
    change_rows(sandbox, "INSERT OR REPLACE INTO grants VALUES (?, 'UPDATE_USER', 2)", USER)
    reader = Reader(make_app(settings), sandbox, account)
    assert "Your login can't see the patrons of all libraries (permission VIEW_USER)." in reader.refusal([FAMILY])
    (state.directory / "reports" / "latest").mkdir(parents=True)
    units = {row["id"]: row for row in sandbox._store.rows("aou")}
    system = units[11]["parent_ou"]
    elsewhere = next(id for id, row in units.items() if row["parent_ou"] not in (None, 1, system))
    hidden = [next(number for number in listed if number != FAMILY)]
    for patron in sandbox._store.rows("au", {"usrgroup": hidden[0]}):
        change(sandbox, patron["id"], home_ou=elsewhere if patron["master_account"] == "t" else 11, dob="1990-05-05")
    record_report(state, proxy.url, contact=True)
    of_group = {number: one.group for number, one in follow_ups(state, proxy).items()}
    place = {row["shortname"]: row["parent_ou"] for row in units.values()}
    seen = [number for number in listed if any(place[name] == system for name in of_group[number].libraries)]
    assert [number for number in seen if place[of_group[number].contact_library] != system] == hidden
    other = next(number for number in listed if number not in seen)
    assert "The report no longer lists this group." in reader.refusal([FAMILY, other])
    page = reader.page(seen)
    withheld = ", ".join(f"group {number}" for number in hidden)
    assert f"No letter: the contact belongs to another library ({withheld})" in lines(page)
    branch = {number for number in seen if of_group[number].contact_library == units[11]["shortname"]}
    assert any("your login needs the permission UPDATE_USER at" in line for line in lines(page))
    assert reader.mark(page).status_code == 303
    assert FAMILY in entries(state, proxy).keys() <= branch
    rows = csv.DictReader(io.StringIO(reader.get(hidden, FILE).text))
    assert list(rows) == []


def test_they_need_contact_data(
    make_app: MakeApp, settings: Settings, listed: list[int], state: State, sandbox: Sandbox, proxy: FaultProxy
) -> None:
    named = NamedReport(name="With", report=ReportSettings(contact=True, output=state.directory / "with.html"))
    changed = replace(settings, report=ReportSettings(), reports=(named,))
    reader = Reader(make_app(changed), sandbox)
    for path in (PAGE, FILE):
        refused = reader.get([FAMILY], path)
        assert (refused.status_code, "setting: contact in [report]" in refused.text) == (404, True)
    with gateway_of(proxy.url, "consortium_staff") as gateway:
        note_run(state, replace(build_report(gateway, Criteria(contact=True)), name="With"))
    assert reader.get([FAMILY], report="with").status_code == 200
    assert reader.get([FAMILY], report="nowhere").status_code == 404


def test_as_many_at_once_as_entries_are_saved(reader: Reader, listed: list[int]) -> None:
    for path in (PAGE, FILE):
        refused = reader.refusal(list(range(1, 202)), path)
        assert "Select at most 200 groups." in refused
        assert "Letters not available" in refused
        assert "Select a group in the report first." in reader.refusal([], path)
    assert reader.get([*listed, 999_999]).status_code == 404


def test_the_mail_merge_file_is_the_commands(
    reader: Reader, listed: list[int], run: Command, proxy: FaultProxy
) -> None:
    found = reader.get(listed, FILE)
    assert found.content_type == "text/csv; charset=utf-8"
    assert found.headers["Content-Disposition"] == 'attachment; filename="letters.csv"'
    assert found.headers["Cache-Control"] == "no-store"
    run.environ["EVERGREEN_GROUPS_REPORT_CONTACT"] = "true"
    done = run("letters", "--format", "csv")
    assert sorted(found.text.splitlines()) == sorted(done.stdout.splitlines())
    (link,) = reader.page([FAMILY]).xpath("//a[contains(@href, '.csv')]/@href")
    assert link == f"{FILE}?group={FAMILY}"


@pytest.mark.parametrize("path", [PAGE, FILE])
def test_too_many_for_the_deadline(
    make_app: MakeApp, settings: Settings, listed: list[int], sandbox: Sandbox, proxy: FaultProxy, path: str
) -> None:
    app = make_app(replace(settings, serve=ServeSettings(port=0, timeout=3, rate_limit=1_000_000)))
    reader = Reader(app, sandbox)
    assert reader.get([FAMILY]).status_code == 200
    proxy.decide = lambda call: Fault.LATE_REQUEST if ".mous." in call.method else Fault.NONE
    for _ in range(5):
        refused = reader.get([FAMILY, *listed[:3]], path)
        assert refused.status_code == 504
        assert "Select fewer groups." in refused.text
    proxy.heal()
    assert reader.get([FAMILY]).status_code == 200, "the desks aren't locked out"


def test_no_letter_is_logged(reader: Reader, listed: list[int], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    reader.mark(reader.page([FAMILY]))
    reader.get([FAMILY], FILE)
    assert "/reports/letters" in caplog.text
    for secret in ("Okonkwo", "Harbor Street", "4.90", "Dear", f"group={FAMILY}"):
        assert secret not in caplog.text


def test_a_page_of_another_origin_gets_none(make_app: MakeApp, settings: Settings, sandbox: Sandbox) -> None:
    headers = {**cookie(session(sandbox.url, username="consortium_staff")), "Sec-Fetch-Site": "cross-site"}
    found = client_of(make_app(settings)).get(f"{PAGE}?group={FAMILY}", headers=headers)
    assert found.status_code == 403
