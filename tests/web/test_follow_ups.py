"""Follow-ups over HTTP: what is read and saved, by whom, and what two people at once get."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import lxml.html
import pytest
from flask import Flask
from support.bills_and_items import HARBOR, lend
from support.circulators import USER, change_rows, make_stock_circulator, take_away
from support.debts import owe
from support.description import check_answer
from support.desk_caller import Answer, DeskCaller, caller_of, new_key
from support.fault_proxy import FaultProxy
from support.follow_ups import note_run, record_report
from support.gateways import gateway_of
from support.web_caller import MakeApp, client_of, cookie, session, settings_of
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from evergreen_groups.render.report import OUTCOMES
from evergreen_groups.report import Criteria, Run, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import NamedReport, ReportSettings, Settings
from evergreen_groups.settings.sections import DeskSettings, FollowUpSettings, LanguageSettings
from evergreen_groups.state import State

PATH = "follow-ups"
PROMISED = {"what": "promised", "how": "phone", "note": "SECRET by Friday"}


@pytest.fixture
def settings(proxy: FaultProxy) -> Settings:
    return settings_of(proxy.url, language=LanguageSettings(timezone="UTC"))


@pytest.fixture
def recorded(state: State, sandbox: Sandbox, proxy: FaultProxy) -> dict[int, int]:
    """Record a run of the report. Return the groups with the id of the person to contact."""
    report = record_report(state, proxy.url)
    return {number: listing.contact for number, listing in Run.of(report).listings.items()}


@pytest.fixture
def number(recorded: dict[int, int]) -> int:
    """A listed group."""
    return next(iter(recorded))


@pytest.fixture
def app(make_app: MakeApp, settings: Settings) -> Flask:
    return make_app(settings)


@pytest.fixture
def desk(app: Flask, sandbox: Sandbox, recorded: dict[int, int]) -> DeskCaller:
    return caller_of(app, sandbox)


def save(desk: DeskCaller, *entries: dict[str, Any], key: str = "", report: str = "") -> Answer:
    body = {"report": report, "entries": list(entries)}
    found = desk.send("POST", PATH, body, Idempotency_Key=key or new_key())
    check_answer("POST", "/api/v1/follow-ups", found.status, found.body)
    return found


def read(desk: DeskCaller, report: str = "") -> dict[str, Any]:
    found = desk.send("GET", f"{PATH}?report={report}" if report else PATH)
    assert found.status == 200, found.body
    check_answer("GET", "/api/v1/follow-ups", 200, found.body)
    return found.body


def read_groups(desk: DeskCaller, *, may_write: bool) -> list[int]:
    return [one["group"] for one in read(desk)["groups"] if one["may_write"] is may_write]


def notes_of(desk: DeskCaller, number: int) -> list[str]:
    return [entry["note"] for entry in group(desk, number)["entries"]]


def group(desk: DeskCaller, number: int) -> dict[str, Any]:
    (found,) = [one for one in read(desk)["groups"] if one["group"] == number]
    return dict(found)


def test_without_a_recorded_run_there_are_no_groups(app: Flask, sandbox: Sandbox) -> None:
    found = read(caller_of(app, sandbox))
    assert (found["groups"], found["as_of"], found["counts"]["to-do"]) == ([], None, 0)


def test_every_listed_group_is_to_do_at_first(desk: DeskCaller, recorded: dict[int, int]) -> None:
    found = read(desk)
    assert {one["group"]: one["contact"] for one in found["groups"]} == recorded
    assert found["counts"] == {"to-do": len(recorded), "waiting": 0, "closed": 0}
    assert {(one["seen"], one["may_write"]) for one in found["groups"]} == {(None, True)}


def test_a_group_in_collections_is_not_to_do(
    desk: DeskCaller, recorded: dict[int, int], state: State, sandbox: Sandbox, proxy: FaultProxy
) -> None:
    number, other, *_ = recorded
    penalty = {"usr": recorded[number], "standing_penalty": 30, "org_unit": 1, "staff": 4}
    sandbox._store.insert("ausp", {"set_date": "2026-09-03T10:00:00+0000", **penalty})
    record_report(state, proxy.url, contact=True)
    assert [group(desk, one)["status"] for one in (number, other)] == ["waiting", "to-do"]


def test_saved_for_several_groups_at_once(desk: DeskCaller, recorded: dict[int, int], sandbox: Sandbox) -> None:
    one, two, *_ = recorded
    remind = (datetime.now(UTC).date() + timedelta(9)).isoformat()
    saved = save(desk, {"group": one, **PROMISED, "remind_on": remind}, {"group": two, "what": "closed"})
    assert saved.status == 200
    assert [entry["group"] for entry in saved.body["entries"]] == [one, two]
    assert group(desk, one)["entries"] == saved.body["entries"][:1]
    entry = saved.body["entries"][0]
    today = datetime.now(UTC).date().isoformat()
    assert (entry["note"], entry["remind_on"], entry["date"]) == ("SECRET by Friday", remind, today)
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        assert entry["staff"] == gateway.pcrud.search("au", {"usrname": "consortium_staff"})[0].id
    assert read(desk)["counts"] == {"to-do": len(recorded) - 2, "waiting": 1, "closed": 1}


def test_the_second_of_two_gets_the_first_ones_entry(desk: DeskCaller, recorded: dict[int, int]) -> None:
    number, other, *_ = recorded
    first = save(desk, {"group": number, **PROMISED})
    refused = save(desk, {"group": other, "note": "x"}, {"group": number, "note": "typed"})
    assert (refused.status, refused.code, refused.body["newer"]) == (409, "newer-entry", first.body["entries"])
    assert "SECRET" not in refused.body["detail"]
    assert group(desk, other)["entries"] == []
    again = save(desk, {"group": number, "note": "typed", "seen": refused.body["newer"][0]["revision"]})
    assert again.status == 200
    assert [one["note"] for one in group(desk, number)["entries"]] == ["SECRET by Friday", "typed"]


def test_a_key_saves_once(desk: DeskCaller, number: int) -> None:
    first = save(desk, {"group": number, **PROMISED}, key="k")
    assert save(desk, {"group": number, **PROMISED}, key="k").body == first.body
    assert save(desk, {"group": number, "note": "other"}, key="k").code == "key-of-other-entries"
    assert len(group(desk, number)["entries"]) == 1
    assert desk.send("POST", PATH, {"entries": [{"group": number, "note": "x"}]}).code == "key-missing"


@pytest.mark.parametrize(
    "wrong",
    [
        {"group": 0}, {"group": "x"}, {"what": "paid"}, {"how": "fax"}, {"what": "promised"}, {"date": "yesterday"},
        {"date": "2999-01-01"}, {"remind_on": "2020-01-01"}, {"note": "x" * 301}, {"note": "SECRET\x1b"}, {"seen": "x"},
        {"corrects": 1}, {"corrects": "1"}, {"deletes": True}, {"more": 1},
    ],
)  # fmt: skip
def test_refused(desk: DeskCaller, number: int, wrong: dict[str, Any]) -> None:
    refused = save(desk, {"group": number, "note": "x", **wrong})
    assert refused.status == 400, refused.body
    assert "SECRET" not in json.dumps(refused.body)


def test_refused_as_a_whole(desk: DeskCaller, number: int) -> None:
    entry = {"group": number, "note": "x"}
    assert save(desk).code == "field-wrong"
    assert save(desk, *[entry] * 201).code == "field-wrong"
    assert save(desk, entry, entry).code == "group-named-twice"
    assert save(desk, entry, {"group": 999_999, "note": "x"}).code == "group-not-listed"
    assert save(desk, entry, report="nowhere").status == 404
    refused = save(desk, {**entry, "remind_on": "2020-01-01"})
    assert refused.body["detail"] == "Not accepted: the reminder is before today (remind_on)", "a name for programs"
    assert save(desk, {**entry, "corrects": "999-k7q4tz"}).code == "no-such-follow-up-entry"
    assert group(desk, number)["entries"] == []


def test_where_nothing_is_changed_it_can_only_be_read(
    make_app: MakeApp, settings: Settings, sandbox: Sandbox, desk: DeskCaller, number: int
) -> None:
    save(desk, {"group": number, "what": "closed"})
    app = make_app(replace(settings, desk=DeskSettings(changes=False)))
    desk = caller_of(app, sandbox)
    assert {one["may_write"] for one in read(desk)["groups"]} == {False}
    assert save(desk, {"group": number, "note": "x"}).code == "changes-off"
    page = lxml.html.document_fromstring(FormCaller(app, desk, settings.gateway.url or "").get(number).text)
    assert "[desk]" in page.find_class("refusal")[0].text_content()
    assert "Closed" in page.find_class("entries")[0].text_content()
    assert page.xpath("//*[@class='entry-form'] | //*[@class='entries']//button") == []


def test_a_page_of_another_origin_may_not_save(desk: DeskCaller, number: int) -> None:
    body = {"entries": [{"group": number, "note": "x"}]}
    refused = desk.send("POST", PATH, body, Idempotency_Key="k", Origin="https://elsewhere.example.org")
    assert (refused.status, refused.code) == (403, "foreign-write")


def test_no_note_is_logged_or_counted(
    app: Flask, desk: DeskCaller, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    save(desk, {"group": number, **PROMISED})
    save(desk, {"group": number, **PROMISED})
    read(desk)
    assert "SECRET" not in caplog.text
    from evergreen_groups.web.service import service_of

    assert "SECRET" not in str(service_of(app).counters.exposition())


@pytest.mark.parametrize("owed", ["0.00", "3.00"])
def test_who_owes_nothing_promises_to_return_items(
    app: Flask, sandbox: Sandbox, proxy: FaultProxy, state: State, owed: str
) -> None:
    family = (1012, 1013, 1014)
    for patron in family:
        owe(sandbox, patron, *([(HARBOR, owed)] if owed != "0.00" else []))
        lend(sandbox, patron, "2026-06-01", copy=patron)
    report = record_report(state, proxy.url, min_total=Decimal(0), min_overdue=2)
    (number,) = (one.number for one in report.groups if family[0] in {member.id for member in one.members})
    form = FormCaller(app, caller_of(app, sandbox), proxy.url)
    page = form.get(number)
    shown = lxml.html.document_fromstring(page.text)
    (label,) = shown.xpath("//label[input/@value='promised']")
    what = "Promised to return items" if owed == "0.00" else "Promised to pay"
    assert label.text_content().strip() == what
    assert len(shown.xpath("//input[@name='amount']")) == (owed != "0.00")
    assert form.send(page, "promised phone", pay_by="2039-01-10").status_code == 303
    assert f"{what} by 10 Jan 2039" in form.get(number).text


def test_a_promise_has_its_own_day_and_can_be_canceled(form: FormCaller, desk: DeskCaller, number: int) -> None:
    days = [(datetime.now(UTC).date() + timedelta(ahead)).isoformat() for ahead in (5, 9)]
    assert form.send(form.get(number), "promised phone", pay_by=days[1], remind_on=days[0]).status_code == 303
    found = group(desk, number)
    assert (found["promise"], found["reminder"], found["status"]) == (days[1], days[0], "waiting")
    # A letter cancels neither, and each can be canceled.
    assert form.send(form.get(number), "contacted letter").status_code == 303
    assert (group(desk, number)["promise"], group(desk, number)["reminder"]) == (days[1], days[0])
    page = form.get(number)
    cancels = lxml.html.document_fromstring(page.text).xpath("//*[@class='pending']/button/@value")
    assert cancels == ["cancel promise", "cancel reminder"]
    assert form.send(page, "cancel promise").status_code == 303
    found = group(desk, number)
    assert (found["promise"], found["reminder"], found["entries"][-1]["cancels"]) == (None, days[0], "promise")
    assert form.send(form.get(number), "cancel promise").status_code == 400
    refused = save(desk, {"group": number, "seen": found["seen"], "what": "closed", "pay_by": days[0]})
    assert "(pay_by)" in refused.body["detail"]


@pytest.mark.parametrize(("typed", "saved"), [("20", "20.00"), ("7,50", "7.50"), (" 7.50 ", "7.50"), ("", None)])
def test_a_promise_has_an_amount(
    form: FormCaller, desk: DeskCaller, number: int, typed: str, saved: str | None
) -> None:
    day = (datetime.now(UTC).date() + timedelta(5)).isoformat()
    assert form.send(form.get(number), "promised phone", pay_by=day, amount=typed).status_code == 303
    found = group(desk, number)
    [entry] = found["entries"]
    assert (entry["amount"], entry["outcome"], entry["paid"], found["due"], found["broken"]) == (
        *(saved, None, None),
        *([], False),
    )
    pending = lxml.html.document_fromstring(form.get(number).text).xpath("string(//*[@class='pending'])")
    assert (f"${saved}" in pending) is (saved is not None)


@pytest.mark.parametrize("amount", ["0", "-1.00", "1.005", "much", "NaN", "1000000.00"])
def test_amounts_that_are_refused(form: FormCaller, desk: DeskCaller, number: int, amount: str) -> None:
    refused = form.send(form.get(number), "promised phone", amount=amount)
    assert (refused.status_code, group(desk, number)["entries"]) == (400, [])
    assert amount in refused.text
    assert save(desk, {"group": number, "what": "closed", "amount": "1.00"}).status == 400
    assert save(desk, {"group": number, **PROMISED, "amount": amount}).status == 400


# --- Permissions ---


@pytest.fixture
def split(app: Flask, tmp_path: Path, recorded: dict[int, int]) -> Flask:
    """The service with a report that is split by library."""
    (tmp_path / "state" / "reports" / "latest").mkdir(parents=True)
    return app


def at_harbor_street(sandbox: Sandbox, app: Flask) -> DeskCaller:
    """Log in a circulator who sees patrons of the system, and may change those of the branch."""
    account = make_stock_circulator(sandbox)
    change_rows(sandbox, "INSERT OR REPLACE INTO grants VALUES (?, 'UPDATE_USER', 2)", USER)
    return caller_of(app, sandbox, account)


def test_a_report_of_all_libraries_takes_view_user_everywhere(app: Flask, sandbox: Sandbox, number: int) -> None:
    desk = at_harbor_street(sandbox, app)
    assert desk.send("GET", PATH).code == "report-refused"
    assert save(desk, {"group": number, "note": "x"}).code == "report-refused"


def test_of_a_split_report_staff_get_the_groups_of_their_libraries_and_may_change_those_of_the_contact_persons(
    split: Flask, sandbox: Sandbox, recorded: dict[int, int]
) -> None:
    desk = at_harbor_street(sandbox, split)
    found = {one["group"]: one for one in read(desk)["groups"]}
    assert set(found) < set(recorded)
    hidden = next(number for number in recorded if number not in found)
    assert save(desk, {"group": hidden, "note": "x"}).code == "group-not-listed"
    may = {one["may_write"]: one for one in found.values()}
    assert set(may) == {True, False}, [(one["library"], one["may_write"]) for one in found.values()]
    assert save(desk, {"group": may[True]["group"], "note": "x"}).status == 200
    refused = save(desk, {"group": may[False]["group"], "note": "x"})
    assert (refused.status, refused.code) == (403, "follow-up-permission-missing")
    assert f"UPDATE_USER at {may[False]['library']}" in refused.body["detail"]
    everywhere = {one["group"]: one["library"] for one in read(caller_of(split, sandbox))["groups"]}
    assert {number: one["library"] for number, one in found.items()}.items() <= everywhere.items()


def test_a_merge_of_families_of_two_branches_shows_no_entry_to_other_staff_than_before(
    split: Flask, sandbox: Sandbox, proxy: FaultProxy, recorded: dict[int, int], state: State
) -> None:
    desk, everywhere = at_harbor_street(sandbox, split), caller_of(split, sandbox)
    [mine] = read_groups(desk, may_write=True)[:1]
    theirs = next(number for number in recorded if number not in {one["group"] for one in read(desk)["groups"]})
    assert save(everywhere, {"group": theirs, "note": "SECRET"}, {"group": mine, "note": "ours"}).status == 200
    moved = sandbox._store.rows("au", {"usrgroup": theirs})
    change_rows(sandbox, "UPDATE au SET usrgroup = ? WHERE usrgroup = ?", mine, theirs)
    record_report(state, proxy.url)
    assert notes_of(everywhere, mine) == ["SECRET", "ours"]
    assert notes_of(desk, mine) == ["ours"]
    form = FormCaller(split, desk, proxy.url)
    page = form.get(mine)
    assert "SECRET" not in page.text
    assert form.send(page, "contacted phone", note="all of them").status_code == 303
    assert notes_of(desk, mine) == ["ours", "all of them"]
    refused = save(desk, {"group": mine, "corrects": group(everywhere, mine)["entries"][0]["id"], "deletes": True})
    assert refused.code == "no-such-follow-up-entry"
    for row in moved:
        change_rows(sandbox, "UPDATE au SET usrgroup = ? WHERE id = ?", theirs, row["id"])
    record_report(state, proxy.url)
    assert [notes_of(everywhere, number) for number in (theirs, mine)] == [["SECRET"], ["ours", "all of them"]]
    assert notes_of(desk, mine) == ["ours", "all of them"]


def test_saving_takes_another_permission_if_the_settings_say_so(
    make_app: MakeApp, settings: Settings, sandbox: Sandbox, number: int
) -> None:
    take_away(sandbox, "UPDATE_USER")
    desk = caller_of(make_app(settings), sandbox)
    assert save(desk, {"group": number, "note": "x"}).code == "follow-up-permission-missing"
    desk = caller_of(make_app(replace(settings, follow_up=FollowUpSettings(permission="VIEW_USER"))), sandbox)
    assert save(desk, {"group": number, "note": "x"}).status == 200


def test_authors_may_correct_without_it_and_others_only_with_it(
    split: Flask, sandbox: Sandbox, recorded: dict[int, int]
) -> None:
    desk, everywhere = at_harbor_street(sandbox, split), caller_of(split, sandbox)
    number = next(one["group"] for one in read(desk)["groups"] if one["may_write"])
    [mine] = save(desk, {"group": number, "note": "mine"}).body["entries"]
    [other] = save(everywhere, {"group": number, "note": "other", "seen": mine["revision"]}).body["entries"]
    take_away(sandbox, "UPDATE_USER", user=USER)
    refused = save(desk, {"group": number, "seen": other["revision"], "corrects": other["id"], "note": "x"})
    assert refused.code == "follow-up-permission-missing"
    correction = {"group": number, "seen": other["revision"], "corrects": mine["id"], "note": "fixed"}
    [fixed] = save(desk, correction).body["entries"]
    assert save(everywhere, {"group": number, "seen": fixed["revision"], "corrects": mine["id"], "deletes": True})
    assert [one["deleted"] for one in group(everywhere, number)["entries"]] == [True, False]


def test_a_report_by_name(
    make_app: MakeApp, settings: Settings, sandbox: Sandbox, state: State, tmp_path: Path
) -> None:
    with gateway_of(settings.gateway.url or "", "consortium_staff") as gateway:
        report = build_report(gateway, Criteria())
    note_run(state, replace(report, name="Old-Debts", groups=report.groups[:1]))
    named = NamedReport(name="Old-Debts", report=ReportSettings(output=tmp_path / "old.html"))
    desk = caller_of(make_app(replace(settings, reports=(named,))), sandbox)
    assert [one["group"] for one in read(desk, "old-debts")["groups"]] == [report.groups[0].number]
    assert read(desk)["groups"] == []


def test_today_is_that_of_the_contact_persons_library(
    make_app: MakeApp, settings: Settings, sandbox: Sandbox, number: int
) -> None:
    """In a time zone in which it is tomorrow, or yesterday."""
    zone, day = ("Pacific/Kiritimati", 1) if datetime.now(UTC).hour >= 12 else ("Etc/GMT+12", -1)
    change_rows(sandbox, "DELETE FROM aous WHERE name = 'lib.timezone'")
    sandbox._store.insert("aous", {"name": "lib.timezone", "org_unit": 1, "value": json.dumps(zone)})
    desk = caller_of(make_app(replace(settings, language=LanguageSettings())), sandbox)
    [entry] = save(desk, {"group": number, "note": "x"}).body["entries"]
    assert entry["date"] == (datetime.now(UTC).date() + timedelta(day)).isoformat()


# --- The form, without scripts ---

FORM = "/evergreen-groups/reports/follow-up"


class FormCaller:
    """A browser without scripts on the form's page."""

    def __init__(self, app: Flask, desk: DeskCaller, origin: str) -> None:
        self._client = client_of(app)
        token = desk.headers["Authorization"].removeprefix("Bearer ")
        self.headers = {**cookie(token), "Origin": origin, "Sec-Fetch-Site": "same-origin"}

    def get(self, *groups: int, **query: str) -> TestResponse:
        return self._client.get(FORM, query_string={"group": groups, **query}, headers=self.headers)

    def send(self, page: TestResponse | str, do: str, **typed: str) -> TestResponse:
        """Send the form of a page with what was typed into it.

        ``do`` is an outcome and its way (``promised phone``) or reason (``closed paid``), or another button.
        """
        (form,) = lxml.html.document_fromstring(page if isinstance(page, str) else page.text).find_class("entry-form")
        fields = MultiDict(form.form_values())
        outcome, _, way = do.partition(" ")
        if outcome in OUTCOMES:
            typed |= {"outcome": outcome, "reason" if outcome == "closed" else "how": way}
            do = "save"
        for name, value in {**typed, "do": do}.items():
            fields[name] = value
        return self._client.post(form.action, data=fields, headers=self.headers)


