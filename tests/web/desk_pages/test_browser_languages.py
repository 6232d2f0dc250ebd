"""The pages right to left, and with texts that are almost half as long again, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import resources

import pytest
from selenium.webdriver.common.keys import Keys
from support.desk_page import card
from support.page_desk import NGUYEN, RUTH, WHITFIELD, PageDesk

pytestmark = pytest.mark.long  # needs a browser

WIDTHS = (1280, 390)


@pytest.fixture
def page(page: PageDesk) -> Iterator[PageDesk]:
    """The page for a clerk whose locale cookie selects a pseudo-language."""
    page.browser.add_cookie({"name": "eg_locale", "value": "ar-XB", "path": "/"})
    yield page
    page.browser.delete_cookie("eg_locale")


STATES: dict[str, Callable[[PageDesk], None]] = {}


def state(function: Callable[[PageDesk], None]) -> Callable[[PageDesk], None]:
    STATES[function.__name__] = function
    return function


def opened(page: PageDesk, part: str = "") -> None:
    page.open(NGUYEN, part)
    page.until(lambda: page.loaded() and page.run("return document.documentElement.lang === 'ar-XB'"))


@state
def the_list(page: PageDesk) -> None:
    opened(page)
    page.run("document.querySelector('input[name=member]').click()")
    assert "1" in page.text("#selected-label"), "what the script says has its number"


@state
def a_member_unfolded(page: PageDesk) -> None:
    opened(page)
    page.desk.click("[data-unfold]")
    page.until(lambda: page.text(".unfolded"))


@state
def a_plan_with_warnings(page: PageDesk) -> None:
    opened(page)
    page.scan(card(WHITFIELD), Keys.ENTER)
    page.until(lambda: page.text("#warnings"))


@state
def done(page: PageDesk) -> None:
    opened(page)
    page.scan(card(RUTH), Keys.ENTER)
    page.until(lambda: page.text("#confirm") and page.loaded())  # in this order, so that the new page is checked
    page.scan(Keys.ENTER)
    page.outcome()


@state
def the_history(page: PageDesk) -> None:
    done(page)
    opened(page, "/history")


@state
def several_of_a_name(page: PageDesk) -> None:
    opened(page)
    page.scan("whitf", Keys.ENTER)
    page.until(lambda: page.text("#found"))


@state
def the_statement(page: PageDesk) -> None:
    opened(page, "/statement")


@pytest.mark.parametrize("name", STATES)
def test_axe_finds_nothing_and_nothing_sticks_out(page: PageDesk, name: str) -> None:
    STATES[name](page)
    assert page.run("return getComputedStyle(document.body).direction") == "rtl"
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    for width in WIDTHS:
        page.browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        page.run(axe)
        found = page.browser.execute_async_script("const done = arguments[0]; axe.run().then(done)")
        rules = [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found["violations"]]
        assert rules == [], json.dumps(rules)
        assert page.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth"), width
