"""The pages together with the staff client, in its tab and in other browser tabs."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys
from support.desk_browser import CLIENTS
from support.desk_page import GROUP, card
from support.page_desk import NGUYEN, RUTH, PageDesk

pytestmark = pytest.mark.long  # needs a browser


class TestBesideTheClient:
    @pytest.mark.parametrize("client", list(CLIENTS))
    def test_the_seeds_flow_in_the_clients_own_tab(self, page: PageDesk, client: str) -> None:
        """From Group Member Details to the updated list, in both clients. The panel is updated too."""
        page.desk.open(client, f"{NGUYEN}/group")
        page.until(lambda: page.run("return document.querySelector('.evergreen-groups-tab')?.dataset.state") == "shown")
        page.until(lambda: "4 members" in page.text(".evergreen-groups"))
        page.browser.switch_to.frame(page.desk.element(".evergreen-groups-tab iframe"))
        page.shows("Group Member Details")
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth here?")
        page.scan(Keys.ENTER)
        assert page.outcome().startswith("Done: Nguyễn, Ruth is now in this group")
        assert "Nguyễn, Ruth" in page.members()
        page.browser.switch_to.default_content()
        page.until(lambda: "5 members" in page.text(".evergreen-groups"))
        page.browser.switch_to.frame(page.desk.element(".evergreen-groups-tab iframe"))
        page.until(lambda: page.run("return Boolean(document.querySelector('#members'))"))
        # The click removes the frame and its scripts, so delay it until the script call has returned.
        page.run("setTimeout(() => document.querySelector(\"#members a[href*='/1015/checkout']\").click())")
        page.browser.switch_to.default_content()
        page.until(lambda: page.browser.current_url.endswith("/1015/checkout"))

    def test_the_panel_is_told_of_a_change(self, page: PageDesk) -> None:
        page.open_group(NGUYEN)
        page.browser.execute_script("window.open('/sandbox/desk/desk.css', 'listener')")
        listener, own = None, page.browser.current_window_handle
        page.until(lambda: len(page.browser.window_handles) == 2)
        listener = next(handle for handle in page.browser.window_handles if handle != own)
        page.browser.switch_to.window(listener)
        page.run(
            "window.heard = []; new BroadcastChannel('evergreen-groups').onmessage = (event) => heard.push(event.data)"
        )
        page.browser.switch_to.window(own)
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth")
        page.scan(Keys.ENTER)
        page.outcome()
        page.browser.switch_to.window(listener)
        (message,) = page.until(lambda: page.run("return window.heard.length ? window.heard : null"))
        page.browser.close()
        page.browser.switch_to.window(own)
        assert message["kind"] == "changed"
        assert message["patrons"] == [RUTH]
        assert message["groups"] == [1004, 5001]

    def test_in_a_frame_of_the_same_origin(self, page: PageDesk) -> None:
        page.browser.get(f"{page.sandbox.url}/sandbox/desk/desk.css")
        page.run(
            "document.body.innerHTML = '<iframe width=1000 height=800></iframe>';"
            "document.querySelector('iframe').src = arguments[0]",
            f"{GROUP.format(NGUYEN)}?client=eg2&in=tab",
        )
        page.browser.switch_to.frame(0)
        page.shows("Group Member Details")
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth")
        page.scan(Keys.ENTER)
        assert "Done" in page.outcome()
        leading = "[...document.querySelectorAll('#members tbody a')].filter((one) => one.href.includes('/staff/'))"
        assert page.run(f"return {leading}.length > 0 && {leading}.every((one) => one.target === '_top')")
        page.browser.switch_to.default_content()
