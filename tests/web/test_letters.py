"""Letters over HTTP: who may make them of which groups, and marking them as sent."""

from __future__ import annotations

import csv
import io
import logging
import re
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import lxml.html
import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.bills_and_items import lend
from support.circulators import USER, change_rows, make_stock_circulator, take_away
from support.command import Command
from support.debts import owe
from support.fault_proxy import Fault, FaultProxy
from support.follow_ups import draft, note_run, record_report, save
from support.gateways import gateway_of
from support.letters import CHILDREN, FAMILY, HARBOR, IN_COLLECTIONS, LEAD, OTHER_ADULT, change, penalize
from support.waiting import wait_until
from support.web_caller import MakeApp, client_of, cookie, session, settings_of
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from evergreen_groups.follow_up import FollowUp, FollowUps, What
from evergreen_groups.report import Criteria, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import NamedReport, ReportSettings, ServeSettings
from evergreen_groups.settings.sections import DeskSettings, LanguageSettings
from evergreen_groups.state import State

LINDQVIST, IBANEZ = 1002, 1003
"""Rosario owes 2.00, Joaquín, an adult without an address, 31.50."""
TO_LEAD = "Ibáñez Ortega, Joaquín: send it to the group lead's address"
PAGE, FILE = "/evergreen-groups/reports/letters", "/evergreen-groups/reports/letters.csv"
SAVE = "/evergreen-groups/reports/follow-up"
OF_PAGE = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


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

    def choose(self, page: lxml.html.HtmlElement, *chosen: str) -> lxml.html.HtmlElement:
        """Check only the boxes with these texts, and press *Update letters*."""
        (form,) = page.xpath("//ul[@class='families']/ancestor::form")
        fields = [(one.get("name"), one.get("value")) for one in form.xpath(".//input[@type='hidden']")]
        fields += [options(page)[text] for text in chosen]
        found = self._client.get(form.get("action"), query_string=MultiDict(fields), headers=self._headers)
        assert found.status_code == 200, found.text
        return lxml.html.document_fromstring(found.text)

    def page(self, groups: list[int]) -> lxml.html.HtmlElement:
        found = self.get(groups)
        assert found.status_code == 200, found.text
        return lxml.html.document_fromstring(found.text)

    def mark(self, page: lxml.html.HtmlElement) -> TestResponse:
        """Press *Mark as sent*."""
        (form,) = page.xpath("//section[@class='bar']/form[@method='post']")
        assert form.get("action") == SAVE
        (button,) = form.xpath(".//button[@name]")
        fields = [(one.get("name"), one.get("value")) for one in form.xpath(".//input")]
        fields.append((button.get("name"), button.get("value")))
        return self._client.post(SAVE, data=MultiDict(fields), headers=self._headers)


@dataclass
class Site:
    """Services with a recorded run of the report, which has the groups ``listed``."""

    make_app: MakeApp
    sandbox: Sandbox
    proxy: FaultProxy
    state: State
    listed: list[int] = field(default_factory=list)

    def record(self) -> None:
        self.listed = [group.number for group in record_report(self.state, self.proxy.url, contact=True).groups]

    def reader(self, account: str = "consortium_staff", **sections: Any) -> Reader:
        """Return a reader of a new service with these settings."""
        usual = {"language": LanguageSettings(timezone="UTC"), "report": ReportSettings(contact=True)}
        return Reader(self.make_app(settings_of(self.proxy.url, **{**usual, **sections})), self.sandbox, account)

    def follow_ups(self) -> dict[int, FollowUp]:
        found = FollowUps(self.state.database, self.proxy.url).of_report("")
        assert found is not None
        return dict(found.by_group)

    def entries(self) -> dict[int, list[str]]:
        """Return what was agreed, by group."""
        return {
            number: [f"{entry.what.value} {entry.how.value if entry.how else ''}" for entry in one.entries]
            for number, one in self.follow_ups().items()
            if one.entries
        }

    def save(self, what: What = What.CONTACTED, **fields: Any) -> None:
        """Save an entry for the family."""
        save(self.state, draft(FAMILY, what, **fields), url=self.proxy.url)