@pytest.fixture
def form(app: Flask, sandbox: Sandbox, proxy: FaultProxy, recorded: dict[int, int]) -> FormCaller:
    return FormCaller(app, caller_of(app, sandbox), proxy.url)


def test_the_form_saves_for_several_groups_and_leads_back(
    form: FormCaller, desk: DeskCaller, recorded: dict[int, int]
) -> None:
    one, two, *_ = recorded
    page = form.get(one, two)
    assert page.status_code == 200
    done = form.send(page, "promised phone", weeks="2", note="SECRET")
    assert (done.status_code, done.location) == (303, "/evergreen-groups/reports/latest?saved=2")
    today = datetime.now(UTC).date()
    for number in (one, two):
        [entry] = group(desk, number)["entries"]
        assert (entry["what"], entry["how"], entry["note"]) == ("promised", "phone", "SECRET")
        assert (entry["date"], entry["remind_on"]) == (today.isoformat(), (today + timedelta(14)).isoformat())
    # Sent twice, it is saved once.
    assert form.send(page, "promised phone", weeks="2", note="SECRET").status_code == 303
    assert len(group(desk, one)["entries"]) == 1
    assert form.send(page, "note", note="another").status_code == 400
    assert len(group(desk, one)["entries"]) == 1


@pytest.mark.parametrize(
    ("do", "saved", "said"),
    [
        ("no-answer email", ("no-answer", None, "email"), "by e-mail · Not reached"),
        ("left-message phone", ("no-answer", "left-message", "phone"), "by phone · Left a message"),
        ("wrong-contact letter", ("no-answer", "wrong-contact", "letter"), "by letter · Wrong number or address"),
        ("closed given-up", ("closed", "given-up", None), "Closed · given up"),
    ],
)
def test_what_happened_and_why_it_was_closed(
    form: FormCaller, desk: DeskCaller, number: int, do: str, saved: tuple[str | None, ...], said: str
) -> None:
    assert form.send(form.get(number), do).status_code == 303
    [entry] = group(desk, number)["entries"]
    assert (entry["what"], entry["detail"], entry["how"]) == saved
    assert said in form.get(number).text
    # A correction begins with what was saved.
    assert form.send(form.get(number, entry=entry["id"]), "save", note="corrected").status_code == 303
    [corrected] = group(desk, number)["entries"]
    assert (corrected["what"], corrected["detail"], corrected["how"], corrected["note"]) == (*saved, "corrected")


