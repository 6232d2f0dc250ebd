"""The cost of the report's page for its readers: time to open, length, and number of printed sheets.

    python tests/bench/page.py [--groups 747 5000] [--runs 5]

Each page is written from a report with everything known, with contact data and with links to the staff client, then
opened from its file in a new headless Chromium. A page counts as open when it is loaded and laid out, its script has
run, and the next frame can be scrolled and clicked. Medians, with minimum and maximum.
"""

from __future__ import annotations

import argparse
import base64
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.desk_browser import chromium, look
from support.large_reports import full_report
from support.printed_pages import sheets_of

from evergreen_groups.render import StaffClient
from evergreen_groups.render.report import render

WIDTHS = (390, 1280)
SHEETS_OF_AT_MOST = 1000
"""Longer reports aren't printed here: it takes minutes, and real users don't."""
_FRAMED = "requestAnimationFrame(() => requestAnimationFrame(() => done((performance.now() - began) / 1000)));"
OPEN = f"const done = arguments[0], began = 0; {_FRAMED}"
FIND = f"""
const done = arguments[0], began = performance.now(), find = document.getElementById("find");
find.value = "garcia";
find.dispatchEvent(new Event("input"));
{_FRAMED}
"""
SORT = f"""
const done = arguments[0], began = performance.now();
document.querySelector("#groups > thead th:nth-child(2) button").click();
{_FRAMED}
"""
PAPER = {"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": True, "printBackground": False}


def opened(page: Path) -> tuple[float, ...]:
    """Return the seconds until the page is open, and for a search and a sort."""
    with chromium() as browser:
        look(browser, WIDTHS[-1])
        browser.get("about:blank")
        browser.get(page.as_uri())
        return tuple(float(browser.execute_async_script(script)) for script in (OPEN, FIND, SORT))


def measures(page: Path, groups: int) -> str:
    """Return the page's height by width, its number of elements, and its sheets of A4 with all unfolded."""
    with chromium() as browser:
        heights = []
        for width in WIDTHS:
            look(browser, width, mobile=width < 500)
            browser.get(page.as_uri())
            heights.append(f"{browser.execute_script('return document.documentElement.scrollHeight'):,} px at {width}")
        found = f"{browser.execute_script('return document.querySelectorAll(`*`).length'):,} elements, {heights}"
        if groups > SHEETS_OF_AT_MOST:
            return found
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_script("document.getElementById('unfold').click()")
        printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", PAPER)["data"])
        return f"{found}, {sheets_of(printed)} sheets"


def measure(groups: int, runs: int, directory: Path) -> None:
    """Print the cost of a report with so many groups."""
    page, report = directory / f"report-{groups}.html", full_report(groups, contact=True)
    started = time.process_time()
    with page.open("w", encoding="utf-8") as stream:
        render(report, "html", stream, client=StaffClient("eg2", "https://ils.example"))
    seconds = time.process_time() - started
    print(f"{groups:,} groups: {page.stat().st_size / 1e6:.1f} MB, written in {seconds:.2f} s of the processor")
    print(f"  {measures(page, groups)}")
    times = zip(*(opened(page) for _ in range(runs)), strict=True)
    for what, values in zip(("opened", "searched", "sorted by name"), times, strict=True):
        spread = f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"
        print(f"  {what} in {spread}", flush=True)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--groups", type=int, nargs="+", default=[747, 5000])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with TemporaryDirectory() as directory:
        for groups in options.groups:
            measure(groups, options.runs, Path(directory).resolve())


if __name__ == "__main__":
    main()
