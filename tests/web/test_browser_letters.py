"""Letters from the report in a browser: selected, printed, marked as sent."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from support.desk_browser import Desk, desk_browser, look
from support.letters import FAMILY, IN_COLLECTIONS, LEAD, change, penalize
from support.printed_pages import sheets_of
from support.worklist import Worklist

from evergreen_groups.settings import ReportSettings
from evergreen_groups.settings.sections import DeskSettings

pytestmark = pytest.mark.long  # needs a browser

WITH_CONTACT = ReportSettings(contact=True)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_browser(tmp_path_factory.mktemp("desk")) as desk:
        yield desk


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def page(desk: Desk, tmp_path: Path, cache: Path) -> Iterator[Worklist]:
    """The report of last night, opened."""
    desk.begin()
    for row in desk.sandbox._store.rows("au"):
        change(desk.sandbox, row["id"], mailing_address=1001)
    page = Worklist(desk, tmp_path, cache, contact=True)
    page.make_report()
    page.serve(report=WITH_CONTACT)
    page.open()
    yield page
    first, *others = page.browser.window_handles
    for other in others:
        page.browser.switch_to.window(other)
        page.browser.close()
    page.browser.switch_to.window(first)


def select(page: Worklist, groups: list[int]) -> None:
    for group in groups:
        page.run("document.querySelector(`input[name=group][value='${arguments[0]}']`).click()", group)


def open_letters(page: Worklist) -> None:
    """Select *Letters*, and go to the tab that it opens."""
    go_to(page, press_letters(page))


def press_letters(page: Worklist) -> str:
    before = set(page.browser.window_handles)
    page.browser.find_element(By.CSS_SELECTOR, ".selected button[formaction]").click()
    page.until(lambda: set(page.browser.window_handles) - before)
    (tab,) = set(page.browser.window_handles) - before
    return tab


def go_to(page: Worklist, tab: str) -> None:
    page.browser.switch_to.window(tab)
    page.until(lambda: page.browser.find_elements(By.CSS_SELECTOR, ".bar, [role=alert]"))


def sheets(page: Worklist) -> int:
    return len(page.browser.find_elements(By.CSS_SELECTOR, "article"))


def mark(page: Worklist) -> None:
    page.browser.find_element(By.CSS_SELECTOR, ".bar button[name=do]").click()


def test_selected_printed_and_marked_as_sent(page: Worklist) -> None:
    groups = page.listed()[:3]
    select(page, groups)
    assert page.text(".selected").endswith("Letters")
    open_letters(page)
    assert sheets(page) == 3
    assert page.browser.find_element(By.ID, "print").is_displayed()
    assert printed_sheets(page) == 3, "the bar isn't printed"
    mark(page)
    assert_marked(page, groups)


def test_without_a_script(page: Worklist) -> None:
    groups = page.listed()[:3]
    with page.without_script():
        page.open()
        select(page, groups)
        tab = press_letters(page)
    go_to(page, tab)
    with page.without_script():
        page.browser.refresh()
        assert not page.browser.find_element(By.ID, "print").is_displayed()
        assert printed_sheets(page) == 3
        mark(page)
        page.until(lambda: page.browser.find_elements(By.ID, "groups"))
    page.open()
    assert_marked(page, groups)


def printed_sheets(page: Worklist) -> int:
    printed = page.browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    return sheets_of(base64.b64decode(printed["data"]))


def assert_marked(page: Worklist, groups: list[int]) -> None:
    page.until(lambda: page.browser.find_elements(By.ID, "groups"))
    page.until(lambda: page.run("return document.readyState === 'complete'"))
    assert page.statuses()[1] == f"Waiting ({len(groups)})"
    page.choose("waiting")
    assert page.listed() == groups
    assert all(", by letter · Contacted" in page.row(group) for group in groups)


def test_the_button_prints(page: Worklist) -> None:
    select(page, page.listed()[:1])
    open_letters(page)
    page.run("window.print = () => { document.title = 'printed' }")
    page.browser.find_element(By.ID, "print").click()
    assert page.browser.title == "printed"


def test_groups_that_the_filters_hide_get_no_letter(page: Worklist) -> None:
    first, second, *_ = page.listed()
    page.follow_up(first)
    page.save_entry("contacted phone")
    page.choose("")
    select(page, [first, second])
    page.choose("to-do")
    open_letters(page)
    assert sheets(page) == 1


def test_the_second_of_two_people_sees_the_first_ones_entry(page: Worklist) -> None:
    group = page.listed()[0]
    select(page, [group])
    open_letters(page)
    ours = page.browser.current_window_handle
    page.browser.switch_to.new_window("tab")
    page.open()
    page.follow_up(group)
    page.type("note", "theirs")
    page.save_entry("promised email")
    page.browser.switch_to.window(ours)
    mark(page)
    page.until(lambda: "A colleague has added an entry" in page.text("[role=alert]"))
    assert "theirs" in page.text(".newer")
    page.save("contacted letter")
    page.until(lambda: page.browser.find_elements(By.ID, "groups"))
    page.choose("waiting")
    assert ", by letter · Contacted" in page.row(group)


def test_without_contact_data_there_is_no_button(page: Worklist) -> None:
    page.serve()
    page.open()
    assert page.browser.find_elements(By.CSS_SELECTOR, ".selected button")
    assert not page.browser.find_elements(By.CSS_SELECTOR, ".selected button[formaction]")


def test_who_may_not_save_prints_and_is_told_why(page: Worklist) -> None:
    page.serve(report=WITH_CONTACT, desk=DeskSettings(changes=False))
    page.open()
    select(page, page.listed()[:2])
    open_letters(page)
    assert sheets(page) == 2
    assert "setting: changes in [desk]" in page.text(".bar")
    assert not page.browser.find_elements(By.CSS_SELECTOR, ".bar button[name=do]")


@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_and_nothing_sticks_out(page: Worklist, width: int) -> None:
    groups = [FAMILY, *page.listed()]
    penalize(page.desk.sandbox, LEAD, IN_COLLECTIONS)
    for scheme in ("light", "dark"):
        look(page.browser, width, scheme, mobile=width < 500)
        page.open()
        select(page, groups[:3])
        assert checked(page) == []
        query = "&".join(f"group={group}" for group in groups[:3])
        page.browser.get(f"{page.browser.current_url}".replace("/latest", f"/letters?{query}"))
        assert "in collections" in page.text(".bar li")
        assert checked(page) == []
    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def checked(page: Worklist) -> list[object]:
    sticks_out = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
    found = [(one["id"], one["nodes"][0]["html"][:200]) for one in page.desk.axe()["violations"]]
    return [*found, *(["sticks out"] if page.run(sticks_out) else [])]
