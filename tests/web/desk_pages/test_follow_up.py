"""What was agreed with a group, on its page and in its history."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from support.circulators import USER, change_rows, take_away
from support.desk_caller import caller_of, new_key
from support.desk_page import ClerkNamed, DeskClerk, DeskPage, with_settings
from support.fault_proxy import FaultProxy
from support.follow_ups import record_report
from support.page_desk import HOSTILE

from evergreen_groups.language import languages
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings.sections import DeskSettings

HUONG, DUC, MINH, LAN, WHITFIELD = 1015, 1016, 1017, 1018, 1036
FAMILY, ELM = 1004, 22
IN_A_WEEK = (datetime.now(UTC).date() + timedelta(7)).isoformat()
HOW = {"how": "phone", "date": "2026-11-03"}
PROMISED = {"what": "promised", **HOW, "remind_on": IN_A_WEEK, "note": "SECRET tax refund"}
Saved = Callable[..., None]
Recorded = Callable[[], object]


@pytest.fixture
def recorded(app: Flask, proxy: FaultProxy) -> Recorded:
    """Record a night's report as it would be now."""
    return lambda: record_report(app.extensions["evergreen-groups"].state, proxy.url, contact=True)


@pytest.fixture
def saved(app: Flask, sandbox: Sandbox, recorded: Recorded) -> Saved:
    """Record a night, and save entries through the API afterwards."""
    recorded()

    def save(*entries: dict[str, Any], group: int = FAMILY) -> None:
        desk = caller_of(app, sandbox)
        for entry in entries:
            groups = desk.send("GET", "follow-ups").body["groups"]
            seen = next(one["seen"] for one in groups if one["group"] == group)
            body = {"entries": [{"group": group, "seen": seen, **entry}]}
            answer = desk.send("POST", "follow-ups", body, Idempotency_Key=new_key())
            assert answer.status == 200, answer.body

    return save


def line(page: DeskPage) -> str:
    assert page.status == 200
    found = page.tree.xpath("//p[starts-with(@class, 'follow-up')]")
    return " ".join(found[0].text_content().split()) if found else ""


def past(clerk: DeskClerk, patron: int = MINH) -> list[str]:
    """Return the follow-up's entries in the group's history."""
    sections = clerk.open(patron, "/history").tree.xpath("//section[preceding::h2[1][@id='follow-up']]")
    return [" ".join(one.text_content().split()) for one in sections]


def test_the_latest_entry_and_all_in_the_history(clerk: DeskClerk, saved: Saved) -> None:
    saved({"what": "no-answer", "how": "phone", "date": "2026-11-01"}, PROMISED)
    page = clerk.open(MINH)
    week = datetime.now(UTC).date() + timedelta(7)
    assert line(page).startswith(f"Follow-up: 3 Nov 2026, by phone · Promised to pay · reminder on {week.day} ")
    assert "SECRET" not in page.text
    assert page.tree.xpath("//p[@class='follow-up']/a/@href")[0].partition("#")[2] == "follow-up"
    latest, first = past(clerk)
    assert latest.endswith("by you SECRET tax refund")
    assert first.startswith("1 Nov 2026, by phone · Not reached · by you")


def test_nothing_without_an_entry(clerk: DeskClerk, recorded: Recorded) -> None:
    assert (line(clerk.open(MINH)), past(clerk)) == ("", [])
    recorded()
    assert (line(clerk.open(MINH)), past(clerk)) == ("", [])
    assert "Follow-up" not in clerk.open(MINH).text + clerk.open(MINH, "/history").text


def test_a_deleted_entry_is_gone_and_a_corrected_one_says_so(
    clerk: DeskClerk, saved: Saved, app: Flask, sandbox: Sandbox
) -> None:
    saved(PROMISED, {"what": "note", "note": "wrong family"})
    desk = caller_of(app, sandbox)
    groups = desk.send("GET", "follow-ups").body["groups"]
    promised, note = next(one["entries"] for one in groups if one["group"] == FAMILY)
    saved({"corrects": note["id"], "deletes": True}, {**PROMISED, "corrects": promised["id"], "how": "email"})
    assert "3 Nov 2026, by e-mail" in line(clerk.open(MINH))
    (entry,) = past(clerk)
    assert "(corrected)" in entry