@pytest.fixture
def site(make_app: MakeApp, sandbox: Sandbox, proxy: FaultProxy, state: State) -> Site:
    site = Site(make_app, sandbox, proxy, state)
    site.record()
    return site


@pytest.fixture
def reader(site: Site) -> Reader:
    return site.reader()


def lines(page: lxml.html.HtmlElement) -> list[str]:
    """Return why the reader may not mark letters, and a line for each family, without remarks and options."""
    found = page.xpath("//section[@class='bar']/ul/li | //ul[@class='families']/li")
    return ["".join(one.xpath("text() | bdi/text()")).strip() for one in found]


def remarks(page: lxml.html.HtmlElement) -> list[str]:
    return [one.text_content() for one in page.xpath("//ul[@class='families']/li/ul/li[not(label)]")]


def options(page: lxml.html.HtmlElement) -> dict[str, tuple[str, str]]:
    """Return what can be chosen: the name and the value of each checkbox, by its text."""
    return {
        one.text_content().strip(): (one.find("input").get("name"), one.find("input").get("value"))
        for one in page.xpath("//ul[@class='families']//label")
    }


def test_a_sheet_for_each_family_and_who_gets_none(site: Site, reader: Reader) -> None:
    found = reader.get([FAMILY, *(number for number in site.listed if number != FAMILY)])
    page = lxml.html.document_fromstring(found.text)
    sheets = page.xpath("//article")
    assert len(lines(page)) == len(site.listed)
    assert len(sheets) == len([line for line in lines(page) if "no letter" not in line])
    assert any("Adaeze Okonkwo" in sheet.text_content() for sheet in sheets)
    assert found.headers["Cache-Control"] == "no-store"
    assert found.headers["Referrer-Policy"] == "same-origin"
    policy = found.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self'" in policy
    assert "unsafe-inline" not in policy
    penalize(site.sandbox, OTHER_ADULT, IN_COLLECTIONS)
    change(site.sandbox, LEAD, locale="cs-CZ")
    page = reader.page([FAMILY])
    assert lines(page) == [f"Okonkwo, Adaeze · group {FAMILY} · no letter: in collections · $0.00 of $28.10"]
    assert remarks(page) == ["Okonkwo, Chidi: $4.75, below the minimum"]
    assert not page.xpath("//article | //form")


def test_figures_are_current_whatever_the_group_owes_now(site: Site, reader: Reader) -> None:
    for patron in (OTHER_ADULT, *CHILDREN):
        owe(site.sandbox, patron)
    owe(site.sandbox, LEAD, (HARBOR, "5.00"))
    (sheet,) = reader.page([FAMILY]).xpath("//article")
    assert [one.text for one in sheet.xpath(".//h2/span[@class='number']")] == ["$5.00"]
    owe(site.sandbox, LEAD)
    (line,) = lines(reader.page([FAMILY]))
    assert line.endswith("no letter: nothing owed · $0.00 of $0.00")
    for patron in (LEAD, OTHER_ADULT, *CHILDREN):
        change(site.sandbox, patron, usrgroup=patron + 1000)
    assert lines(reader.page([FAMILY])) == [f"group {FAMILY} · no letter: no adult, and no parent or guardian"]


