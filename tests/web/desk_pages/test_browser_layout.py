"""What is in view on the group's page, in a real browser: its table, menu and buttons, alone and in both clients."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys
from support.page_desk import NGUYEN, PageDesk

pytestmark = pytest.mark.long  # needs a browser


def resize(page: PageDesk, width: int, height: int) -> None:
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def in_tab(page: PageDesk, client: str) -> None:
    page.desk.open(client, f"{NGUYEN}/group")
    page.until(lambda: page.run("return document.querySelector('.evergreen-groups-tab')?.dataset.state") == "shown")


# The real summary has six more rows than the imitation, and is wider than high otherwise.
UNFOLDED = """
const list = document.querySelector(".account-status > dl");
for (let i = 0; list && i < 6; i++) list.append(list.lastElementChild.cloneNode(true));
"""
VISIBLE = """
const frame = window.frameElement.getBoundingClientRect();
return arguments[0].map((selector) => {
  const [node] = [...document.querySelectorAll(selector)].filter((one) => one.checkVisibility());
  if (!node) return `no ${selector}`;
  const { top, bottom, height } = node.getBoundingClientRect();
  const fits = height > 0 && frame.top + top >= 0 && frame.top + bottom <= parent.innerHeight;
  return fits ? "" : `${selector}: ${frame.top + top} to ${frame.top + bottom}`;
}).join("");
"""
# A chip may wrap between words: no line of it is narrower than its longest word.
STICKING_OUT = """
const main = document.querySelector("main");
const { left, right } = main.getBoundingClientRect();
const found = [...main.querySelectorAll("#members :is(th, td, a, .badge, bdi)")].filter((one) => {
  const box = one.getBoundingClientRect();
  return box.width > 0 && (box.left < left - 1 || box.right > right + 1);
}).map((one) => one.outerHTML.slice(0, 80));
const lines = new Set([...main.querySelectorAll(".sums > div")].map((one) => one.getBoundingClientRect().bottom));
const broken = [...main.querySelectorAll(".standing .badge")].filter((chip) => {
  const text = document.createRange();
  text.selectNodeContents(chip);
  return text.getClientRects().length > chip.textContent.split(" ").length;
}).map((chip) => chip.textContent);
return [...found, ...broken, ...(lines.size > 1 ? [`${lines.size} lines of totals`] : [])].join("; ");
"""


class TestInView:
    @pytest.mark.parametrize("size", [(1280, 720), (1024, 768)])
    @pytest.mark.parametrize("client", ["Angular", "AngularJS"])
    @pytest.mark.parametrize("at", ["top", "where it was"])
    def test_the_question_and_its_button_after_each_step(
        self, page: PageDesk, client: str, size: tuple[int, int], at: str
    ) -> None:
        """With Angular's summary unfolded, and wherever the window was scrolled to before the step."""

        def comes(seen: str, *question: str) -> None:
            page.until(lambda: page.text(seen) and page.loaded())
            page.until(lambda: not page.run(VISIBLE, list(question)) or page.run("return performance.now() > 3000"))
            assert page.run(VISIBLE, list(question)) == "", seen
            if at == "top":
                page.run("parent.scrollTo(0, 0)")

        resize(page, *size)
        page.desk.open(client, f"{NGUYEN}/checkout")
        page.until(lambda: "4 members" in page.text(".evergreen-groups"))
        page.run(UNFOLDED)
        page.desk.click("[data-tab=group]")
        page.until(lambda: page.run("return document.querySelector('.evergreen-groups-tab')?.dataset.state") == "shown")
        page.browser.switch_to.frame(page.desk.element(".evergreen-groups-tab iframe"))
        try:
            comes("#members", "#card", ".card-form .btn")
            page.scan("20000000009999", Keys.ENTER)
            comes("#message", "#message", "#card", ".card-form .btn")
            page.scan("whitf", Keys.ENTER)
            comes("#found", "h1", "#card", "#found button")
            page.desk.click("#found button")
            comes("#warnings", "h1", "#warnings", "#confirm")
            page.desk.click("#confirm")
            comes("#outcome", "#outcome-heading", "#outcome button")
            page.desk.click("#outcome button")
            comes("#outcome", "#outcome-heading", "#outcome button", "#card")
            page.desk.click("#members input[value='1018']")
            page.desk.click("button[value=remove]")
            comes("#confirm", "h1", "#confirm")
        finally:
            page.browser.switch_to.default_content()

    @pytest.mark.parametrize("size", [(1280, 720), (1024, 768)])
    @pytest.mark.parametrize("client", ["Angular", "AngularJS"])
    def test_three_strangers_an_unknown_card_and_a_selection(
        self, page: PageDesk, client: str, size: tuple[int, int]
    ) -> None:
        """With the panel unfolded, and several warnings above the button."""

        def comes(*seen: str) -> None:
            page.until(lambda: page.run("return !window.before") and page.text(seen[0]) and page.loaded())
            page.until(lambda: not page.run(VISIBLE, list(seen)) or page.run("return performance.now() > 3000"))
            assert page.run(VISIBLE, list(seen)) == ""

        resize(page, *size)
        in_tab(page, client)
        page.desk.unfold()
        page.desk.open(client, "1001/checkout")
        page.desk.panel_of(1001)
        page.run(UNFOLDED)
        page.desk.click("[data-tab=group]")
        page.until(lambda: page.run("return document.querySelector('.evergreen-groups-tab')?.dataset.state") == "shown")
        page.browser.switch_to.frame(page.desk.element(".evergreen-groups-tab iframe"))
        try:
            comes("h1", "#card")
            for card in ("20000000001036", "20000000001047", "20000000001012"):
                page.run("window.before = true")
                page.scan(card, Keys.ENTER)
                comes("#warnings", "h1", "#card", "#confirm")
            assert page.text("[aria-labelledby=warnings]").count("share no surname") == 1, "one line for all three"
            page.run("window.before = true")
            page.scan("2000000000108", Keys.ENTER)
            comes("#message", "h1", "#warnings", "#card", "#confirm")
            page.run("window.before = true; document.querySelector('a[accesskey=b]').click()")
            comes("#members", "#card")
            tops = "return [...document.querySelectorAll('#members tr')].map((row) => row.getBoundingClientRect().top)"
            before = page.run(tops)
            page.desk.click("#members input[name=member]")
            comes(".for-selected", "button[value=move]", "button[value=no-lead]")
            assert page.run(tops) == before, "the rows stay where they are"
            page.run("parent.scrollBy(0, 60)")
            comes(".for-selected", "button[value=move]", "button[value=no-lead]")
        finally:
            page.browser.switch_to.default_content()
            page.run("localStorage.clear()")

    @pytest.mark.parametrize("client", ["Angular", "AngularJS"])
    def test_nothing_jumps_while_somebody_types(self, page: PageDesk, client: str) -> None:
        resize(page, 1280, 720)
        in_tab(page, client)
        page.browser.switch_to.frame(page.desk.element(".evergreen-groups-tab iframe"))
        places = (
            "const all = [...document.querySelectorAll('h1, #card, .card-form .btn, .sums, #members tr, #message')];"
            "return [parent.scrollY, frameElement.getBoundingClientRect().top,"
            " ...all.map((one) => one.getBoundingClientRect().top)]"
        )
        page.shows("Group Member Details")
        before = page.run(places)
        for digit in "20000000009999":
            page.scan(digit)
            assert page.run(places) == before
        page.scan(Keys.ENTER)
        page.until(lambda: page.text("#message") and page.loaded())
        before = page.run(places)
        for digit in "2000":
            page.scan(digit)
            assert page.run(places) == before
        page.browser.switch_to.default_content()

    def test_the_frame_fits_a_small_screen_that_the_client_does_not(self, page: PageDesk) -> None:
        resize(page, 390, 800)
        in_tab(page, "Angular")
        page.run("document.querySelector('.evergreen-groups-tab').parentElement.style.width = '700px'")
        page.run(
            "document.querySelector('.evergreen-groups-tab iframe').contentWindow.dispatchEvent(new Event('resize'))"
        )
        right = "return document.querySelector('.evergreen-groups-tab iframe').getBoundingClientRect().right"
        page.until(lambda: page.run(right) <= 390)

    def test_a_table_where_there_is_room(self, page: PageDesk) -> None:
        page.open_group(NGUYEN)
        parts_of_it = "['#members thead', '.expires', '.profile']"
        shown = f"return {parts_of_it}.filter((one) => document.querySelector(one).offsetParent)"
        for width, parts in ((720, 1), (719, 0), (960, 2), (1280, 3)):
            page.run("document.querySelector('main').style.width = arguments[0] + 'px'", width)
            assert len(page.run(shown)) == parts, width

    @pytest.mark.parametrize("language", ["en-US", "fr-CA", "es", "cs", "ar-XB"])
    def test_the_table_and_one_line_of_totals_fit_in_each_language(self, page: PageDesk, language: str) -> None:
        """In the widths that both clients leave on screens of 1024 and 1280 px, and at the limits of the style."""
        page.browser.add_cookie({"name": "eg_locale", "value": language, "path": "/"})
        try:
            resize(page, 1400, 800)
            page.open(NGUYEN)
            page.until(page.loaded)
            for width in (720, 774, 905, 959, 960, 988, 1024, 1217):
                page.run("document.querySelector('main').style.width = arguments[0] + 'px'", width)
                assert page.run(STICKING_OUT) == "", width
        finally:
            page.browser.delete_cookie("eg_locale")


