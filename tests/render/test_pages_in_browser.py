"""The pages of report and audit in a real browser, from files: what their script does, at each width, and on paper."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait
from support.audit_samples import sample_audit
from support.desk_browser import chromium, look
from support.printed_pages import sheets_of
from support.rendered import latin_words
from support.report_samples import ORG_UNITS, blocked_report, changed_report, detailed, full_report, large_report

from evergreen_groups.follow_up import FollowUpState, FollowUpStatus
from evergreen_groups.language import Language, price, use_language
from evergreen_groups.language.language import PSEUDO
from evergreen_groups.nightly.output import publish
from evergreen_groups.render import StaffClient
from evergreen_groups.render.audit import render_audit
from evergreen_groups.render.report import LetterOptions, WorklistRow, WrittenPage, html_letter, render
from evergreen_groups.report import Criteria

pytestmark = pytest.mark.long

CLIENT = StaffClient(url="https://ils.example")
_SHOWN = "return [...document.querySelectorAll('#groups > tbody')].filter(one => one.checkVisibility()).length"
_STATE = "return document.getElementById('shown').textContent"
_NAMES = "return [...document.querySelectorAll('#groups > tbody > tr:first-child bdi')].map(one => one.textContent)"
_IN_ORDER = "return arguments[0].toSorted(new Intl.Collator('en', {numeric: true}).compare)"
_NUMBERS = "return [...document.querySelectorAll('#groups > tbody > tr:first-child > th')].map(one => one.textContent)"
_NUMBERS_SHOWN = _NUMBERS.replace("tbody", "tbody:not([hidden])")
_ACTS = {
    "": "",
    "beforeprint": "dispatchEvent(new Event('beforeprint'))",
    "submit": "document.body.dispatchEvent(new Event('submit'))",
    "input": "document.getElementById('find').dispatchEvent(new Event('input'))",
    "unfold": "document.getElementById('unfold').click()",
    "sort": "document.querySelector('#groups > thead button').click()",
}
_TOO_WIDE = """
return [...document.querySelectorAll(".findings :is(th, td, code)")]
  .filter((cell) => cell.scrollWidth > cell.clientWidth + 1 && getComputedStyle(cell).display !== "inline")
  .map((cell) => cell.textContent);
"""
_CHOOSE = """
const list = document.getElementById(arguments[0]);
list.value = arguments[1];
list.dispatchEvent(new Event("change"));
"""


_BROKEN = """
const amount = document.querySelectorAll(".sums dd")[1];
amount.textContent = arguments[0];
const text = document.createRange();
text.selectNodeContents(amount);
return text.getClientRects().length > 1;
"""
_CUT_OFF = """
return [...document.querySelectorAll(".tools > select:not([hidden])")].filter((list) => {
  const alone = list.cloneNode();
  alone.append(list.selectedOptions[0].cloneNode(true));
  alone.style = "flex: none; min-width: max-content; max-width: none";
  list.after(alone);
  const needed = alone.getBoundingClientRect().width;
  alone.remove();
  return list.getBoundingClientRect().width < needed - 1;
}).map((list) => list.selectedOptions[0].textContent);
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pages")
    reports = {
        "blocked": blocked_report(),
        "changed": changed_report(),
        "detailed": detailed(),
        "many": large_report(800),
        "full": full_report(747),
        "contact": full_report(12, contact=True),
    }
    for name, report in reports.items():
        with (directory / f"{name}.html").open("w", encoding="utf-8") as stream:
            render(report, "html", stream, client=CLIENT)
    for name, language in {"pseudo": Language(PSEUDO), "french": Language("fr-CA", "CAD")}.items():
        with use_language(language), (directory / f"{name}.html").open("w", encoding="utf-8") as stream:
            render(changed_report(), "html", stream, client=CLIENT)
    for name, times in {"audit": 3, "long-audit": 500}.items():
        with (directory / f"{name}.html").open("w", encoding="utf-8") as stream:
            render_audit(sample_audit(times), "html", stream, client=CLIENT)
    placed = replace(changed_report(), org_units=ORG_UNITS, criteria=Criteria())
    publish(placed, directory / "libraries", client=CLIENT)
    return directory


def opened(browser: Chrome, page: Path, width: int = 1280, colours: str = "light") -> None:
    look(browser, width, colours, mobile=width < 500)
    browser.get(page.as_uri())