def test_what_letters_cover_is_shown_and_noted(site: Site, reader: Reader) -> None:
    page = reader.page([FAMILY, IBANEZ])
    assert page.xpath("string(//section[@class='bar']/h2/following-sibling::p)") == "1 letter covers $23.35 of $61.60"
    assert lines(page) == [
        f"Ibáñez Ortega, Rosario · group {IBANEZ} · no letter: no valid address · $0.00 of $33.50",
        f"Okonkwo, Adaeze · group {FAMILY} · $23.35 of $28.10 in 1 letter",
    ]
    below = "Ibáñez Ortega, Rosario: $2.00, below the minimum"
    assert remarks(page) == [
        below,
        "Okonkwo, Chidi: $4.75, below the minimum",
    ]
    assert options(page) == {TO_LEAD: ("to_lead", "1013")}
    owe(site.sandbox, OTHER_ADULT)
    page = reader.choose(page, TO_LEAD)
    assert lines(page)[0] == f"Ibáñez Ortega, Rosario · group {IBANEZ} · $31.50 of $33.50 in 1 letter"
    assert remarks(page) == [below]
    assert page.xpath("//ul[@class='families']//input/@checked")
    assert reader.mark(page).status_code == 303
    notes = {number: [entry.note for entry in one.entries] for number, one in site.follow_ups().items() if one.entries}
    assert notes == {IBANEZ: ["Covered by letter: $31.50 of $33.50."], FAMILY: [""]}
    assert lines(reader.page([IBANEZ])) == [
        f"Ibáñez Ortega, Rosario · group {IBANEZ} · no letter: no valid address · $0.00 of $33.50"
    ], "the choice is for that one letter"
    (hidden,) = page.xpath(f"//input[@name='covers'][starts-with(@value, '{IBANEZ}:')]")
    hidden.set("value", f"{IBANEZ}:2.00")
    assert reader.mark(page).status_code == 400


def test_closed_and_waiting_families_get_none_unless_selected(site: Site, reader: Reader) -> None:
    owe(site.sandbox, OTHER_ADULT)
    assert remarks(reader.page([FAMILY])) == []
    site.save(What.PROMISED, note="theirs")
    page = reader.page([FAMILY, LINDQVIST])
    assert len(page.xpath("//article")) == 1
    assert [line for line in lines(page) if "waiting for a promise or reminder · $0.00 of $23.35" in line]
    assert FILE + f"?group={LINDQVIST}" in page.xpath("//a/@href")
    (promised,) = (text for text in remarks(page) if "Björn" not in text)
    assert re.fullmatch("Waiting: .* by phone · Promised to pay", promised)
    page = reader.choose(page, "Write anyway")
    assert len(page.xpath("//article")) == 2
    (before,) = site.follow_ups()[FAMILY].entries
    site.save(What.CLOSED, how=None, seen=before.id)
    page = reader.page([FAMILY])
    (closed,) = remarks(page)
    assert re.fullmatch(r"Closed: [\w ]+", closed)
    assert not page.xpath("//article | //a")
    page = reader.choose(page, "Write anyway")
    assert lines(page) == [f"Okonkwo, Adaeze · group {FAMILY} · $23.35 of $23.35 in 1 letter"]
    assert reader.mark(page).status_code == 303
    assert site.entries()[FAMILY][-1] == "contacted letter"
    page = reader.choose(reader.page([FAMILY]), "Write anyway")
    assert lines(page)[0].endswith("in 1 letter · letter no. 2")


def test_hidden_members_make_a_letter_incomplete(site: Site) -> None:
    account = make_stock_circulator(site.sandbox)  # sees the patrons of a system
    (site.state.directory / "reports" / "latest").mkdir(parents=True)
    page = site.reader(account).page([FAMILY])
    assert "Only your own fines" in page.xpath("string(//article)")
    change(site.sandbox, CHILDREN[0], home_ou=22)
    page = site.reader(account).page([FAMILY])
    assert "Only your own fines" not in page.xpath("string(//article)")
    assert lines(page)[1:] == [f"Okonkwo, Adaeze · group {FAMILY} · $18.50 of $28.10 in 1 letter"]
    assert remarks(page)[0] == "Incomplete: 1 hidden member may be missing"
    for secret in ("Ifeoma", "4.85"):
        assert secret not in lxml.html.tostring(page, encoding="unicode")


def test_marked_only_when_pressed_and_once(site: Site, reader: Reader) -> None:
    page = reader.page(site.listed)
    written = len([line for line in lines(page) if "no letter" not in line])
    assert site.entries() == {}
    done = reader.mark(page)
    assert (done.status_code, done.headers["Location"]) == (303, f"/evergreen-groups/reports/latest?saved={written}")
    assert list(site.entries().values()) == [["contacted letter"]] * written
    assert FAMILY in site.entries()
    assert reader.mark(page).status_code == 303
    assert list(site.entries().values()) == [["contacted letter"]] * written


