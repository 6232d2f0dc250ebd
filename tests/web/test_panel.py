"""The panel in the staff client, in a real browser on the demo desk, with the real service behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys
from support.desk_browser import CLIENTS, Desk, Gate, chromium
from support.sandbox_caller import Caller
from support.web_caller import end_session, served, session, settings_of

from evergreen_groups.sandbox import Sandbox
from evergreen_groups.sandbox.database import wire_object
from evergreen_groups.web import create_app

pytestmark = pytest.mark.long  # a browser for each

BLOCKED_FAMILY = [
    ("Nguyễn, Thị Hương", 1015, "$14.75", True),
    ("Nguyễn, Văn Đức", 1016, "$9.30", True),
    ("Nguyễn, Minh", 1017, "$3.10", False),
    ("Nguyễn, Lan", 1018, "-$1.50", False),
]
HOSTILE = [
    "\N{RIGHT-TO-LEFT OVERRIDE}<img src=x onerror='window.harmed = 1'>",
    "{{constructor.constructor('window.harmed = 1')()}}",
]
HOSTILE_FAMILY = 1043
LONELY = 1039
DELETED = 1031

both_clients = pytest.mark.parametrize("client", list(CLIENTS))


@pytest.fixture(scope="module")
def desk_of_the_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    directory = tmp_path_factory.mktemp("desk")
    families = json.loads(resources.files("evergreen_groups.sandbox.data").joinpath("families.json").read_text("utf-8"))
    hostile = [row for row in families["au"] if row["usrgroup"] == 1012 and row["id"] >= HOSTILE_FAMILY]
    for row, name in zip(hostile, HOSTILE, strict=True):
        row["family_name"] = name
    hostile[0]["master_account"] = "t"
    dataset = directory / "families.json"
    dataset.write_text(json.dumps(families), encoding="utf-8")
    with Sandbox(dataset) as sandbox, chromium() as browser:
        home = {"XDG_STATE_HOME": str(directory / "state"), "XDG_CACHE_HOME": str(directory / "cache")}
        gate = Gate(create_app(settings_of(sandbox.url), home))
        with served(gate) as url:
            yield Desk(browser, sandbox, gate, url)


@pytest.fixture
def desk(desk_of_the_module: Desk) -> Desk:
    desk = desk_of_the_module
    desk.sandbox.reset()
    desk.service_up()
    desk.log_in(session(desk.sandbox.url, username="consortium_staff"))
    return desk


def seen(panel: Any) -> list[tuple[str, int, str, bool]]:
    return [
        (member["name"], int(member["link"].split("/")[-2]), member["owed"], member["blocked"])
        for member in panel["members"]
    ]


@both_clients
def test_a_family(desk: Desk, client: str) -> None:
    desk.open(client, "1017/checkout")
    panel = desk.panel_of(1017)
    assert panel["amount"].startswith("$25.65")
    assert "for information only" in panel["text"]
    assert seen(panel) == BLOCKED_FAMILY
    assert panel["members"][0]["link"] == f"{CLIENTS[client]}/1015/checkout"
    desk.shows("$3.10")
    assert not desk.shown_stock_row()
    assert desk.run("return document.querySelector('.evergreen-groups').previousElementSibling.innerText").startswith(
        "Fines Owed"
    )
    assert desk.run("return document.querySelectorAll('.evergreen-groups').length") == 2
    desk.click(".evergreen-groups a[href$='/1015/checkout']")
    desk.panel_of(1015)


@both_clients
def test_nothing_for_a_group_of_one(desk: Desk, client: str) -> None:
    desk.open(client, f"{LONELY}/checkout")
    desk.answered(LONELY)
    desk.shows("$62.00")
    assert desk.panel() is None
    assert "Group" not in desk.run(
        "return document.querySelector('[data-field=owed]').parentElement.parentElement.innerText"
    )


@both_clients
def test_quickly_through_five_patrons_and_back(desk: Desk, client: str) -> None:
    patrons = [1017, 1007, 1012, LONELY, 1026]
    desk.open(client, f"{patrons[0]}/checkout")
    desk.panel_of(patrons[0])
    desk.watch()
    for patron in patrons[1:]:
        desk.go(client, patron)
    assert "O'Sullivan-Byrne" in desk.panel_of(1026)["members"][0]["name"]
    for _ in patrons[1:]:
        desk.run("history.back()")
    panel = desk.panel_of(patrons[0])
    assert seen(panel) == BLOCKED_FAMILY
    desk.shows("$3.10")
    watched = desk.watched()
    assert {patron for _, patron in watched} >= {1017, 1026}
    assert watched == {(f"2000000000{patron}", patron) for _, patron in watched}


@both_clients
def test_an_answer_that_comes_late_is_dropped(desk: Desk, client: str) -> None:
    with desk.gate.holding(1015):
        desk.open(client, "1015/checkout")
        desk.gate.arrived.wait()
        desk.shows("$14.75")
        assert desk.panel() is None
        desk.watch()
        desk.go(client, 1007)
        desk.panel_of(1007)
    desk.shows("$5.00")
    assert desk.panel_of(1007)["members"][0]["name"].startswith("Lindqvist")
    assert desk.watched() == {("20000000001007", 1007)}


@both_clients
def test_names_are_text(desk: Desk, client: str) -> None:
    desk.open(client, f"{HOSTILE_FAMILY}/checkout")
    panel = desk.panel_of(HOSTILE_FAMILY)
    names = " ".join(member["name"] for member in panel["members"])
    assert all(name in names for name in HOSTILE)
    assert desk.run("return document.querySelectorAll('.evergreen-groups img').length") == 0
    assert desk.run("return window.harmed") is None
    first, last = desk.run(
        "const { firstChild: text } = document.querySelector('.evergreen-groups-who .evergreen-groups-note');"
        "return [0, text.length - 1].map((at) => {"
        "  const range = new Range(); range.setStart(text, at); range.setEnd(text, at + 1);"
        "  return range.getBoundingClientRect().left; })"
    )
    assert first < last, "what stands after a name that turns the direction of writing"


def test_a_patron_who_has_been_deleted(desk: Desk) -> None:
    desk.open("Angular", f"{DELETED}/checkout")
    panel = desk.problem("Deleted, or not visible to your login.")
    assert "Try again" not in panel["text"]


@pytest.mark.parametrize("retry_after", ["86400000", "9" * 400])
def test_it_waits_some_minutes_at_most(desk: Desk, retry_after: str) -> None:
    """A longer wait would be no wait: beyond 24 days a timer of the browser goes off at once."""
    desk.open("Angular", "1007/checkout")
    desk.panel_of(1007)
    desk.run(
        "window.waits = []; const real = setTimeout;"
        "window.setTimeout = (what, time, ...more) => { waits.push(time); return real(what, time, ...more); };"
        "const answer = new Response('', { status: 503, headers: { 'Retry-After': arguments[0] } });"
        "window.fetch = async () => answer.clone()",
        retry_after,
    )
    desk.go("Angular", 1017)
    desk.problem("Not available just now.")
    assert max(desk.run("return waits")) == 300_000


@both_clients
def test_the_service_goes_down_and_comes_up(desk: Desk, client: str) -> None:
    desk.open(client, "1007/checkout")
    desk.panel_of(1007)
    desk.service_down()
    desk.go(client, 1017)
    desk.problem("Not available just now.")
    desk.until(desk.shown_stock_row)  # what the client itself knows stays visible
    desk.service_up()
    with desk.gate.holding(1017):  # or it might come back by itself before the key is pressed
        desk.run("document.querySelector('.evergreen-groups button').focus()")
        desk.press(Keys.ENTER)
        desk.gate.arrived.wait()
    assert seen(desk.panel_of(1017)) == BLOCKED_FAMILY
    assert desk.focused() == BLOCKED_FAMILY[0][0]
    assert not desk.shown_stock_row()


def test_it_comes_back_by_itself(desk: Desk) -> None:
    desk.open("Angular", "1007/checkout")
    desk.panel_of(1007)
    desk.service_down()
    desk.go("Angular", 1017)
    desk.problem("Not available just now.")
    desk.service_up()
    desk.panel_of(1017)


@both_clients
def test_an_ended_session(desk: Desk, client: str) -> None:
    token = session(desk.sandbox.url, username="consortium_staff")
    desk.log_in(token)
    with desk.gate.holding(1017):
        desk.open(client, "1017/checkout")
        desk.gate.arrived.wait()
        desk.until(desk.shown_stock_row)
        end_session(desk.sandbox.url, token)
    panel = desk.problem("Your session has ended.")
    assert "Nguy" not in panel["text"]
    assert desk.shown_stock_row()


def reread_sooner(desk: Desk) -> None:
    """Have the panel wait less for the client's figures to come to rest, and let them."""
    desk.run(
        "const wait = setTimeout; window.reread = 0; window.setTimeout = (work, ms, ...rest) => ms !== 800 ? "
        "wait(work, ms, ...rest) : wait((...given) => { work(...given); window.reread += 1; }, 200, ...rest)"
    )
    desk.click("[data-tab=refresh]")
    desk.until(lambda: desk.run("return window.reread") == 1)


