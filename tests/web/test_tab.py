"""The group's page in the staff client's own tab, in a real browser on the demo desk.

The frame shows a page made for these tests, which are about the frame. The real page has its own tests.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from selenium.webdriver.common.keys import Keys
from support.desk_browser import CLIENTS, LOST, TIMEOUT, Desk, kind, look

from evergreen_groups.settings.sections import DeskSettings

pytestmark = pytest.mark.long  # needs a browser

both_clients = pytest.mark.parametrize("client", list(CLIENTS))


class Page:
    """A WSGI application for the page: a field for a card, links into the client, and a form that echoes its input."""

    PAGE = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Group</title>'
        '<link rel="stylesheet" href="/evergreen-groups/panel.css"><main><h1>Group of {patron}</h1>'
        '<form method="post" action="?in=tab"><input id="card" name="card" aria-label="Card" autofocus></form>'
        '<p id="said">{said}</p><button id="grow" type="button">More</button>'
        '<a id="checkout" target="_top" href="/{client}/staff/circ/patron/1015/checkout">checkout</a> '
        '<a id="bills" target="_top" href="/eg2/staff/circ/patron/1015/bills">bills</a> '
        '<a id="other" target="_top" href="/evergreen-groups/patrons/1007/group?client={client}">other</a> '
        '<a id="clone" target="_top" href="/{client}/staff/circ/patron/register/clone/1015">clone</a></main>'
    )

    def __init__(self) -> None:
        self.status = "200 OK"
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        patron = str(environ["PATH_INFO"]).split("/")[-2]
        query = parse_qs(str(environ.get("QUERY_STRING", "")))
        self.asked.append((patron, query))
        self.may_answer.wait(TIMEOUT)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        sent = parse_qs(environ["wsgi.input"].read(length).decode()).get("card", [""])[0]
        headers = [("Content-Type", "text/html; charset=utf-8"), ("X-Frame-Options", "SAMEORIGIN")]
        start_response(self.status, headers)
        if self.status.startswith("503"):
            return [b"<!doctype html><title>503</title><h1>Service Unavailable</h1>"]
        said = f"Scanned: {sent}" if sent else ""
        return [self.PAGE.format(patron=patron, said=said, client=query.get("client", ["eg"])[0]).encode()]


class Tab:
    """The Group Member Details tab."""

    def __init__(self, desk: Desk, client: str, page: Page) -> None:
        self.desk, self.client, self.page = desk, client, page

    def open(self, patron: int = 1017) -> None:
        """Open the tab of a patron, and wait for the group's page."""
        self.opens(patron)
        self.shows(patron)

    def opens_patron(self) -> None:
        """Open another tab of a patron."""
        self.desk.open(self.client, "1017/checkout")
        self.desk.panel_of(1017)

    def opens(self, patron: int = 1017) -> None:
        self.desk.open(self.client, f"{patron}/group")

    @property
    def state(self) -> str | None:
        return self.desk.tab_state()

    @property
    def clients_list_is_visible(self) -> bool:
        return bool(self.desk.run("return Boolean(document.querySelector('eg-grid')?.offsetParent)"))

    def inside(self, script: str) -> Any:
        """Run a script in the frame, with ``page`` as its document, and return the result."""
        return self.desk.run(
            "const page = document.querySelector('.evergreen-groups-tab iframe')?.contentDocument;"
            f"return page ? ({script}) : null"
        )

    def shows(self, patron: int) -> None:
        """Wait until the frame shows the patron's page."""
        self.desk.until(
            lambda: self.state == "shown" and self.inside("page.querySelector('h1').innerText") == f"Group of {patron}"
        )

    def sends(self) -> None:
        """Submit the page's form, and wait for the next page in the frame."""
        self.inside("page.forms[0].dataset.former = '1'")
        self.inside("page.forms[0].submit()")
        is_new = "page.readyState === 'complete' && Boolean(page.forms[0]) && !page.forms[0].dataset.former"
        self.desk.until(lambda: self.inside(is_new))
        self.desk.framed()

    def has_the_focus(self) -> None:
        """Wait until the frame and its card field have the focus."""
        self.desk.until(
            lambda: (
                self.desk.run("return document.activeElement.localName") == "iframe"
                and self.inside("page.activeElement.id") == "card"
            )
        )

    def loses_the_focus(self) -> None:
        """Remove the focus. The browser may still be about to apply autofocus, so this has to last for a frame."""
        self.desk.until(
            lambda: (
                self.desk.run("document.activeElement.blur(); window.focus()")
                or self.desk.framed()
                or self.desk.run("return document.activeElement === document.body")
            )
        )

    def fix_menus(self, height: int) -> None:
        """Keep the client's menus at the top of the window, as the real clients do."""
        self.desk.run(
            "document.querySelector('.navbar').style = `position: fixed; inset: 0 0 auto; height: ${arguments[0]}px`",
            height,
        )

    def is_the_clients(self) -> None:
        """Wait for the client's own list."""
        self.desk.until(lambda: self.clients_list_is_visible)

    def choose(self) -> str:
        """Press the button that switches between the page and the client's list. Return its label."""
        said = str(self.desk.run("return document.querySelector('.evergreen-groups-bar button').innerText"))
        self.desk.click(".evergreen-groups-bar button")
        return said