def test_a_colleagues_newer_entry_is_shown_first(site: Site, reader: Reader) -> None:
    page = reader.page([FAMILY])
    site.save(note="theirs")
    refused = reader.mark(page)
    assert refused.status_code == 409
    assert "A colleague has added an entry" in refused.text
    assert "theirs" in lxml.html.document_fromstring(refused.text).find_class("newer")[0].text_content()
    assert site.entries() == {FAMILY: ["contacted phone"]}
    assert reader.mark(reader.page([FAMILY])).status_code == 303
    assert site.entries() == {FAMILY: ["contacted phone", "contacted letter"]}


def test_who_may_not_save_prints_and_is_told_why(site: Site) -> None:
    off = site.reader(desk=DeskSettings(changes=False)).page([FAMILY])
    take_away(site.sandbox, "UPDATE_USER")
    without = site.reader().page([FAMILY])
    for page, why in (
        (off, "setting: changes in [desk]"),
        (without, "your login needs the permission UPDATE_USER at HARBOR"),
    ):
        assert len(page.xpath("//article")) == 1
        assert not page.xpath("//form")
        assert page.xpath("//button/@id") == ["print"]
        assert [line for line in lines(page) if why in line]


def test_letters_only_to_whom_the_session_sees_and_marks_only_what_it_may(site: Site) -> None:
    account = make_stock_circulator(site.sandbox)  # sees the patrons of a system
    change_rows(site.sandbox, "INSERT OR REPLACE INTO grants VALUES (?, 'UPDATE_USER', 2)", USER)
    reader = site.reader(account)
    assert "Your login can't see the patrons of all libraries (permission VIEW_USER)." in reader.refusal([FAMILY])
    (site.state.directory / "reports" / "latest").mkdir(parents=True)
    units = {row["id"]: row for row in site.sandbox._store.rows("aou")}
    system = units[11]["parent_ou"]
    elsewhere = next(id for id, row in units.items() if row["parent_ou"] not in (None, 1, system))
    hidden = [next(number for number in site.listed if number != FAMILY)]
    for patron in site.sandbox._store.rows("au", {"usrgroup": hidden[0]}):
        change(
            site.sandbox, patron["id"], home_ou=elsewhere if patron["master_account"] == "t" else 11, dob="1990-05-05"
        )
    site.record()
    of_group = {number: one.group for number, one in site.follow_ups().items()}
    place = {row["shortname"]: row["parent_ou"] for row in units.values()}
    seen = [number for number in site.listed if any(place[name] == system for name in of_group[number].libraries)]
    assert [number for number in seen if place[of_group[number].contact_library] != system] == hidden
    other = next(number for number in site.listed if number not in seen)
    assert "The report no longer lists this group." in reader.refusal([FAMILY, other])
    page = reader.page(seen)
    assert f"group {hidden[0]} · no letter: the contact belongs to another library" in lines(page)
    branch = {number for number in seen if of_group[number].contact_library == units[11]["shortname"]}
    assert any("your login needs the permission UPDATE_USER at" in line for line in lines(page))
    assert reader.mark(page).status_code == 303
    assert FAMILY in site.entries().keys() <= branch
    rows = csv.DictReader(io.StringIO(reader.get(hidden, FILE).text))
    assert list(rows) == []


def test_they_need_contact_data(site: Site) -> None:
    named = NamedReport(name="With", report=ReportSettings(contact=True, output=site.state.directory / "with.html"))
    reader = site.reader(report=ReportSettings(), reports=(named,))
    for path in (PAGE, FILE):
        refused = reader.get([FAMILY], path)
        assert (refused.status_code, "setting: contact in [report]" in refused.text) == (404, True)
    with gateway_of(site.proxy.url, "consortium_staff") as gateway:
        note_run(site.state, replace(build_report(gateway, Criteria(contact=True)), name="With"))
    assert reader.get([FAMILY], report="with").status_code == 200
    assert reader.get([FAMILY], report="nowhere").status_code == 404


