"""The pages' pictures of the desk and the report, taken of the sandbox in a headless Chromium.

    PYTHONPATH=tests python -m support.pictures [DIRECTORY]
    PYTHONPATH=tests python -m support.pictures --screenshots DIRECTORY

``nox -s pictures`` retakes them. ``inputs.json`` has a digest of each picture's inputs: templates, styles, scripts and
sample data. A test compares the digests with the source, so that no page shows an outdated picture. Pixels aren't
compared, because each version of Chromium draws differently.

With ``--screenshots`` (``nox -s screenshots``), it takes what to look at after a change instead: the report, a
library's part of it, the index of all libraries, the audit, and both demo desks with the panel and the group's tab, in
the width of a screen and of a phone, and in dark colors. Also some pages of the site, if it has been built (``nox -s
site``).
"""

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions as expected
from selenium.webdriver.support.wait import WebDriverWait
from support.desk_browser import CLIENTS, Desk, chromium, desk_of, look
from support.gateways import gateway_of
from support.report_samples import member, owing_more, report_of
from support.repository import REPOSITORY

from evergreen_groups.groups import Group
from evergreen_groups.render import StaffClient
from evergreen_groups.render.report import LetterOptions, html_letter, render
from evergreen_groups.report import Criteria, History, Report, build_report
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.state import State

PICTURES = REPOSITORY / "docs" / "pictures"
RECORD = "inputs.json"
PATRON, CARD = 1015, "20000000001052"
WIDTH, HEIGHT = 1100, 760
SAMPLE_DATA = ("sandbox/data/families.json", "sandbox/data/names.json")
DEMO_DESK = ("sandbox/demo_desk/static/*", "sandbox/demo_desk/templates/*", *SAMPLE_DATA)
PANEL = ("web/static/panel.js", "web/static/group.js", *DEMO_DESK)
GROUP_PAGE = ("web/static/*", "render/templates/desk/*", *DEMO_DESK)
NIGHTS = 9
REPORT_FILES = ("report.html", "report_parts.html", "report_groups.html", "layout.html", "macros.html", "page.*")
REPORT = (*(f"render/templates/{name}" for name in REPORT_FILES), *SAMPLE_DATA)
MADE_FROM = {
    "panel.png": PANEL,
    "move.png": GROUP_PAGE,
    "group-member-details.png": GROUP_PAGE,
    "report.png": REPORT,
    "report-list.png": REPORT,
    "mail.png": ("render/templates/mail.html", *SAMPLE_DATA),
}
"""The pictures, each with the package's templates, styles, scripts and data that it shows."""


PAGES = (
    ("report", "--output", "report.html", "--no-history"),
    ("audit", "--output", "audit.html"),
    ("report", "--split", "library", "--output", "libraries"),
)
"""What is written for the screenshots, as arguments of the command."""
LOOKS = {"screen": (1280, "light"), "telephone": (390, "light"), "dark": (1280, "dark")}
SITE_PAGES = ("index", "desk", "troubleshooting", "architecture", "http-reference", "python-api")
NEWCOMER = "20000000001038"
"""The card of a patron of another family."""


def digest(picture: str) -> str:
    found = hashlib.sha256()
    package = REPOSITORY / "evergreen_groups"
    for pattern in MADE_FROM[picture]:
        files = sorted(package.glob(pattern))
        assert files, f"nothing is there of {pattern}, which {picture} is made from"
        for file in files:
            found.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def recorded() -> dict[str, str]:
    return dict(json.loads((PICTURES / RECORD).read_text("utf-8")))


def take(browser: Chrome, target: Path) -> None:
    """Take a screenshot of the whole page, however long."""
    size = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
    answer = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    target.write_bytes(base64.b64decode(answer["data"]))
    print(target)


