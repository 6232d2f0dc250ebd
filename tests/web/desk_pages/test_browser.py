"""The desk's pages in a real browser, with input as from a scanner, and without JavaScript."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys
from support.desk_page import GROUP, card
from support.page_desk import NGUYEN, RUTH, THOMAS, WHITFIELD, PageDesk
from support.web_caller import PASSWORD, end_session, session

pytestmark = pytest.mark.long  # needs a browser

THIRD = 1042


class TestTheSeedsFlow:
    """From the list and back to the updated list, using only a scanner and Enter."""

    def test_a_card_and_enter(self, page: PageDesk) -> None:
        page.plan_move(NGUYEN, card(RUTH), "Move Nguyễn, Ruth here?")
        page.scan(Keys.ENTER)
        assert page.outcome().startswith("Done: Nguyễn, Ruth is now in this group")
        assert "Nguyễn, Ruth" in page.members()
        page.until(lambda: page.text("#live"))
        assert page.text("#live").startswith("Done")
        assert page.group_of(RUTH) == 1004

    def test_the_focus_may_be_anywhere(self, page: PageDesk) -> None:
        page.open_group(NGUYEN)
        page.run("document.activeElement.blur()")
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth here?")

    def test_the_next_card_is_added_and_moves_nobody(self, page: PageDesk) -> None:
        page.plan_move(NGUYEN, card(RUTH), "Move Nguyễn, Ruth here?")
        page.scan(card(THOMAS), Keys.ENTER)
        page.shows("Move 2 patrons here?")
        assert page.group_of(RUTH) == 5001
        assert "shares no surname" in page.text("[aria-labelledby=warnings]")
        page.scan(Keys.ENTER)  # with a warning, Enter alone doesn't confirm
        page.until(lambda: page.run("return performance.now() < 400") or "2 patrons" in page.heading)
        page.shows("Move 2 patrons here?")
        assert page.group_of(RUTH) == 5001
        page.desk.click("#confirm")
        assert "Done: 2 patrons moved" in page.outcome()

    def test_a_scanners_second_line_end_does_not_confirm(self, page: PageDesk) -> None:
        """The next page ignores keys at first. Here the page's clock is stopped, so that period never ends."""
        page.open_group(NGUYEN)
        first_moments = {"source": "performance.now = () => 399"}
        script = page.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", first_moments)
        try:
            page.scan(card(RUTH), Keys.ENTER, Keys.ENTER)
            page.until(lambda: "Move Nguyễn, Ruth here?" in page.heading)
            page.until(lambda: page.run("return document.readyState === 'complete'"))
            page.run("window.kept = []; addEventListener('keydown', (event) => kept.push(event.defaultPrevented))")
            page.scan(Keys.ENTER)
        finally:
            page.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
        assert page.run("return window.kept") == [True]
        assert page.heading == "Move Nguyễn, Ruth here?"
        assert page.group_of(RUTH) == 5001

    def test_a_walk_with_the_keyboard(self, page: PageDesk) -> None:
        """Select with the space bar, remove with the button, confirm with Enter."""
        page.open_group(WHITFIELD)
        page.run("document.querySelector('#members input[value=\"1037\"]').focus()")
        page.scan(Keys.SPACE)
        stops = []
        while "Remove from the group" not in page.desk.focused():
            page.scan(Keys.TAB)
            stops.append(page.desk.focused())
            assert len(stops) < 40
        page.scan(Keys.ENTER)
        page.shows("Remove Whitfield, Thomas from the group?")
        assert page.run("return document.activeElement.getAttribute('aria-labelledby')") == "warnings"
        page.scan(Keys.ENTER)  # neither confirms nor cancels
        page.scan(Keys.TAB)
        assert page.desk.focused() == "Remove anyway"
        page.scan(Keys.ENTER)
        assert "is now in a new group" in page.outcome()


class TestWhoIsMeant:
    def test_an_unknown_card_is_selected_for_the_next_scan(self, page: PageDesk) -> None:
        page.open_group(NGUYEN)
        page.scan("20000000009999", Keys.ENTER)
        page.until(lambda: "Card 20000000009999 not found" in page.text("#message"))
        page.shows("Group Member Details")
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Move Nguyễn, Ruth here?")

    def test_arrow_keys_choose_a_name(self, page: PageDesk) -> None:
        page.open_group(NGUYEN)
        page.scan("whitf", Keys.ENTER)
        page.shows("Move another patron to this group")
        page.scan(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_UP, Keys.ARROW_DOWN)
        assert "Whitfield, Thomas" in page.desk.focused()
        page.scan(Keys.ENTER)
        page.shows("Move Whitfield, Thomas here")

    def test_scans_and_a_supervisors_approval_in_the_preview(self, page: PageDesk) -> None:
        page.change("DELETE FROM grants WHERE usr = 2 AND permission = 'UPDATE_USER'")
        page.desk.log_in(session(page.sandbox.url, username="consortium_staff"))
        page.plan_move(NGUYEN, card(RUTH), "Move Nguyễn, Ruth here?")
        page.scan(card(THOMAS), Keys.ENTER)
        page.shows("Move 2 patrons here?")
        page.run("document.querySelector('#password').focus()")
        page.scan(card(THIRD), Keys.ENTER)
        page.shows("Move 3 patrons here?")
        page.scan("admin", Keys.ENTER, PASSWORD, Keys.ENTER)
        page.until(lambda: "To confirm, use the" in page.text("#message") and page.loaded())
        page.scan(PASSWORD)
        page.desk.click("#confirm")
        assert page.outcome().startswith("Done: 3 patrons moved")


