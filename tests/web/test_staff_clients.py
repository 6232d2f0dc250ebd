"""Where the panel appears, and where it doesn't, in the staff clients of each release."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.desk_browser import BETWEEN, CLIENTS, Desk, desk_browser, kind, look

PATRON, OTHER = 1017, 1007

# The rows before and after the panel, and whether the client's own row is visible.
_NEIGHBOURS = """
const block = document.querySelector(".evergreen-groups");
const seen = (row) => row.offsetParent && row.offsetHeight;
const rows = [...block.parentElement.children].filter((row) => row === block || seen(row));
const at = rows.indexOf(block);
return [rows[at - 1], rows[at + 1]].map((row) => row && row.innerText.split("\\n")[0].trim());
"""


@pytest.fixture(scope="module")
def desk_on_the_release(release: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_browser(tmp_path_factory.mktemp("desk"), release) as desk:
        yield desk


def stands_where_it_should(desk: Desk, client: str) -> None:
    """Check that the panel is below the patron's own fines, in place of the client's row, also for another patron."""
    desk.open(client, f"{PATRON}/checkout")
    assert desk.panel_of(PATRON)["amount"] == "$25.65"
    desk.shows("$3.10")
    assert desk.run(_NEIGHBOURS) == ["Fines Owed", "Items Out"]
    assert not desk.shown_stock_row()
    desk.go(client, OTHER)
    assert desk.panel_of(OTHER)["amount"] != "$25.65"
    assert desk.run("return document.querySelectorAll('.evergreen-groups').length") == 1


def test_the_newest_and_the_oldest_clients(desk: Desk) -> None:
    for client in CLIENTS:
        stands_where_it_should(desk, client)


@pytest.mark.long
@pytest.mark.parametrize("client", BETWEEN)
def test_the_clients_of_the_releases_between(desk: Desk, client: str) -> None:
    stands_where_it_should(desk, client)
    desk.open(client, f"{PATRON}/group")
    desk.tab_shown()


@pytest.mark.long
@pytest.mark.older
@pytest.mark.parametrize("kind", ["Angular", "AngularJS"])
def test_with_evergreen_of_the_same_release(desk_on_the_release: Desk, release: str, kind: str) -> None:
    desk, client = desk_on_the_release, f"{kind} {release}"
    desk.begin()
    desk.unfold()
    stands_where_it_should(desk, client)
    desk.go(client, PATRON)
    members = desk.panel_of(PATRON)["members"]
    assert [member["owed"] for member in members] == ["$14.75", "$9.30", "$3.10", "-$1.50"]


@pytest.mark.long
@pytest.mark.parametrize("client", [*CLIENTS, *BETWEEN])
def test_the_demo_desk_fits_a_telephone(desk: Desk, client: str) -> None:
    look(desk.browser, 390)
    desk.open(client, f"{PATRON}/checkout")
    desk.panel_of(PATRON)
    assert desk.run("return document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.long
@pytest.mark.parametrize("client", [*CLIENTS, *BETWEEN])
def test_a_summary_that_is_folded_away_leaves_the_tab_its_page(desk: Desk, client: str) -> None:
    """Up to 3.13, folding Angular's summary away removes it entirely."""
    desk.open(client, f"{PATRON}/group")
    desk.panel_of(PATRON)
    desk.click("#summary-toggle")
    desk.until(lambda: desk.panel() is None)
    desk.tab_shown()
    desk.click("#summary-toggle")
    assert desk.panel_of(PATRON)["amount"] == "$25.65"


@pytest.mark.long
@pytest.mark.parametrize("client", CLIENTS)
def test_where_there_is_no_place_it_says_so_once_and_does_nothing(desk: Desk, client: str) -> None:
    """A library's customized client may have a different summary."""
    changed = {"Angular": ".account-status, .patron-summary-container > hr", "AngularJS": "[ng-class*=fines]"}
    script = (
        "const wait = setTimeout; window.said = [];"
        "window.setTimeout = (work, ms, ...rest) => wait(work, ms === 10000 ? 50 : ms, ...rest);"
        "for (const name of ['info', 'warn', 'error']) console[name] = (...words) => said.push(words.join(' '));"
        "new MutationObserver(() => { for (const one of document.querySelectorAll(CHANGED)) one.remove(); })"
        ".observe(document, { childList: true, subtree: true })"
    ).replace("CHANGED", repr(changed[kind(client)]))
    with desk.in_new_pages(script):
        desk.open(client, f"{PATRON}/checkout")
        desk.until(lambda: desk.run("return window.said.some((one) => one.includes('no place for the panel'))"))
        desk.go(client, OTHER)
        desk.until(lambda: desk.run("return document.title && location.pathname").find(f"/{OTHER}/") > 0)
        desk.browser.execute_async_script("setTimeout(arguments[0], 300)")
    said = [one for one in desk.run("return window.said") if one.startswith("evergreen-groups")]
    assert len(said) == 1
    assert not any(word in said[0] for word in ("Nguy", str(PATRON), "2000000"))
    assert desk.panel() is None
    assert desk.run("return document.querySelectorAll('.evergreen-groups').length") == 0