def test_as_many_at_once_as_entries_are_saved(site: Site, reader: Reader) -> None:
    for path in (PAGE, FILE):
        refused = reader.refusal(list(range(1, 202)), path)
        assert "Select at most 200 groups." in refused
        assert "Letters not available" in refused
        assert "Select a group in the report first." in reader.refusal([], path)
    assert reader.get([*site.listed, 999_999]).status_code == 404


def test_the_mail_merge_file_is_the_commands(site: Site, reader: Reader, run: Command) -> None:
    found = reader.get(site.listed, FILE)
    assert found.content_type == "text/csv; charset=utf-8"
    assert found.headers["Content-Disposition"] == 'attachment; filename="letters.csv"'
    assert found.headers["Cache-Control"] == "no-store"
    run.environ["EVERGREEN_GROUPS_REPORT_CONTACT"] = "true"
    done = run("letters", "--format", "csv")
    assert sorted(found.text.splitlines()) == sorted(done.stdout.splitlines())
    (link,) = reader.page([FAMILY]).xpath("//a[contains(@href, '.csv')]/@href")
    assert link == f"{FILE}?group={FAMILY}"


@pytest.mark.parametrize("path", [PAGE, FILE])
def test_too_many_for_the_deadline(site: Site, path: str) -> None:
    reader = site.reader(serve=ServeSettings(port=0, timeout=3, rate_limit=1_000_000))
    assert reader.get([FAMILY]).status_code == 200
    site.proxy.decide = lambda call: Fault.LATE_REQUEST if ".mous." in call.method else Fault.NONE
    for _ in range(5):
        refused = reader.get([FAMILY, *site.listed[:3]], path)
        assert refused.status_code == 504
        assert "Select fewer groups." in refused.text
    site.proxy.heal()
    # Desks that were locked out would get 503. A busy machine may be late for three seconds: then look again.
    assert wait_until(lambda: (status := reader.get([FAMILY]).status_code) != 504 and status) == 200


def test_no_letter_is_logged(site: Site, reader: Reader, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    reader.mark(reader.page([FAMILY]))
    reader.get([FAMILY], FILE)
    assert "/reports/letters" in caplog.text
    for secret in ("Okonkwo", "Harbor Street", "4.90", "Dear", f"group={FAMILY}"):
        assert secret not in caplog.text


def test_a_page_of_another_origin_gets_none(reader: Reader) -> None:
    reader._headers["Sec-Fetch-Site"] = "cross-site"
    assert reader.get([FAMILY]).status_code == 403


def test_families_who_owe_nothing_get_letters_about_items(site: Site) -> None:
    """What the letter covers is noted, in items."""
    for patron in (LEAD, OTHER_ADULT, *CHILDREN):
        owe(site.sandbox, patron)
    lend(site.sandbox, LEAD, "2026-06-01", copy=9001)
    lend(site.sandbox, OTHER_ADULT, "2026-05-01", copy=9002)
    record_report(site.state, site.proxy.url, contact=True, min_total=Decimal(0), min_overdue=1)
    reader = site.reader(report=ReportSettings(min_total=Decimal(0), min_overdue=1, contact=True))
    change(site.sandbox, OTHER_ADULT, active="f")
    page = reader.page([FAMILY])
    assert lines(page) == [f"Okonkwo, Adaeze · group {FAMILY} · 1 of 2 overdue or lost items in 1 letter"]
    assert "price of the overdue items: $16.99." in page.xpath("string(//article)")
    assert reader.mark(page).status_code == 303
    (entry,) = site.follow_ups()[FAMILY].entries
    assert (entry.note, entry.unreturned) == ("Covered by letter: 1 of 2 overdue or lost items.", 2)
    text = reader.get([FAMILY], SAVE).text
    assert "$0.00 · 2 items overdue or lost · " in " ".join(lxml.html.document_fromstring(text).text_content().split())