@contextmanager
def without_scripts(browser: Chrome) -> Iterator[None]:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def until(browser: Chrome, script: str, expected: Any) -> None:
    WebDriverWait(browser, 60).until(lambda _: browser.execute_script(script) == expected)


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (768, "light"), (390, "light"), (1280, "dark")])
@pytest.mark.parametrize(
    "name",
    [
        *("blocked", "changed", "detailed", "contact", "libraries/latest/BR1", "libraries/latest/index"),
        *("pseudo", "french", "audit"),
    ],
)
def test_axe_finds_nothing_and_nothing_sticks_out(
    browser: Chrome, files: Path, name: str, width: int, colours: str
) -> None:
    opened(browser, files / f"{name}.html", width, colours)
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    # The audit's cards are laid out when they come near the screen.
    cards = "document.querySelectorAll('.findings > tbody')"
    browser.execute_script(f"for (const one of {cards}) one.style.contentVisibility = 'visible'")
    browser.execute_script(resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8"))
    found = browser.execute_async_script("const done = arguments[0]; axe.run().then(done)")
    assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
    page = "document.documentElement"
    assert browser.execute_script(f"return {page}.scrollWidth - {page}.clientWidth") == 0
    assert browser.execute_script(_TOO_WIDE) == []


_BROKEN_HEADINGS = """
  const broken = [];
  for (const head of document.querySelectorAll("#groups > thead th")) {
    const texts = document.createTreeWalker(head, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      for (const word of texts.currentNode.data.matchAll(/[^\\s-]+/g)) {
        const range = new Range();
        range.setStart(texts.currentNode, word.index);
        range.setEnd(texts.currentNode, word.index + word[0].length);
        if (new Set([...range.getClientRects()].map((part) => part.top)).size > 1) broken.push(word[0]);
      }
    }
  }
  return broken"""
"""The words of a report's headings that go on in the next line."""


LANGUAGES = [Language(), Language("fr-CA", "CAD"), Language("es"), Language("cs", "CZK")]


@pytest.mark.parametrize("is_served", [False, True])
@pytest.mark.parametrize("language", LANGUAGES)
def test_in_each_language_the_list_begins_on_the_first_screen_and_nothing_sticks_out(
    browser: Chrome, tmp_path: Path, language: Language, is_served: bool
) -> None:
    report = full_report(60, contact=True)
    page = tmp_path / "page.html"
    with use_language(language):
        with page.open("w", encoding="utf-8") as stream:
            render(report, "html", stream, client=CLIENT)
        if is_served:
            row = WorklistRow(FollowUpState(FollowUpStatus.TO_DO, None), may_write=True)
            rows = {group.number: row for group in report.groups}
            written = WrittenPage(page.read_text("utf-8"))
            served = written.filled(rows, action="save", letters="letters", place={}, script="script.js")
            page.write_text(served, "utf-8")
    for width in (390, 800, 1000, 1280):
        opened(browser, page, width)
        assert browser.execute_script("return document.querySelectorAll('#status').length") == is_served
        top = "return document.querySelector('#groups > tbody > tr').getBoundingClientRect().top"
        most = {390: 700, 1280: 420}.get(width, 700)
        assert browser.execute_script(top) < most
        assert browser.execute_script(_BROKEN_HEADINGS) == [], width
        element = "document.documentElement"
        assert browser.execute_script(f"return {element}.scrollWidth - {element}.clientWidth") == 0, width
        assert browser.execute_script(_CUT_OFF) == [], width
        with use_language(language):
            amount = price(Decimal("1272398.08"))
        assert not browser.execute_script(_BROKEN, amount), width


def test_it_finds_filters_and_sorts_without_a_server(browser: Chrome, files: Path) -> None:
    opened(browser, files / "many.html")
    until(browser, _SHOWN, 800)
    search = browser.find_element(By.ID, "find")
    search.send_keys("garcia")  # the accent is left out
    until(browser, "return document.getElementById('shown').hidden", False)
    until(browser, "return document.getElementById('shown').textContent.includes('garcia')", True)
    count = browser.execute_script(_SHOWN)
    assert 0 < count < 800
    assert browser.execute_script(_STATE).startswith(f"Shown: {count} of 800")
    browser.execute_script(_CHOOSE, "at", "BR1")
    until(browser, "return document.getElementById('shown').textContent.includes('; BR1')", True)
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
    assert browser.execute_script(_STATE) == "Shown: 1 of 5; Group Fines: $29.00; new"
    assert browser.execute_script("return document.querySelector('#groups > tfoot').hidden")


def test_the_sum_is_in_the_pages_language_and_columns_sort_by_number(browser: Chrome, files: Path) -> None:
    opened(browser, files / "french.html")
    browser.execute_script(_CHOOSE, "only", "worse")
    until(browser, _SHOWN, 1)
    state = browser.execute_script(_STATE)
    assert "1\N{NO-BREAK SPACE}289,35\N{NO-BREAK SPACE}$" in state
    for name in ("french", "pseudo", "changed"):
        opened(browser, files / f"{name}.html")
        for place, numbers in (
            (9, ["2240", "902", "85", "31007", "1187"]),
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


def test_a_line_a_group_until_it_is_unfolded(browser: Chrome, files: Path) -> None:
    opened(browser, files / "full.html")
    height = "return document.querySelector('#groups > tbody:nth-of-type(3)').offsetHeight"
    table = "return document.querySelectorAll('#groups details table').length"
    opened_ = "return document.querySelectorAll('#groups details[open]').length"
    assert browser.execute_script(height) < 60
    assert browser.execute_script(table) < 300, "of the rest, elements are made near the screen only"
    browser.find_element(By.CSS_SELECTOR, "#groups > tbody:nth-of-type(3) > tr > td:nth-child(4)").click()
    until(browser, opened_, 1)
    assert browser.execute_script(height) > 100
    role = "return document.querySelector('#groups details table').getAttribute('role')"
    assert browser.execute_script(role) == "table"
    browser.find_element(By.CSS_SELECTOR, "#groups > tbody:nth-of-type(4) summary").send_keys(Keys.ENTER)
    until(browser, opened_, 2)
    browser.find_element(By.CSS_SELECTOR, "#groups > tbody:nth-of-type(4) summary").send_keys(Keys.SPACE)
    until(browser, opened_, 1)
    browser.find_element(By.ID, "unfold").click()
    until(browser, table, 747)


def test_what_is_folded_is_found(browser: Chrome, files: Path) -> None:
    opened(browser, files / "full.html")
    search = browser.find_element(By.ID, "find")
    search.send_keys("29999000001002")  # a member's who isn't the lead
    until(browser, _SHOWN, 1)
    assert browser.execute_script(_NUMBERS_SHOWN) == ["1"]
    opened(browser, files / "changed.html")
    browser.find_element(By.ID, "find").send_keys("o'malley, fionn")  # escaped in the page's text
    until(browser, _SHOWN, 1)
    assert browser.execute_script(_NUMBERS_SHOWN) == ["2240"]


def test_groups_are_chosen_by_what_they_owe_for_and_sorted_by_day(browser: Chrome, files: Path) -> None:
    opened(browser, files / "full.html")
    kinds = Select(browser.find_element(By.ID, "kind"))
    kinds.select_by_visible_text("Photocopies")
    until(browser, "return document.getElementById('shown').hidden", False)
    assert browser.execute_script(_STATE).endswith("; Photocopies")
    assert 0 < browser.execute_script(_SHOWN) < 747
    kinds.select_by_index(0)
    until(browser, _SHOWN, 747)
    days = "return [...document.querySelectorAll('#groups > tbody > tr:first-child > td:nth-child(9)')]"
    numbers = f"{days}.map((cell) => Number(cell.dataset.value))"
    browser.find_element(By.CSS_SELECTOR, "#groups > thead th:nth-child(9) button").click()
    assert browser.execute_script(numbers) == sorted(browser.execute_script(numbers))


def test_groups_are_chosen_by_how_long_they_have_owed(browser: Chrome, files: Path) -> None:
    opened(browser, files / "full.html")
    bands = Select(browser.find_element(By.ID, "age"))
    words = bands.options[-1].text
    bands.select_by_index(len(bands.options) - 1)
    until(browser, "return document.getElementById('shown').hidden", False)
    assert browser.execute_script(_STATE).endswith(f"; {words}")
    assert f": {browser.execute_script(_SHOWN)} groups (" in words
    assert 0 < browser.execute_script(_SHOWN) < 747


def test_the_person_to_contact_is_a_click_away(browser: Chrome, files: Path) -> None:
    opened(browser, files / "contact.html")
    browser.find_element(By.CSS_SELECTOR, "#groups > tbody:nth-of-type(1) summary").send_keys(Keys.ENTER)
    until(browser, "return document.querySelectorAll('#groups [open] .contact').length", 1)
    links = browser.find_elements(By.CSS_SELECTOR, "#groups [open] .contact a")
    assert [link.get_attribute("href").partition(":")[0] for link in links] == ["tel", "mailto"]
    assert all(link.is_displayed() and link.get_attribute("target") == "_self" for link in links)


def test_a_long_lists_first_groups_are_there_at_once_and_the_rest_soon(browser: Chrome, files: Path) -> None:
    opened(browser, files / "full.html")
    until(browser, "return document.querySelectorAll('#groups > tbody').length", 747)
    numbers = browser.execute_script(_NUMBERS)
    with without_scripts(browser):
        opened(browser, files / "full.html")
        groups = browser.find_elements(By.CSS_SELECTOR, "#groups > tbody > tr:first-child > th")
        assert [one.text for one in groups] == numbers
        assert len(browser.find_elements(By.CSS_SELECTOR, "#groups > tfoot")) == 1
        assert groups[200].location["x"] == groups[0].location["x"], "the second table continues the first"


_LISTEN = """
window.said = [];
addEventListener("DOMContentLoaded", () => {
  document.getElementById("find").value = "a";
  const shown = document.getElementById("shown");
  new MutationObserver(() => said.push(shown.textContent)).observe(shown, { childList: true });
});
"""


def test_a_list_that_is_still_loading_does_not_say_how_much_it_shows(browser: Chrome, files: Path) -> None:
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _LISTEN})
    try:
        opened(browser, files / "full.html")
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    until(browser, "return document.querySelectorAll('#groups > tbody').length", 747)
    until(browser, f"{_STATE}.includes(' of ')", True)
    *loading, complete = browser.execute_script("return said")
    assert set(loading) == {"Loading …; a"}
    assert " of 747; Group Fines: " in complete


