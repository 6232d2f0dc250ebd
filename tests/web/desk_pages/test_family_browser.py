"""Expandable bills and items, the group's history and the statement, in a real browser and in print."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

import pytest
from support.bills_and_items import family_of_six
from support.desk_browser import Desk, Gate, chromium
from support.desk_page import GROUP
from support.follow_ups import draft, save
from support.gateways import gateway_of
from support.web_caller import PASSWORD, served, session, settings_of

from evergreen_groups.client import Client
from evergreen_groups.follow_up import What
from evergreen_groups.report import Criteria, History
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import StatementSettings
from evergreen_groups.settings.sections import DeskSettings
from evergreen_groups.web import close, create_app

pytestmark = pytest.mark.long  # needs a browser

ADAEZE, CHIDI, IFEOMA = 1001, 1002, 1003
LETTER = {"paperWidth": 8.5, "paperHeight": 11}
A4 = {"paperWidth": 8.27, "paperHeight": 11.69}


class Family:
    """A clerk's browser on the pages of a family of six."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.browser = desk.browser
        self.run = desk.run

    def open(self, part: str = "") -> None:
        self.browser.get(f"{self.desk.sandbox.url}{GROUP.format(ADAEZE)}{part}?client=eg2")
        self.desk.until(lambda: self.run("return document.readyState === 'complete'"))

    def link(self, member: int) -> str:
        return f"a[data-unfold][href*='/members/{member}?']"

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def unfold(self, member: int) -> None:
        self.desk.click(self.link(member))
        self.desk.until(lambda: self.expanded(member) == "true")

    def expanded(self, member: int) -> str:
        return str(self.desk.element(self.link(member)).get_attribute("aria-expanded"))

    def pages_of(self, paper: dict[str, float]) -> int:
        """Return the number of printed pages."""
        answer = self.browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, **paper})
        return len(re.findall(rb"/Type\s*/Page\b(?!s)", base64.b64decode(answer["data"])))


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    directory = tmp_path_factory.mktemp("family")
    environ = {f"{name}_DIRECTORY": str(directory / name.lower()) for name in ("STATE", "CACHE")}
    environ["EVERGREEN_GROUPS_PASSWORD"] = PASSWORD
    with Sandbox() as sandbox, chromium() as browser:
        family_of_six(sandbox)
        settings = replace(
            settings_of(sandbox.url, desk=DeskSettings(titles="juveniles")),
            statement=StatementSettings(adults=True, text="We are open on Sundays as well."),
        )
        app = create_app(settings, environ)
        record_nights(sandbox, app.extensions["evergreen-groups"].state, directory)
        gate = Gate(app)
        with served(gate) as url:
            desk = Desk(browser, sandbox, gate, url)
            desk.log_in(session(sandbox.url, username="consortium_staff"))
            yield Family(desk)
        close(app)


def record_nights(sandbox: Sandbox, state: object, directory: Path) -> None:
    with gateway_of(sandbox.url, "consortium_staff") as gateway:
        report = Client(gateway, account="x").report(Criteria())
        history = History(state.database, gateway.url)  # type: ignore[attr-defined]  # of the service
        for night in range(4):
            groups = report.groups if night != 1 else ()
            at = datetime.now(UTC) - timedelta(days=4 - night)
            history.record(replace(report, groups=groups, generated_at=at))
        note = "Wants to pay in two parts: half of it now, and the rest as soon as the tax refund has arrived. " * 3
        fields = {"remind_on": datetime.now(UTC).date() + timedelta(7), "note": note.strip()}
        save(state, draft(ADAEZE, What.PROMISED, **fields), url=gateway.url)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def as_it_was(family: Family) -> Iterator[None]:
    yield
    for command, options in (
        ("Emulation.setScriptExecutionDisabled", {"value": False}),
        ("Emulation.clearDeviceMetricsOverride", {}),
        ("Emulation.setEmulatedMedia", {"media": "", "features": []}),
    ):
        family.browser.execute_cdp_cmd(command, options)


def test_members_unfold_and_fold(family: Family) -> None:
    family.open()
    family.unfold(IFEOMA)
    family.unfold(CHIDI)
    assert family.run("return document.querySelectorAll('.unfolded').length") == 2
    row = "tr:has([href*='/members/1003?']) + .unfolded"
    assert "Feathers, fins and fur <a field book>" in family.text(row)
    assert "Title" not in family.text("tr:has([href*='/members/1002?']) + .unfolded")
    family.desk.until(lambda: "Details of Okonkwo, Chidi" in family.text("#live"))
    family.desk.click(family.link(IFEOMA))
    assert family.expanded(IFEOMA) == "false"
    assert family.text(row) == ""
    assert family.run("return document.querySelectorAll('[id]').length === new Set([...document.querySelectorAll('[id]')].map((one) => one.id)).size")  # fmt: skip  # noqa: E501


