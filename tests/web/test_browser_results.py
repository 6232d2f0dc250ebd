"""Two months of work with ten families, in a browser: letters, promises, payments, and what came of it."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook
from selenium.webdriver.common.keys import Keys
from support.desk_browser import Desk, look
from support.letters import change
from support.moved_nights import move_back
from support.payments import bills_of, pay
from support.web_caller import bearer, session
from support.worklist import Worklist

from evergreen_groups.settings import ReportSettings
from evergreen_groups.state.database import Transactions

pytestmark = pytest.mark.long  # needs a browser

RESULTS = "/evergreen-groups/reports/results"


def database(page: Worklist) -> Transactions:
    state = page.desk.gate.app.extensions["evergreen-groups"].state  # type: ignore[attr-defined]
    found: Transactions = state.database
    return found


def members(page: Worklist, group: int) -> list[int]:
    return [int(row["id"]) for row in page.desk.sandbox._store.rows("au", {"usrgroup": group})]


def pay_for(page: Worklist, group: int, amount: str, days_ago: int) -> None:
    """Pay on the bills of a member who owes so much."""
    at = datetime.now(UTC) - timedelta(days_ago)
    debtor = next(
        one for one in members(page, group) if sum(bills_of(page.desk.sandbox, one).values()) >= Decimal(amount)
    )
    pay(page.desk.sandbox, debtor, amount, at=at)


def table(page: Worklist, part: str) -> dict[str, list[str]]:
    """Return the rows of one of the page's tables, by their heading."""
    script = """
        return [...document.querySelectorAll(`section[aria-labelledby=${arguments[0]}] tbody tr`)].map((row) =>
            [...row.cells].map((cell) => cell.firstChild.textContent));
    """
    return {first: others for first, *others in page.run(script, part)}


def ask(page: Worklist, address: str) -> Any:
    headers = bearer(session(page.desk.sandbox.url, username="consortium_staff"))
    return page.desk.gate.app.test_client().get(address, headers=headers)


@pytest.fixture
def page(desk: Desk, tmp_path: Path, cache_directory: Path) -> Worklist:
    """The report of a night, opened: ten families or more."""
    for row in desk.sandbox._store.rows("au"):
        change(desk.sandbox, row["id"], mailing_address=1001)
    page = Worklist(desk, tmp_path, cache_directory, contact=True)
    page._command.environ["EVERGREEN_GROUPS_REPORT_MIN_TOTAL"] = "5.00"
    page.make_report()
    page.serve(report=ReportSettings(contact=True))
    page.open()
    return page


def letters_to(page: Worklist, *groups: int) -> str:
    """Make letters to groups, mark them as sent, and return what they cover."""
    before = set(page.browser.window_handles)
    page.select(*groups)
    page.find(".selected button[formaction]")[0].click()
    page.until(lambda: set(page.browser.window_handles) - before)
    (tab,) = set(page.browser.window_handles) - before
    page.browser.switch_to.window(tab)
    page.until(lambda: page.find(".bar button[name=do]"))
    covered = page.text(".bar")
    page.find(".bar button[name=do]")[0].click()
    page.until(lambda: page.find("#groups"))
    page.until(lambda: page.run("return document.readyState === 'complete'"))
    return covered


def test_from_letters_and_promises_to_the_results_of_two_months(page: Worklist) -> None:
    families = page.listed()
    assert len(families) >= 10
    honors, breaks, first, second, third, pays, *_ = families
    promised = datetime.now(UTC).date() + timedelta(14)
    for group in (honors, breaks):
        page.follow_up(group)
        page.type("pay_by", promised.isoformat())
        page.type("amount", "2.00")
        page.save_entry("promised phone")
    covered = letters_to(page, first, second, third)
    assert re.search(r"\$[\d.,]+ of \$[\d.,]+ in \d+ letters?", covered)
    # A month later, one has paid as promised, and another family without having been asked.
    move_back(database(page), page.desk.sandbox, 30)
    pay_for(page, honors, "2.00", days_ago=20)
    pay_for(page, first, "1.50", days_ago=25)
    pay_for(page, pays, "1.00", days_ago=10)
    page.make_report()
    page.open()
    assert page.listed()[0] == breaks
    assert "Promise broken" in page.row(breaks)
    page.choose("waiting")
    # And another month later.
    move_back(database(page), page.desk.sandbox, 35)
    page.make_report()
    page.open()
    page.desk.click("header .results-link")
    page.until(lambda: page.text("h1") == "Results")
    assert "language=en" in page.browser.current_url
    assert "these figures don't show what contacting achieves" in page.text(".rule")
    work, payments = table(page, "work"), table(page, "payments")
    assert [sum(int(row[at]) for row in work.values()) for at in range(3)] == [5, 1, 1]
    [row] = [row for row in payments.values() if row[0] == "5"]
    assert row[1] == "$3.50"
    assert len(families) - 5 >= 5
    assert (int(row[4]), row[5]) == (len(families) - 5, "$1.00")
    # The same for programs.
    document = ask(page, f"{RESULTS}.json").get_json()
    [month] = [one for one in document["months"] if one["library"] is None and one["contacted"]]
    assert month["contacted"] == 5
    assert month["paid"][0]["contacted"] == "3.50"
    assert sum(one["promises"]["kept"] for one in document["months"] if one["library"] is None) == 1
    workbook = load_workbook(io.BytesIO(ask(page, f"{RESULTS}.xlsx").data))
    assert workbook.sheetnames == ["Months", "Weeks"]
    rows = [[cell.value for cell in row] for row in workbook["Months"]]
    assert [row[5] for row in rows if row[0] == "All libraries" and row[2] == 5] == [3.5]


@pytest.mark.parametrize("language", ["en", "fr-CA", "es", "cs"])
def test_points_are_reached_by_keyboard_axe_finds_nothing_and_nothing_sticks_out(page: Worklist, language: str) -> None:
    page.add_entry(page.listed()[0], "contacted phone")
    move_back(database(page), page.desk.sandbox, 70)
    page.write_in(language)
    for width, scheme in product((1280, 390), ("light", "dark")):
        look(page.browser, width, scheme, height=844, mobile=width < 500)
        page.browser.get(f"{page.desk.sandbox.url}{RESULTS}?language={language}")
        assert page.run("return document.documentElement.lang") == language
        assert page.run("return document.documentElement.scrollWidth <= innerWidth")
        assert page.desk.flaws() == []
    shown = """
        const texts = [...document.querySelectorAll(".at text")];
        return texts.filter((one) => getComputedStyle(one).visibility === "visible").map((one) => one.textContent);
    """
    assert page.run(shown) == []
    page.run("document.querySelector('.results-page form button').focus()")
    page.press(Keys.TAB)
    spoken = page.run("return document.activeElement.getAttribute('aria-label')")
    assert spoken
    assert page.run(shown) == [spoken]
    page.press(Keys.TAB)
    assert page.run(shown) != [spoken]
    page.browser.get(f"{page.desk.sandbox.url}{RESULTS}?by=week&language={language}")
    assert page.desk.flaws() == []
    look(page.browser, 1280, medium="print")
    assert not page.find(".tools")[0].is_displayed()
    assert page.find(".results")[0].is_displayed()
