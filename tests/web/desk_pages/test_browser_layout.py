"""What is in view on the group's page, in a real browser: its table, menu and buttons, alone and in both clients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from selenium.webdriver.common.keys import Keys
from support.desk_browser import look
from support.page_desk import NGUYEN, THOMAS, PageDesk

pytestmark = pytest.mark.long  # needs a browser


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
# The numbers of cells in the rows, which differ if a cell isn't shown; 1 where each row is a card.
CELLS = """
const shown = (cell) => cell.checkVisibility();
const rows = [...document.querySelectorAll("#found tbody tr")].map((row) => [...row.cells].filter(shown).length);
return shown(document.querySelector("#found thead")) ? [...new Set(rows)] : [1];
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


def comes(page: PageDesk, seen: str, *visible: str) -> None:
    """Wait for the next page, and until these parts of it are in view."""
    page.until(lambda: page.run("return !window.before") and page.text(seen) and page.loaded())
    page.until(lambda: not page.run(VISIBLE, list(visible)) or page.run("return performance.now() > 3000"))
    assert page.run(VISIBLE, list(visible)) == "", seen


def open_below_the_summary(page: PageDesk, client: str, patron: int, size: tuple[int, int]) -> None:
    """Open a patron's group in the client's tab, with Angular's summary unfolded."""
    look(page.browser, size[0], height=size[1])
    page.desk.open(client, f"{patron}/checkout")
    page.desk.panel_of(patron)
    page.run(UNFOLDED)
    page.desk.click("[data-tab=group]")
    page.desk.enter_tab()


both_sizes = pytest.mark.parametrize("size", [(1280, 720), (1024, 768)])


class TestInView:
    @both_sizes
    @pytest.mark.parametrize("client", ["Angular", "AngularJS"])
    @pytest.mark.parametrize("at", ["top", "where it was"])
    def test_the_question_and_its_button_after_each_step(
        self, page: PageDesk, client: str, size: tuple[int, int], at: str
    ) -> None:
        """Wherever the window was scrolled to before the step."""

        def step(act: Callable[[], None]) -> None:
            page.run("window.before = true")
            if at == "top":
                page.run("parent.scrollTo(0, 0)")
            act()

        def click(selector: str) -> None:
            step(lambda: page.desk.click(selector))

        def scan(text: str) -> None:
            step(lambda: page.scan(text, Keys.ENTER))

        page.change(
            "UPDATE au SET first_given_name = 'Grace', mailing_address = NULL, billing_address = NULL WHERE id = ?",
            THOMAS,
        )
        open_below_the_summary(page, client, NGUYEN, size)
        comes(page, "#members", "#card", ".card-form .btn")
        scan("20000000009999")
        comes(page, "#message", "#message", "#card", ".card-form .btn")
        scan("whitf")
        comes(page, "#found", "h1", "#card", "#found button")
        assert page.run(CELLS) in ([6], [1]), "a patron without an address has an empty cell, if there are columns"
        click("#found button")
        comes(page, "#warnings", "h1", "#warnings", "#confirm")
        click("#confirm")
        comes(page, "#outcome", "#outcome-heading", "#outcome button")
        click("#outcome button")
        comes(page, "#outcome", "#outcome-heading", "#outcome button", "#card")
        page.desk.click("#members input[value='1018']")
        click("button[value=remove]")
        comes(page, "#confirm", "h1", "#confirm")

    @both_sizes
    @pytest.mark.parametrize("client", ["Angular", "AngularJS"])
    def test_three_strangers_an_unknown_card_and_a_selection(
        self, page: PageDesk, client: str, size: tuple[int, int]
    ) -> None:
        """With the panel unfolded, and several warnings above the button."""
        page.desk.unfold()
        open_below_the_summary(page, client, 1001, size)
        comes(page, "h1", "#card")
        for card in ("20000000001036", "20000000001047", "20000000001012"):
            page.run("window.before = true")
            page.scan(card, Keys.ENTER)
            comes(page, "#warnings", "h1", "#card", "#confirm")
        assert page.text("[aria-labelledby=warnings]").count("share no surname") == 1, "one line for all three"
        page.run("window.before = true")
        page.scan("2000000000108", Keys.ENTER)
        comes(page, "#message", "h1", "#warnings", "#card", "#confirm")
        page.run("window.before = true; document.querySelector('a[accesskey=b]').click()")
        comes(page, "#members", "#card")
        tops = "return [...document.querySelectorAll('#members tr')].map((row) => row.getBoundingClientRect().top)"
        before = page.run(tops)
        page.desk.click("#members input[name=member]")
        comes(page, ".for-selected", "button[value=move]", "button[value=no-lead]")
        assert page.run(tops) == before, "the rows stay where they are"
        page.run("parent.scrollBy(0, 60)")
        comes(page, ".for-selected", "button[value=move]", "button[value=no-lead]")
        assert page.run(VISIBLE, ["button[value=lead]"]) == "no button[value=lead]", "a lead is selected"
        page.desk.click("#members input[data-lead]")
        page.desk.click("#members input[name=member]:not([data-lead])")
        comes(page, ".for-selected", "button[value=move]", "button[value=lead]")
        assert page.run(VISIBLE, ["button[value=no-lead]"]) == "no button[value=no-lead]"

    @pytest.mark.parametrize("client", ["Angular", "AngularJS"])
    def test_nothing_jumps_while_somebody_types(self, page: PageDesk, client: str) -> None:
        look(page.browser, 1280, height=720)
        page.open_tab(client)
        places = (
            "const all = [...document.querySelectorAll('h1, #card, .card-form .btn, .sums, #members tr, #message')];"
            "return [parent.scrollY, frameElement.getBoundingClientRect().top,"
            " ...all.map((one) => one.getBoundingClientRect().top)]"
        )
        before = page.run(places)
        for digit in "20000000009999":
            page.scan(digit)
            assert page.run(places) == before
        page.scan(Keys.ENTER)
        page.arrives("#message")
        before = page.run(places)
        for digit in "2000":
            page.scan(digit)
            assert page.run(places) == before

    def test_the_frame_fits_a_small_screen_that_the_client_does_not(self, page: PageDesk) -> None:
        look(page.browser, 390)
        page.open_tab()
        page.browser.switch_to.default_content()
        page.run("document.querySelector('.evergreen-groups-tab').parentElement.style.width = '700px'")
        page.run(
            "document.querySelector('.evergreen-groups-tab iframe').contentWindow.dispatchEvent(new Event('resize'))"
        )
        right = "return document.querySelector('.evergreen-groups-tab iframe').getBoundingClientRect().right"
        page.until(lambda: page.run(right) <= 390)

    def test_a_table_where_there_is_room(self, page: PageDesk) -> None:
        page.open_group(NGUYEN)
        parts_of_it = "['#members thead', '.expires', '.profile']"
        displayed = "getComputedStyle(document.querySelector(one)).display.startsWith('table')"
        shown = f"return {parts_of_it}.filter((one) => {displayed})"
        for width, parts in ((720, 1), (719, 0), (960, 2), (1280, 3)):
            page.run("document.querySelector('main').style.width = arguments[0] + 'px'", width)
            assert len(page.run(shown)) == parts, width

    @pytest.mark.parametrize("language", ["en-US", "fr-CA", "es", "cs", "ar-XB"])
    def test_the_table_and_one_line_of_totals_fit_in_each_language(self, page: PageDesk, language: str) -> None:
        """In the widths that both clients leave on screens of 1024 and 1280 px, and at the limits of the style."""
        page.desk.speak(language)
        look(page.browser, 1400)
        page.open_group(NGUYEN)
        for width in (720, 774, 905, 959, 960, 988, 1024, 1217):
            page.run("document.querySelector('main').style.width = arguments[0] + 'px'", width)
            assert page.run(STICKING_OUT) == "", width


