"""The audit's page in a real browser: what a reader sorts, finds and prints, at each width and in both colour modes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.support.wait import WebDriverWait
from support.audit_samples import sample_audit
from support.desk_browser import chromium, look

from evergreen_groups.render import StaffClient
from evergreen_groups.render.audit import render_audit

pytestmark = pytest.mark.long  # a browser takes seconds to start

SHOWN = """
return [...document.querySelectorAll("section.kind")].filter((one) => !one.hidden).map((one) => ({
  id: one.querySelector("h2").id,
  count: Number(one.querySelector(".count").textContent.replace(",", "")),
  names: [...one.querySelectorAll(".findings > tbody:not([hidden]) > tr:first-child bdi:first-child")]
    .map((name) => name.textContent),
}));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of the page with a few findings of each kind, and of the one with thousands."""
    directory = tmp_path_factory.mktemp("audit")
    return {name: _page(directory / f"{name}.html", times) for name, times in (("few", 3), ("many", 500))}


def _page(file: Path, times: int) -> str:
    with file.open("w", encoding="utf-8") as stream:
        render_audit(sample_audit(times), "html", stream, client=StaffClient(url="https://ils.example.org"))
    return file.as_uri()


def opened(browser: Chrome, address: str) -> None:
    """Open a page and wait until it is whole: of a long one the browser shows the beginning first."""
    browser.get(address)
    WebDriverWait(browser, 60).until(lambda one: one.execute_script("return document.readyState") == "complete")


def run(browser: Chrome, script: str, *arguments: object) -> Any:
    return browser.execute_script(script, *arguments)


def choose(browser: Chrome, selector: str, value: str, event: str) -> list[dict[str, Any]]:
    """Set a tool to a value as a reader does, wait until the page is drawn, and give what is shown."""
    run(
        browser,
        "const tool = document.querySelector(arguments[0]); tool.value = arguments[1];"
        "tool.dispatchEvent(new Event(arguments[2], { bubbles: true }));",
        selector,
        value,
        event,
    )
    browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))")
    found = run(browser, SHOWN)
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 390])
def test_axe_finds_nothing_and_nothing_sticks_out(
    browser: Chrome, written: dict[str, str], width: int, scheme: str
) -> None:
    look(browser, width, scheme)
    opened(browser, written["few"])
    run(browser, "document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    # Cards are laid out when they come near; here all of them are to be looked at.
    run(
        browser,
        "for (const one of document.querySelectorAll('.findings > tbody')) one.style.contentVisibility = 'visible'",
    )
    assert run(browser, "return document.documentElement.scrollWidth <= innerWidth")
    wide = run(
        browser,
        "return [...document.querySelectorAll('.findings :is(th, td, code)')].filter((cell) => "
        "cell.scrollWidth > cell.clientWidth + 1 && getComputedStyle(cell).display !== 'inline')"
        ".map((cell) => cell.textContent)",
    )
    assert wide == []
    run(browser, resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8"))
    found = browser.execute_async_script("axe.run().then(arguments[0])")
    assert found["violations"] == [], json.dumps(found["violations"])[:2000]


def test_sorting_finding_and_filtering(browser: Chrome, written: dict[str, str]) -> None:
    look(browser, 1280)
    opened(browser, written["few"])
    everything = run(browser, SHOWN)
    assert [one["count"] for one in everything] == [21, 1, 3, 1, 3, 3, 3, 6, 3, 3, 3]
    run(browser, "document.querySelector('.findings th button').click()")
    assert sorted(everything[0]["names"]) != everything[0]["names"]
    by_name = run(browser, SHOWN)
    assert by_name[0]["names"] != everything[0]["names"]
    assert by_name[1:] == everything[1:]
    (found,) = choose(browser, "#find", "ostergard 20000000001013", "input")
    assert (found["id"], found["count"], len(found["names"])) == ("over-limit-not-blocked", 1, 1)
    status = run(browser, "return document.querySelector('#shown').textContent")
    assert status == "Shown: 1 of 50; ostergard 20000000001013"
    choose(browser, "#find", "", "input")
    (groups,) = choose(browser, "#only", "accidental-group", "change")
    assert (groups["id"], groups["count"]) == ("accidental-group", 6)
    choose(browser, "#only", "", "change")
    at_one = choose(browser, "#at", "BR1", "change")
    assert 0 < sum(one["count"] for one in at_one) < 50
    assert choose(browser, "#at", "", "change")[1:] == everything[1:]


def test_what_is_found_is_printed_and_members_on_demand(browser: Chrome, written: dict[str, str]) -> None:
    look(browser, 1280)
    opened(browser, written["few"])
    choose(browser, "#only", "accidental-group", "change")
    look(browser, 1280, medium="print")
    visible = "return [...document.querySelectorAll(arguments[0])].filter((one) => one.offsetParent).length"
    assert run(browser, visible, "section.kind") == 1
    assert run(browser, visible, ".tools") == 0
    assert run(browser, visible, ".members td td") == 0, "what is folded isn't printed"
    look(browser, 1280)
    run(browser, "document.querySelector('#unfold').click();")
    look(browser, 1280, medium="print")
    assert run(browser, visible, ".members td td") > 0
    look(browser, 1280)


def test_thousands_of_findings_open_fast(browser: Chrome, written: dict[str, str]) -> None:
    """Laid out whole they take some ten times as long: a minute on a slow machine."""
    look(browser, 1280)
    opened(browser, written["many"])
    assert sum(one["count"] for one in run(browser, SHOWN)) == 8002
    skipped = run(
        browser,
        "return [...document.querySelectorAll('.findings > tbody')]"
        ".filter((body) => !body.rows[0].cells[0].checkVisibility({ contentVisibilityAuto: true })).length",
    )
    assert skipped > 6_800
    (found,) = choose(browser, "#find", "20000000002345", "input")
    assert found["count"] == 1