@pytest.fixture(params=list(CLIENTS))
def tab(request: pytest.FixtureRequest, desk: Desk) -> Tab:
    desk.gate.page = page = Page()
    return Tab(desk, request.param, page)


def test_the_page_replaces_the_clients_list(tab: Tab) -> None:
    tab.open()
    assert not tab.clients_list_is_visible
    assert tab.page.asked == [("1017", {"in": ["tab"], "client": [CLIENTS[tab.client].split("/staff")[0][1:]]})]
    assert tab.desk.run("return document.querySelectorAll('.evergreen-groups-tab iframe').length") == 1
    assert tab.desk.element("iframe").get_attribute("title") == "Group members"
    assert tab.desk.flaws() == []


def test_below_a_tall_summary_it_is_brought_into_sight(tab: Tab) -> None:
    """Angular's expanded summary is above the tabs and may fill half the window."""
    tab.open()  # on the first page, the browser's autofocus scrolls there by itself
    tab.desk.click("[data-tab=bills]")
    tab.desk.until(lambda: tab.state is None)
    tab.desk.run(
        "const gap = document.createElement('div'); gap.style.height = '900px'; document.body.prepend(gap);"
        "document.body.style.paddingBottom = '1500px'; scrollTo(0, 0)"
    )
    tab.fix_menus(56)
    tab.desk.click("[data-tab=group]")
    tab.shows(1017)
    top = "return document.querySelector('.evergreen-groups-tab').getBoundingClientRect().top"
    tab.desk.until(lambda: 56 <= tab.desk.run(top) < 200)
    tab.desk.run("scrollTo(0, 0)")
    tab.sends()
    assert (len(tab.page.asked), tab.state) == (3, "shown")
    tab.desk.until(lambda: 56 <= tab.desk.run(top) < 200)  # the result of a step comes into view as well


@pytest.mark.parametrize(("width", "height", "menus"), [(1280, 720, 56), (1024, 768, 100)])
def test_a_question_stays_in_view_while_the_layout_changes(tab: Tab, width: int, height: int, menus: int) -> None:
    """The summary may get its height after the question is shown, and the question may be shorter than the list."""
    look(tab.desk.browser, width, height=height)
    tab.open()
    tab.desk.run(
        "window.summary = document.createElement('div');"
        "document.querySelector('.evergreen-groups-tab').parentElement.before(summary);"
        "document.body.style.paddingBottom = '1500px'"
    )
    tab.fix_menus(menus)

    def grow(pixels: int) -> None:
        # Browsers keep the first row in view where it is, which may be one of the summary's.
        tab.desk.run(
            "while (summary.offsetHeight > arguments[0]) summary.lastChild.remove();"
            "while (summary.offsetHeight < arguments[0]) summary.append("
            "  Object.assign(document.createElement('div'), { textContent: 'row', style: 'height: 20px' }))",
            pixels,
        )
        tab.desk.framed()

    def is_in_view() -> bool:
        top, bottom = tab.desk.run(
            "const frame = document.querySelector('.evergreen-groups-tab iframe');"
            "const place = (name) => frame.contentDocument.querySelector(name).getBoundingClientRect();"
            "const { top } = frame.getBoundingClientRect();"
            "return [top, top + place('#card').bottom]"
        )
        return bool(top >= menus and bottom <= height)

    for before, after in ((0, 700), (700, 0), (500, 1500), (1500, 500)):
        grow(before)
        tab.inside("page.body.append(Object.assign(page.createElement('div'), { style: 'height: 3000px' }))")
        tab.desk.until(lambda: tab.inside("page.defaultView.innerHeight") > 3000)
        tab.desk.run("scrollTo(0, document.body.scrollHeight - 1500)")
        tab.sends()
        assert is_in_view(), (before, "at first")
        for pixels in (before + 40, after, before, after):
            grow(pixels)
            assert is_in_view(), (before, pixels)
    tab.desk.run("document.body.dispatchEvent(new WheelEvent('wheel', { bubbles: true })); scrollTo(0, 0)")
    grow(900)
    assert tab.desk.run("return scrollY") == 0, "the reader has scrolled"