def test_a_note_is_text_and_in_no_log(clerk: DeskClerk, saved: Saved, caplog: pytest.LogCaptureFixture) -> None:
    hostile = "".join(character for character in HOSTILE if character.isprintable())
    with caplog.at_level(logging.DEBUG):
        saved({"what": "note", "note": f"SECRET {hostile}"})
        page = clerk.open(MINH, "/history")
        clerk.open(MINH)
    assert not page.tree.xpath("//img")
    assert hostile in page.text
    assert "SECRET" not in caplog.text


def test_for_whoever_sees_the_group(clerk_named: ClerkNamed, saved: Saved, sandbox: Sandbox) -> None:
    saved(PROMISED)
    desk = clerk_named("harbor_desk")
    assert "Promised" in line(desk.open(MINH))
    change_rows(sandbox, "UPDATE au SET home_ou = ? WHERE usrgroup = ?", ELM, FAMILY)
    assert [desk.open(MINH, part).status for part in ("", "/history")] == [404, 404]


@pytest.mark.parametrize(
    ("account", "author"),
    [("admin", "by Whitlock, Constance"), ("harbor_desk", "by a colleague (name hidden from your login)")],
)
def test_who_saved_it(clerk_named: ClerkNamed, saved: Saved, account: str, author: str) -> None:
    saved(PROMISED)
    (entry,) = past(clerk_named(account))
    assert author in entry


def test_contact_data_isnt_shown(clerk: DeskClerk, recorded: Recorded, saved: Saved, sandbox: Sandbox) -> None:
    change_rows(sandbox, "UPDATE au SET day_phone = '555-0177', email = 'h@example.org' WHERE id = ?", HUONG)
    recorded()
    saved(PROMISED)
    for part in ("", "/history"):
        text = clerk.open(MINH, part).response.text
        assert not [secret for secret in ("555-0177", "h@example.org") if secret in text]


def test_no_more_calls(clerk: DeskClerk, clerk_named: ClerkNamed, proxy: FaultProxy, saved: Saved) -> None:
    def calls(part: str, clerk: DeskClerk = clerk) -> list[str]:
        before = len(proxy.calls)
        clerk.open(MINH, part)
        return sorted(call.method for call in proxy.calls[before:])

    other = clerk_named("admin")
    for one in (clerk, other):
        one.open(MINH)
    before = [calls(part, one) for part in ("", "/history") for one in (clerk, other)]
    saved(PROMISED)
    # The name of another author takes one, unless the group has a change whose author is read with it.
    before[3].append("open-ils.pcrud.search.au.atomic")
    assert [calls(part, one) for part in ("", "/history") for one in (clerk, other)] == [*map(sorted, before)]


@pytest.mark.parametrize("language", [tag for tag in languages() if tag != "en"])
def test_in_each_language(clerk: DeskClerk, saved: Saved, language: str) -> None:
    saved(PROMISED)
    clerk.headers["Accept-Language"] = language
    text = line(clerk.open(MINH)) + " ".join(past(clerk))
    assert not [word for word in ("Follow-up", "Promised", "by phone") if word in text]


def test_a_reminder_due_today_says_so(clerk: DeskClerk, saved: Saved) -> None:
    today = datetime.now(UTC).date()
    saved({"what": "note", "note": "SECRET", "remind_on": today.isoformat()})
    assert line(clerk.open(MINH)).endswith("· reminder due today")
    assert f"reminder on {today.day} " in past(clerk)[0], "the history keeps the date"