def test_a_detail_belongs_to_its_outcome(desk: DeskCaller, number: int) -> None:
    for wrong in ({"what": "note"}, {"what": "closed"}, {"what": "contacted", "how": "phone"}):
        assert save(desk, {"group": number, "note": "x", **wrong, "detail": "left-message"}).code == "follow-up-unclear"
    assert save(desk, {"group": number, "what": "closed"}).status == 200, "programs may leave it out"


@pytest.mark.parametrize("contact", [True, False])
def test_the_form_is_headed_by_the_family_and_says_how_to_reach_it(
    make_app: MakeApp, settings: Settings, sandbox: Sandbox, number: int, recorded: dict[int, int], *, contact: bool
) -> None:
    person = recorded[number]
    change_rows(sandbox, "UPDATE au SET day_phone = '555-0177', email = 'h+1@example.org' WHERE id = ?", person)
    app = make_app(replace(settings, report=replace(settings.report, contact=contact)))
    page = FormCaller(app, caller_of(app, sandbox), settings.gateway.url or "").get(number)
    document = lxml.html.document_fromstring(page.text)
    name = sandbox._store.rows("au", {"id": person})[0]["family_name"]
    assert document.findtext(".//h1/bdi").startswith(f"{name}, ")
    links = document.xpath("//*[@class='reach']/a/@href")
    assert links.pop().endswith(f"/eg/staff/circ/patron/{person}/checkout")
    assert links == (["tel:555-0177", "mailto:h%2B1@example.org"] if contact else [])