def test_it_goes_with_the_tab_and_comes_back_with_it(tab: Tab) -> None:
    tab.opens_patron()
    assert tab.page.asked == []
    for _ in range(2):
        tab.desk.click("[data-tab=group]")
        tab.shows(1017)
        tab.desk.click("[data-tab=bills]")
        tab.desk.until(lambda: tab.state is None)
    assert len(tab.page.asked) == 2
    tab.desk.run("history.back()")
    tab.shows(1017)
    tab.desk.go(tab.client, 1007, "group")
    tab.shows(1007)
    tab.desk.run("history.back()")
    tab.shows(1017)


def test_one_click_brings_the_clients_list_back_and_that_is_remembered(tab: Tab) -> None:
    tab.open()
    assert tab.choose() == "Show Evergreen's own list"
    tab.is_the_clients()
    tab.opens(1007)
    tab.desk.until(lambda: tab.state == "client")
    tab.is_the_clients()
    assert [patron for patron, _ in tab.page.asked] == ["1017"]
    assert tab.choose() == "Show the group's page"
    tab.shows(1007)
    tab.open()


def test_where_the_service_is_down_the_clients_list_is_simply_there(tab: Tab) -> None:
    tab.opens_patron()
    tab.desk.answered_with("/tab.js")
    tab.desk.service_down()
    tab.desk.click("[data-tab=group]")
    tab.is_the_clients()
    tab.desk.until(lambda: tab.state == "down")
    assert not tab.desk.run("return document.querySelector('.evergreen-groups-bar').offsetParent")
    tab.desk.service_up()
    tab.desk.click("[data-tab=bills]")
    tab.desk.until(lambda: tab.state is None)
    tab.desk.click("[data-tab=group]")
    tab.shows(1017)


def test_it_was_down_when_the_client_was_loaded(tab: Tab) -> None:
    tab.desk.gate.down = True
    tab.opens()
    tab.is_the_clients()
    tab.desk.problem("Not available right now.")
    tab.desk.service_up()
    tab.shows(1017)  # after the next answer


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found", "500 Internal Server Error"])
def test_an_answer_other_than_200_leaves_the_clients_list(tab: Tab, status: str) -> None:
    tab.page.status = status
    tab.opens()
    tab.desk.until(lambda: tab.state == "down")
    assert tab.clients_list_is_visible


def test_a_service_that_hangs_leaves_the_clients_list_after_some_seconds(tab: Tab) -> None:
    tab.page.may_answer.clear()
    tab.opens()
    tab.desk.until(lambda: tab.state == "loading")
    assert not tab.clients_list_is_visible
    tab.desk.let_pass(LOST)
    tab.desk.until(lambda: tab.state == "lost")
    assert tab.clients_list_is_visible
    tab.page.may_answer.set()
    assert tab.choose() == "Try again"
    tab.shows(1017)


def test_a_page_that_fails_later_is_said_and_can_be_tried_again(tab: Tab) -> None:
    tab.open()
    tab.page.status = "503 Service Unavailable"
    tab.inside("page.forms[0].submit()")
    tab.desk.until(lambda: tab.state == "lost")
    assert tab.clients_list_is_visible
    bar = tab.desk.element(".evergreen-groups-bar").text
    assert "Not available right now." in bar
    tab.page.status = "200 OK"
    assert tab.choose() == "Try again"
    tab.shows(1017)


def test_a_refusal_of_the_page_itself_stays(tab: Tab) -> None:
    """The page explains the outcome of a change. Replacing it with the client's list would hide that."""
    tab.open()
    tab.page.status = "409 Conflict"
    tab.sends()
    assert len(tab.page.asked) == 2
    tab.shows(1017)


def test_a_scanner_types_into_the_page(tab: Tab) -> None:
    tab.opens_patron()
    tab.desk.click("[data-tab=group]")
    tab.shows(1017)
    tab.has_the_focus()
    tab.desk.press("20000000001007", Keys.ENTER)
    tab.desk.until(lambda: tab.inside("page.querySelector('#said')?.innerText") == "Scanned: 20000000001007")
    tab.shows(1017)
    tab.has_the_focus()
    tab.loses_the_focus()
    tab.desk.press("5", Keys.ENTER)
    tab.desk.until(lambda: tab.inside("page.querySelector('#said')?.innerText") == "Scanned: 5")


