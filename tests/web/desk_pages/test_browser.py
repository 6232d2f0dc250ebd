"""The desk's pages in a real browser: input as from a scanner, in the client, without JavaScript, and long lists."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from selenium.webdriver.common.keys import Keys
from support.circulators import add_members
from support.desk_browser import CLIENTS
from support.desk_page import card
from support.follow_ups import record_report
from support.page_desk import ARABIC, HOSTILE, NGUYEN, RUTH, THOMAS, WHITFIELD, PageDesk
from support.web_caller import PASSWORD, end_session, session

pytestmark = pytest.mark.long  # needs a browser

LAN, SECOND, THIRD = 1018, 1042, 1049
"""A member of the family, and two patrons who are moved in besides Ruth."""
HEAR = "window.heard = []; new BroadcastChannel('evergreen-groups').onmessage = (event) => heard.push(event.data)"


class TestTheSeedsFlow:
    """From the list and back to the updated list, using only a scanner and Enter."""

    @pytest.mark.parametrize("client", list(CLIENTS))
    def test_in_the_clients_own_tab(self, page: PageDesk, client: str) -> None:
        """From Group Member Details to the updated list, in both clients. The panel is updated too."""
        with page.desk.in_new_pages(HEAR):
            page.open_tab(client)
        page.scan_for("Move Nguyễn, Ruth here?", card(RUTH))
        page.scan(Keys.ENTER)
        assert page.outcome().startswith("Done: Nguyễn, Ruth is now in this group")
        assert "Nguyễn, Ruth" in page.members()
        page.until(lambda: page.text("#live").startswith("Done"))
        assert page.group_of(RUTH) == 1004
        page.browser.switch_to.default_content()
        page.until(lambda: "5 members" in page.text(".evergreen-groups"))
        (message,) = page.run("return window.heard")
        assert [message[name] for name in ("kind", "patrons", "groups")] == ["changed", [RUTH], [1004, 5001]]
        page.desk.enter_tab()
        # The click removes the frame and its scripts, so delay it until the script call has returned.
        page.run("setTimeout(() => document.querySelector(\"#members a[href*='/1015/checkout']\").click())")
        page.browser.switch_to.default_content()
        page.until(lambda: page.browser.current_url.endswith("/1015/checkout"))

    def test_the_focus_may_be_anywhere(self, page: PageDesk) -> None:
        page.open_group(NGUYEN)
        page.run("document.activeElement.blur()")
        page.scan_for("Move Nguyễn, Ruth here?", card(RUTH))

    def test_the_next_card_is_added_and_moves_nobody(self, page: PageDesk) -> None:
        page.plan_move(NGUYEN, card(RUTH), "Move Nguyễn, Ruth here?")
        page.scan_for("Move 2 patrons here?", card(THOMAS))
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
        with page.desk.in_new_pages("performance.now = () => 399"):
            page.scan(card(RUTH), Keys.ENTER, Keys.ENTER)
            page.until(lambda: "Move Nguyễn, Ruth here?" in page.heading)
            page.until(lambda: page.run("return document.readyState === 'complete'"))
            page.run("window.kept = []; addEventListener('keydown', (event) => kept.push(event.defaultPrevented))")
            page.scan(Keys.ENTER)
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

    def test_without_a_script(self, page: PageDesk) -> None:
        def arrives(text: str) -> None:
            page.until(lambda: text in page.desk.element("body").text)

        page.desk.run_scripts(run=False)
        page.open(NGUYEN)
        arrives("Group Member Details")
        assert page.desk.element("button[value=remove]").is_displayed() is False
        page.scan(card(RUTH), Keys.ENTER)
        arrives("Move Nguyễn, Ruth here?")
        page.scan(Keys.ENTER)
        arrives("Done: Nguyễn, Ruth is now in this group")
        page.desk.element("form[action*='/undo'] button").click()
        arrives("Undone: Nguyễn, Ruth")
        page.desk.element("#members input[value='1018']").click()
        page.desk.element("button[value=remove]").click()
        arrives("Remove Nguyễn, Lan from the group?")


def test_scans_and_a_supervisors_approval_in_the_preview(page: PageDesk) -> None:
    page.need_approval()
    page.plan_move(NGUYEN, card(RUTH), "Move Nguyễn, Ruth here?")
    page.scan_for("Move 2 patrons here?", card(THOMAS))
    page.run("document.querySelector('#password').focus()")
    page.scan_for("Move 3 patrons here?", card(SECOND))
    assert "share no surname" in page.text("[aria-labelledby=warnings]")
    assert "lacks UPDATE_USER at ELM" in page.text(".approval")
    page.scan("admin", Keys.ENTER, PASSWORD, Keys.ENTER)
    assert page.outcome().startswith("Done: 3 patrons moved"), "the password is asked once"


def test_reload_and_back(page: PageDesk) -> None:
    page.plan_move(NGUYEN, card(RUTH), "Move Nguyễn, Ruth here?")
    page.browser.refresh()
    page.shows("Group Member Details")
    assert page.group_of(RUTH) == 5001, "the plan is gone"
    page.scan_for("Move Nguyễn, Ruth here?", card(RUTH))
    page.scan(Keys.ENTER)
    page.outcome()
    page.browser.refresh()
    assert "Done: Nguyễn, Ruth" in page.outcome()
    page.browser.back()
    # The group is current, and reloading resends no form. The browser may show its cached list first.
    page.until(lambda: "Group Member Details" in page.heading and "Nguyễn, Ruth" in page.members())
    page.open(NGUYEN, "/history")
    page.shows("History")
    entries = page.run("return [...document.querySelectorAll('.entry')].map((entry) => entry.innerText)")
    assert sum("group 5001 to this group" in text for text in entries) == 1


class TestSession:
    def test_it_ends_in_the_middle(self, page: PageDesk) -> None:
        token = page.desk.log_in_as("consortium_staff")
        page.open_group(NGUYEN)
        end_session(page.sandbox.url, token)
        page.scan_for("Your session has ended", card(RUTH))
        assert page.run("return document.querySelector('a.btn-primary').pathname") == "/eg2/staff/login"
        page.desk.have_cookie(session(page.sandbox.url, username="consortium_staff"))
        page.desk.click("a.btn:not(.btn-primary)")
        page.shows("Group Member Details")

    @pytest.mark.parametrize(
        "logout",
        [
            "new BroadcastChannel('eg.auth').postMessage({ action: 'logout' })",
            # The AngularJS client's logout link removes the cookie without a broadcast. An event, because cookieStore
            # isn't available over plain http.
            "document.cookie = 'eg.auth.token=; path=/; max-age=0';"
            "document.dispatchEvent(new Event('visibilitychange'))",
        ],
    )
    def test_logout_in_the_client_leaves_no_names(self, page: PageDesk, logout: str) -> None:
        page.open_group(NGUYEN)
        page.run(logout)
        page.shows("Logged out")
        assert "Nguyễn" not in page.run("return document.documentElement.outerHTML")


class TestManyMembers:
    @pytest.fixture
    def many(self, page: PageDesk) -> PageDesk:
        add_members(page.sandbox, 1004, 296)
        page.open_group(NGUYEN)
        return page

    def test_a_list_that_can_be_used(self, many: PageDesk) -> None:
        page = many
        assert len(page.members()) == 300
        ticked = "document.querySelectorAll('#members input[name=member]')[150].click();"
        page.run(f"{ticked} scrollTo(0, document.body.scrollHeight / 2)")
        top, bottom, height = page.run(
            "return [document.querySelector('#members thead th:nth-child(2)').getBoundingClientRect().top,"
            "document.querySelector('.toolbar').getBoundingClientRect().bottom, innerHeight]"
        )
        assert abs(top) < 2, "the heading stays"
        assert abs(bottom - height) < 2, "so do the buttons for the selected"
        page.run(ticked)
        page.desk.element("#within").send_keys("member 29")
        page.until(lambda: len(page.members()) == 10)
        assert page.text("#within-count") == "10 of 300 shown"
        page.desk.click("#select-all")
        assert page.text("#selected-label") == "Selected: 10"

    def test_a_long_change_is_followed(self, many: PageDesk) -> None:
        page = many
        page.desk.element("#within").send_keys("member 2")
        page.until(lambda: len(page.members()) < 200)
        page.run(
            "[...document.querySelectorAll('#members tr:not([hidden]) input[name=member]')].slice(0, 25)"
            ".forEach((box) => box.click())"
        )
        page.desk.click("button[value=remove]")
        page.shows("Remove 25 patrons from the group?")
        page.desk.click("#confirm")
        page.until(lambda: "Done: 25 patrons moved" in page.text("#outcome"))
        page.until(lambda: len(page.members()) == 275)
        page.desk.click("form[action*='/undo'] button")
        page.until(lambda: "Undone: 25 patrons moved back" in page.text("#outcome"))
        page.until(lambda: len(page.members()) == 300)

    def test_where_the_session_ends_meanwhile_that_is_said(self, many: PageDesk) -> None:
        page = many
        token = page.desk.log_in_as("consortium_staff")
        page.open_group(NGUYEN)
        page.run(
            "[...document.querySelectorAll('#members input[name=member]')].slice(0, 200).forEach((box) => box.click())"
        )
        page.desk.click("button[value=remove]")
        page.shows("Remove 200 patrons from the group?")
        page.desk.click("#confirm")
        page.until(lambda: page.run("return document.querySelector('#outcome')?.dataset.underWay"))
        end_session(page.sandbox.url, token)
        page.until(lambda: "Your session has ended" in page.text("body"))


class TestNames:
    @pytest.mark.parametrize("name", [HOSTILE, ARABIC, "W" * 200])
    def test_they_are_text_wherever_they_stand(self, page: PageDesk, name: str) -> None:
        page.change("UPDATE au SET family_name = ? WHERE id IN (1036, 1037, 1038)", name)
        page.change("UPDATE au SET usrgroup = 1009 WHERE id = 1038")
        self.is_harmless(page, lambda: page.open(WHITFIELD))
        page.desk.click("#members input[value='1037']")
        self.is_harmless(page, lambda: page.desk.click("button[value=remove]"))
        self.is_harmless(page, lambda: page.desk.click("#confirm"))
        page.outcome()
        self.is_harmless(page, lambda: page.open(WHITFIELD, "/history"))
        page.open_group(NGUYEN)
        self.is_harmless(page, lambda: page.desk.element("#card").send_keys(card(WHITFIELD), Keys.ENTER))

    @staticmethod
    def is_harmless(page: PageDesk, leads_there: Callable[[], None]) -> None:
        page.run("document.documentElement.dataset.former = '1'")
        leads_there()
        page.until(lambda: page.run("return !document.documentElement.dataset.former") and page.loaded())
        assert page.run("return document.querySelectorAll('img, main script').length") == 0
        assert page.run("return window.harmed") is None
        assert page.run("return document.documentElement.scrollWidth <= innerWidth"), page.heading

    def test_the_direction_of_writing_stays_the_names_own(self, page: PageDesk) -> None:
        page.change("UPDATE au SET family_name = ? WHERE id = 1036", ARABIC)
        page.open_group(WHITFIELD)
        first, last = page.run(
            "const badge = [...document.querySelectorAll('.badge')].find((one) => one.innerText === 'group lead');"
            "const name = badge.closest('th').querySelector('bdi');"
            "return [name.getBoundingClientRect().left, badge.getBoundingClientRect().left]"
        )
        assert first <= last or page.run("return innerWidth") < 500


# --- A clerk's jobs in the client's tab, with no more keys and clicks than these ---


@pytest.fixture
def tab(page: PageDesk) -> PageDesk:
    for patron in (SECOND, THIRD):
        page.change("UPDATE au SET family_name = 'Nguyễn', usrgroup = 5000 + id WHERE id = ?", patron)
    page.open_tab()
    return page


def click(page: PageDesk, selector: str) -> None:
    page.desk.element(selector).click()


def move_in(page: PageDesk) -> None:
    page.scan_for("Move Nguyễn, Ruth here?", card(RUTH))
    page.scan(Keys.ENTER)
    assert page.outcome().startswith("Done")
    assert page.group_of(RUTH) == 1004


def test_move_three_in_with_an_unknown_card_among_them(tab: PageDesk) -> None:
    tab.scan_for("Move Nguyễn, Ruth here?", card(RUTH))
    tab.scan_for("Move 2 patrons here?", card(SECOND))
    tab.scan("20000000009999", Keys.ENTER)
    tab.arrives("#message", "not found")
    tab.scan_for("Move 3 patrons here?", card(THIRD))
    tab.scan(Keys.ENTER)
    assert "Done: 3 patrons moved" in tab.outcome()


def test_remove(tab: PageDesk) -> None:
    click(tab, f"#members input[value='{LAN}']")
    click(tab, "button[value=remove]")
    tab.shows("Remove Nguyễn, Lan from the group?")
    tab.scan(Keys.ENTER)
    assert tab.outcome().startswith("Done")


def test_undo_and_redo(tab: PageDesk) -> None:
    move_in(tab)
    for button, outcome, group in (("Undo", "Undone", 5001), ("Redo", "Done: Nguyễn, Ruth", 1004)):
        assert tab.text("form[action*='/undo'] button") == button
        click(tab, "form[action*='/undo'] button")
        tab.arrives("#outcome", outcome)
        assert tab.group_of(RUTH) == group
    assert tab.text("form[action*='/undo'] button") == "Undo"


def test_move_in_by_name(tab: PageDesk) -> None:
    tab.scan("Nguyễn, Ruth", Keys.ENTER)
    tab.arrives("#found")
    first = tab.text("#found tbody bdi")
    tab.scan(Keys.ARROW_DOWN)
    assert first in tab.desk.focused()
    tab.scan(Keys.ARROW_DOWN, Keys.ARROW_UP)
    assert first in tab.desk.focused(), "as before"
    tab.scan(Keys.ENTER)
    tab.until(lambda: tab.text("h1") != "Move another patron to this group" and tab.loaded())
    assert first in tab.heading
    tab.scan(Keys.ENTER)
    tab.outcome()


def test_statement_and_history(tab: PageDesk) -> None:
    move_in(tab)
    click(tab, "nav a[href*='/history']")
    tab.shows("History")
    assert "Nguyễn, Ruth" in tab.text(".entry")
    tab.open_tab()
    click(tab, "nav a[href*='/statement']")
    tab.arrives(".sheet")


def test_move_in_with_approval(tab: PageDesk) -> None:
    tab.need_approval()
    tab.open_tab()
    assert "need a supervisor's approval" in tab.text("#approval"), "known from the start"
    tab.scan_for("Move Nguyễn, Ruth here?", card(RUTH))
    tab.scan("admin", Keys.ENTER)  # a key ends the user name, as it ends a scan
    tab.scan(PASSWORD, Keys.ENTER)
    assert tab.outcome().startswith("Done")


def test_drop_one_of_three_cards(tab: PageDesk) -> None:
    """Two steps: the button of the wrong one, and Enter."""
    tab.scan_for("Move Nguyễn, Ruth here?", card(RUTH))
    tab.scan_for("Move 2 patrons here?", card(SECOND))
    tab.scan_for("Move 3 patrons here?", card(THIRD))
    click(tab, f"button[name=drop][value='{SECOND}']")
    tab.shows("Move 2 patrons here?")
    tab.scan(Keys.ENTER)
    assert "Done: 2 patrons moved" in tab.outcome()
    assert tab.group_of(SECOND) == 5000 + SECOND


def test_move_a_family_of_four(tab: PageDesk) -> None:
    """A scan and a click."""
    family = (RUTH, SECOND, THIRD, THOMAS)
    for patron in family:
        tab.change("UPDATE au SET family_name = 'Nguyễn', usrgroup = 5001, master_account = 0 WHERE id = ?", patron)
    tab.scan_for("Move Nguyễn, Ruth here", card(RUTH))
    assert tab.text("button[name=family]") == "Move all 4 of this family"
    click(tab, "button[name=family]")
    assert "Done: 4 patrons moved" in tab.outcome()
    assert {tab.group_of(patron) for patron in family} == {1004}


def test_tell_two_namesakes_apart(tab: PageDesk) -> None:
    """As many keys as for one of the name: the list shows what differs."""
    tab.change("UPDATE au SET first_given_name = 'Kim', dob = '1950-01-01' WHERE id = ?", SECOND)
    tab.change("UPDATE au SET first_given_name = 'Kim', dob = '2001-01-01' WHERE id = ?", THIRD)
    tab.scan("Nguyễn, Kim", Keys.ENTER)
    tab.arrives("#found")
    rows = tab.run("return [...document.querySelectorAll('#found tbody tr')].map((row) => row.innerText)")
    assert [age in row for age, row in zip(("age 7", "age 2"), rows, strict=True)] == [True, True]
    assert tab.run("return [...document.querySelectorAll('#found .barcode strong')].map((end) => end.innerText)") == [
        str(SECOND),
        str(THIRD),
    ]
    tab.scan(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    tab.until(lambda: tab.heading.startswith("Move Nguyễn, Kim here?") and tab.loaded())
    tab.scan(Keys.ENTER)
    tab.outcome()
    assert (tab.group_of(SECOND), tab.group_of(THIRD)) == (5000 + SECOND, 1004)


def test_enter_a_follow_up_from_the_groups_page(tab: PageDesk) -> None:
    """Two clicks to the form, two more to save it, all in the client's tab."""
    record_report(tab.desk.gate.app.extensions["evergreen-groups"].state, tab.sandbox.url)
    tab.open_tab()
    click(tab, ".menu summary")
    click(tab, ".menu a[href*='/follow-up']")
    tab.arrives(".entry-form")
    tab.scan("Paid at the desk")
    click(tab, ".outcomes [value=contacted]")
    click(tab, ".entry-form [value=save]")
    tab.arrives(".follow-up", "Saved")
    assert tab.members(), "the group is there as well"
    tab.browser.switch_to.default_content()
    assert tab.desk.tab_state() == "shown"