@pytest.mark.parametrize("act", ["", "beforeprint", "submit", "input", "unfold", "sort"])
def test_who_does_not_wait_for_the_rest_of_a_long_list_gets_it_too(browser: Chrome, files: Path, act: str) -> None:
    never = "window.setTimeout = () => 0"
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": never})
    try:
        opened(browser, files / "full.html")
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    browser.execute_script(_ACTS[act])
    there = browser.execute_script("return document.querySelectorAll('#groups > tbody').length")
    assert there == (747 if act else 200)
    assert len(browser.find_elements(By.CSS_SELECTOR, "#groups > tfoot")) == bool(act)


@pytest.mark.parametrize("width", [1280, 390])
def test_without_scripts_everything_is_there(browser: Chrome, files: Path, width: int) -> None:
    with without_scripts(browser):
        opened(browser, files / "blocked.html", width)
        fold = browser.find_element(By.CSS_SELECTOR, "#groups summary")
        assert not fold.find_element(By.XPATH, "..//table").is_displayed()
        fold.send_keys(Keys.ENTER)
        table = fold.find_element(By.XPATH, "..//table")
        WebDriverWait(browser, 60).until(lambda _: table.is_displayed())
        assert "Castellanos-Whitfield, Theo" in table.text
        assert "29999000000413" in table.text