def in_each_look(browser: Chrome, *, mobile: bool) -> Iterator[str]:
    for name, (width, scheme) in LOOKS.items():
        look(browser, width, scheme, mobile=mobile)
        yield name
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def group_pages(desk: Desk, target: Path) -> None:
    """Take the page of a group: the list, a member unfolded, the statement, a plan, and the list with the result."""

    def visit(part: str = "") -> None:
        desk.browser.get(f"{desk.sandbox.url}/evergreen-groups/patrons/{PATRON}/group{part}?client=eg2")

    def scan() -> None:
        visit()
        desk.element("#card").send_keys(NEWCOMER, Keys.ENTER)

    for name, act, selector in (
        ("group", visit, "#members"),
        ("group-unfolded", lambda: desk.click("[data-unfold]"), ".unfolded"),
        ("group-statement", lambda: visit("/statement"), "main"),
        ("group-plan", scan, "#confirm"),
        ("group-done", lambda: desk.click("#confirm"), "#outcome"),
    ):
        act()
        desk.until(partial(desk.run, "return Boolean(document.querySelector(arguments[0]))", selector))
        for shown in in_each_look(desk.browser, mobile=True):
            take(desk.browser, target / f"{name}-{shown}.png")


def pages(browser: Chrome, files: Path, target: Path) -> None:
    found = {
        "report": files / "report.html",
        "audit": files / "audit.html",
        "index": files / "libraries" / "latest" / "index.html",
        "library": files / "libraries" / "latest" / "BR1.html",
    }
    site = REPOSITORY / "build" / "site"
    found |= {f"site-{name}": site / f"{name}.html" for name in SITE_PAGES if (site / f"{name}.html").is_file()}
    for shown in in_each_look(browser, mobile=False):
        for name, page in found.items():
            browser.get(page.resolve().as_uri())
            take(browser, target / f"{name}-{shown}.png")


def open_patron(desk: Desk, client: str) -> None:
    desk.open(client, f"{PATRON}/checkout")
    desk.panel_of(PATRON)
    desk.until(lambda: desk.owed() not in ("", "$0.00"))  # the client has loaded its own figures


def desks(browser: Chrome, files: Path, target: Path) -> None:
    """Take the panel in the patron summary of both clients, and the page of a group."""
    loading = "return document.querySelector('.evergreen-groups-tab')?.dataset.state === 'loading'"
    with desk_of(browser, files) as desk:
        for client in CLIENTS:
            open_patron(desk, client)
            take(browser, target / f"desk-{client.lower()}.png")
            desk.click("[data-tab=group]")
            desk.until(lambda: desk.run("return document.querySelector('[data-total]')?.textContent"))
            desk.until(lambda: not desk.run(loading))
            take(browser, target / f"desk-{client.lower()}-tab.png")
        group_pages(desk, target)


def screenshots(directory: str) -> None:
    target = Path(directory).resolve()
    target.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch, chdir(scratch), chromium() as browser:
        for arguments in PAGES:
            command = [sys.executable, "-m", "evergreen_groups", "-q", "--sandbox", *arguments]
            if subprocess.run(command, check=False).returncode not in (0, 7):  # 7: done, but incomplete
                sys.exit(f"this failed: {' '.join(command)}")
        pages(browser, Path(scratch), target)
        desks(browser, Path(scratch), target)


def scanned(desk: Desk) -> WebElement:
    """Return the field that takes a scanner's input, in the frame of the client's tab."""
    waiting = WebDriverWait(desk.browser, 30)
    desk.browser.switch_to.default_content()
    waiting.until(expected.frame_to_be_available_and_switch_to_it((By.CSS_SELECTOR, ".evergreen-groups-tab iframe")))
    return waiting.until(expected.element_to_be_clickable((By.NAME, "card")))


def take_panel(desk: Desk, target: Path) -> None:
    """Take the patron summary with the group's members unfolded."""
    desk.unfold()
    open_patron(desk, "Angular")
    desk.element("#patron-summary").screenshot(str(target / "panel.png"))
    print(target / "panel.png")


