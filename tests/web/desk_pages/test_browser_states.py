"""Every state of the pages in a real browser: axe, small screens, dark mode, print, large text, languages."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import pytest
from selenium.webdriver.common.keys import Keys
from support.desk_browser import look
from support.desk_page import card
from support.follow_ups import record_report
from support.page_desk import LIN, NGUYEN, RUTH, WHITFIELD, PageDesk

pytestmark = pytest.mark.long  # needs a browser


def opened(page: PageDesk, part: str, seen: str, patron: int = NGUYEN) -> None:
    page.open(patron, part)
    page.arrives(seen)


def scanned(page: PageDesk, text: str, seen: str) -> None:
    page.open_group(NGUYEN)
    page.scan(text, Keys.ENTER)
    page.arrives(seen)


def the_list(page: PageDesk) -> None:
    page.change("DELETE FROM ausp WHERE usr = 1016")
    page.open_group(NGUYEN)
    page.run("document.querySelector('input[name=member]').click()")
    assert "1" in page.text("#selected-label"), "what the script says has its number"


def a_list_with_a_message(page: PageDesk) -> None:
    page.open(LIN, query="client=eg2&sort=-fines")
    page.arrives("#members")
    page.run("document.querySelector('#selection').requestSubmit(document.querySelector('button[value=remove]'))")
    page.arrives("#message")


def a_selection_and_the_menu(page: PageDesk) -> None:
    the_list(page)
    page.desk.click(".menu summary")


def a_member_unfolded(page: PageDesk) -> None:
    page.open_group(NGUYEN)
    page.desk.click("[data-unfold]")
    page.until(lambda: page.text(".unfolded"))


def done(page: PageDesk) -> None:
    scanned(page, card(RUTH), "#confirm")
    page.scan(Keys.ENTER)
    page.outcome()


def not_done(page: PageDesk) -> None:
    scanned(page, card(RUTH), "#confirm")
    page.change("DELETE FROM grants WHERE usr = 2 AND permission = 'UPDATE_USER'")
    page.scan(Keys.ENTER)
    assert "UPDATE_USER" in page.outcome()


def a_supervisor_is_asked(page: PageDesk) -> None:
    not_done(page)
    page.desk.click("#approve button")
    page.until(lambda: page.run("return Boolean(document.querySelector('#password'))") and page.loaded())


def which_group(page: PageDesk) -> None:
    page.open_group(NGUYEN)
    page.desk.click("button[value=merge]")
    page.until(lambda: page.run("return !document.querySelector('#members')") and page.loaded())


def nothing_to_do(page: PageDesk) -> None:
    page.open_group(WHITFIELD)
    page.desk.click("#members input[value='1037']")
    page.desk.click("button[value=move]")
    page.until(lambda: page.run("return !document.querySelector('#members')") and page.loaded())
    page.scan(card(WHITFIELD), Keys.ENTER)
    page.arrives("#message")


def namesakes(page: PageDesk) -> None:
    page.change("UPDATE au SET first_given_name = 'Grace', dob = '1950-01-01' WHERE id = 1037")
    scanned(page, "whitf", "#found")


def namesakes_in_a_plan(page: PageDesk) -> None:
    namesakes(page)
    scanned(page, card(WHITFIELD), "#confirm")
    page.scan(card(1037), Keys.ENTER)
    page.until(lambda: "2" in page.heading and page.loaded())


def the_history(page: PageDesk, patron: int) -> None:
    done(page)
    opened(page, "/history", ".entry", patron)


def a_form_for_an_entry(page: PageDesk) -> None:
    record_report(page.desk.gate.app.extensions["evergreen-groups"].state, page.sandbox.url)
    page.open(NGUYEN, "/follow-up", "client=eg2&group=1004")
    page.arrives(".outcomes")
    page.run("document.querySelector('[value=promised]').click()")


def an_entry_is_saved(page: PageDesk) -> None:
    a_form_for_an_entry(page)
    page.desk.click(".entry-form [value=save]")
    page.arrives(".follow-up.notice")


def an_entry_is_refused(page: PageDesk) -> None:
    a_form_for_an_entry(page)
    page.run("document.querySelector('[value=closed]').click()")
    page.desk.click(".entry-form [value=save]")
    page.arrives("#refused")


def the_session_has_ended(page: PageDesk) -> None:
    page.browser.delete_cookie("eg.auth.token")
    opened(page, "", "a.btn-primary")


STATES: dict[str, Callable[[PageDesk], None]] = {
    "the list": the_list,
    "a list with a message": a_list_with_a_message,
    "a selection and the menu": a_selection_and_the_menu,
    "a member unfolded": a_member_unfolded,
    "a member's page": partial(opened, part="/members/1016", seen="h1"),
    "a plan with warnings": partial(scanned, text=card(WHITFIELD), seen="#warnings"),
    "a plan": partial(scanned, text=card(RUTH), seen="#confirm"),
    "done": done,
    "not done": not_done,
    "a supervisor is asked": a_supervisor_is_asked,
    "several of a name": partial(scanned, text="whitf", seen="#found"),
    "namesakes": namesakes,
    "namesakes in a plan": namesakes_in_a_plan,
    "a name that is near": partial(scanned, text="whitfield, zacharias", seen="#found"),
    "an old card": partial(scanned, text="20000000901049", seen="#found"),
    "an unknown card": partial(scanned, text="20000000009999", seen="#message"),
    "which group": which_group,
    "nothing to do": nothing_to_do,
    "a form for an entry": a_form_for_an_entry,
    "an entry is saved": an_entry_is_saved,
    "an entry is refused": an_entry_is_refused,
    "the history": partial(the_history, patron=NGUYEN),
    "the history of another group": partial(the_history, patron=LIN),
    "the statement": partial(opened, part="/statement", seen=".sheet"),
    "the slip": partial(opened, part="/slip", seen=".sheet"),
    "the session has ended": the_session_has_ended,
    "no one of that id": partial(opened, part="", seen="h1", patron=999_999),
}


@pytest.mark.parametrize("language", ["en-US", "fr-CA", "es-ES", "cs-CZ", "ar-XB"])
@pytest.mark.parametrize("name", STATES)
def test_axe_finds_nothing_and_nothing_sticks_out(page: PageDesk, name: str, language: str) -> None:
    page.desk.speak(language)
    STATES[name](page)
    assert page.run("return getComputedStyle(document.body).direction") == ("rtl" if language == "ar-XB" else "ltr")
    for mode, width in (("light", 1280), ("dark", 1280), ("light", 1024), ("dark", 390), ("light", 320)):
        look(page.browser, width)
        page.run("localStorage.setItem('eg.ui.general.colormode', arguments[0])", json.dumps(mode))
        page.run("dispatchEvent(new StorageEvent('storage', { key: 'eg.ui.general.colormode' }))")
        assert page.run("return document.documentElement.dataset.bsTheme") == mode
        assert page.desk.flaws() == [], (mode, width)


class TestLooks:
    def test_without_a_script_the_browsers_own_choice_counts(self, page: PageDesk) -> None:
        page.open_group(NGUYEN)
        for scheme, paper in (("dark", "rgb(33, 37, 41)"), ("light", "rgb(255, 255, 255)")):
            look(page.browser, 1280, scheme)
            page.until(lambda: page.run("return getComputedStyle(document.body).backgroundColor") == paper)  # noqa: B023 - done before the next

    def test_on_paper_the_list_alone(self, page: PageDesk) -> None:
        page.open_group(NGUYEN)
        look(page.browser, 1280, medium="print")
        shown = "return [...document.querySelectorAll(arguments[0])].some((node) => node.offsetParent)"
        for selector in ("nav", ".card-form", ".toolbar", ".keys", "input"):
            assert not page.run(shown, selector), selector
        for selector in ("#members thead", ".barcode", ".sums"):
            assert page.run(shown, selector), selector

    def test_text_at_200_percent(self, page: PageDesk) -> None:
        page.open_group(NGUYEN)
        page.run("document.documentElement.style.fontSize = '200%'")
        assert page.run("return document.querySelector('#card').getBoundingClientRect().right <= innerWidth")