def test_a_reminder_needs_no_note_and_a_typed_date_counts_rather_than_weeks(
    form: FormCaller, desk: DeskCaller, number: int
) -> None:
    assert form.send(form.get(number), "note", weeks="1").status_code == 303
    today = datetime.now(UTC).date()
    later, before = (today + timedelta(days) for days in (5, -2))
    form.send(form.get(number), "contacted email", weeks="1", remind_on=later.isoformat(), day=before.isoformat())
    note, contacted = group(desk, number)["entries"]
    assert (note["what"], note["note"], note["remind_on"]) == ("note", "", (today + timedelta(7)).isoformat())
    assert (contacted["remind_on"], contacted["date"]) == (later.isoformat(), before.isoformat())


@pytest.mark.parametrize(
    ("do", "typed", "said"),
    [
        ("", {}, "The form is incomplete, or its date can't be read."),
        ("paid", {}, "The form is incomplete, or its date can't be read."),
        ("note", {}, "write a note or set a reminder"),
        ("note", {"day": "soon"}, "The form is incomplete, or its date can't be read."),
        ("contacted phone", {"remind_on": "2020-01-01"}, "the reminder is before today"),
        ("contacted phone", {"day": "2999-01-01"}, "the date is in the future"),
        ("contacted", {}, "letter or in person"),
        ("no-answer letter", {}, "select phone or e-mail"),
        ("left-message in-person", {}, "select phone or e-mail"),
        ("closed", {}, "The form is incomplete, or its date can't be read."),
        ("closed wrong-contact", {}, "the detail belongs to another outcome"),
        ("delete", {}, "the entry to delete is missing"),
    ],
)
def test_what_is_refused_stays_in_the_form(
    form: FormCaller, desk: DeskCaller, number: int, do: str, typed: dict[str, str], said: str
) -> None:
    typed = {"note": "", **typed} if do == "note" else {"note": "SECRET </textarea>", **typed}
    refused = form.send(form.get(number), do, **typed)
    assert refused.status_code == 400
    [message] = lxml.html.document_fromstring(refused.text).xpath("//*[@role='alert']")
    assert said in message.text_content()
    assert not re.search("remind_on|corrects|[`(]", message.text_content()), "names for programs"
    assert group(desk, number)["entries"] == []
    saved = form.send(refused, "contacted phone", remind_on="", day="", note=typed["note"] or "SECRET")
    assert saved.status_code == 303, saved.text
    assert "SECRET" in group(desk, number)["entries"][0]["note"]


