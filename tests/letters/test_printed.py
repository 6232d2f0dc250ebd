"""Letters on paper, printed by Chromium: a sheet each, the address in the window, and nothing else there."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from selenium.webdriver import Chrome
from support.bills_and_items import bill
from support.desk_browser import chromium
from support.letters import FAMILY, LEAD, change, document_of, library_address, of_family, read_for
from support.printed_pages import sheets_of, words_of

from evergreen_groups.letters import Letters
from evergreen_groups.report import Criteria, Report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings.sections import LanguageSettings, LetterSettings

pytestmark = pytest.mark.long


class Paper(NamedTuple):
    """Lengths in millimeters: the page, its margins, and rectangles as left, top, right and bottom.

    The window shows ``always`` wherever the sheet slides to, and ``perhaps`` somewhere.
    """

    box: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    always: tuple[float, float, float, float]
    perhaps: tuple[float, float, float, float]


def _inches(*lengths: float) -> Any:
    return tuple(25.4 * length for length in lengths)


PAPERS = {
    # The field of DIN 5008, form B; in a C6/5 envelope (229 mm by 114 mm), the sheet slides 9 mm down and 19 mm right.
    "din": Paper("594.95996 841.91998", 210, 297, 25, 20, 15, 20, (20, 45, 105, 90), (1, 45, 110, 99)),
    # 11 in folded in three in an envelope of 9.5 in by 4.125 in; the window is 4.5 in by 1.125 in.
    "us10": Paper(
        "612 792",
        *_inches(8.5, 11, 1, 1, 0.5, 0.75),
        _inches(0.875, 2.5, 4.375, 3.1667),
        _inches(-0.125, 2.0417, 5.375, 3.625),
    ),
}
EVERY = Criteria()
LANGUAGES = ("en", "fr-CA", "es", "cs")
_RECTANGLES = """
const sheet = document.querySelector("article"), origin = sheet.getBoundingClientRect();
const texts = document.createTreeWalker(sheet, NodeFilter.SHOW_TEXT), found = [];
while (texts.nextNode()) {
  const range = document.createRange();
  range.selectNodeContents(texts.currentNode);
  for (const one of range.getClientRects()) {
    const inside = Boolean(texts.currentNode.parentElement.closest(".window"));
    const name = Boolean(texts.currentNode.parentElement.closest("address"));
    if (texts.currentNode.textContent.trim()) {
      const edges = [one.left - origin.left, one.top - origin.top, one.right - origin.left, one.bottom - origin.top];
      found.push([inside, name, ...edges]);
    }
  }
}
return found;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as browser:
        yield browser


def page(directory: Path, report: Report, made: Letters, envelope: str, language: str = "en") -> Path:
    path = directory / f"{envelope}-{language}.html"
    settings = LetterSettings(envelope), LanguageSettings(default=language, timezone="UTC")
    path.write_text(document_of(report, made, *settings), "utf-8")
    return path


def printed(browser: Chrome, file: Path) -> bytes:
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.get(file.as_uri())
    return base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])


def test_500_families_are_500_sheets(browser: Chrome, tmp_path: Path) -> None:
    with Sandbox(patrons=60_000) as running:
        report, made = read_for(running, Criteria(top=1000), running.report_account[0])
    # A school in the sample data has 59 pupils who owe something, which fill five sheets.
    families = [letter for letter in made.letters if len(letter.statement.members) < 12]
    made = replace(made, letters=tuple(families[:500]))
    assert len(made.letters) == 500
    for envelope, paper in PAPERS.items():
        document = printed(browser, page(tmp_path, report, made, envelope))
        assert sheets_of(document) == 500
        assert set(re.findall(rb"/MediaBox \[0 0 ([\d. ]+)\]", document)) == {paper.box.encode()}


@pytest.mark.parametrize("envelope", PAPERS)
def test_a_long_letter_has_more_sheets_and_the_next_begins_on_a_new_one(
    sandbox: Sandbox, browser: Chrome, tmp_path: Path, envelope: str
) -> None:
    for number in range(40):
        bill(sandbox, LEAD, "1.00", kind=f"Kind {number}")
    report, made = read_for(sandbox, EVERY)
    assert FAMILY in [letter.group for letter in made.letters]
    document = printed(browser, page(tmp_path, report, made, envelope))
    assert sheets_of(document) == len(made.letters) + 1


@pytest.mark.parametrize("envelope", PAPERS)
def test_the_margins_are_empty(sandbox: Sandbox, browser: Chrome, tmp_path: Path, envelope: str) -> None:
    for number in range(40):
        bill(sandbox, LEAD, "1.00", kind=f"Kind {number} {'x' * 120}")
    change(sandbox, LEAD, first_given_name="Maximiliana " * 12)
    library_address(sandbox, street2="Suite 1200, Building C, Lower Harbor " * 4)
    report, made = read_for(sandbox, EVERY)
    words = words_of(printed(browser, page(tmp_path, report, made, envelope)))
    assert {word.sheet for word in words} > set(range(len(made.letters)))
    paper, allowed = PAPERS[envelope], 0.5  # italic and rounded letters
    for word in words:
        left, top, right, bottom = (edge * 25.4 / 72 for edge in word[2:])
        assert left >= paper.left - allowed, word
        assert top >= paper.top - allowed, word
        assert right <= paper.width - paper.right + allowed, word
        assert bottom <= paper.height - paper.bottom + allowed, word
    # The text uses the page: its margins are these, and no larger ones.
    assert min(word.left for word in words) * 25.4 / 72 < paper.left + 1
    assert max(word.right for word in words) * 25.4 / 72 > paper.width - paper.right - 1


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("envelope", PAPERS)
@pytest.mark.parametrize("long", [False, True])
def test_the_window_shows_the_address_and_nothing_else(
    sandbox: Sandbox, browser: Chrome, tmp_path: Path, envelope: str, language: str, *, long: bool
) -> None:
    street2 = "Suite 1200, Building C, Lower Harbor" if long else None
    library_address(sandbox, street2=street2, country="Canada")
    if long:
        change(sandbox, LEAD, first_given_name="Maximiliana Theodora", family_name="Castellanos-Whitfield-Okonkwo")
        sandbox._store.update("aua", 1001, {"street2": "apt. 12 B, second staircase"})
    report, made = read_for(sandbox, EVERY)
    letter = of_family(made)
    browser.get(page(tmp_path, report, replace(made, letters=(letter,)), envelope, language).as_uri())
    paper = PAPERS[envelope]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    width = round((paper.width - paper.left - paper.right) * 96 / 25.4)
    size = {"width": width, "height": 2000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    found = []
    for in_window, in_address, *edges in browser.execute_script(_RECTANGLES):
        left, top, right, bottom = (edge * 25.4 / 96 for edge in edges)
        found.append(
            (in_window, in_address, left + paper.left, top + paper.top, right + paper.left, bottom + paper.top)
        )
    assert sum(in_address for _, in_address, *_ in found) >= 4
    for in_window, in_address, left, top, right, bottom in found:
        # Lines of text are higher than their letters.
        if in_address:
            assert left >= paper.always[0], envelope
            assert top >= paper.always[1] - 0.5
            assert right <= paper.always[2]
            assert bottom <= paper.always[3] + 0.5
        elif not in_window:
            apart = right <= paper.perhaps[0] or left >= paper.perhaps[2]
            assert apart or bottom <= paper.perhaps[1] or top >= paper.perhaps[3], (left, top, right, bottom)
