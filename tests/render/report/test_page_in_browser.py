"""The report's page and the index in a real browser, from files: what its script does, at each width, and on paper."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from support.desk_browser import chromium
from support.pseudo import latin_words
from support.report_samples import ORG_UNITS, blocked_report, changed_report, large_report

from evergreen_groups.language import PSEUDO, Language, use_language
from evergreen_groups.nightly.publication import publish
from evergreen_groups.render import StaffClient
from evergreen_groups.render.report import render
from evergreen_groups.report import Criteria

pytestmark = pytest.mark.long

CLIENT = StaffClient(url="https://ils.example")
_SHOWN = "return [...document.querySelectorAll('#groups > tbody')].filter(one => one.checkVisibility()).length"
_STATE = "return document.getElementById('shown').textContent"
_NAMES = "return [...document.querySelectorAll('#groups > tbody > tr:first-child bdi')].map(one => one.textContent)"
_IN_ORDER = "return arguments[0].toSorted(new Intl.Collator('en', {numeric: true, sensitivity: 'base'}).compare)"
_NUMBERS = "return [...document.querySelectorAll('#groups > tbody > tr:first-child > th')].map(one => one.textContent)"
_CHOOSE = """
const list = document.getElementById(arguments[0]);
list.value = arguments[1];
list.dispatchEvent(new Event("change"));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pages")
    for name, report in {"blocked": blocked_report(), "changed": changed_report(), "many": large_report(800)}.items():
        with (directory / f"{name}.html").open("w", encoding="utf-8") as stream:
            render(report, "html", stream, client=CLIENT)
    for name, language in {"pseudo": Language(PSEUDO), "french": Language("fr-CA", "CAD")}.items():
        with use_language(language), (directory / f"{name}.html").open("w", encoding="utf-8") as stream:
            render(changed_report(), "html", stream, client=CLIENT)
    placed = replace(changed_report(), org_units=ORG_UNITS, criteria=Criteria())
    publish(placed, directory / "libraries", client=CLIENT)
    return directory


def opened(browser: Chrome, page: Path, width: int = 1280, colours: str = "light") -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": colours}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    browser.get(page.as_uri())