def test_deleting_asks_once_and_leaves_who_and_when(form: FormCaller, desk: DeskCaller, number: int) -> None:
    [entry] = save(desk, {"group": number, **PROMISED}).body["entries"]
    correction = {"group": number, "seen": entry["revision"], "corrects": entry["id"], **PROMISED, "note": "SECRET 2"}
    save(desk, correction)
    page = form.get(number, entry=str(entry["id"]))
    [button] = lxml.html.document_fromstring(page.text).xpath("//button[@name='delete']")
    question = form.get(number, delete=button.get("value"))
    assert "SECRET 2" in question.text
    assert "Delete this entry?" in question.text
    assert not group(desk, number)["entries"][0]["deleted"]
    assert form.send(question, "delete").status_code == 303
    assert group(desk, number)["entries"][0]["deleted"]
    shown = form.get(number)
    assert "SECRET" not in shown.text + json.dumps(read(desk))
    versions = lxml.html.document_fromstring(shown.text).find_class("version")
    assert [version.text_content().count("Promised to pay · ") for version in versions] == [1, 1]


def test_correcting_a_note_keeps_the_outcome_and_a_reminders_date_deselects_none(
    form: FormCaller, desk: DeskCaller, number: int
) -> None:
    later = (datetime.now(UTC).date() + timedelta(5)).isoformat()
    [entry] = save(desk, {"group": number, **PROMISED, "remind_on": later}).body["entries"]
    page = form.get(number, entry=str(entry["id"]))
    assert lxml.html.document_fromstring(page.text).xpath("//input[@name='weeks' and @checked]") == []
    assert form.send(page, "save", note="SECRET by Monday").status_code == 303
    [corrected] = group(desk, number)["entries"]
    kept = {name: corrected[name] for name in ("what", "how", "remind_on", "note")}
    assert kept == {**PROMISED, "remind_on": later, "note": "SECRET by Monday"}
    assert form.send(form.get(number), "note", note="new").status_code == 303
    assert group(desk, number)["entries"][1]["what"] == "note"


