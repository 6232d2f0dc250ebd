"""The pages in a pseudo-language without Latin letters: any Latin text is data, or isn't translated."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask import Flask
from support.bills_and_items import ELM, bill
from support.circulators import change_rows, take_away
from support.desk_page import GROUP, DeskClerk, DeskPage, agreed, card, scanned, selected
from support.fault_proxy import Fault, FaultProxy
from support.recorded_nights import record_nights

from evergreen_groups.client import Client
from evergreen_groups.language import current_language, languages, own_name
from evergreen_groups.sandbox import Sandbox

HUONG, DUC, MINH, LAN, WHITFIELD, THOMAS, RUTH = 1015, 1016, 1017, 1018, 1036, 1037, 1038
_READ = ("title", "aria-label", "placeholder", "alt", "data-label", "data-text", "data-counted")
_LETTERS = r"A-Za-z\u00c0-\u024f\u1e00-\u1eff"
_LATIN = re.compile(rf"[{_LETTERS}](?:['\u2019-]?[{_LETTERS}\d_])*")
# The program's name, keys, input typed by the tests, billing types of the sandbox, and dollars.
_ALIKE = {"evergreen-groups", *"CWAMRUB", "Overdue", "materials", "Photocopies", "whitf", "zzz", "US"}

Check = Callable[..., DeskPage]


@pytest.fixture
def data(sandbox: Sandbox) -> set[str]:
    """Return the words that are data: names of patrons, libraries, profiles and penalties, and codes."""
    queries = (
        "SELECT first_given_name || ' ' || family_name || ' ' || usrname FROM au",
        "SELECT shortname || ' ' || name FROM aou",
        "SELECT name FROM pgt",
        "SELECT name || ' ' || label FROM csp",
        "SELECT street1 FROM aua",
        "SELECT title FROM rmsr",
        "SELECT name FROM aupw",
    )
    with sandbox._store.transaction() as connection:
        found = [str(text) for query in queries for (text,) in connection.execute(query)]
    return {word for text in found for word in _LATIN.findall(text)} | _ALIKE


@pytest.fixture
def clerk(clerk: DeskClerk) -> DeskClerk:
    clerk.headers["Accept-Language"] = "ar-XB"
    return clerk


@pytest.fixture
def is_translated(data: set[str]) -> Check:
    """Return a function that checks a page, with some additional data allowed, and returns it."""

    def check(page: DeskPage, *more: str) -> DeskPage:
        assert (page.tree.get("lang"), page.tree.get("dir")) == ("ar-XB", "rtl")
        texts = [*page.tree.itertext("title", "body"), *page.tree.find("body").itertext()]
        texts += [node.get(name, "") for node in page.tree.iter("*") for name in _READ]
        found = {word for text in texts for word in _LATIN.findall(re.sub(r"\{\w+\}", "", text))}
        assert found <= {*data, *more}
        return page

    return check


class TestTheList:
    def test_of_a_family(self, clerk: DeskClerk, is_translated: Check, app: Flask, client: Client) -> None:
        record_nights(app, client, ["30.00", "0.00", "27.50"])
        is_translated(clerk.open(MINH))
        is_translated(clerk.open(MINH, query="client=eg2&sort=-standing"))

    def test_of_everybody_else(self, clerk: DeskClerk, is_translated: Check, sandbox: Sandbox) -> None:
        change_rows(sandbox, "UPDATE au SET barred = 't', juvenile = 't' WHERE id = ?", LAN)
        change_rows(sandbox, "UPDATE au SET active = 'f', expire_date = NULL WHERE id = ?", MINH)
        change_rows(sandbox, "UPDATE au SET expire_date = '2020-01-01T00:00:00+0000' WHERE id = ?", DUC)
        sandbox._store.insert("ausp", {"usr": LAN, "org_unit": 1, "standing_penalty": 25, "staff": 2})
        for patron in (MINH, WHITFIELD, 1039, 1001, 1013, 1049):
            is_translated(clerk.open(patron))

    def test_searched_and_found_empty(self, clerk: DeskClerk, is_translated: Check, sandbox: Sandbox) -> None:
        change_rows(sandbox, "UPDATE au SET usrgroup = 1004 WHERE id BETWEEN 1001 AND 1015")
        is_translated(clerk.open(MINH).send("/within", within="zzz"))

    def test_its_file_is_for_programs(self, clerk: DeskClerk) -> None:
        page = clerk.get(f"{GROUP.format(MINH)}.csv")
        assert page.response.text.startswith("\ufeffid,name,barcode,own_fines")
        assert ",14.75," in page.response.text
        assert "true" in page.response.text


class TestChanges:
    def test_done_undone_and_remembered(self, clerk: DeskClerk, is_translated: Check) -> None:
        plan = is_translated(scanned(clerk.open(MINH), card(WHITFIELD)))
        done = is_translated(agreed(plan))
        is_translated(done.send("/undo"))
        is_translated(clerk.open(MINH, "/history"))
        is_translated(clerk.open(1039, "/history"))

    @pytest.mark.parametrize("action", ["remove", "lead", "no-lead", "move", "merge", "recalculate"])
    def test_each_action(self, clerk: DeskClerk, is_translated: Check, action: str) -> None:
        for members in ([DUC], [MINH, DUC], []):
            page = is_translated(selected(clerk.open(MINH), action, *members))
            if action in ("move", "merge") and page.has_form("/plan"):
                page = is_translated(scanned(page, card(RUTH)))
            if page.has_form("/change") and "plan" in page.form("/change").inputs:
                is_translated(agreed(page))

    def test_who_is_meant(self, clerk: DeskClerk, is_translated: Check) -> None:
        for text in ("whitf", "20000000901049", "zzz", card(LAN)):
            is_translated(scanned(clerk.open(MINH), text))

    def test_refused_and_approved(self, clerk: DeskClerk, is_translated: Check, sandbox: Sandbox) -> None:
        plan = scanned(clerk.open(MINH), card(RUTH)).send("/change", ("do", "add"), card=card(THOMAS))
        take_away(sandbox, "UPDATE_USER", user=2)
        refused = is_translated(agreed(plan), "UPDATE_USER")
        asks = is_translated(refused.send("/plan", id="approve"))
        is_translated(agreed(asks, username="admin", password="not-this-one"))

    def test_not_certain(self, clerk: DeskClerk, is_translated: Check, proxy: FaultProxy) -> None:
        plan = selected(clerk.open(WHITFIELD), "remove", RUTH)
        new = "open-ils.actor.usergroup.new"
        proxy.decide = lambda call: Fault.HELD_REQUEST if call.method == new else Fault.NONE
        page = is_translated(agreed(plan))
        proxy.let_go()
        is_translated(clerk.get(page.address))


class TestTheFamily:
    def test_bills_and_items(self, clerk: DeskClerk, is_translated: Check, sandbox: Sandbox) -> None:
        bill(sandbox, DUC, "3.00", "1.25", library=ELM)
        for member in (DUC, MINH, LAN, HUONG):
            is_translated(clerk.get(f"{GROUP.format(MINH)}/members/{member}"))

    @pytest.mark.parametrize("sheet", ["statement", "slip"])
    def test_sheets(self, clerk: DeskClerk, is_translated: Check, sandbox: Sandbox, sheet: str) -> None:
        bill(sandbox, MINH, "0.00", "1.25")
        page = clerk.get(f"{GROUP.format(HUONG)}/{sheet}")
        assert [link.text for link in page.tree.xpath("//nav[@class='languages']//a")] == list(
            map(own_name, languages())
        )
        for links in page.tree.xpath("//nav[@class='languages']"):
            links.getparent().remove(links)
        is_translated(page)

    def test_the_language_of_whoever_takes_it_home(self, clerk: DeskClerk) -> None:
        page = clerk.get(f"{GROUP.format(HUONG)}/statement?language=en&client=eg2")
        assert page.tree.get("lang") == "en"
        assert "You can pay at the library's front desk." in page.text
        assert page.tree.xpath("//nav[@class='languages']//a[@aria-current]/@hreflang") == ["en"]
        (back,) = page.tree.xpath("//header//nav/a[1]/@href")
        assert clerk.get(back).tree.get("lang") == "ar-XB", "the clerk's own pages are in the clerk's language"


class TestWhatGoesWrong:
    def test_no_such_patron(self, clerk: DeskClerk, is_translated: Check) -> None:
        assert is_translated(clerk.open(999_999)).status == 404

    def test_the_session_has_ended(self, clerk: DeskClerk, is_translated: Check) -> None:
        clerk.headers.pop("Cookie", None)
        is_translated(clerk.open(MINH))

    def test_a_form_of_another_session(self, clerk: DeskClerk, is_translated: Check) -> None:
        is_translated(clerk.post(f"{GROUP.format(MINH)}/plan", [("form", "no"), ("action", "join")]))


def test_the_language_of_a_request_ends_with_it(clerk: DeskClerk, is_translated: Check) -> None:
    """A server's thread goes on to answer another user, so the language must be reset."""
    before = current_language()
    is_translated(clerk.open(HUONG))
    assert current_language() is before