def test_an_account_that_may_not_see_the_patron(desk: Desk) -> None:
    desk.open("Angular", "1017/checkout")
    desk.panel_of(1017)
    desk.have_cookie(session(desk.sandbox.url, username="harbor_desk"))  # another operator at the same desk
    desk.go("Angular", 1012)
    panel = desk.problem("Deleted, or not visible to your login.")
    assert (panel["amount"], panel["members"]) == (None, [])


def test_a_refusal_is_not_for_ever(desk: Desk) -> None:
    """Another operator may be at the desk when the client loads its amounts anew."""
    desk.open("Angular", "1017/checkout")
    desk.panel_of(1017)
    reread_sooner(desk)
    desk.run(
        "window.real = fetch; window.fetch = async (place, ...more) => "
        "String(place).endsWith('/summary') ? new Response('', { status: 403 }) : real(place, ...more)"
    )
    desk.click("[data-tab=refresh]")
    desk.problem("Not available to your login.")
    desk.run("window.fetch = real")
    desk.click("[data-tab=refresh]")
    desk.panel_of(1017)


def test_hidden_members(desk: Desk) -> None:
    desk.log_in(session(desk.sandbox.url, username="north_manager"))
    desk.open("Angular", "1026/checkout")
    panel = desk.panel_of(1026)
    assert panel["amount"] == "$40.40"
    assert [(member["name"], member["owed"]) for member in panel["members"]] == [
        ("O'Sullivan-Byrne, Siobhán", "$18.40"),
        ("O'Sullivan-Byrne, Aoife", "$0.00"),
        ("1 more, not visible to you", "$22.00"),
    ]


