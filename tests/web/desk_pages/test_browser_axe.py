"""Panel and page in both clients, in each language, light and dark: axe finds nothing in any state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources

import pytest
from selenium.webdriver.common.keys import Keys
from support.desk_page import card
from support.page_desk import NGUYEN, RUTH, WHITFIELD, PageDesk
from support.web_caller import session

pytestmark = pytest.mark.long  # needs a browser

AXE = resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
RUN = """
const [rules, done] = arguments;
const options = { iframes: false, ...(rules ? { runOnly: rules } : {}) };
Promise.all(document.getAnimations().map((one) => one.finished)).then(() => axe.run(document, options))
  .then(({ violations }) => done(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html.slice(0, 200))])));
"""
OPENED = "return document.querySelector('.evergreen-groups-tab')?.dataset.state === 'shown'"
STICKS_OUT = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"


class Walk:
    """A walk through all states in a client, with a look at each one. In the dark, only colors differ."""

    def __init__(self, page: PageDesk, client: str, language: str) -> None:
        self.page = page
        self.client = f"/eg2/{language}/staff/circ/patron" if client == "Angular" else client

    def look(self, state: str) -> None:
        run = self.page.browser.execute_async_script
        self.page.run(AXE)
        found = run(RUN, None)
        self.dye("dark")
        found += run(RUN, ["color-contrast"])
        self.dye("light")
        assert found == [], (state, json.dumps(found))
        assert not self.page.run(STICKS_OUT), state

    def dye(self, mode: str) -> None:
        self.page.run("top.document.documentElement.dataset.bsTheme = arguments[0]", mode)
        self.page.until(lambda: self.page.run("return document.documentElement.dataset.bsTheme") == mode)

    def panel(self) -> None:
        page = self.page
        page.browser.switch_to.default_content()
        page.desk.open(self.client, f"{NGUYEN}/checkout")
        page.until(lambda: page.run("return Boolean(document.querySelector('.evergreen-groups [aria-expanded]'))"))
        self.look("panel")
        page.desk.click(".evergreen-groups [aria-expanded]")
        page.run("document.querySelector('.evergreen-groups li a').focus()")
        page.until(lambda: page.text(".evergreen-groups [role=tooltip]"))
        self.look("panel unfolded")

    def group(self) -> None:
        page = self.page
        page.browser.switch_to.default_content()
        page.desk.open(self.client, f"{NGUYEN}/group")
        page.until(lambda: page.run(OPENED))
        page.browser.switch_to.frame(page.desk.element(".evergreen-groups-tab iframe"))
        self.arrives("#members")

    def arrives(self, selector: str) -> None:
        self.page.until(lambda: self.page.text(selector) and self.page.loaded())  # in this order: of the new page

    def scan(self, text: str, seen: str, state: str) -> None:
        self.page.scan(text, Keys.ENTER)
        self.arrives(seen)
        self.look(state)


@pytest.fixture
def client(page: PageDesk, request: pytest.FixtureRequest) -> Iterator[str]:
    yield str(request.param)
    page.browser.switch_to.default_content()
    page.browser.delete_cookie("eg_locale")


@pytest.mark.parametrize("language", ["en-US", "fr-CA", "es-ES", "cs-CZ", "ar-XB"])
@pytest.mark.parametrize("client", ["Angular", "AngularJS"], indirect=True)
def test_axe_finds_nothing_in_any_state(page: PageDesk, client: str, language: str) -> None:
    page.browser.add_cookie({"name": "eg_locale", "value": language, "path": "/"})
    page.change("DELETE FROM ausp WHERE usr = 1016")  # over the limit, not blocked
    walk = Walk(page, client, language)
    walk.panel()
    walk.group()
    assert page.run("return document.documentElement.lang") == language
    walk.look("page")
    page.desk.click("[data-unfold]")
    page.until(lambda: page.text(".unfolded"))
    page.desk.click("#members input[name=member]")
    page.desk.click(".menu summary")
    walk.look("details, a selection and the menu")
    walk.group()
    walk.scan("20000000009999", "#message", "error")
    walk.scan("whitf", "#found", "lookup by name")
    walk.group()
    walk.scan(card(WHITFIELD), "#warnings", "preview with a warning")
    walk.group()
    walk.scan(card(RUTH), "#confirm", "preview")
    walk.scan("", "#outcome", "result")
    page.desk.click("nav a[href*='/history']")
    walk.arrives(".entry")
    walk.look("history")
    page.change("DELETE FROM grants WHERE usr = 2 AND permission = 'UPDATE_USER'")
    page.browser.switch_to.default_content()
    page.desk.log_in(session(page.sandbox.url, username="consortium_staff"))
    walk.group()
    walk.look("page of a login that needs approval")
    walk.scan("20000000001042", ".approval", "approval")
