"""Every state of the pages in a real browser: axe, small screens, dark mode, print, large text."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources

import pytest
from selenium.webdriver.common.keys import Keys
from support.desk_page import card
from support.page_desk import LIN, NGUYEN, RUTH, WHITFIELD, PageDesk

pytestmark = pytest.mark.long  # needs a browser


STATES: dict[str, Callable[[PageDesk], None]] = {}


def state(function: Callable[[PageDesk], None]) -> Callable[[PageDesk], None]:
    STATES[function.__name__] = function
    return function


@state
def the_list(page: PageDesk) -> None:
    page.change("DELETE FROM ausp WHERE usr = 1016")
    page.open_group(NGUYEN)


@state
def a_list_with_a_message(page: PageDesk) -> None:
    page.open(LIN, query="client=eg2&sort=-fines")
    page.shows("Group Member Details")
    page.run("document.querySelector('#selection').requestSubmit(document.querySelector('button[value=remove]'))")
    page.until(lambda: page.text("#message"))


@state
def a_plan_with_warnings(page: PageDesk) -> None:
    page.plan_move(NGUYEN, card(WHITFIELD), "Move Whitfield, Grace")


@state
def a_plan(page: PageDesk) -> None:
    page.plan_move(NGUYEN, card(RUTH), "Move Nguyễn, Ruth")


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
    page.outcome()
    assert "your login lacks the permission UPDATE_USER" in page.outcome()


@state
def a_supervisor_is_asked(page: PageDesk) -> None:
    not_done(page)
    page.desk.click("#approve button")
    page.until(lambda: page.run("return Boolean(document.querySelector('#password'))"))


@state
def several_of_a_name(page: PageDesk) -> None:
    page.open_group(NGUYEN)
    page.scan("whitf", Keys.ENTER)
    page.until(lambda: page.text("#found"))


@state
def an_old_card(page: PageDesk) -> None:
    page.open_group(NGUYEN)
    page.scan("20000000901049", Keys.ENTER)
    page.until(lambda: page.text("#found"))


@state
def which_group(page: PageDesk) -> None:
    page.open_group(NGUYEN)
    page.desk.click("button[value=merge]")
    page.shows("Merge into which group?")


@state
def nothing_to_do(page: PageDesk) -> None:
    page.open_group(WHITFIELD)
    page.desk.click("#members input[value='1037']")
    page.desk.click("button[value=move]")
    page.shows("Move to which group?")
    page.scan(card(WHITFIELD), Keys.ENTER)
    page.shows("Nothing to do")


@state
def the_history(page: PageDesk) -> None:
    done(page)
    page.open(NGUYEN, "/history")
    page.shows("History")


@state
def the_history_of_another_group(page: PageDesk) -> None:
    done(page)
    page.open(LIN, "/history")
    page.shows("History")
    assert "Your other changes" in page.text("main")


@state
def a_selection_and_the_menu(page: PageDesk) -> None:
    the_list(page)
    page.desk.click("#members input[name=member]")
    page.desk.click(".menu summary")


@state
def the_session_has_ended(page: PageDesk) -> None:
    page.browser.delete_all_cookies()
    page.open(NGUYEN)
    page.shows("Your session has ended")


@state
def nobody_of_that_id(page: PageDesk) -> None:
    page.open(999_999)
    page.shows("Patron not found")


@pytest.mark.parametrize("name", STATES)
def test_axe_finds_nothing_and_nothing_sticks_out(page: PageDesk, name: str) -> None:
    STATES[name](page)
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    for mode, width in (("light", 1280), ("dark", 1280), ("light", 1024), ("dark", 390), ("light", 320)):
        page.browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        page.run("localStorage.setItem('eg.ui.general.colormode', arguments[0])", json.dumps(mode))
        page.run("dispatchEvent(new StorageEvent('storage', { key: 'eg.ui.general.colormode' }))")
        assert page.run("return document.documentElement.dataset.bsTheme") == mode
        page.run(axe)
        found = page.browser.execute_async_script(
            "const done = arguments[0]; const sheets = document.getAnimations().map((one) => one.finished);"
            "Promise.all(sheets).then(() => axe.run()).then(done)"
        )
        assert [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found["violations"]] == []
        assert page.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth"), width


class TestLooks:
    def test_without_a_script_the_browsers_own_choice_counts(self, page: PageDesk) -> None:
        page.open_group(NGUYEN)
        for scheme, paper in (("dark", "rgb(33, 37, 41)"), ("light", "rgb(255, 255, 255)")):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            page.until(lambda: page.run("return getComputedStyle(document.body).backgroundColor") == paper)  # noqa: B023 - done before the next

    def test_on_paper_the_list_alone(self, page: PageDesk) -> None:
        page.open_group(NGUYEN)
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        shown = "return [...document.querySelectorAll(arguments[0])].some((node) => node.offsetParent)"
        for selector in ("nav", ".card-form", ".toolbar", ".keys", "input"):
            assert not page.run(shown, selector), selector
        for selector in ("#members thead", ".barcode", ".sums"):
            assert page.run(shown, selector), selector

    def test_text_at_200_percent(self, page: PageDesk) -> None:
        page.open_group(NGUYEN)
        page.run("document.documentElement.style.fontSize = '200%'")
        assert page.run("return document.querySelector('#card').getBoundingClientRect().right <= innerWidth")