@pytest.mark.parametrize("width", [1280, 1024, 780])
def test_details_open_without_moving_a_column(page: PageDesk, width: int) -> None:
    look(page.browser, width, height=720)
    page.open_group(NGUYEN)
    lefts = (
        "return [...document.querySelectorAll('#members > thead th')]"
        ".map((one) => Math.round(one.getBoundingClientRect().left))"
    )
    before = page.run(lefts)
    for count, link in enumerate(page.browser.find_elements("css selector", "[data-unfold]"), 1):
        link.click()
        page.until(lambda: page.run("return document.querySelectorAll('.unfolded').length") == count)  # noqa: B023 - done before the next
        assert page.run(lefts) == before
    page.run("document.querySelector('.unfolded .lines tbody th').textContent = 'A long title '.repeat(40)")
    assert page.run(lefts) == before
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("language", ["en-US", "fr-CA", "es", "cs"])
@pytest.mark.parametrize("height", [664, 844])
def test_on_a_phone_everything_is_in_reach(page: PageDesk, language: str, height: int) -> None:
    page.desk.speak(language)
    look(page.browser, 390, height=height, mobile=True)
    page.open_group(NGUYEN)
    dates = page.run("return [...document.querySelectorAll('.expires time')].filter((one) => one.checkVisibility())")
    assert len(dates) == 4
    for link in ("-fines", "-expires"):
        page.desk.click(f"#members thead a[href*='sort={link}&'], #members thead a[href*='sort={link[1:]}&']")
        page.until(lambda: f"sort={link}" in page.browser.current_url or f"sort={link[1:]}" in page.browser.current_url)  # noqa: B023 - done before the next
        page.arrives("#members")
    page.desk.click("#select-all")
    page.run("scrollTo(0, 0)")
    page.desk.framed()
    bar = page.run("return document.querySelector('.toolbar').getBoundingClientRect().toJSON()")
    assert abs(bar["bottom"] - height) < 2, "in view"
    assert bar["height"] < height / 5
    buttons = page.run("return [...document.querySelectorAll('.for-selected .btn')].map((one) => one.offsetHeight)")
    assert len(buttons) == 4
    assert min(buttons) >= 24


def test_details_have_what_the_table_has_no_room_for(page: PageDesk) -> None:
    for width, shown in ((1400, ()), (1100, ("Profile Child",)), (780, ("Profile Child", "Expires "))):
        look(page.browser, width)
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
