"""Every state of pages and panel in a real browser: axe, small screens, dark mode, print, large text, languages."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from selenium.webdriver.common.keys import Keys
from support.desk_browser import look
from support.desk_page import card
from support.page_desk import LIN, NGUYEN, RUTH, WHITFIELD, PageDesk

pytestmark = pytest.mark.long  # needs a browser


STATES: dict[str, Callable[[PageDesk], None]] = {}


def state(function: Callable[[PageDesk], None]) -> Callable[[PageDesk], None]:
    STATES[function.__name__] = function
    return function


def opened(page: PageDesk, part: str, seen: str, patron: int = NGUYEN) -> None:
    page.open(patron, part)
    page.arrives(seen)


def scanned(page: PageDesk, text: str, seen: str) -> None:
    page.open_group(NGUYEN)
    page.scan(text, Keys.ENTER)
    page.arrives(seen)


@state
def the_list(page: PageDesk) -> None:
    page.change("DELETE FROM ausp WHERE usr = 1016")
    page.open_group(NGUYEN)
    page.run("document.querySelector('input[name=member]').click()")
    assert "1" in page.text("#selected-label"), "what the script says has its number"


@state
def a_list_with_a_message(page: PageDesk) -> None:
    page.open(LIN, query="client=eg2&sort=-fines")
    page.arrives("#members")
    page.run("document.querySelector('#selection').requestSubmit(document.querySelector('button[value=remove]'))")
    page.arrives("#message")


@state
def a_selection_and_the_menu(page: PageDesk) -> None:
    the_list(page)
    page.desk.click(".menu summary")


@state
def a_member_unfolded(page: PageDesk) -> None:
    page.open_group(NGUYEN)
    page.desk.click("[data-unfold]")
    page.until(lambda: page.text(".unfolded"))


@state
def a_members_page(page: PageDesk) -> None:
    opened(page, "/members/1016", "h1")


@state
def a_plan_with_warnings(page: PageDesk) -> None:
    scanned(page, card(WHITFIELD), "#warnings")


@state
def a_plan(page: PageDesk) -> None:
    scanned(page, card(RUTH), "#confirm")


@state
def done(page: PageDesk) -> None:
    a_plan(page)
    page.scan(Keys.ENTER)
    page.outcome()


@state
def not_done(page: PageDesk) -> None:
    a_plan(page)
    page.change("DELETE FROM grants WHERE usr = 2 AND permission = 'UPDATE_USER'")
    page.scan(Keys.ENTER)
    assert "UPDATE_USER" in page.outcome()


@state
def a_supervisor_is_asked(page: PageDesk) -> None:
    not_done(page)
    page.desk.click("#approve button")
    page.until(lambda: page.run("return Boolean(document.querySelector('#password'))") and page.loaded())


@state
def several_of_a_name(page: PageDesk) -> None:
    scanned(page, "whitf", "#found")


@state
def an_old_card(page: PageDesk) -> None:
    scanned(page, "20000000901049", "#found")


@state
def which_group(page: PageDesk) -> None:
    page.open_group(NGUYEN)
    page.desk.click("button[value=merge]")
    page.until(lambda: page.run("return !document.querySelector('#members')") and page.loaded())


@state
def nothing_to_do(page: PageDesk) -> None:
    page.open_group(WHITFIELD)
    page.desk.click("#members input[value='1037']")
    page.desk.click("button[value=move]")
    page.until(lambda: page.run("return !document.querySelector('#members')") and page.loaded())
    question = page.heading
    page.scan(card(WHITFIELD), Keys.ENTER)
    page.until(lambda: page.heading not in ("", question) and page.loaded())


@state
def the_history(page: PageDesk) -> None:
    done(page)
    opened(page, "/history", ".entry")


@state
def the_history_of_another_group(page: PageDesk) -> None:
    done(page)
    opened(page, "/history", ".entry", LIN)


@state
def the_statement(page: PageDesk) -> None:
    opened(page, "/statement", ".sheet")


@state
def the_session_has_ended(page: PageDesk) -> None:
    page.browser.delete_cookie("eg.auth.token")
    opened(page, "", "a.btn-primary")


@state
def nobody_of_that_id(page: PageDesk) -> None:
    opened(page, "", "h1", 999_999)


@pytest.mark.parametrize("language", ["en-US", "ar-XB"])
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


@pytest.mark.parametrize("language", ["en-US", "fr-CA", "es-ES", "cs-CZ", "ar-XB"])
@pytest.mark.parametrize("client", ["Angular", "AngularJS"])
def test_axe_finds_nothing_in_any_state(page: PageDesk, client: str, language: str) -> None:
    client = f"/eg2/{language}/staff/circ/patron" if client == "Angular" else client

    def dye(mode: str) -> None:
        page.run("top.document.documentElement.dataset.bsTheme = arguments[0]", mode)
        page.until(lambda: page.run("return document.documentElement.dataset.bsTheme") == mode)

    def look(state: str) -> None:
        """Look at a state. In the dark, only colors differ."""
        found = page.desk.flaws()
        dye("dark")
        found += page.desk.flaws("color-contrast")
        dye("light")
        assert found == [], state

    def scan(text: str, seen: str, state: str) -> None:
        page.scan(text, Keys.ENTER)
        page.arrives(seen)
        look(state)

    page.desk.speak(language)
    page.change("DELETE FROM ausp WHERE usr = 1016")  # over the limit, not blocked
    page.desk.open(client, f"{NGUYEN}/checkout")
    page.until(lambda: page.run("return Boolean(document.querySelector('.evergreen-groups [aria-expanded]'))"))
    look("panel")
    page.desk.click(".evergreen-groups [aria-expanded]")
    page.run("document.querySelector('.evergreen-groups li a').focus()")
    page.until(lambda: page.text(".evergreen-groups [role=tooltip]"))
    look("panel unfolded")
    page.open_tab(client)
    assert page.run("return document.documentElement.lang") == language
    look("page")
    page.desk.click("[data-unfold]")
    page.until(lambda: page.text(".unfolded"))
    page.desk.click("#members input[name=member]")
    page.desk.click(".menu summary")
    look("details, a selection and the menu")
    page.open_tab(client)
    scan("20000000009999", "#message", "error")
    scan("whitf", "#found", "lookup by name")
    page.open_tab(client)
    scan(card(WHITFIELD), "#warnings", "preview with a warning")
    page.open_tab(client)
    scan(card(RUTH), "#confirm", "preview")
    scan("", "#outcome", "result")
    page.desk.click("nav a[href*='/history']")
    page.arrives(".entry")
    look("history")
    page.need_approval()
    page.open_tab(client)
    look("page of a login that needs approval")
    scan("20000000001042", ".approval", "approval")