def test_an_ended_session_keeps_the_form(form: FormCaller, desk: DeskCaller, number: int, sandbox: Sandbox) -> None:
    page = form.get(number)
    form.headers |= cookie("0" * 32)
    refused = form.send(page, "contacted phone", note="SECRET")
    assert refused.status_code == 401
    assert ">SECRET</textarea>" in refused.text
    assert 'target="_blank"' in refused.text
    form.headers |= cookie(session(sandbox.url, username="consortium_staff"))
    again = form.send(refused, "contacted phone")
    assert (again.status_code, group(desk, number)["entries"]) == (403, [])
    assert form.send(again, "contacted phone").status_code == 303
    assert group(desk, number)["entries"][0]["note"] == "SECRET"


def test_a_form_of_another_origin_or_session_saves_nothing(form: FormCaller, desk: DeskCaller, number: int) -> None:
    page = form.get(number)
    another = re.sub('name="form" value="[0-9a-f]+"', 'name="form" value="0"', page.text)
    assert form.send(another, "contacted phone").status_code == 403
    form.headers |= {"Origin": "https://elsewhere.example.org", "Sec-Fetch-Site": "cross-site"}
    refused = form.send(page, "contacted phone", note="SECRET")
    assert (refused.status_code, "SECRET" in refused.text) == (403, False)
    assert group(desk, number)["entries"] == []


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"group": "x"},
        {"group": "0"},
        {"group": [str(number) for number in range(1, 202)]},
        {"group": "1", "page": "x" * 201},
        {"group": "1", "entry": "x"},
        {"group": "1", "entry": "2-k7q4tz\n"},
        {"group": "1:x"},
        {"group": "1", "covers": "1:2.00"},
        {"group": "1", "columns": "x"},
        {"group": "1", "key": "x"},
    ],
)
def test_addresses_that_no_page_has(form: FormCaller, query: dict[str, Any]) -> None:
    refused = form._client.get(FORM, query_string=query, headers=form.headers)
    assert refused.status_code == 400
    assert ("at most 200 groups" in refused.text) is (len(query.get("group", "")) > 200)


