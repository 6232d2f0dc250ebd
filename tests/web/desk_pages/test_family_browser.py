"""Expandable bills and items, the group's history and the statement, in a real browser and in print."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.bills_and_items import family_of_six
from support.desk_browser import look
from support.follow_ups import draft, save
from support.gateways import gateway_of
from support.page_desk import PageDesk
from support.printed_pages import sheets_of, words_of

from evergreen_groups.client import Client
from evergreen_groups.follow_up import What
from evergreen_groups.report import Criteria, History
from evergreen_groups.settings import StatementSettings
from evergreen_groups.settings.sections import DeskSettings

pytestmark = pytest.mark.long  # needs a browser

ADAEZE, CHIDI, IFEOMA = 1001, 1002, 1003
LETTER = {"paperWidth": 8.5, "paperHeight": 11}
A4 = {"paperWidth": 8.27, "paperHeight": 11.69}
RECEIPT = {"paperWidth": 3.15, "paperHeight": 30}


def opened(family: PageDesk, part: str = "") -> None:
    family.open(ADAEZE, part)
    family.until(family.loaded)


def link(member: int) -> str:
    return f"a[data-unfold][href*='/members/{member}?']"


def unfold(family: PageDesk, member: int) -> None:
    family.desk.click(link(member))
    family.until(lambda: expanded(family, member) == "true")


def expanded(family: PageDesk, member: int) -> str:
    return str(family.desk.element(link(member)).get_attribute("aria-expanded"))


@pytest.fixture
def family(page: PageDesk) -> PageDesk:
    """A clerk's browser on the pages of a family of six."""
    family_of_six(page.sandbox)
    statement = StatementSettings(adults=True, text="We are open on Sundays as well.")
    page.serve(desk=DeskSettings(titles="juveniles"), statement=statement)
    state = page.desk.gate.app.extensions["evergreen-groups"].state
    with gateway_of(page.sandbox.url, "consortium_staff") as gateway:
        report = Client(gateway, account="x").report(Criteria())
        history = History(state.database, gateway.url)
        for night in range(4):
            groups = report.groups if night != 1 else ()
            at = datetime.now(UTC) - timedelta(days=4 - night)
            history.record(replace(report, groups=groups, generated_at=at))
        note = "Wants to pay in two parts: half of it now, and the rest as soon as the tax refund has arrived. " * 3
        fields = {"remind_on": datetime.now(UTC).date() + timedelta(7), "note": note.strip()}
        save(state, draft(ADAEZE, What.PROMISED, **fields), url=gateway.url)
    return page


def test_members_unfold_and_fold(family: PageDesk) -> None:
    opened(family)
    unfold(family, IFEOMA)
    unfold(family, CHIDI)
    assert family.run("return document.querySelectorAll('.unfolded').length") == 2
    row = "tr:has([href*='/members/1003?']) + .unfolded"
    assert "Feathers, fins and fur <a field book>" in family.text(row)
    assert "Title" not in family.text("tr:has([href*='/members/1002?']) + .unfolded")
    family.desk.until(lambda: "Details of Okonkwo, Chidi" in family.text("#live"))
    family.desk.click(link(IFEOMA))
    assert expanded(family, IFEOMA) == "false"
    assert family.text(row) == ""
    assert family.run("return document.querySelectorAll('[id]').length === new Set([...document.querySelectorAll('[id]')].map((one) => one.id)).size")  # fmt: skip  # noqa: E501


def test_two_clicks_while_it_is_read_unfold_once(family: PageDesk) -> None:
    opened(family)
    family.run("const link = document.querySelector(arguments[0]); link.click(); link.click()", link(CHIDI))
    family.desk.until(lambda: expanded(family, CHIDI) == "true")
    assert family.run("return document.querySelectorAll('.unfolded').length") == 1


def test_a_session_that_ended_meanwhile_is_said(family: PageDesk) -> None:
    opened(family)
    family.run("window.stays = 1; document.cookie = 'eg.auth.token=%22' + '0'.repeat(32) + '%22; path=/'")
    family.desk.click(link(CHIDI))
    family.desk.until(lambda: "Your session has ended" in family.text("h1"))


def test_headings_of_bills_stay_whole_beside_a_long_title(family: PageDesk) -> None:
    look(family.browser, 1024)
    opened(family)
    unfold(family, IFEOMA)
    broken = family.run(
        "const title = document.querySelector('.unfolded .lines td[data-label=Title] bdi');"
        "title.textContent = 'An analytical study of well-known concertos from Mozart to the present day '.repeat(3);"
        "return [...document.querySelectorAll('.unfolded .lines thead th')].filter((heading) => {"
        "  const range = document.createRange(); range.selectNodeContents(heading);"
        "  return range.getClientRects().length > 1 }).map((heading) => heading.textContent)"
    )
    assert broken == []


def test_axe_finds_nothing_and_nothing_sticks_out(family: PageDesk) -> None:
    for mode, width in (("light", 1280), ("dark", 1280), ("light", 1024), ("dark", 390), ("light", 320)):
        look(family.browser, width)
        family.desk.dark(mode)
        opened(family)  # the roles for small screens are set on load
        unfold(family, IFEOMA)
        unfold(family, CHIDI)
        family.run("document.querySelector('.trend').open = true")
        assert family.desk.flaws() == [], (mode, width)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_follow_up_is_in_view_and_leads_to_its_history(family: PageDesk, width: int) -> None:
    look(family.browser, width, height=844)
    opened(family)
    assert " · Promised to pay" in family.text(".follow-up")
    assert family.run("return document.querySelector('.follow-up').getBoundingClientRect().bottom < 400")
    look(family.browser, width, height=844, medium="print")
    assert family.run("return document.querySelector('.follow-up').checkVisibility()")
    look(family.browser, width, height=844)
    family.desk.click(".follow-up a")
    family.desk.until(lambda: "in two parts" in family.text("#follow-up + .entry"))
    assert family.run("return document.querySelector('#follow-up').getBoundingClientRect().top < innerHeight")


@pytest.mark.parametrize("paper", [LETTER, A4], ids=["letter", "a4"])
def test_the_statement_of_a_family_of_six_is_one_sheet(family: PageDesk, paper: dict[str, float]) -> None:
    opened(family, "/statement")
    assert len(family.run("return [...document.querySelectorAll('.on-sheet')].map((one) => one.innerText)")) == 7
    printed = family.browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, **paper})
    assert sheets_of(base64.b64decode(printed["data"])) == 1
    look(family.browser, 1280, medium="print")
    assert not family.run("return [...document.querySelectorAll('nav, footer')].some((node) => node.offsetParent)")


@pytest.mark.parametrize("language", ["en-US", "fr-CA", "es-ES", "cs-CZ"])
@pytest.mark.parametrize(("paper", "margin"), [(RECEIPT, 4), (LETTER, 12), (A4, 12)], ids=["receipt", "letter", "a4"])
def test_the_slip_fits_its_paper(family: PageDesk, paper: dict[str, float], margin: int, language: str) -> None:
    family.desk.speak(language)
    opened(family, "/slip")
    printed = base64.b64decode(family.browser.execute_cdp_cmd("Page.printToPDF", {**paper})["data"])
    words, points = words_of(printed), 72 / 25.4
    assert {word.sheet for word in words} == {0}
    assert min(word.left for word in words) == pytest.approx(margin * points, abs=2)
    assert max(word.right for word in words) <= paper["paperWidth"] * 72 - margin * points + 1
