"""Clicks and keys of ten jobs at the desk, in the client's own tab of a real browser."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys
from support.desk_page import card
from support.page_desk import RUTH, PageDesk
from support.web_caller import PASSWORD

pytestmark = pytest.mark.long  # needs a browser

LAN, SECOND, THIRD = 1018, 1042, 1049
"""A member of the family, and two patrons who are moved in besides Ruth."""


class Hands:
    """A clerk's hands, in the group's page within the client's tab. ``done`` lists what they did."""

    def __init__(self, page: PageDesk) -> None:
        self.page = page
        self.done: list[str] = []

    def click(self, selector: str) -> None:
        self.done.append("click")
        self.page.desk.element(selector).click()

    def press(self, name: str, key: str) -> None:
        self.done.append(name)
        self.page.scan(key)

    def enter(self) -> None:
        self.press("Enter", Keys.ENTER)

    def scan(self, digits: str) -> None:
        """Scan a card: the scanner ends with Enter."""
        self.done.append("scan")
        self.page.scan(digits, Keys.ENTER)

    def type(self, what: str, text: str) -> None:
        self.done.append(what)
        self.page.scan(text)


@pytest.fixture
def hands(page: PageDesk) -> Hands:
    for patron in (SECOND, THIRD):
        page.change("UPDATE au SET family_name = 'Nguyễn', usrgroup = 5000 + id WHERE id = ?", patron)
    page.open_tab()
    return Hands(page)


def move_in(hands: Hands) -> None:
    hands.scan(card(RUTH))
    hands.page.shows("Move Nguyễn, Ruth here?")
    hands.enter()
    assert hands.page.outcome().startswith("Done")


def test_move_one_in(hands: Hands) -> None:
    move_in(hands)
    assert hands.done == ["scan", "Enter"]
    assert hands.page.group_of(RUTH) == 1004


def test_move_three_in_with_an_unknown_card_among_them(hands: Hands) -> None:
    hands.scan(card(RUTH))
    hands.page.shows("Move Nguyễn, Ruth here?")
    hands.scan(card(SECOND))
    hands.page.shows("Move 2 patrons here?")
    hands.scan("20000000009999")
    hands.page.arrives("#message", "not found")
    hands.scan(card(THIRD))
    hands.page.shows("Move 3 patrons here?")
    hands.enter()
    assert "Done: 3 patrons moved" in hands.page.outcome()
    assert hands.done == ["scan"] * 4 + ["Enter"]


def test_remove(hands: Hands) -> None:
    hands.click(f"#members input[value='{LAN}']")
    hands.click("button[value=remove]")
    hands.page.shows("Remove Nguyễn, Lan from the group?")
    hands.enter()
    assert hands.page.outcome().startswith("Done")
    assert hands.done == ["click", "click", "Enter"]


def test_undo_and_redo(hands: Hands) -> None:
    move_in(hands)
    hands.done.clear()
    hands.click("form[action*='/undo'] button")
    hands.page.arrives("#outcome", "Undone")
    assert hands.page.group_of(RUTH) == 5001
    assert hands.page.text("form[action*='/undo'] button") == "Redo"
    hands.click("form[action*='/undo'] button")
    hands.page.arrives("#outcome", "Done: Nguyễn, Ruth")
    assert hands.page.group_of(RUTH) == 1004
    assert hands.page.text("form[action*='/undo'] button") == "Undo"
    assert hands.done == ["click", "click"], "one each"


def test_move_in_by_name(hands: Hands) -> None:
    hands.type("name", "Nguyễn, Ruth")
    hands.enter()
    hands.page.arrives("#found")
    first = hands.page.text("#found tbody bdi")
    hands.press("arrow", Keys.ARROW_DOWN)
    assert first in hands.page.desk.focused()
    hands.page.scan(Keys.ARROW_DOWN, Keys.ARROW_UP)
    assert first in hands.page.desk.focused(), "as before"
    hands.enter()
    hands.page.until(lambda: hands.page.text("h1") != "Move another patron to this group" and hands.page.loaded())
    assert first in hands.page.heading
    hands.enter()
    hands.page.outcome()
    assert hands.done == ["name", "Enter", "arrow", "Enter", "Enter"]


def test_statement_and_history(hands: Hands) -> None:
    move_in(hands)
    hands.done.clear()
    hands.click("nav a[href*='/history']")
    hands.page.shows("History")
    assert "Nguyễn, Ruth" in hands.page.text(".entry")
    hands.page.open_tab()
    hands.click("nav a[href*='/statement']")
    hands.page.arrives(".sheet")
    assert hands.done == ["click", "click"], "one each"


def test_move_in_with_approval(hands: Hands) -> None:
    page = hands.page
    page.need_approval()
    page.open_tab()
    assert "need a supervisor's approval" in page.text("#approval"), "known from the start"
    hands.scan(card(RUTH))
    page.shows("Move Nguyễn, Ruth here?")
    hands.type("user name", f"admin{Keys.ENTER}")  # a key ends the user name, as it ends a scan
    hands.type("password", PASSWORD)
    hands.enter()
    assert page.outcome().startswith("Done")
    assert hands.done == ["scan", "user name", "password", "Enter"]
