"""Lists of many members, and of members with unusual names, in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from selenium.webdriver.common.keys import Keys
from support.desk_page import card
from support.page_desk import ARABIC, HOSTILE, NGUYEN, WHITFIELD, PageDesk
from support.web_caller import end_session

pytestmark = pytest.mark.long  # needs a browser


class TestManyMembers:
    @pytest.fixture
    def many(self, page: PageDesk) -> PageDesk:
        changed = {"id": "6000 + n", "usrname": "'many' || n", "family_name": "'Nguyễn'", "usrgroup": "1004"}
        changed |= {"first_given_name": "'Member ' || n", "card": "NULL", "master_account": "0"}
        columns = [row[1] for row in page.sandbox._store.read().execute("PRAGMA table_info(au)")]
        page.change(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 296)"
            f" INSERT INTO au ({', '.join(columns)}) SELECT {', '.join(changed.get(one, one) for one in columns)}"
            " FROM au, numbers WHERE id = 1018"
        )
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
