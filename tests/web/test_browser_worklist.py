"""The report as a worklist in a browser: from the call to the payment, letters, and whatever may come between."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.keys import Keys
from support.debts import owe
from support.desk_browser import Desk, look
from support.letters import FAMILY, HARBOR, IN_COLLECTIONS, LEAD, OTHER_ADULT, change, penalize
from support.printed_pages import sheets_of
from support.web_caller import end_session, session
from support.worklist import REPORT, Worklist

from evergreen_groups.follow_up import Entry, FollowUps
from evergreen_groups.language import day
from evergreen_groups.settings import ReportSettings
from evergreen_groups.state.database import Database

pytestmark = pytest.mark.long  # needs a browser

WITH_CONTACT = ReportSettings(contact=True)


@pytest.fixture
def page(desk: Desk, tmp_path: Path, cache_directory: Path) -> Worklist:
    """The report of last night, opened."""
    page = Worklist(desk, tmp_path, cache_directory)
    page.make_report()
    page.serve()
    page.open()
    return page


def days_later(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    monkeypatch.setattr(Database, "now", lambda _: datetime.now(UTC) + timedelta(days=days))


def test_from_the_call_to_the_payment(page: Worklist, monkeypatch: pytest.MonkeyPatch) -> None:
    every = page.listed()
    group = every[0]
    count = len(every)
    assert page.statuses()[:3] == [f"To do ({count})", "Waiting (0)", "Closed (0)"]
    page.follow_up(group)
    page.type("note", "says <b>Friday</b>")
    page.type("weeks", "2")
    page.save_entry("promised phone")
    # It leaves what is to do.
    assert page.listed() == every[1:]
    assert page.statuses()[:3] == [f"To do ({count - 1})", "Waiting (1)", "Closed (0)"]
    page.choose("waiting")
    assert page.listed() == [group]
    assert " · Promised to pay" in page.row(group)
    # The desk shows it.
    members = [int(row["id"]) for row in page.desk.sandbox._store.rows("au", {"usrgroup": group})]
    page.browser.get(f"{page.desk.sandbox.url}/evergreen-groups/patrons/{members[0]}/group")
    assert " · Promised to pay" in page.text("main .follow-up")
    # The next night's page says so on disk.
    page.make_report()
    assert " · Promised to pay" in page.written
    assert "default-src 'none'" in page.written
    assert "Friday" not in page.written
    # The reminder brings it back.
    days_later(monkeypatch, 13)
    page.open()
    assert group not in page.listed()
    days_later(monkeypatch, 14)
    page.open()
    assert page.listed() == every
    # Paid: gone from the report. Owing again, it returns with its history.
    for member in members:
        owe(page.desk.sandbox, member)
    page.make_report()
    page.open()
    assert page.listed() == every[1:]
    owe(page.desk.sandbox, members[0], (1, "90.00"))
    page.make_report()
    page.open()
    assert group in page.listed()
    page.follow_up(group)
    assert "says <b>Friday</b>" in page.text("dialog .entries")


def test_the_keyboard_saves_an_entry_and_the_focus_returns_to_the_list(page: Worklist) -> None:
    first, second, *_ = page.listed()
    page.run("document.querySelector(`.follow-up button[value='${arguments[0]}']`).focus()", first)
    page.press(Keys.ENTER)
    page.until(lambda: page.text("dialog .follow-up-page"))
    assert page.run("return document.activeElement.id") == "note"
    page.press("called twice")
    while page.run("return document.activeElement.value") != "no-answer":
        page.press(Keys.TAB)
    page.press(Keys.SPACE)
    while page.run("return document.activeElement.value") != "save":
        page.press(Keys.TAB)
    page.press(Keys.ENTER)
    page.until(page.is_closed)
    page.desk.framed()
    assert page.run("return document.activeElement.value") == str(second)  # the first has left what is to do
    assert page.text("#follow-up [role=status]").startswith(f"Saved · {first}: ")
    page.press(Keys.ENTER)
    page.until(lambda: page.text("dialog .follow-up-page"))
    page.press(Keys.ESCAPE)
    page.until(page.is_closed)
    assert page.run("return document.activeElement.value") == str(second)
    page.choose("waiting")
    assert page.listed() == [first]
    assert ", by phone · Not reached" in page.row(first)
    page.choose("to-do")
    for group in page.listed():
        page.add_entry(group, "closed given-up")
    assert page.text("#shown") == "Nothing to do here. Waiting and closed groups are under “All groups”."


def scan(page: Worklist) -> None:
    """Scan a card: digits and Enter, as fast as a keyboard can."""
    page.press("20000000001036" + Keys.ENTER)
    page.desk.framed()


def entries_of(page: Worklist, group: int) -> tuple[Entry, ...]:
    state = page.desk.gate.app.extensions["evergreen-groups"].state  # type: ignore[attr-defined]
    found = FollowUps(state.database, page.desk.sandbox.url).of_report("")
    assert found is not None
    return found.group(group).entries


def test_a_scan_saves_nothing(page: Worklist) -> None:
    """Neither in the dialog nor on the page, nor while an entry is corrected or deleted."""
    group = page.listed()[0]
    page.follow_up(group)
    scan(page)
    scan(page)
    assert page.run("return document.getElementById('note').value").split() == ["20000000001036"] * 2
    assert (entries_of(page, group), page.is_closed()) == ((), False)
    page.press(Keys.TAB * 7)  # past the reminder and the dates
    scan(page)
    assert entries_of(page, group) == ()
    page.open()
    page.add_entry(group, "contacted phone", "right")
    page.choose("waiting")
    page.follow_up(group)
    page.desk.click("dialog .entries button")
    page.until(lambda: page.run("return document.getElementById('note')?.value") == "right")
    scan(page)
    page.desk.click("dialog [name=delete]")
    page.until(lambda: "Delete this entry?" in page.text("dialog"))
    scan(page)
    [entry] = entries_of(page, group)
    for query in ("", f"&entry={entry.id}", f"&delete={entry.id}"):
        page.browser.get(f"{page.desk.sandbox.url}{REPORT}".replace("latest", f"follow-up?group={group}{query}"))
        scan(page)
    assert entries_of(page, group) == (entry,)


def test_several_groups_get_the_same_entry(page: Worklist) -> None:
    first, _second, third, *_ = page.listed()
    assert not is_shown(page, ".selected")
    page.select(first, third)
    assert page.text(".selected") == "Follow up selected (2)"
    page.desk.click(".selected button")
    page.until(lambda: page.text("dialog .follow-up-page"))
    page.save_entry("contacted letter")
    page.choose("waiting")
    assert page.listed() == [first, third]
    assert not is_shown(page, ".selected")


def test_all_shown_groups_are_selected_and_cleared(page: Worklist) -> None:
    first, *others = page.listed()
    page.add_entry(first, "contacted phone")
    checked = "return document.querySelectorAll('#groups input[name=group]:checked').length"
    page.desk.click("#all")
    assert page.run(checked) == len(others)
    assert page.text(".selected") == f"Follow up selected ({len(others)})"
    page.select(others[0])
    assert page.run("const all = document.getElementById('all'); return [all.checked, all.indeterminate]") == [
        False,
        True,
    ]
    page.desk.click("#clear")
    assert page.run(checked) == 0
    assert not is_shown(page, ".selected, #clear")
    page.run("document.getElementById('follow-up').dataset.most = 2")
    page.desk.click("#all")
    assert page.run(checked) == 2
    assert is_shown(page, "#most")


def test_the_bar_covers_no_row(page: Worklist) -> None:
    page.select(page.listed()[0])
    script = """
        const bar = document.querySelector(".bulk").getBoundingClientRect();
        const first = document.querySelector("#groups > tbody:not([hidden])").getBoundingClientRect();
        return bar.bottom <= first.top && bar.height > 0
    """
    assert page.run(script)


def columns_of(page: Worklist, group: int) -> list[str]:
    script = """
        const body = document.querySelector(`button[name=group][value='${arguments[0]}']`).closest("tbody");
        return [...body.rows[0].querySelectorAll(".follow")].map((cell) => cell.textContent);
    """
    return list(page.run(script, group))


def test_columns_sort_and_filters_stay_in_the_address(page: Worklist) -> None:
    every = page.listed()
    first, second = every[:2]
    today, due = datetime.now(UTC).date(), datetime.now(UTC).date() + timedelta(days=3)
    page.follow_up(first)
    page.type("pay_by", due.isoformat())
    page.save_entry("promised phone")
    page.choose("")
    assert columns_of(page, first) == ["Waiting", day(today), day(due)]
    assert columns_of(page, second) == ["To do", "", ""]
    page.desk.click("th[data-column=next] button")
    assert page.listed() == [first, *every[1:]]
    page.desk.click("th[data-column=next] button")
    assert page.listed()[-1] == first
    address = page.browser.current_url
    assert address.endswith("#status=&sort=-next")
    page.browser.refresh()
    page.until(lambda: page.listed()[-1:] == [first])
    assert len(page.listed()) == len(every)
    page.browser.get("about:blank")
    page.browser.get(address.replace("sort=-next", "when=soon&whose=mine"))
    page.until(lambda: page.listed() == [first])
    page.browser.get(address.replace("sort=-next", "when=never"))
    page.until(lambda: page.listed() == every[1:])
    # A name that was searched for never gets into the address.
    script = "const [find] = [document.getElementById('find')]; find.value = arguments[0];"
    page.run(f"{script} find.dispatchEvent(new Event('input'))", str(second))
    page.desk.framed()
    assert str(second) not in page.browser.current_url
    page.browser.refresh()
    page.until(lambda: page.run("return document.getElementById('find').value") == str(second))


def test_an_entry_is_corrected_and_deleted(page: Worklist) -> None:
    group = page.listed()[0]
    page.add_entry(group, "contacted phone", "typo")
    page.choose("waiting")
    page.follow_up(group)
    page.desk.click("dialog .entries button")
    page.until(lambda: page.run("return document.getElementById('note')?.value") == "typo")
    assert ", by phone · Contacted" in page.text("dialog .entry-form")
    page.type("note", "right")
    selected = "return document.querySelector('.entry-form [name=weeks]:checked')?.value ?? ''"
    assert page.run(selected) == "0"
    page.type("remind_on", (datetime.now(UTC) + timedelta(days=9)).date().isoformat())
    assert page.run(selected) == ""
    page.type("weeks", "0")
    assert page.run("return document.querySelector('.entry-form [name=remind_on]').value") == ""
    page.save_entry("contacted email")
    assert ", by e-mail · Contacted" in page.row(group)
    page.follow_up(group)
    assert ", by phone · Contacted" in page.text("dialog .version")
    assert "typo" not in page.text("dialog")
    page.desk.click("dialog .entries button")
    page.until(lambda: page.run("return !!document.querySelector('dialog button[name=delete]')"))
    page.desk.click("dialog [name=delete]")
    page.until(lambda: page.run("return !!document.querySelector('dialog button[value=delete]')"))
    page.save_entry("delete")
    assert page.statuses()[1] == "Waiting (0)"
    page.until(lambda: page.text("#follow-up [role=status]") == f"Entry deleted · {group}")


def test_the_second_of_two_people_sees_the_first_ones_entry_before_saving(page: Worklist) -> None:
    group = page.listed()[0]
    page.follow_up(group)
    page.type("note", "mine")
    ours = page.browser.current_window_handle
    page.browser.switch_to.new_window("tab")
    page.open()
    page.add_entry(group, "promised email", "theirs")
    page.browser.close()
    page.browser.switch_to.window(ours)
    page.save("no-answer phone")
    page.until(lambda: "A colleague has added an entry" in page.text("dialog [role=alert]"))
    assert "theirs" in page.text("dialog .newer")
    assert page.run("return document.getElementById('note').value") == "mine"
    page.save_entry("no-answer phone")
    page.choose("waiting")
    assert ", by phone · Not reached" in page.row(group)


def test_an_ended_session_keeps_what_was_typed(page: Worklist) -> None:
    token = page.desk.log_in_as("consortium_staff")
    page.open()
    group = page.listed()[0]
    page.follow_up(group)
    page.type("note", "what she said")
    end_session(page.desk.sandbox.url, token)
    page.save("contacted phone")
    page.until(lambda: "You aren't logged in" in page.text("dialog [role=alert]"))
    (login,) = page.find("dialog [role=alert] a")
    assert "/staff/login" in (login.get_attribute("href") or "")
    assert login.get_attribute("target") == "_blank"
    page.desk.have_cookie(session(page.desk.sandbox.url, username="consortium_staff"))
    page.save_entry("contacted phone")
    page.choose("waiting")
    assert page.listed() == [group]
    page.follow_up(group)
    assert "what she said" in page.text("dialog .entries")


def press(page: Worklist, button: str) -> None:
    page.find(button)[0].click()


def text(page: Worklist, selector: str) -> str:
    try:
        return "".join(one.text for one in page.find(selector))
    except StaleElementReferenceException:  # the page is being replaced
        return ""


def test_without_a_script(page: Worklist) -> None:
    group = page.listed()[0]
    with page.without_script():
        page.open()
        assert text(page, "#status") == ""
        press(page, f".follow-up button[value='{group}']")
        page.until(lambda: "No entries yet." in text(page, "main"))
        page.find("#note")[0].send_keys("by hand")
        press(page, "input[value=promised]")
        press(page, "input[value=in-person]")
        press(page, "button[value=save]")
        page.until(lambda: ", in person · Promised to pay" in text(page, ".agreed"))
        for box in page.find("input[name=group]")[:2]:
            box.click()
        press(page, ".selected button")
        page.until(lambda: len(page.find(".follow-up-page h2")) == 2)
        press(page, "input[value=closed]")
        page.find("select[name=reason]")[0].send_keys("waived")
        press(page, "button[value=save]")
        page.until(lambda: text(page, ".agreed").count("Closed") >= 2)


@contextmanager
def intercepted(
    page: Worklist, method: str, part: str = "", status: str = "", *, arrives: bool = False
) -> Iterator[threading.Event]:
    """Hold the first request until the event, and then let it through.

    With a ``status``, answer all requests with that instead, or only the first if that ``arrives`` at the service.
    """
    app, release, first = page.desk.gate.app, threading.Event(), threading.Lock()

    def between(environ, start_response):  # type: ignore[no-untyped-def]
        if environ["REQUEST_METHOD"] != method or part not in environ["QUERY_STRING"]:
            return app(environ, start_response)
        is_first = first.acquire(blocking=False)
        if is_first:
            assert release.wait(20)
        if not status or (arrives and not is_first):
            return app(environ, start_response)
        if arrives:
            b"".join(app(environ, lambda *_: None))
        start_response(status, [("Content-Type", "text/plain")])
        return [b""]

    page.desk.gate.app = between  # type: ignore[assignment]
    try:
        yield release
    finally:
        release.set()
        page.desk.gate.app = app


def test_an_answer_that_is_lost_is_asked_for_again_and_saved_once(page: Worklist) -> None:
    group = page.listed()[0]
    page.follow_up(group)
    with intercepted(page, "POST", status="504 Gateway Timeout", arrives=True) as release:
        release.set()
        page.save_entry("no-answer phone")
    page.choose("waiting")
    page.follow_up(group)
    assert page.run("return document.querySelectorAll('dialog .entries li').length") == 1


def asked(page: Worklist) -> int:
    """Return how many follow-ups have arrived."""
    names = "performance.getEntriesByType('resource').map((one) => one.name)"
    return int(page.run(f"return {names}.filter((name) => /follow-up[?].*group=/.test(name)).length"))


def click(page: Worklist, group: int) -> None:
    page.run("document.querySelector(`.follow-up button[value='${arguments[0]}']`).click()", group)


def test_a_follow_up_that_arrives_late_replaces_no_other(page: Worklist) -> None:
    slow, quick = page.listed()[:2]
    with intercepted(page, "GET", f"group={slow}") as release:
        click(page, slow)
        page.follow_up(quick)
        page.type("note", "of the second")
        release.set()
        page.until(lambda: asked(page) == 2)
        page.desk.framed()
        assert f"Group {quick}" in page.text("dialog h2")
        assert page.run("return document.getElementById('note').value") == "of the second"
        page.save_entry("promised phone")
    page.choose("waiting")
    assert page.listed() == [quick]


def test_closed_before_the_answer_came_nothing_typed_is_lost(page: Worklist) -> None:
    group, other = page.listed()[:2]
    page.follow_up(group)
    page.type("note", "typed")
    with intercepted(page, "POST", status="504 Gateway Timeout") as release:
        page.save("promised phone")
        page.press(Keys.ESCAPE)
        page.until(page.is_closed)
        click(page, other)
        release.set()
        page.until(lambda: page.text("#lost"))
    assert asked(page) == 1
    assert page.run("return document.getElementById('note').value") == "typed"
    page.save_entry("promised phone")
    page.choose("waiting")
    assert page.listed() == [group]


@pytest.mark.parametrize("language", ["en", "fr-CA", "es", "cs"])
def test_axe_finds_nothing_nothing_sticks_out_and_the_buttons_are_on_a_phones_screen(
    page: Worklist, language: str
) -> None:
    page.write_in(language)
    page.open()
    other, group, *_ = page.listed()
    page.add_entry(group, "promised phone", "x" * 300)
    for width, scheme in product((1280, 1000, 390), ("light", "dark")):
        look(page.browser, width, scheme, height=844, mobile=width < 500)
        page.open()
        assert page.run("return document.documentElement.lang") == language
        top = page.run("return document.querySelector('#groups > tbody:not([hidden])').getBoundingClientRect().top")
        assert top < (420 if width > 390 else 700) or language != "en"
        page.choose("")
        assert page.desk.flaws() == []
        page.follow_up(group)
        assert page.desk.flaws() == []
        page.browser.get(f"{page.browser.current_url}".replace("/latest", f"/follow-up?group={group}"))
        assert page.desk.flaws() == []
    page.open()
    page.follow_up(other)
    assert page.desk.flaws() == []
    buttons = "[...document.querySelectorAll('dialog .save button')].map((one) => one.getBoundingClientRect())"
    assert page.run(f"return Math.max(...{buttons}.map((one) => one.bottom))") < 844
    assert page.run(f"return Math.max(...{buttons}.map((one) => one.right))") < 390


def is_shown(page: Worklist, selector: str) -> bool:
    script = "return [...document.querySelectorAll(arguments[0])].some((one) => one.checkVisibility())"
    return bool(page.run(script, selector))


def test_on_paper_there_is_what_was_agreed_and_no_controls(page: Worklist) -> None:
    group = page.listed()[0]
    page.add_entry(group, "promised phone")
    page.choose("")
    look(page.browser, 1280, medium="print")
    assert is_shown(page, ".agreed")
    assert not is_shown(page, ".act, .selected, .tools")


class TestLetters:
    """Selected, printed, marked as sent."""

    @pytest.fixture
    def page(self, desk: Desk, tmp_path: Path, cache_directory: Path) -> Worklist:
        """The report of last night, opened."""
        for row in desk.sandbox._store.rows("au"):
            change(desk.sandbox, row["id"], mailing_address=1001)
        page = Worklist(desk, tmp_path, cache_directory, contact=True)
        page.make_report()
        page.serve(report=WITH_CONTACT)
        page.open()
        return page

    def open_letters(self, page: Worklist) -> None:
        """Select *Letters*, and go to the tab that it opens."""
        before = set(page.browser.window_handles)
        page.find(".selected button[formaction]")[0].click()
        page.until(lambda: set(page.browser.window_handles) - before)
        (tab,) = set(page.browser.window_handles) - before
        page.browser.switch_to.window(tab)
        page.until(lambda: page.find(".bar, [role=alert]"))

    def sheets(self, page: Worklist) -> int:
        return len(page.find("article"))

    def test_selected_printed_and_marked_as_sent(self, page: Worklist) -> None:
        groups = page.listed()[:3]
        page.select(*groups)
        assert page.text(".selected").endswith("Letters")
        self.open_letters(page)
        written = sum(int(text) for text in re.findall(r" in (\d+) letters?", page.text(".families")))
        assert self.sheets(page) == written
        assert written > 3, "another adult gets one, too"
        printed = page.browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
        assert sheets_of(base64.b64decode(printed["data"])) == written, "the bar isn't printed"
        page.find(".bar button[name=do]")[0].click()
        page.until(lambda: page.find("#groups"))
        page.until(lambda: page.run("return document.readyState === 'complete'"))
        assert page.statuses()[1] == f"Waiting ({len(groups)})"
        page.choose("waiting")
        assert page.listed() == groups
        assert all(", by letter · Contacted" in page.row(group) for group in groups)

    def test_the_button_prints(self, page: Worklist) -> None:
        page.select(*page.listed()[:1])
        self.open_letters(page)
        page.run("window.print = () => { document.title = 'printed' }")
        page.find("#print")[0].click()
        assert page.browser.title == "printed"
        with page.without_script():
            page.browser.refresh()
            assert not page.find("#print")[0].is_displayed()

    def test_groups_that_the_filters_hide_get_no_letter(self, page: Worklist) -> None:
        first, second, *_ = page.listed()
        page.add_entry(first, "contacted phone")
        page.choose("")
        page.select(first, second)
        page.choose("to-do")
        self.open_letters(page)
        assert len(page.find(".families > li")) == 1

    def test_what_is_left_out_can_be_selected(self, page: Worklist) -> None:
        change(page.desk.sandbox, OTHER_ADULT, mailing_address=None, billing_address=None)
        owe(page.desk.sandbox, OTHER_ADULT, (HARBOR, "30.00"))
        page.add_entry(FAMILY, "promised phone")
        page.choose("")
        page.select(FAMILY)
        self.open_letters(page)
        assert self.sheets(page) == 0
        for sheets in (1, 2):
            page.find(".families input:not(:checked)")[-1].click()
            page.find(".families ~ p button")[0].click()
            page.until(lambda sheets=sheets: self.sheets(page) == sheets)
        assert page.desk.flaws() == []

    def test_without_contact_data_there_is_no_button(self, page: Worklist) -> None:
        page.serve()
        page.open()
        assert page.find(".selected button")
        assert not page.find(".selected button[formaction]")

    @pytest.mark.parametrize("width", [1280, 390])
    def test_axe_finds_nothing_and_nothing_sticks_out(self, page: Worklist, width: int) -> None:
        groups = [FAMILY, *page.listed()]
        penalize(page.desk.sandbox, LEAD, IN_COLLECTIONS)
        for scheme in ("light", "dark"):
            look(page.browser, width, scheme, mobile=width < 500)
            page.open()
            page.select(*groups[:3])
            assert page.desk.flaws() == []
            query = "&".join(f"group={group}" for group in groups[:3])
            page.browser.get(f"{page.browser.current_url}".replace("/latest", f"/letters?{query}"))
            assert "in collections" in page.text(".families")
            assert page.desk.flaws() == []