def test_a_group_that_left_the_list_has_no_form(form: FormCaller, number: int) -> None:
    assert form.get(999_999).status_code == 404
    assert "999999" not in form.get(number, 999_999).text


def test_of_several_groups_those_without_permission_are_left_out(
    split: Flask, sandbox: Sandbox, proxy: FaultProxy, recorded: dict[int, int]
) -> None:
    desk = at_harbor_street(sandbox, split)
    may = {one["may_write"]: one["group"] for one in read(desk)["groups"]}
    form = FormCaller(split, desk, proxy.url)
    page = form.get(may[True], may[False])
    assert page.text.count("UPDATE_USER at") == 1
    assert form.send(page, "contacted phone").status_code == 303
    entries = {one["group"]: len(one["entries"]) for one in read(desk)["groups"]}
    assert (entries[may[True]], entries[may[False]]) == (1, 0)
    assert 'class="entry-form"' not in form.get(may[False]).text
    # A form that is sent anyway saves nothing.
    forced = re.sub(f'value="{may[True]}:[0-9a-z-]+"', f'value="{may[False]}:"', form.get(may[True]).text)
    assert form.send(forced, "contacted phone").status_code == 403


def test_a_form_whose_entry_a_colleague_has_deleted_keeps_what_was_typed(
    form: FormCaller, desk: DeskCaller, number: int
) -> None:
    [entry] = save(desk, {"group": number, **PROMISED}).body["entries"]
    page = form.get(number, entry=str(entry["id"]))
    save(desk, {"group": number, "seen": entry["id"], "corrects": entry["id"], "deletes": True})
    refused = form.send(page, "contacted phone", note="typed")
    assert refused.status_code in (404, 409), refused.text
    assert ">typed</textarea>" in refused.text
    again = form.send(refused, "contacted phone", note="typed")
    assert again.status_code == 303, again.text


@pytest.mark.parametrize("note", ["می\u200cخواهد", "👨\u200d👩\u200d👧", "שלום\u200f"])
def test_notes_in_any_script(form: FormCaller, desk: DeskCaller, number: int, note: str) -> None:
    assert form.send(form.get(number), "note", note=note).status_code == 303
    assert group(desk, number)["entries"][0]["note"] == note
