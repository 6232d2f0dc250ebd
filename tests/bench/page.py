"""The cost of the report's page for its readers: time to open, length, and number of printed sheets.

    python tests/bench/page.py [--groups 747 5000] [--runs 5] [--keep DIRECTORY]

Each page is written from a report with everything known, with contact data and with links to the staff client, then
opened from its file in a new headless Chromium. A page counts as open when it is loaded and laid out, its script has
run, and the next frame can be scrolled and clicked. Medians, with minimum and maximum.
"""

from __future__ import annotations

import argparse
import base64
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from selenium.webdriver import Chrome

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.desk_browser import chromium, look
from support.large_reports import full_report
from support.printed_pages import sheets_of

from evergreen_groups.render import StaffClient
from evergreen_groups.render.report import render

WIDTHS = (1280, 390)
SHEETS_OF_AT_MOST = 1000
"""Longer reports aren't printed here: it takes minutes, and real users don't."""
_USABLE = """
const done = arguments[0];
requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() / 1000)));
"""
_PAINTED = "return (performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN) / 1000"
_HEIGHT = "return document.documentElement.scrollHeight"
_ELEMENTS = "return document.querySelectorAll('*').length"
_FIND = """
const done = arguments[0], began = performance.now(), find = document.getElementById("find");
find.value = "garcia";
find.dispatchEvent(new Event("input"));
requestAnimationFrame(() => requestAnimationFrame(() => done((performance.now() - began) / 1000)));
"""
_SORT = """
const done = arguments[0], began = performance.now();
document.querySelector("#groups > thead th:nth-child(2) button").click();
requestAnimationFrame(() => requestAnimationFrame(() => done((performance.now() - began) / 1000)));
"""
_UNFOLD_ALL = "document.getElementById('unfold').click()"
PAPER = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True, "printBackground": False}


def write(groups: int, target: Path) -> tuple[float, float]:
    """Write the page of a report with so many groups; returns the seconds, and the process's peak memory in MB."""
    report = full_report(groups, contact=True)
    started = time.process_time()
    with target.open("w", encoding="utf-8") as stream:
        render(report, "html", stream, client=StaffClient("eg2", "https://ils.example"))
    return time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def opened(page: Path) -> tuple[float, float, float, float]:
    """Return the seconds until the first content, until the page is open, and for a search and a sort."""
    with chromium() as browser:
        look(browser, WIDTHS[0])
        browser.get("about:blank")
        browser.get(page.as_uri())
        usable = browser.execute_async_script(_USABLE)
        return browser.execute_script(_PAINTED), usable, _action(browser, _FIND), _action(browser, _SORT)


def _action(browser: Chrome, script: str) -> float:
    return float(browser.execute_async_script(script))


def measures(page: Path, groups: int) -> tuple[dict[int, int], int, dict[str, int]]:
    """Return the page's height in pixels by width, its number of elements, and its sheets by the page's state."""
    heights = {}
    with chromium() as browser:
        for width in WIDTHS:
            look(browser, width, mobile=width < 500)
            browser.get(page.as_uri())
            heights[width] = browser.execute_script(_HEIGHT)
        elements = browser.execute_script(_ELEMENTS)
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        sheets = {}
        if groups <= SHEETS_OF_AT_MOST:
            sheets["as opened"] = printed(browser)
            browser.execute_script(_UNFOLD_ALL)
            sheets["with all unfolded"] = printed(browser)
    return heights, elements, sheets


def printed(browser: Chrome) -> int:
    """Return the number of A4 sheets for the open page."""
    return sheets_of(base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", PAPER)["data"]))


def spread(values: list[float]) -> str:
    """Format the median with minimum and maximum."""
    return f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


def measure(groups: int, runs: int, directory: Path) -> None:
    """Print the cost of a report with so many groups."""
    page = directory / f"report-{groups}.html"
    command = [sys.executable, __file__, "--write", str(groups), str(page)]
    seconds, peak = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    heights, elements, sheets = measures(page, groups)
    painted, usable, find, sort = zip(*(opened(page) for _ in range(runs)), strict=True)
    print(
        f"{groups:,} groups: {page.stat().st_size / 1e6:.1f} MB, {elements:,} elements, written in {seconds:.2f} s of"
    )
    print(f"  the processor, most memory of the process {peak:.0f} MB")
    print(f"  something to be seen after {spread(list(painted))}, open after {spread(list(usable))}")
    print(f"  searched in {spread(list(find))}, sorted by name in {spread(list(sort))}")
    print(f"  height: {', '.join(f'{height:,} px at {width}' for width, height in heights.items())}")
    if sheets:
        print(f"  sheets of A4: {', '.join(f'{count} {how}' for how, count in sheets.items())}", flush=True)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--groups", type=int, nargs="+", default=[747, 5000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="leave the pages there")
    parser.add_argument("--write", nargs=2, metavar=("GROUPS", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        print(*write(int(options.write[0]), Path(options.write[1])))
        return
    with TemporaryDirectory() as scratch:
        directory = options.keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        for groups in options.groups:
            measure(groups, options.runs, directory.resolve())


if __name__ == "__main__":
    main()
