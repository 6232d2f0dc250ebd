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


class TestInView:
    @pytest.mark.parametrize("size", [(1280, 720), (1024, 768)])
    def test_the_question_and_its_button_in_the_angular_client(self, page: PageDesk, size: tuple[int, int]) -> None:
        resize(page, *size)
        in_tab(page, "Angular")
        bottom = page.run(
            "const frame = document.querySelector('.evergreen-groups-tab iframe');"
            "const button = frame.contentDocument.querySelector('.card-form .btn');"
            "return frame.getBoundingClientRect().top + button.getBoundingClientRect().bottom - innerHeight"
        )
        assert bottom <= 0

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