@both_clients
def test_tabs_collapsing_and_refreshing_penalties(desk: Desk, client: str) -> None:
    desk.open(client, "1017/checkout")
    desk.panel_of(1017)
    desk.shows("$3.10")
    desk.run("window.kept = document.querySelector('.evergreen-groups')")
    desk.click("[data-tab=bills]")
    desk.until(lambda: desk.browser.current_url.endswith("/bills"))
    assert desk.panel_of(1017)
    assert desk.run("return window.kept === document.querySelector('.evergreen-groups')")
    desk.click("#summary-toggle")
    desk.until(lambda: desk.panel() is None)
    desk.click("#summary-toggle")
    assert seen(desk.panel_of(1017)) == BLOCKED_FAMILY
    before = desk.gate.count(1017)
    desk.watch_owed()
    desk.click("[data-tab=refresh]")
    desk.until(lambda: desk.run("return window.owed.length") == 2)
    assert desk.run("return window.owed") == [{"Angular": "$0.00", "AngularJS": ""}[client], "$3.10"]
    assert seen(desk.panel_of(1017)) == BLOCKED_FAMILY
    assert not desk.shown_stock_row()
    assert desk.gate.count(1017) == before


def test_a_new_bill_is_read_again(desk: Desk) -> None:
    desk.open("Angular", "1001/checkout")
    assert desk.panel_of(1001)["amount"] == "$28.10"
    bill = wire_object("mb", {"xact": 70001, "amount": "2.00", "billing_type": "Misc", "btype": 101})
    caller = Caller(desk.sandbox.url)
    caller.body("open-ils.circ", "open-ils.circ.money.billing.create", caller.token("admin"), bill)
    desk.click("[data-tab=refresh]")
    panel = desk.until(lambda: (panel := desk.panel()) and panel["amount"] == "$30.10" and panel)
    assert seen(panel)[0] == ("Okonkwo, Adaeze", 1001, "$6.90", True)


def test_a_move_is_read_again_when_the_client_loads_its_amounts_anew(desk: Desk) -> None:
    desk.open("Angular", "1017/checkout")
    desk.panel_of(1017)
    desk.shows("$3.10")
    before = desk.gate.count(1017)
    reread_sooner(desk)
    caller = Caller(desk.sandbox.url)
    caller.body("open-ils.actor", "open-ils.actor.usergroup.new", caller.token("admin"), 1018, True)
    assert desk.gate.count(1017) == before
    desk.click("[data-tab=refresh]")
    desk.until(lambda: desk.panel()["amount"] == "$27.15")
    assert not desk.shown_stock_row()
    assert desk.gate.count(1017) == before + 1


@both_clients
def test_who_is_in_the_group_is_read_again_after_its_tab(desk: Desk, client: str) -> None:
    """The client changes that there, and doesn't always load its own amounts anew."""
    desk.open(client, "1017/group")
    desk.panel_of(1017)
    caller = Caller(desk.sandbox.url)
    caller.body("open-ils.actor", "open-ils.actor.usergroup.new", caller.token("admin"), 1018, True)
    desk.click("[data-tab=checkout]")
    panel = desk.until(lambda: (panel := desk.panel()) and panel["amount"].startswith("$27.15") and panel)
    assert seen(panel) == BLOCKED_FAMILY[:3]