def until(browser: Chrome, script: str, expected: Any) -> None:
    WebDriverWait(browser, 60).until(lambda _: browser.execute_script(script) == expected)


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (768, "light"), (390, "light"), (1280, "dark")])
@pytest.mark.parametrize(
    "name", ["blocked", "changed", "libraries/latest/BR1", "libraries/latest/index", "pseudo", "french"]
)
def test_axe_finds_nothing_and_nothing_sticks_out(
    browser: Chrome, files: Path, name: str, width: int, colours: str
) -> None:
    opened(browser, files / f"{name}.html", width, colours)
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    browser.execute_script(resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8"))
    found = browser.execute_async_script("const done = arguments[0]; axe.run().then(done)")
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
    page = "document.documentElement"
    assert browser.execute_script(f"return {page}.scrollWidth - {page}.clientWidth") == 0


def test_it_finds_filters_and_sorts_without_a_server(browser: Chrome, files: Path) -> None:
    opened(browser, files / "many.html")
    assert browser.execute_script(_SHOWN) == 800
    search = browser.find_element(By.ID, "find")
    search.send_keys("garcia")  # the accent is left out
    until(browser, "return document.getElementById('shown').hidden", False)
    until(browser, "return document.getElementById('shown').textContent.includes('garcia')", True)
    count = browser.execute_script(_SHOWN)
    assert 0 < count < 800
    assert browser.execute_script(_STATE).startswith(f"Groups shown: {count} of 800")
    browser.execute_script(_CHOOSE, "at", "BR1")
    until(browser, "return document.getElementById('shown').textContent.includes('library BR1')", True)
    assert browser.execute_script(_SHOWN) < count
    search.clear()
    search.send_keys("no such name")
    until(browser, _SHOWN, 0)
    opened(browser, files / "many.html")
    browser.find_element(By.CSS_SELECTOR, "#groups > thead th:nth-child(2) button").click()
    names = browser.execute_script(_NAMES)
    assert names == browser.execute_script(_IN_ORDER, names)


def test_the_sum_is_that_of_what_is_shown(browser: Chrome, files: Path) -> None:
    opened(browser, files / "changed.html")
    browser.execute_script(_CHOOSE, "only", "new")
    until(browser, _SHOWN, 1)
    assert browser.execute_script(_STATE) == "Groups shown: 1 of 5; combined fines: $29.00; new since the last run"
    assert browser.execute_script("return document.querySelector('#groups > tfoot').hidden")


def test_the_sum_is_in_the_pages_language_and_columns_sort_by_number(browser: Chrome, files: Path) -> None:
    opened(browser, files / "french.html")
    browser.execute_script(_CHOOSE, "only", "worse")
    until(browser, _SHOWN, 1)
    state = browser.execute_script(_STATE)
    assert "1\N{NO-BREAK SPACE}289,35\N{NO-BREAK SPACE}$" in state.replace(
        "\N{NARROW NO-BREAK SPACE}", "\N{NO-BREAK SPACE}"
    )
    for name in ("french", "pseudo", "changed"):
        opened(browser, files / f"{name}.html")
        for place, numbers in (
            (9, ["2240", "85", "31007", "902", "1187"]),
            (4, ["85", "31007", "2240", "1187", "902"]),
        ):
            head = browser.find_element(By.CSS_SELECTOR, f"#groups > thead th:nth-child({place}) button")
            head.click()
            head.click()
            assert browser.execute_script(_NUMBERS) == numbers


def test_what_the_script_writes_is_in_the_catalogue(browser: Chrome, files: Path) -> None:
    opened(browser, files / "pseudo.html")
    browser.execute_script(_CHOOSE, "only", "new")
    browser.find_element(By.ID, "find").send_keys("tanaka")
    until(browser, "return document.getElementById('shown').textContent.includes('tanaka')", True)
    assert not latin_words(browser.execute_script(_STATE), ["tanaka"])
    unfold = browser.find_element(By.ID, "unfold")
    before = unfold.text
    unfold.click()
    assert not latin_words(before + unfold.text)
    assert unfold.text != before


@pytest.mark.parametrize("members", [True, False])
def test_members_are_printed_or_not(browser: Chrome, files: Path, members: bool) -> None:
    opened(browser, files / "changed.html")
    if not members:
        browser.find_element(By.ID, "print-members").click()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = "return [...document.querySelectorAll('.members td')].some(one => one.checkVisibility())"
    assert browser.execute_script(shown) is members
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"]).startswith(b"%PDF")


def test_what_is_far_from_the_screen_is_not_laid_out(browser: Chrome, files: Path) -> None:
    opened(browser, files / "many.html")
    far = "document.querySelector('#groups > tbody:nth-of-type(700)')"
    painted = f"return {far}.querySelector('bdi').checkVisibility({{contentVisibilityAuto: true}})"
    assert browser.execute_script(painted) is False
    assert browser.execute_script(f"return {far}.getAttribute('role')") is None
    browser.execute_script(f"{far}.scrollIntoView()")
    until(browser, f"return {far}.getAttribute('role')", "rowgroup")
    assert browser.execute_script(f"return {far}.rows[0].cells[0].getAttribute('role')") == "rowheader"


def test_a_librarys_page_leads_to_the_index_and_back(browser: Chrome, files: Path) -> None:
    opened(browser, files / "libraries" / "latest" / "BR1.html")
    browser.find_element(By.LINK_TEXT, "All libraries").click()
    until(browser, "return location.pathname.split('/').pop()", "index.html")
    assert len(browser.window_handles) == 1
    browser.find_element(By.LINK_TEXT, "BR1").click()
    until(browser, "return location.pathname.split('/').pop()", "BR1.html")