def take_move(desk: Desk, target: Path) -> None:
    browser = desk.browser
    desk.open("Angular", f"{PATRON}/group")
    desk.panel_of(PATRON)
    scanned(desk).send_keys(CARD + Keys.ENTER)
    WebDriverWait(browser, 30).until(expected.element_to_be_clickable((By.CSS_SELECTOR, "button[value=apply]")))
    browser.switch_to.default_content()
    take(browser, target / "move.png")
    scanned(desk)
    browser.find_element(By.ID, "confirm").click()  # with a warning, Enter doesn't confirm
    WebDriverWait(browser, 30).until(expected.text_to_be_present_in_element((By.TAG_NAME, "main"), "Undo"))
    browser.switch_to.default_content()
    take(browser, target / "group-member-details.png")


def compared_report(sandbox: Sandbox, home: str) -> Report:
    """Return the sandbox's report after some nights, with a new group, one that owes more, one less, one not listed."""
    with gateway_of(sandbox.url, "consortium_staff") as gateway, State(Path(home) / "state") as state:
        for number, group in enumerate(build_report(gateway, Criteria()).groups):
            fields = {"day_phone": f"218-555-01{number:02d}", "email": f"patron{number}@example.org"}
            sandbox._store.update("au", group.lead.id, fields)
        tonight = build_report(gateway, Criteria(contact=True))
        history = History(state.database, gateway.url)
        for nights in range(NIGHTS, 0, -1):
            history.record(_earlier(tonight, nights))
        return replace(tonight, changes=history.compare(tonight))


def _earlier(report: Report, nights: int) -> Report:
    first, new, worse, better, *others = report.groups
    paid = Group(1999, (member(1990, "Abara, Chidi", "21.50", group_lead=True), member(1991, "Abara, Eze", "9.00")))
    changed = owing_more(worse, Decimal(-4)), owing_more(better, Decimal("6.50"))
    groups = [first, *changed, *others[: 2 + (NIGHTS - nights) // 3], paid]
    if nights > NIGHTS // 2:
        groups.append(owing_more(new, Decimal(-3)))
    at = report.generated_at - timedelta(days=nights)
    totals = report_of(groups).totals
    return replace(report, groups=tuple(groups), totals=totals, generated_at=at, details=None)


def take_report(browser: Chrome, home: str, target: Path) -> None:
    """Take the first screen of the report's page, its list with a group unfolded, and the mail."""
    page, letter = Path(home) / "report.html", Path(home) / "mail.html"
    with Sandbox() as sandbox:
        report = replace(compared_report(sandbox, home), gateway="https://evergreen.example.org/osrf-gateway-v1")
    client = StaffClient("eg2", "https://evergreen.example.org")
    with page.open("w", encoding="utf-8") as stream:
        render(report, "html", stream, client=client)
    browser.get(page.as_uri())
    browser.save_screenshot(str(target / "report.png"))
    print(target / "report.png")
    look(browser, 1280, height=1300)
    browser.find_element(By.CSS_SELECTOR, "#groups > tbody:nth-of-type(2) summary").click()
    unfolded = (By.CSS_SELECTOR, "#groups details[open] table")
    WebDriverWait(browser, 30).until(expected.visibility_of_element_located(unfolded))
    table = browser.find_element(By.CSS_SELECTOR, "#groups")
    browser.execute_script("document.activeElement.blur(); arguments[0].scrollIntoView()", table)
    table.screenshot(str(target / "report-list.png"))
    print(target / "report-list.png")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    link = ("", "https://evergreen.example.org/evergreen-groups/reports/latest")
    letter.write_text(html_letter(report, LetterOptions(links=(link,))), "utf-8")
    browser.get(letter.as_uri())
    browser.set_window_size(680, HEIGHT)
    take(browser, target / "mail.png")


def main(directory: str = str(PICTURES)) -> None:
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as home, chromium() as browser:
        browser.set_window_size(WIDTH, HEIGHT)
        with desk_of(browser, Path(home)) as desk:
            take_move(desk, target)
        with desk_of(browser, Path(home)) as desk:
            take_panel(desk, target)
        take_report(browser, home, target)
    digests = {picture: digest(picture) for picture in MADE_FROM}
    (target / RECORD).write_text(json.dumps(digests, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--screenshots"]:
        screenshots(sys.argv[2])
    else:
        main(*sys.argv[1:])