def test_whoever_is_typing_elsewhere_goes_on(tab: Tab) -> None:
    tab.opens_patron()
    tab.desk.run(
        "const field = document.createElement('input'); field.id = 'elsewhere'; document.body.prepend(field);"
        "field.focus()"
    )
    tab.desk.click("[data-tab=group]")
    tab.shows(1017)
    tab.desk.press("abc")
    assert tab.desk.run("return document.getElementById('elsewhere').value") == "abc"


def test_the_keyboard_gets_in_and_out(tab: Tab) -> None:
    tab.open()
    tab.has_the_focus()
    tab.desk.press_with(Keys.SHIFT, Keys.TAB)
    assert tab.desk.focused() == "Show Evergreen's own list"
    tab.desk.press(Keys.TAB)
    assert tab.desk.run("return document.activeElement.localName") == "iframe"


def test_the_clients_shortcuts_work_in_the_frame(tab: Tab) -> None:
    tab.open()
    tab.desk.run(
        "window.pressed = []; addEventListener('keydown', (event) => {"
        "  pressed.push([event.key, event.keyCode, event.ctrlKey]); event.preventDefault(); })"
    )
    tab.desk.press("1", Keys.F3)
    tab.desk.press_with(Keys.CONTROL, "k")
    tab.desk.until(lambda: ["k", 75, True] in tab.desk.run("return pressed"))
    pressed = tab.desk.run("return pressed.filter(([key]) => key !== 'Control')")
    assert pressed == [["F3", 114, False], ["k", 75, True]]


@pytest.mark.parametrize(
    ("link", "place", "reloads"),
    [
        ("checkout", "1015/checkout", False),
        ("bills", "1015/bills", False),
        ("other", "1007/group", False),
        ("clone", "register/clone/1015", True),
    ],
)
def test_links_navigate_the_client_and_reload_it_only_for_its_other_pages(
    tab: Tab, link: str, place: str, reloads: bool
) -> None:
    tab.open()
    tab.desk.run("window.sameClient = true")
    tab.inside(f"page.getElementById('{link}').click()")
    tab.desk.until(lambda: tab.desk.browser.current_url.endswith(f"/staff/circ/patron/{place}"))
    if reloads:
        return
    if link == "other":
        tab.shows(1007)
    else:
        tab.desk.panel_of(1015)
        assert tab.state is None
    assert tab.desk.browser.current_url.endswith(f"{CLIENTS[tab.client]}/{place}")
    assert tab.desk.run("return window.sameClient")


def test_the_frame_is_as_high_as_its_page(tab: Tab) -> None:
    tab.open()
    heights = "[page.documentElement.getBoundingClientRect().height, page.defaultView.innerHeight]"
    tab.desk.framed()
    whole, frame = tab.inside(heights)
    assert 0 <= frame - whole < 1
    tab.inside("page.body.append(Object.assign(page.createElement('div'), { style: 'height: 2000px' }))")
    tab.desk.until(lambda: tab.inside(heights)[1] >= 2000)
    tab.inside("page.body.lastChild.remove()")
    tab.desk.until(lambda: tab.inside(heights)[1] == frame)


@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_as_wide_as_the_tab(tab: Tab, width: int) -> None:
    look(tab.desk.browser, width)
    tab.open()
    frame, holder = tab.desk.run(
        "return ['iframe', '.evergreen-groups-tab'].map((one) => document.querySelector(one).offsetWidth)"
    )
    assert frame == holder + 12 > 200  # with room for the focus ring


def test_it_has_the_clients_letters_and_paper(tab: Tab) -> None:
    looks = "['fontSize', 'fontFamily'].map((name) => getComputedStyle({}.body)[name])"
    tab.open()
    assert tab.inside(looks.format("page")) == tab.desk.run("return " + looks.format("document"))
    paper = "page.documentElement.style.getPropertyValue('--paper')"
    light = tab.inside(paper)
    if not tab.client.endswith("3.11"):  # 3.11 has only one color mode
        tab.desk.click("#color-mode")
        tab.desk.until(lambda: tab.inside(paper) != light)
    assert tab.inside(paper) == tab.desk.run("return getComputedStyle(document.body).backgroundColor")