def test_two_clicks_while_it_is_read_unfold_once(family: Family) -> None:
    family.open()
    family.run("const link = document.querySelector(arguments[0]); link.click(); link.click()", family.link(CHIDI))
    family.desk.until(lambda: family.expanded(CHIDI) == "true")
    assert family.run("return document.querySelectorAll('.unfolded').length") == 1


def test_a_session_that_ended_meanwhile_is_said(family: Family) -> None:
    family.open()
    cookie = family.browser.get_cookie("eg.auth.token")
    try:
        family.run("window.stays = 1; document.cookie = 'eg.auth.token=%22' + '0'.repeat(32) + '%22; path=/'")
        family.desk.click(family.link(CHIDI))
        family.desk.until(lambda: "Your session has ended" in family.text("h1"))
    finally:
        family.browser.add_cookie({"name": "eg.auth.token", "value": cookie["value"], "path": "/"})


def test_without_a_script_it_is_a_page(family: Family) -> None:
    family.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    family.browser.get(f"{family.desk.sandbox.url}{GROUP.format(ADAEZE)}?client=eg2")
    family.desk.until(lambda: "Okonkwo, Chidi" in family.browser.page_source)
    family.desk.element(family.link(CHIDI)).click()
    family.desk.until(lambda: "Open bills" in family.browser.page_source)
    assert "Photocopies" in family.browser.page_source


def test_headings_of_bills_stay_whole_beside_a_long_title(family: Family) -> None:
    family.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1024, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    family.open()
    family.unfold(IFEOMA)
    broken = family.run(
        "const title = document.querySelector('.unfolded .lines td[data-label=Title] bdi');"
        "title.textContent = 'An analytical study of well-known concertos from Mozart to the present day '.repeat(3);"
        "return [...document.querySelectorAll('.unfolded .lines thead th')].filter((heading) => {"
        "  const range = document.createRange(); range.selectNodeContents(heading);"
        "  return range.getClientRects().length > 1 }).map((heading) => heading.textContent)"
    )
    assert broken == []


def the_list_unfolded(family: Family) -> None:
    family.open()
    family.unfold(IFEOMA)
    family.unfold(CHIDI)
    family.run("document.querySelector('.trend').open = true")


STATES: dict[str, Callable[[Family], None]] = {
    "list": the_list_unfolded,
    "history": lambda family: family.open("/history"),
    "member": lambda family: family.open(f"/members/{IFEOMA}"),
    "statement": lambda family: family.open("/statement"),
}


@pytest.mark.parametrize("name", STATES)
def test_axe_finds_nothing_and_nothing_sticks_out(family: Family, name: str) -> None:
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    for mode, width in (("light", 1280), ("dark", 1280), ("light", 1024), ("dark", 390), ("light", 320)):
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        family.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        family.run("localStorage.setItem('eg.ui.general.colormode', arguments[0])", json.dumps(mode))
        STATES[name](family)  # the roles for small screens are set on load
        family.run(axe)
        found = family.browser.execute_async_script(
            "const done = arguments[0]; const sheets = document.getAnimations().map((one) => one.finished);"
            "Promise.all(sheets).then(() => axe.run()).then(done)"
        )
        assert [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found["violations"]] == []
        assert family.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth"), width
    family.run("localStorage.clear()")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_follow_up_is_in_view_and_leads_to_its_history(family: Family, width: int) -> None:
    screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    family.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    family.open()
    assert " · Promised to pay" in family.text(".follow-up")
    assert family.run("return document.querySelector('.follow-up').getBoundingClientRect().bottom < 400")
    family.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert family.run("return document.querySelector('.follow-up').checkVisibility()")
    family.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    family.desk.click(".follow-up a")
    family.desk.until(lambda: "in two parts" in family.text("#follow-up + .entry"))
    assert family.run("return document.querySelector('#follow-up').getBoundingClientRect().top < innerHeight")


@pytest.mark.parametrize("paper", [LETTER, A4], ids=["letter", "a4"])
def test_the_statement_of_a_family_of_six_is_one_sheet(family: Family, paper: dict[str, float]) -> None:
    family.open("/statement")
    assert len(family.run("return [...document.querySelectorAll('.on-sheet')].map((one) => one.innerText)")) == 7
    assert family.pages_of(paper) == 1
    family.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not family.run("return [...document.querySelectorAll('nav, footer')].some((node) => node.offsetParent)")
