"""The panel and the tab in the staff client's language, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

import pytest
from support.desk_browser import Desk, desk_browser

from evergreen_groups.language import Language, gettext, price, use_language

pytestmark = pytest.mark.long

MIRRORED = "/eg2/ar-XB/staff/circ/patron"
LATIN = re.compile(r"[A-Za-z]{2,}")
SPOKEN = """
const block = document.querySelector(".evergreen-groups");
const texts = [...block.querySelectorAll(":not(bdi *)")].flatMap((node) => [
  ...[...node.childNodes].filter((child) => child.nodeType === 3).map((child) => child.data),
  node.title, node.getAttribute("aria-label"),
]);
const names = new Set([...block.querySelectorAll("bdi")].map((name) => name.textContent));
return [block.lang, getComputedStyle(block.querySelector("[role=group]")).direction,
        texts.filter((text) => text && !names.has(text))];
"""
GO = "history.pushState(null, '', arguments[0]); dispatchEvent(new PopStateEvent('popstate'))"
DATA = re.compile(r"Patron exceeds fine threshold|HARBOR|LAKELAND|STAFF_C|Group Fines")
"""Untranslated data: names of penalties and libraries, and the client's name for its own row."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_browser(tmp_path_factory.mktemp("desk")) as opened:
        yield opened


def test_every_text_of_the_panel_is_in_the_catalogue(desk: Desk) -> None:
    desk.begin()
    desk.unfold()
    desk.open(MIRRORED, "1017/checkout")
    desk.until(lambda: (panel := desk.panel()) and panel["patron"] == 1017 and panel["page"] and panel["members"])
    language, direction, texts = desk.run(SPOKEN)
    assert (language, direction) == ("ar-XB", "rtl")
    assert len(texts) > 10
    assert [text for text in texts if LATIN.search(DATA.sub("", text))] == []


def test_a_problem_is_told_in_the_clients_language(desk: Desk) -> None:
    desk.begin()
    desk.open(MIRRORED, "1017/checkout")
    desk.until(lambda: (panel := desk.panel()) and panel["patron"] == 1017 and panel["page"])
    desk.service_down()
    desk.run(GO, f"{MIRRORED}/1007/checkout")
    desk.until(lambda: (panel := desk.panel()) and panel["state"] == "down")
    texts = desk.run(SPOKEN)[2]
    assert [text for text in texts if LATIN.search(DATA.sub("", text))] == []
    desk.service_up()


def test_the_tabs_own_words(desk: Desk) -> None:
    desk.begin()
    desk.open(MIRRORED, "1017/group")
    desk.until(lambda: desk.run("return document.querySelector('.evergreen-groups-tab')?.dataset.state") == "shown")
    holder = desk.run(
        "const holder = document.querySelector('.evergreen-groups-tab');"
        "return [holder.lang, holder.dir, holder.innerText, holder.querySelector('iframe').title]"
    )
    assert holder[:2] == ["ar-XB", "rtl"]
    assert [text for text in holder[2:] if not text or LATIN.search(text)] == []


ON_SCREEN = """
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const texts = [];
while (walker.nextNode()) {
  const { data, parentElement } = walker.currentNode;
  if (data.trim() && !/^(SCRIPT|STYLE|TEMPLATE)$/.test(parentElement.tagName)) texts.push(data.trim());
}
return [document.documentElement.lang, document.documentElement.dir, texts];
"""


@pytest.mark.parametrize("client", ["Angular", "AngularJS"])
def test_the_demo_desk_is_in_the_clients_language_as_well(desk: Desk, client: str) -> None:
    desk.begin()
    desk.browser.add_cookie({"name": "eg_locale", "value": "ar-XB", "path": "/"})
    desk.open(MIRRORED if client == "Angular" else client, "1017/checkout")
    desk.until(lambda: (panel := desk.panel()) and panel["patron"] == 1017 and panel["page"])
    language, direction, texts = desk.run(ON_SCREEN)
    desk.browser.delete_cookie("eg_locale")
    assert (language, direction) == ("ar-XB", "rtl")
    data = re.compile(
        r"Nguy.*Minh|HARBOR|AngularJS|Angular|Evergreen 3|\$|consortium_staff|[a-z]+\d+|Adults?|Child|^checkout$"
    )
    assert [text for text in texts if LATIN.search(data.sub("", text))] == []


@pytest.mark.parametrize("tag", ["fr-CA", "cs-CZ", "es-ES"])
def test_who_is_blocked_takes_one_line_of_200_px(desk: Desk, tag: str) -> None:
    desk.begin()
    desk.open(f"/eg2/{tag}/staff/circ/patron", "1017/checkout")
    desk.panel_of(1017)
    desk.until(lambda: desk.run("return Boolean(document.querySelector('a.evergreen-groups-info'))"))
    desk.run("document.querySelector('.evergreen-groups-box').style.width = '200px'")
    desk.framed()
    assert desk.run("return document.querySelector('.evergreen-groups-info').offsetHeight") == 24


@pytest.mark.parametrize(("tag", "amount"), [("fr-CA", "25,65\xa0$"), ("cs-CZ", "25,65\xa0$"), ("es-ES", "$25.65")])
def test_panel_tab_and_page_are_in_the_language_of_the_address(desk: Desk, tag: str, amount: str) -> None:
    with use_language(Language(tag)):
        label, title = gettext("Group Fines"), gettext("Group Member Details")
        assert price(Decimal("25.65")) == amount
    assert "Group" not in label + title
    desk.begin()
    desk.open(f"/eg2/{tag}/staff/circ/patron", "1017/group")
    panel = desk.until(lambda: (panel := desk.panel()) and panel["patron"] == 1017 and panel["page"] and panel)
    assert panel["amount"] == amount
    assert label in panel["text"]
    desk.until(lambda: desk.run("return document.querySelector('.evergreen-groups-tab')?.dataset.state") == "shown")
    page = desk.run(
        "const page = document.querySelector('.evergreen-groups-tab iframe').contentDocument;"
        "return [page.documentElement.lang, page.querySelector('h1').innerText, page.querySelector('main').innerText]"
    )
    assert page[:2] == [tag, title]
    assert amount in page[2]
    assert label in page[2]