class TestAddingAnEntry:
    """The menu has a link to a form on the group's page."""

    def link(self, page: DeskPage) -> list[str]:
        return [str(address) for address in page.tree.xpath("//a[.='Add a follow-up entry']/@href")]

    def test_for_a_listed_group(self, clerk: DeskClerk, recorded: Recorded) -> None:
        assert self.link(clerk.open(MINH)) == []
        recorded()
        (address,) = self.link(clerk.open(MINH))
        assert address == f"/evergreen-groups/patrons/{MINH}/group/follow-up?group=1004&client=eg2"
        (in_tab,) = self.link(clerk.open(MINH, query="client=eg2&in=tab"))
        assert in_tab.endswith("&in=tab"), "it stays in the tab"
        assert self.link(clerk.open(WHITFIELD)) == [], "owes less than the report lists"

    def test_not_for_whoever_cant_read_the_report_or_save_entries(
        self, clerk_named: ClerkNamed, recorded: Recorded, app: Flask, sandbox: Sandbox
    ) -> None:
        recorded()
        desk = clerk_named("harbor_desk")
        change_rows(sandbox, "INSERT INTO grants VALUES (?, 'UPDATE_USER', 2)", USER)
        assert self.link(desk.open(MINH)) == []
        (app.extensions["evergreen-groups"].state.directory / "reports").mkdir()  # a page for each library
        assert len(self.link(desk.open(MINH))) == 1
        take_away(sandbox, "UPDATE_USER")
        assert self.link(desk.open(MINH)) == []

    def test_it_is_saved_on_the_groups_page(self, clerk: DeskClerk, recorded: Recorded) -> None:
        recorded()
        form = clerk.get(self.link(clerk.open(MINH, query="client=eg2&in=tab"))[0])
        assert form.heading == "Group Member Details"
        assert len(form.members) == 4, "the group stays in view"
        done = form.send("/follow-up", ("do", "save"), outcome="promised", note="SECRET", weeks="1")
        assert "in=tab" in done.address
        assert line(done).startswith("Saved · Follow-up: ")
        assert line(clerk.open(MINH)).startswith("Follow-up: ")
        assert past(clerk)[0].endswith("by you SECRET")
        form.send("/follow-up", ("do", "save"), outcome="promised", note="SECRET", weeks="1")
        assert len(past(clerk)) == 1, "sent twice, saved once"

    def test_what_isnt_accepted_stays_in_the_form(self, clerk: DeskClerk, recorded: Recorded) -> None:
        recorded()
        form = clerk.get(self.link(clerk.open(MINH))[0])
        refused = form.send("/follow-up", ("do", "save"), outcome="closed", note="SECRET")
        assert "the form is incomplete" in refused.part("refused").casefold()
        assert refused.tree.get_element_by_id("note").text == "SECRET"
        assert past(clerk) == []
        entered = refused.send("/follow-up", ("do", ""), outcome="contacted")
        assert past(clerk) == [], "Enter in a field saves nothing"
        assert line(entered.send("/follow-up", ("do", "save"), outcome="contacted")).startswith("Saved")

    def test_a_colleagues_newer_entry_comes_first(self, clerk: DeskClerk, saved: Saved) -> None:
        form = clerk.get(self.link(clerk.open(MINH))[0])
        saved(PROMISED)
        newer = form.send("/follow-up", ("do", "save"), outcome="contacted", note="mine")
        assert "A colleague has added an entry. Yours wasn't saved." in newer.part("refused")
        assert "SECRET tax refund" in newer.text
        assert newer.tree.get_element_by_id("note").text == "mine"
        assert line(newer.send("/follow-up", ("do", "save"), outcome="contacted")).startswith("Saved")
        assert len(past(clerk)) == 2

    def test_a_login_that_may_not_save(self, clerk: DeskClerk, recorded: Recorded, sandbox: Sandbox) -> None:
        recorded()
        form = clerk.get(self.link(clerk.open(MINH))[0])
        take_away(sandbox, "UPDATE_USER", user=2)
        refused = form.send("/follow-up", ("do", "save"), outcome="contacted", note="mine")
        assert refused.status == 403
        assert "UPDATE_USER" in refused.text

    @with_settings(desk=DeskSettings(changes=False))
    def test_not_where_nothing_is_changed(self, clerk: DeskClerk, recorded: Recorded) -> None:
        recorded()
        page = clerk.open(MINH)
        assert (page.status, "Add a follow-up entry" in page.text) == (200, False)


def test_a_database_that_cant_be_read(clerk: DeskClerk, app: Flask, saved: Saved, caplog: Any) -> None:
    saved(PROMISED)
    state = app.extensions["evergreen-groups"].state
    with state.database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE follow_up_entries")
    page = clerk.open(MINH)
    assert (page.status, line(page)) == (200, "")
    assert "the follow-up can't be read" in caplog.text