def test_on_paper_what_is_unfolded_is_printed_and_the_list_is_short(browser: Chrome, files: Path) -> None:
    opened(browser, files / "full.html")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    paper = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True}
    sheets = sheets_of(base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", paper)["data"]))
    assert sheets <= 20, "747 groups, a line each"
    browser.find_element(By.ID, "unfold").click()
    until(browser, "return document.querySelectorAll('#groups details[open]').length", 747)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = "return [...document.querySelectorAll('.members td td')].filter(one => one.checkVisibility()).length"
    assert browser.execute_script(shown) > 2000
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_what_is_far_from_the_screen_is_not_laid_out(browser: Chrome, files: Path) -> None:
    opened(browser, files / "many.html")
    far = "document.querySelector('#groups > tbody:nth-of-type(700)')"
    until(browser, f"return {far} !== null", True)
    painted = f"return {far}.querySelector('bdi').checkVisibility({{contentVisibilityAuto: true}})"
    assert browser.execute_script(painted) is False
    assert browser.execute_script(f"return {far}.getAttribute('role')") is None
    browser.execute_script(f"{far}.scrollIntoView()")
    until(browser, f"return {far}.getAttribute('role')", "rowgroup")
    assert browser.execute_script(f"return {far}.rows[0].cells[0].getAttribute('role')") == "rowheader"


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_mail_has_what_changed_the_top_ten_and_the_button_also_on_a_phone(
    browser: Chrome, tmp_path: Path, language: Language, names: bool
) -> None:
    address = "https://ils.example/evergreen-groups/reports/latest"
    options = LetterOptions(names=names, links=(("", address),))
    with use_language(language):
        (tmp_path / "mail.html").write_text(html_letter(full_report(40, contact=True), options), "utf-8")
    for width in (1280, 390):
        opened(browser, tmp_path / "mail.html", width)
        parts = ["h1 ~ p strong", ".figures", ".groups", f"a[href='{address}']", ".groups ~ table th[scope=row]"]
        tops = [browser.execute_script(f"return {_TOP}", part) for part in parts]
        assert tops == sorted(tops)
        assert browser.execute_script("return document.querySelectorAll('.groups td:first-child').length") == 10
        page = "document.documentElement"
        assert browser.execute_script(f"return {page}.scrollWidth - {page}.clientWidth") == 0
        assert browser.execute_script(_LINES_OF_AMOUNTS) == [1] * 10


_TOP = "document.querySelector(arguments[0]).getBoundingClientRect().top"
_LINES_OF_AMOUNTS = """
return [...document.querySelectorAll(".groups td:nth-child(4)")].map((cell) => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  return range.getClientRects().length;
});
"""


_FINDINGS = """
return [...document.querySelectorAll("section.kind")].filter((one) => !one.hidden).map((one) => ({
  id: one.querySelector("h2").id,
  count: Number(one.querySelector(".count").textContent.replace(",", "")),
  names: [...one.querySelectorAll(".findings > tbody:not([hidden]) > tr:first-child bdi:first-child")]
    .map((name) => name.textContent),
}));
"""


def chosen(browser: Chrome, selector: str, value: str, event: str) -> list[dict[str, Any]]:
    """Set a tool to a value as a reader does, wait until the page is drawn, and give what is shown."""
    browser.execute_script(
        "const tool = document.querySelector(arguments[0]); tool.value = arguments[1];"
        "tool.dispatchEvent(new Event(arguments[2], { bubbles: true }));",
        selector,
        value,
        event,
    )
    browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))")
    found = browser.execute_script(_FINDINGS)
    assert isinstance(found, list)
    return found