def test_the_page_is_light_where_the_client_is_whatever_the_system_prefers(tab: Tab) -> None:
    look(tab.desk.browser, 1280, "dark")
    tab.desk.gate.page = None  # the real page
    tab.opens()
    tab.desk.tab_shown()
    assert tab.inside("page.defaultView.getComputedStyle(page.documentElement).colorScheme") == "light"


def test_logging_out_removes_the_page(tab: Tab) -> None:
    tab.open()
    tab.desk.until(lambda: tab.desk.run("return document.querySelectorAll('.eg-grid-row[data-patron]').length") == 4)
    tab.desk.run("new BroadcastChannel('eg.auth').postMessage({ action: 'logout' })")
    tab.desk.until(lambda: tab.inside("page.title") is None)
    tab.desk.problem("Your session has ended.")
    tab.desk.run("document.body.append('the client goes on changing')")
    tab.desk.framed()
    assert tab.inside("page.title") is None
    shown = (
        "return [...document.querySelectorAll('.eg-grid-row[data-patron]')].filter((row) => row.offsetParent).length"
    )
    assert tab.desk.run(shown) == 0, "the client's list has been read behind our page"
    assert "Your session has ended." in str(
        tab.desk.run("return document.querySelector('.evergreen-groups-bar').innerText")
    )
    tab.desk.click(".evergreen-groups button")
    tab.shows(1017)
    assert tab.desk.run(shown) == 0


def test_nothing_is_done_while_nothing_happens(tab: Tab) -> None:
    tab.open()
    tab.desk.panel_of(1017)
    tab.desk.until(lambda: tab.desk.run("return document.querySelectorAll('.eg-grid-row[data-patron]').length") == 4)
    # On a busy machine the page may still change after the panel appears, so wait for it to settle.
    tab.desk.browser.execute_async_script(
        "const done = arguments[0]; let rest = setTimeout(done, 1500);"
        "new MutationObserver(() => { clearTimeout(rest); rest = setTimeout(done, 1500); }).observe(document.body,"
        " { childList: true, subtree: true, characterData: true, attributes: true })"
    )


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_axe_finds_nothing_beside_the_clients_own_list(tab: Tab, mode: str) -> None:
    tab.desk.dark(mode)
    tab.open()
    tab.choose()
    tab.is_the_clients()
    assert tab.desk.flaws() == []


@pytest.mark.parametrize("settings", [DeskSettings(tab=False), DeskSettings(page=False)])
def test_it_can_be_switched_off(tab: Tab, tmp_path: Path, settings: DeskSettings) -> None:
    with tab.desk.with_settings(tmp_path, settings):
        tab.opens()
        tab.desk.panel_of(1017)
        tab.desk.answered_with("/desk.json")
        tab.is_the_clients()
        assert tab.state is None
        assert tab.page.asked == []


def test_a_session_that_ends_by_itself_leaves_the_page(tab: Tab) -> None:
    """The page keeps showing the outcome of the clerk's work. Only an explicit logout removes it."""
    tab.open()
    tab.desk.panel_of(1017)
    tab.desk.have_cookie("0" * 32)
    tab.desk.run("new BroadcastChannel('evergreen-groups').postMessage({ kind: 'changed', patrons: [1017] })")
    tab.desk.problem("Your session has ended.")
    tab.shows(1017)


@both_clients
def test_the_seeds_flow_in_the_clients_own_list(desk: Desk, client: str) -> None:
    """The same with the client's own list, to show that the demo desk behaves like the real client."""
    desk.run("sessionStorage.setItem('evergreen-groups.tab', 'client')")
    desk.open(client, "1017/checkout")
    desk.panel_of(1017)
    if kind(client) == "AngularJS":
        desk.click("#other")
    desk.element("[data-tab=group]").click()
    desk.until(lambda: desk.run("return document.querySelectorAll('.eg-grid-row[data-patron]').length") == 4)
    desk.run("[...document.querySelectorAll('button')].find((one) => /^Move Another/.test(one.textContent)).click()")
    desk.until(lambda: desk.run("return document.activeElement.localName") == "input")
    desk.press("20000000001007", Keys.ENTER)
    if kind(client) == "AngularJS":
        desk.until(lambda: "Move user into this group?" in desk.element("[role=dialog]").text)
        desk.element("[role=dialog] button").click()
    desk.until(lambda: desk.run("return Boolean(document.querySelector('.eg-grid-row[data-patron=\"1007\"]'))"))
    desk.until(lambda: "5 members" in json.dumps(desk.panel()))