def test_details_have_what_the_table_has_no_room_for(page: PageDesk) -> None:
    for width, shown in ((1400, ()), (1100, ("Profile Child",)), (390, ("Profile Child", "Expires "))):
        resize(page, width, 800)
        page.open_group(NGUYEN)
        page.desk.click(f"[data-unfold][href*='/members/{NGUYEN}?']")
        page.until(lambda: page.text(".unfolded"))
        lines = page.run("return [...document.querySelectorAll('.unfolded td > div')].map((one) => one.innerText)")
        assert len(lines) == len(shown), width
        assert all(line.startswith(start) for line, start in zip(lines, shown, strict=True)), lines


def test_the_menu_with_the_keyboard(page: PageDesk) -> None:
    page.open_group(NGUYEN)
    opened = "return document.querySelector('.menu').open"
    page.run("document.querySelector('.menu summary').focus()")
    for key in (Keys.ENTER, Keys.SPACE):
        page.scan(key)
        assert page.run(opened)
        page.scan(Keys.ESCAPE)
        assert not page.run(opened)
    for key, focused in (
        (Keys.DOWN, "Save as CSV"),
        (Keys.DOWN, "Print"),
        (Keys.UP, "Save as CSV"),
        (Keys.UP, "Register a new group member by cloning"),
        (Keys.ESCAPE, "More"),
    ):
        page.scan(key)
        assert page.desk.focused().startswith(focused)
    page.scan(Keys.DOWN, Keys.TAB, Keys.TAB, Keys.TAB)
    assert not page.run(opened), "leaving it closes it"


def test_buttons_for_the_selected_appear_with_them(page: PageDesk) -> None:
    page.open_group(NGUYEN)
    remove, merge = (page.desk.element(f"button[value={name}]") for name in ("remove", "merge"))
    assert (remove.is_displayed(), merge.is_displayed()) == (False, True)
    page.desk.click("#members input[name=member]")
    assert (remove.is_displayed(), merge.is_displayed()) == (True, False)
    assert page.text("#selected-label") == "Selected: 1"