class TestOnce:
    def test_a_double_click(self, page: PageDesk) -> None:
        page.plan_move(NGUYEN, card(RUTH), "Move Nguyễn, Ruth here?")
        page.run("const yes = document.querySelector('#confirm'); yes.click(); yes.click()")
        page.outcome()
        assert self.entries(page) == 1

    def test_back(self, page: PageDesk) -> None:
        page.plan_move(NGUYEN, card(RUTH), "Move Nguyễn, Ruth here?")
        page.scan(Keys.ENTER)
        page.outcome()
        page.browser.back()
        # The group is current, and reloading resends no form. The browser may show its cached list first.
        page.until(lambda: "Group Member Details" in page.heading and "Nguyễn, Ruth" in page.members())
        assert self.entries(page) == 1

    def test_reload_of_a_plan(self, page: PageDesk) -> None:
        page.plan_move(NGUYEN, card(RUTH), "Move Nguyễn, Ruth here?")
        page.browser.refresh()
        page.shows("Group Member Details")
        assert page.group_of(RUTH) == 5001

    def test_reload_of_the_outcome(self, page: PageDesk) -> None:
        page.plan_move(NGUYEN, card(RUTH), "Move Nguyễn, Ruth here?")
        page.scan(Keys.ENTER)
        page.outcome()
        page.browser.refresh()
        assert "Done: Nguyễn, Ruth" in page.outcome()
        assert self.entries(page) == 1

    @staticmethod
    def entries(page: PageDesk) -> int:
        page.open(NGUYEN, "/history")
        page.shows("History")
        entries = page.run("return [...document.querySelectorAll('.entry')].map((entry) => entry.innerText)")
        return sum("group 5001 to this group" in text for text in entries)


class TestSession:
    def test_it_ends_in_the_middle(self, page: PageDesk) -> None:
        token = session(page.sandbox.url, username="consortium_staff")
        page.desk.have_cookie(token)
        page.open_group(NGUYEN)
        end_session(page.sandbox.url, token)
        page.scan(card(RUTH), Keys.ENTER)
        page.shows("Your session has ended")
        assert page.run("return document.querySelector('a.btn-primary').pathname") == "/eg2/staff/login"
        page.desk.have_cookie(session(page.sandbox.url, username="consortium_staff"))
        page.desk.click("a.btn:not(.btn-primary)")
        page.shows("Group Member Details")

    def test_logout_in_the_client_leaves_no_names(self, page: PageDesk) -> None:
        page.open_group(NGUYEN)
        page.run("new BroadcastChannel('eg.auth').postMessage({ action: 'logout' })")
        page.shows("Logged out")
        assert "Nguyễn" not in page.run("return document.documentElement.outerHTML")

    def test_a_logout_that_no_other_tab_is_told_of(self, page: PageDesk) -> None:
        """The AngularJS client's logout link does this: it removes the cookie without a broadcast."""
        page.open_group(NGUYEN)
        page.run("document.cookie = 'eg.auth.token=; path=/; max-age=0'")
        page.run("document.dispatchEvent(new Event('visibilitychange'))")  # cookieStore isn't available over plain http
        page.shows("Logged out")
        assert "Nguyễn" not in page.run("return document.documentElement.outerHTML")

    def test_another_sites_form(self, page: PageDesk) -> None:
        """A form on another site, sent with the clerk's cookie."""
        page.open_group(NGUYEN)
        address = f"{page.sandbox.url}{GROUP.format(NGUYEN)}/plan"
        foreign = (
            f"<form method=post action='{address}'><input name=action value=remove><input name=member value={NGUYEN}>"
            "<button>win</button></form>"
        )
        page.browser.get(f"data:text/html,{foreign}")
        page.desk.click("button")
        page.until(lambda: "Not allowed" in page.heading or "Your session has ended" in page.heading)
        assert page.group_of(NGUYEN) == 1004


class TestWithoutAScript:
    @pytest.fixture(autouse=True)
    def no_script(self, page: PageDesk) -> None:
        page.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})

    def test_the_seeds_flow(self, page: PageDesk) -> None:
        page.open(NGUYEN)
        self.arrived(page, "Group Member Details")
        page.scan(card(RUTH), Keys.ENTER)
        self.arrived(page, "Move Nguyễn, Ruth here?")
        page.scan(Keys.ENTER)
        self.arrived(page, "Done: Nguyễn, Ruth is now in this group")
        page.desk.element("form[action*='/undo'] button").click()
        self.arrived(page, "Undone: Nguyễn, Ruth")

    def test_select_and_remove(self, page: PageDesk) -> None:
        page.open(WHITFIELD)
        self.arrived(page, "Group Member Details")
        assert not page.desk.element("button[value=remove]").is_displayed()
        page.desk.element("#members input[value='1037']").click()
        page.desk.element("button[value=remove]").click()
        self.arrived(page, "Remove Whitfield, Thomas from the group?")

    @staticmethod
    def arrived(page: PageDesk, text: str) -> None:
        page.until(lambda: text in page.browser.page_source)
