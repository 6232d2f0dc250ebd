"""Screenshots of the pages, taken of the sandbox in a headless Chromium.

    PYTHONPATH=tests python -m support.screenshots DIRECTORY

The report, a library's part of it, the index of all libraries, the audit, and both demo desks with the panel and the
group's tab; pages in the width of a screen and of a phone, and in dark colors. Also some pages of the site, if it has
been built (``nox -s site``).
"""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

from selenium.webdriver import Chrome
from selenium.webdriver.common.keys import Keys
from support.desk_browser import CLIENTS, Desk, chromium, desk_of, look
from support.repository import REPOSITORY

PAGES = (
    ("report", "--output", "report.html", "--no-history"),
    ("audit", "--output", "audit.html"),
    ("report", "--split", "library", "--output", "libraries"),
)
"""What is written for the screenshots, as arguments of the command."""
LOOKS = {"screen": (1280, "light"), "telephone": (390, "light"), "dark": (1280, "dark")}
SITE_PAGES = ("index", "desk", "troubleshooting", "architecture", "http-reference", "python-api")
FAMILY = 1015
"""A patron of a family with members over the limit."""
NEWCOMER = "20000000001038"
"""The card of a patron of another family."""


def take(browser: Chrome, target: Path) -> None:
    """Take a screenshot of the whole page, however long."""
    size = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
    answer = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    target.write_bytes(base64.b64decode(answer["data"]))
    print(target)


def take_in_each_look(browser: Chrome, name: str, target: Path) -> None:
    for shown in in_each_look(browser, mobile=True):
        take(browser, target / f"{name}-{shown}.png")


def in_each_look(browser: Chrome, *, mobile: bool) -> Iterator[str]:
    for name, (width, scheme) in LOOKS.items():
        look(browser, width, scheme, mobile=mobile)
        yield name
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def group_pages(desk: Desk, target: Path) -> None:
    """Take the page of a group: the list, a member unfolded, the statement, a plan, and the list with the result."""

    def shown(selector: str) -> bool:
        return bool(desk.run("return Boolean(document.querySelector(arguments[0]))", selector))

    desk.browser.get(f"{desk.sandbox.url}/evergreen-groups/patrons/{FAMILY}/group?client=eg2")
    take_in_each_look(desk.browser, "group", target)
    desk.click("[data-unfold]")
    desk.until(lambda: shown(".unfolded"))
    take_in_each_look(desk.browser, "group-unfolded", target)
    desk.browser.get(f"{desk.sandbox.url}/evergreen-groups/patrons/{FAMILY}/group/statement?client=eg2")
    take_in_each_look(desk.browser, "group-statement", target)
    desk.browser.get(f"{desk.sandbox.url}/evergreen-groups/patrons/{FAMILY}/group?client=eg2")
    desk.element("#card").send_keys(NEWCOMER, Keys.ENTER)
    desk.until(lambda: shown("#confirm"))
    take_in_each_look(desk.browser, "group-plan", target)
    desk.click("#confirm")
    desk.until(lambda: shown("#outcome"))
    take_in_each_look(desk.browser, "group-done", target)


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


def desks(browser: Chrome, files: Path, target: Path) -> None:
    """Take the panel in the patron summary of both clients, and the page of a group."""
    loading = "return document.querySelector('.evergreen-groups-tab')?.dataset.state === 'loading'"
    with desk_of(browser, files) as desk:
        for client in CLIENTS:
            desk.open(client, f"{FAMILY}/checkout")
            desk.panel_of(FAMILY)
            desk.until(lambda: desk.owed() not in ("", "$0.00"))  # the client has loaded its own figures
            take(browser, target / f"desk-{client.lower()}.png")
            desk.click("[data-tab=group]")
            desk.until(lambda: desk.run("return document.querySelector('[data-total]')?.textContent"))
            desk.until(lambda: not desk.run(loading))
            take(browser, target / f"desk-{client.lower()}-tab.png")
        group_pages(desk, target)


def main(directory: str) -> None:
    target = Path(directory).resolve()
    target.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch, chdir(scratch), chromium() as browser:
        for arguments in PAGES:
            command = [sys.executable, "-m", "evergreen_groups", "-q", "--sandbox", *arguments]
            if subprocess.run(command, check=False).returncode not in (0, 7):  # 7: done, but incomplete
                sys.exit(f"this failed: {' '.join(command)}")
        pages(browser, Path(scratch), target)
        desks(browser, Path(scratch), target)


if __name__ == "__main__":
    main(*sys.argv[1:])