@pytest.mark.parametrize("client", ["Angular", "AngularJS"])
def test_the_panel_follows_each_change_without_a_reload(page: PageDesk, client: str) -> None:
    """In the tab where the change is made: a move, a removal, a merge, and what undoes them."""
    page.open_tab(client)
    page.browser.switch_to.default_content()
    page.run("window.stays = true")
    page.desk.enter_tab()

    def follows(members: int, *steps: Callable[[], object]) -> None:
        for step in steps:
            step()
        page.outcome()
        assert len(page.members()) == members, "in the page"
        page.browser.switch_to.default_content()
        page.until(lambda: f"{members} members" in page.text(".evergreen-groups"))
        assert page.run("return window.stays"), "not loaded again"
        page.desk.enter_tab()

    def undone(members: int) -> None:
        page.run("document.querySelector('#outcome').id = 'former'")
        follows(members, lambda: click(page, "form[action*='/undo'] button"))

    follows(5, lambda: page.scan_for("Move Nguyễn, Ruth here?", card(RUTH)), lambda: page.scan(Keys.ENTER))
    undone(4)
    click(page, f"#members input[value='{LAN}']")
    click(page, "button[value=remove]")
    page.shows("Remove Nguyễn, Lan from the group?")
    follows(3, lambda: page.scan(Keys.ENTER))
    undone(4)
    click(page, "button[value=merge]")
    page.shows("Merge into which group?")
    page.scan_for("Merge this group into", card(WHITFIELD))
    follows(6, lambda: click(page, "#confirm"))
    undone(4)