def test_findings_are_sorted_found_and_filtered(browser: Chrome, files: Path) -> None:
    opened(browser, files / "audit.html")
    everything = browser.execute_script(_FINDINGS)
    assert [one["count"] for one in everything] == [21, 1, 3, 1, 3, 3, 3, 6, 3, 3, 3, 3]
    browser.execute_script("document.querySelector('.findings th button').click()")
    assert sorted(everything[0]["names"]) != everything[0]["names"]
    by_name = browser.execute_script(_FINDINGS)
    assert by_name[0]["names"] != everything[0]["names"]
    assert by_name[1:] == everything[1:]
    (found,) = chosen(browser, "#find", "ostergard 20000000001013", "input")
    assert (found["id"], found["count"], len(found["names"])) == ("over-limit-not-blocked", 1, 1)
    status = browser.execute_script("return document.querySelector('#shown').textContent")
    assert status == "Shown: 1 of 53; ostergard 20000000001013"
    chosen(browser, "#find", "", "input")
    (groups,) = chosen(browser, "#only", "accidental-group", "change")
    assert (groups["id"], groups["count"]) == ("accidental-group", 6)
    chosen(browser, "#only", "", "change")
    at_one = chosen(browser, "#at", "BR1", "change")
    assert 0 < sum(one["count"] for one in at_one) < 50
    assert chosen(browser, "#at", "", "change")[1:] == everything[1:]


def test_findings_that_are_shown_are_printed_and_members_on_demand(browser: Chrome, files: Path) -> None:
    opened(browser, files / "audit.html")
    chosen(browser, "#only", "accidental-group", "change")
    look(browser, 1280, medium="print")
    visible = "return [...document.querySelectorAll(arguments[0])].filter((one) => one.offsetParent).length"
    assert browser.execute_script(visible, "section.kind") == 1
    assert browser.execute_script(visible, ".tools") == 0
    assert browser.execute_script(visible, ".members td td") == 0, "what is folded isn't printed"
    look(browser, 1280)
    browser.execute_script("document.querySelector('#unfold').click();")
    look(browser, 1280, medium="print")
    assert browser.execute_script(visible, ".members td td") > 0
    look(browser, 1280)


def test_thousands_of_findings_open_fast(browser: Chrome, files: Path) -> None:
    """Laid out whole they take some ten times as long: a minute on a slow machine."""
    opened(browser, files / "long-audit.html")
    assert sum(one["count"] for one in browser.execute_script(_FINDINGS)) == 8502
    skipped = browser.execute_script(
        "return [...document.querySelectorAll('.findings > tbody')]"
        ".filter((body) => !body.rows[0].cells[0].checkVisibility({ contentVisibilityAuto: true })).length",
    )
    assert skipped > 6_800
    (found,) = chosen(browser, "#find", "20000000002345", "input")
    assert found["count"] == 1