@both_clients
def test_the_search_tab_and_its_merge_dialog(desk: Desk, client: str) -> None:
    desk.open(client, "search")
    desk.until(lambda: desk.run("return document.querySelector('#merge')"))
    desk.click("tr[data-patron='1017'] td:last-child")
    desk.panel_of(1017)
    desk.click("#merge")
    desk.click("tr[data-patron='1007'] td:last-child")
    desk.panel_of(1007)
    assert desk.browser.current_url.endswith("/search")
    assert desk.run("return document.querySelectorAll('[role=dialog] .evergreen-groups').length") == 0
    assert desk.run("return document.querySelectorAll('.evergreen-groups').length") == 2


@pytest.mark.parametrize(
    ("locale", "amount"),
    [("fr-CA", "25,65\N{NO-BREAK SPACE}$"), ("ar-EG", "\N{RIGHT-TO-LEFT MARK}25.65\N{NO-BREAK SPACE}$")],
)
def test_another_language(desk: Desk, locale: str, amount: str) -> None:
    """The client itself writes ASCII digits in every language."""
    desk.open(f"/eg2/{locale}/staff/circ/patron", "1017/checkout")
    panel = desk.panel_of(1017)
    assert panel["amount"] == amount
    assert panel["members"][0]["link"] == f"/eg2/{locale}/staff/circ/patron/1015/checkout"


@both_clients
def test_a_walk_with_the_keyboard(desk: Desk, client: str) -> None:
    desk.open(client, "1017/checkout")
    desk.panel_of(1017)
    desk.shows("$3.10")
    desk.run("document.querySelector('#summary-toggle').focus()")
    stops: list[str] = []
    while (not stops or stops[-1] != "Group Member Details" or len(stops) < 4) and len(stops) < 15:
        desk.press(Keys.TAB)
        stops.append(desk.focused())
    assert [stop for stop in stops if stop.startswith("Nguy")] == [name for name, *_ in BLOCKED_FAMILY]
    desk.press(Keys.ENTER)
    desk.until(lambda: desk.browser.current_url.endswith("/1017/group"))
    desk.panel_of(1017)


@both_clients
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_axe_finds_nothing(desk: Desk, client: str, mode: str) -> None:
    desk.run("localStorage.setItem('eg.ui.general.colormode', arguments[0])", json.dumps(mode))
    desk.open(client, "1017/checkout")
    desk.panel_of(1017)
    assert desk.run("return document.documentElement.dataset.bsTheme") == mode
    desk.run(resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8"))
    found = desk.browser.execute_async_script("const done = arguments[0]; axe.run().then(done)")
    assert found["violations"] == []
    assert any("evergreen-groups" in node["html"] for rule in found["passes"] for node in rule["nodes"])


def test_stripes_stay_in_turn_while_the_stock_row_is_hidden(desk: Desk) -> None:
    desk.open("AngularJS", "1017/checkout")
    desk.panel_of(1017)
    desk.shows("$3.10")
    colors = (
        "const rows = [...document.querySelectorAll('#patron-summary-grid > .row')].filter((row) => row.offsetHeight);"
        "const ours = rows.findLastIndex((row) => row.classList.contains('evergreen-groups'));"
        "return rows.slice(ours, ours + 3).map((row) => getComputedStyle(row).backgroundColor)"
    )
    desk.until(lambda: len(set(desk.run(colors)[:2])) == 2)
    first, second, third = desk.run(colors)
    assert first != second != third


def test_loading_it_twice_shows_it_once(desk: Desk) -> None:
    desk.open("Angular", "1017/checkout")
    desk.panel_of(1017)
    desk.browser.execute_async_script(
        "const again = document.createElement('script'); again.src = '/evergreen-groups/panel.js';"
        "again.onload = arguments[0]; document.body.append(again)"
    )
    assert desk.run("return document.querySelectorAll('.evergreen-groups').length") == 2


def test_it_is_small() -> None:
    script = resources.files("evergreen_groups.web").joinpath("static", "panel.js").read_bytes()
    assert len(script) < 16_000


def test_nothing_is_asked_without_a_patron(desk: Desk) -> None:
    desk.browser.get(f"{desk.sandbox.url}/eg2/en-US/staff/circ/patron/search")
    desk.until(lambda: desk.run("return document.querySelector('#merge')"))
    asked = len([path for path in desk.gate.asked if path.endswith("/summary")])
    desk.run("document.body.append(document.createElement('p'))")
    desk.browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => setTimeout(done))")
    assert len([path for path in desk.gate.asked if path.endswith("/summary")]) == asked
    assert desk.panel() is None
