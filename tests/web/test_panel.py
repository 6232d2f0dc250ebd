"""The panel in the staff client, in a real browser on the demo desk, with the real service behind it."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from support.desk_browser import CLIENTS, REREAD, Desk, kind, look
from support.sandbox_caller import Caller
from support.web_caller import end_session, session

from evergreen_groups.language import Language, gettext, price, use_language
from evergreen_groups.sandbox.database import idl_classes
from evergreen_groups.settings.sections import DeskSettings

pytestmark = pytest.mark.long  # needs a browser

FAMILY = [
    ("Nguyễn, Thị Hương", 1015, "$14.75"),
    ("Nguyễn, Văn Đức", 1016, "$9.30"),
    ("Nguyễn, Minh", 1017, "$3.10"),
    ("Nguyễn, Lan", 1018, "-$1.50"),
]
HOSTILE = [
    "\N{RIGHT-TO-LEFT OVERRIDE}<img src=x onerror='window.harmed = 1'>",
    "{{constructor.constructor('window.harmed = 1')()}}",
]
HOSTILE_PATRONS = (1043, 1044)
LONELY = 1039
DELETED = 1031
OWN_FINES = {1015: "$14.75", 1017: "$3.10", LONELY: "$62.00"}

# For each frame that shows the summary, record the gap between "Fines Owed" (from its lower edge, because the alert has
# a border) and the next element, and the panel's state. Also record the browser's own layout shifts.
_POSITIONS = """
window.distances = []; window.states = []; window.shifts = [];
const look = () => {
  const owed = [...document.querySelectorAll("[data-field=owed]")].find((one) => one.offsetParent);
  const block = document.querySelector(".evergreen-groups");
  if (owed) {
    const from = owed.parentElement.getBoundingClientRect().bottom;
    window.distances.push(Math.round(document.querySelector(BELOW).getBoundingClientRect().top - from));
    window.states.push(block && block.dataset.state);
  }
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
const summaries = "#patron-summary, .patron-summary-grid-wrapper, .patron-summary-container";
const summary = () => document.querySelector(summaries);
new PerformanceObserver((list) => {
  for (const { sources } of list.getEntries())
    for (const { node } of sources) // texts change their place by themselves: an amount that is as wide as it is
      if (node && node.nodeType === 1 && summary() && summary().contains(node)) shifts.push(node.outerHTML);
}).observe({ type: "layout-shift", buffered: true });
"""

# The panel reveals the client's own row after two seconds without an answer, which a busy machine may take.
_NO_TIME_PASSES = "Date.now = ((now) => () => now)(Date.now());"

both_clients = pytest.mark.parametrize("client", list(CLIENTS))


def seen(panel: Any) -> list[tuple[str, int, str]]:
    return [(member["name"], int(member["link"].split("/")[-2]), member["owed"]) for member in panel["members"]]


def opened(desk: Desk, client: str, patron: int = 1017, tab: str = "checkout") -> Any:
    """Open a patron. Return the panel once it links to the group's page, and the client has the patron's figures."""
    desk.open(client, f"{patron}/{tab}")
    desk.panel_of(patron)
    if client in CLIENTS:
        desk.shows(OWN_FINES[patron])
    return desk.until(lambda: (panel := desk.panel()) and panel["page"] and panel)


def answers(desk: Desk, change: str) -> None:
    """Change the answers that the panel gets from the service. The script ``change`` alters ``answer``."""
    desk.run(
        "window.real = window.real || fetch; window.fetch = async (place, ...more) => {"
        "  const response = await real(place, ...more);"
        "  if (!String(place).endsWith('/summary')) return response;"
        f"  const answer = await response.json(); {change};"
        "  return new Response(JSON.stringify(answer)); }"
    )


def altered(desk: Desk, client: str, change: str, patron: int = 1017) -> Any:
    """Return a patron's panel, unfolded, with an altered answer."""
    desk.unfold()
    desk.open(client, "1012/checkout")
    desk.panel_of(1012)
    answers(desk, change)
    desk.go(client, patron)
    return desk.panel_of(patron)


def move_out(desk: Desk, patron: int = 1018) -> None:
    """Move a patron into a new group, as another client does."""
    caller = Caller(desk.sandbox.url)
    caller.body("open-ils.actor", "open-ils.actor.usergroup.new", caller.token("admin"), patron, True)


@both_clients
def test_a_family(desk: Desk, client: str) -> None:
    panel = opened(desk, client)
    assert panel["amount"] == "$25.65"
    head, info = (line.splitlines() for line in panel["lines"])
    assert head == ["4 members", "Group Fines", "$25.65"], "the first is the button's name, for screen readers"
    assert info == ["Info only · 2 of 4 blocked"]
    assert panel["page"] == "/evergreen-groups/patrons/1017/group"
    group = desk.element(".evergreen-groups [role=group]")
    assert (group.aria_role, group.accessible_name) == ("group", "Group Fines")


@both_clients
def test_the_members_unfold_and_that_is_remembered_and_lead_to_their_pages(desk: Desk, client: str) -> None:
    assert opened(desk, client)["members"] == []
    fold = ".evergreen-groups [aria-expanded]"
    desk.click(fold)
    panel = desk.until(lambda: (panel := desk.panel()) and panel["members"] and panel)
    assert seen(panel) == FAMILY
    assert [bool(member["marks"] or member["blocked"]) for member in panel["members"]] == [True, True, False, False]
    desk.run("window.sameClient = true")
    desk.click(".evergreen-groups a[href$='/1015/checkout']")
    assert len(desk.panel_of(1015)["members"]) == 4
    assert desk.browser.current_url.endswith(f"{CLIENTS[client]}/1015/checkout")
    desk.run("history.back()")
    desk.panel_of(1017)
    assert desk.run("return window.sameClient")
    desk.open(client, "1015/checkout")
    assert len(desk.panel_of(1015)["members"]) == 4
    desk.click(fold)
    desk.until(lambda: (panel := desk.panel()) and not panel["members"])
    desk.open(client, "1015/checkout")
    assert desk.panel_of(1015)["members"] == []


@both_clients
def test_somebody_alone(desk: Desk, client: str) -> None:
    panel = opened(desk, client, LONELY)
    assert panel["amount"] is None
    assert panel["lines"] == ["Group Fines", "no other members"]
    assert panel["page"] == f"/evergreen-groups/patrons/{LONELY}/group"
    assert opened(desk, client)["height"] == panel["height"]


@both_clients
@pytest.mark.parametrize("unfolded", [False, True])
def test_nothing_moves(desk: Desk, client: str, unfolded: bool) -> None:
    """The layout is stable from the first frame on, with late answers, other patrons, and a patron alone in a group.

    Unfolded, the panel changes its height only when the next patron's members are known.
    """
    below = {"Angular": "#patron-tabs", "Angular 3.11": ".evergreen-groups + .row"}
    below = below.get(client, ".evergreen-groups ~ .patron-summary-divider")
    if unfolded:
        desk.unfold()
    watch = _POSITIONS.replace("BELOW", json.dumps(below)) + _NO_TIME_PASSES
    with desk.in_new_pages(watch), desk.gate.holding(1017):
        desk.open(client, "1017/checkout")
        desk.gate.arrived.wait()
        desk.shows("$3.10")
        desk.framed()
    desk.panel_of(1017)
    desk.go(client, LONELY)
    desk.panel_of(LONELY)
    desk.shows("$62.00")
    desk.go(client, 1007)
    desk.panel_of(1007)
    desk.framed()
    seen_states, distances, shifts = desk.run("return [window.states, window.distances, window.shifts]")
    assert set(seen_states) == {"loading", "ready"}
    if unfolded:
        assert len([here for here, before in zip(distances[1:], distances, strict=False) if here != before]) == 3
        return
    assert len(set(distances)) == 1
    assert shifts == []


@both_clients
def test_the_service_is_down_from_the_first_and_the_clients_own_row_comes_first(desk: Desk, client: str) -> None:
    height = opened(desk, client)["height"]
    desk.service_down()
    desk.go(client, 1012)
    panel = desk.problem("Not available right now.")
    assert panel["height"] == height
    desk.go(client, 1017)
    desk.shows("$3.10")  # until then the panel may still show the previous patron
    desk.framed()
    desk.problem("Not available right now.")
    heads = (
        "return [...document.querySelector('.evergreen-groups').parentElement.children]"
        ".filter((row) => row.offsetParent).map((row) => row.innerText.split('\\n')[0].trim())"
    )
    rows = desk.until(
        lambda: (rows := desk.run(heads)) and "Group Fines" in rows and rows
    )  # not while figures are blank
    at = rows.index("Group Fines")
    assert rows[at - 1 : at + 2][0] == "Fines Owed"
    assert "evergreen-groups" in desk.run(
        "let row = document.querySelector('[data-field=group]').parentElement;"
        "do row = row.nextElementSibling; while (!row.offsetParent); return row.className"
    )
    desk.service_up()
    desk.panel_of(1017)  # by itself


@both_clients
def test_over_the_limit_and_blocked_in_evergreen_are_two_things(desk: Desk, client: str) -> None:
    fines = {"name": "PATRON_EXCEEDS_FINES", "label": "Patron exceeds fine threshold", "org_unit": "HARBOR"}
    fines |= {"since": "2026-11-02T09:00:00+0000", "by_staff": False}
    note = {"name": "STAFF_CHR", "org_unit": "CONS", "since": None, "by_staff": True}
    truths = json.dumps(
        {1015: (True, [fines], []), 1016: (True, [], [note]), 1017: (False, [fines], [note]), 1018: (None, [], [])}
    )
    panel = altered(
        desk,
        client,
        f"const truths = {truths}; for (const one of answer.members) "
        "[one.over_limit, one.blocked_in_evergreen, one.other_blocks] = truths[one.id];"
        " Object.assign(answer, { blocked_count: 3, blocked_count_at_least: 3,"
        " over_limit_count: null, over_limit_count_at_least: 2 })",  # one member's limit isn't visible
    )
    assert panel["amount"] == "$25.65"
    assert panel["lines"][1] == "Info only · 3 of 4 blocked"
    note = "STAFF_CHR (at CONS), set by staff"
    fines = "Patron exceeds fine threshold (at HARBOR, since 2 Nov 2026)"
    over = "over the limit, not blocked for fines; limit: $5.00"
    assert {member["name"]: (member["blocked"], member["about"]) for member in panel["members"]} == {
        FAMILY[0][0]: (["Blocked"], ["group lead", f"blocked in Evergreen: {fines}"]),
        FAMILY[1][0]: (["Blocked"], [over, f"blocked in Evergreen, not for fines: {note}"]),
        FAMILY[2][0]: (["Blocked"], [f"blocked in Evergreen, own fines within the limit: {fines}; {note}"]),
        FAMILY[3][0]: ([], []),
    }
    assert [member["marks"] for member in panel["members"]] == [[]] * 4, "one chip each"
    answers(
        desk,
        "for (const one of answer.members)"
        " Object.assign(one, { over_limit: true, blocked_in_evergreen: [], recalculation: 'may-help' })",
    )
    desk.go(client, 1015)
    members = desk.panel_of(1015)["members"]
    assert [member["marks"] for member in members] == [["Over limit"]] * 4
    assert {member["about"][-1].split(";")[0] for member in members} == {"over the limit, not yet blocked in Evergreen"}


WITHOUT_LIMITS = (
    "for (const one of answer.members)"
    " Object.assign(one, { over_limit: null, limit: null, blocked_in_evergreen: [], other_blocks: [] });"
    " Object.assign(answer, { blocked_count: null, blocked_count_at_least: 0,"
    " over_limit_count: null, over_limit_count_at_least: 0 })"
)


def with_limits(blocked: list[int], over: list[int]) -> str:
    """Return a change: who is blocked, and who is over the limit."""
    return (
        f"const [blocked, over] = {[blocked, over]}; for (const one of answer.members) [one.over_limit,"
        " one.blocked_in_evergreen] = [over.includes(one.id), blocked.includes(one.id) ? [{ name: 'X' }] : []];"
        " answer.blocked_count = answer.blocked_count_at_least = blocked.length;"
        " answer.over_limit_count = answer.over_limit_count_at_least = over.length"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (WITHOUT_LIMITS, ""),
        (with_limits([], []), " · no one blocked"),
        (with_limits([1015], [1015]), " · 1 other blocked"),
        (with_limits([1017], [1017]), " · 1 of 4 blocked"),
        (with_limits([1015, 1016, 1017], [1015, 1016, 1017]), " · 3 of 4 blocked"),
        (with_limits([1015, 1016, 1017], [1015, 1016, 1017, 1018]), " · 3 blocked, 1 more over limit"),
        (with_limits([], [1015]), " · 1 over the limit"),
    ],
)
def test_one_number_says_who_is_blocked(desk: Desk, change: str, said: str) -> None:
    panel = altered(desk, "AngularJS", change)
    assert (panel["amount"], panel["lines"][1]) == ("$25.65", f"Info only{said}")


FORM = "const [info] = document.querySelectorAll('.evergreen-groups-info'); return [info.innerText, info.offsetHeight]"


@both_clients
def test_a_family_of_one_surname_is_shown_by_given_names(desk: Desk, client: str) -> None:
    """Links have the whole name for screen readers, and so do details."""
    opened(desk, client)
    assert [member["shown"] for member in altered(desk, client, "")["members"]] == [
        "Thị Hương",
        "Văn Đức",
        "Minh",
        "Lan",
    ]
    assert desk.element(".evergreen-groups li a").accessible_name == "Nguyễn, Thị Hương"
    for change in (
        "answer.members[3].name = 'Lê, Lan'",
        "answer.members[3].name = 'Nguyễn, Minh'",  # as another member's
        "answer.members[3].name = 'Lan'",
        "answer.members[3].name = ''",
    ):
        panel = altered(desk, client, change)
        assert [member["shown"] for member in panel["members"]] == [member["name"] for member in panel["members"]], (
            change
        )


@both_clients
def test_a_cut_name_keeps_what_distinguishes(desk: Desk, client: str) -> None:
    change = (
        "for (const one of answer.members) one.name = one.name.replace('Nguyễn', 'Raghunathan-Whitfield');"
        "answer.members[0].name = 'Nguyễn, Thị Hương'"
    )
    assert altered(desk, client, change)["members"][3]["shown"] == "Raghunathan-Whitfield, Lan"
    desk.run("document.querySelector('.evergreen-groups-box').style.width = '200px'")
    desk.framed()
    given_names = (
        "return [...document.querySelectorAll('.evergreen-groups li a')].map((link) => {"
        "  const given = link.querySelector('span + span').getBoundingClientRect();"
        "  const { bottom, right } = link.getBoundingClientRect();"
        "  return [given.top < bottom && given.right <= right,"
        "    link.querySelector('span + span').scrollWidth <= given.width + 1]; })"
    )
    assert desk.run(given_names) == [[True, True]] * 4
    surname = "const cut = document.querySelectorAll('.evergreen-groups li a')[3].querySelector('span')"
    assert desk.run(f"{surname}; return cut.scrollWidth > cut.clientWidth")
    desk.until(lambda: desk.element(".evergreen-groups li a").accessible_name == "Nguyễn, Thị Hương")


SIZES = """
const box = document.querySelector(".evergreen-groups-box");
const texts = [...box.querySelectorAll("*")].filter((one) => [...one.childNodes].some((node) => node.nodeType === 3));
const targets = [...box.querySelectorAll("a, button")].map((one) => one.getBoundingClientRect());
const rows = [...box.querySelectorAll("li")].map((one) => one.getBoundingClientRect());
return {
  font: Math.min(...texts.map((one) => parseFloat(getComputedStyle(one).fontSize))),
  target: Math.min(...targets.flatMap(({ width, height }) => [width, height])),
  rows: rows.length, row: Math.min(...rows.map(({ height }) => height)),
  below: box.getBoundingClientRect().bottom - Math.max(...rows.map(({ bottom }) => bottom)),
};
"""
MANY = ("answer.members = [...answer.members, ...Array.from({ length: 40 }, (_, at) => ({ ...answer.members[1],"
    " id: 5000 + at, over_limit: true, blocked_in_evergreen: [], own_fines: '1234.10' }))]")  # fmt: skip


@both_clients
def test_text_and_targets_are_large_enough_and_rows_are_whole(desk: Desk, client: str) -> None:
    desk.unfold()
    opened(desk, client)
    sizes = desk.run(SIZES)
    assert sizes["font"] >= 13
    assert min(sizes["target"], sizes["row"]) >= 24
    assert sizes["rows"] == 4
    assert 0 <= sizes["below"] < 5, "no empty space for missing rows"


def focus_first_member(desk: Desk) -> str:
    desk.run("document.querySelector('.evergreen-groups [aria-expanded]').focus()")
    desk.press(Keys.TAB, Keys.TAB)
    return str(desk.run("return document.activeElement.getAttribute('aria-describedby')"))


@both_clients
def test_details_are_in_a_tooltip(desk: Desk, client: str) -> None:
    desk.unfold()
    opened(desk, client)
    tip = desk.element(f"#{focus_first_member(desk)}")
    assert tip.is_displayed()
    assert tip.text.splitlines()[:2] == [FAMILY[0][0], "group lead"]
    desk.press(Keys.ESCAPE)
    assert not tip.is_displayed()
    desk.press(Keys.TAB)
    assert not tip.is_displayed()
    chip = desk.element(".evergreen-groups-blocked")
    ActionChains(desk.browser).move_to_element(chip).perform()
    assert tip.is_displayed()
    ActionChains(desk.browser).move_to_element(tip).perform()
    assert tip.is_displayed(), "it stays while the pointer is on it"


# Texts 40 % longer, and how far anything sticks out of the panel.
LONGER = """
const box = document.querySelector(".evergreen-groups-box");
const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const { currentNode: node } = walker;
  const { data } = node;
  if (!node.parentElement.closest("bdi, .evergreen-groups-sum")) node.data += " " + data.slice(0, data.length * 0.4);
}
const { left, right } = box.getBoundingClientRect();
const all = [...box.querySelectorAll("*")].filter((one) => one.getClientRects().length);
const seen = all.filter((one) => !one.closest("[role=tooltip], .evergreen-groups-spoken"));
const out = seen.map((one) => one.getBoundingClientRect()).map((one) => Math.max(left - one.left, one.right - right));
const cut = seen.filter((one) => !one.closest("li") && one.scrollWidth > one.clientWidth && one.clientWidth);
return [Math.max(...out), cut.map((one) => one.outerHTML), box.querySelector("bdi").parentElement.clientWidth];
"""


@both_clients
def test_longer_texts_fit(desk: Desk, client: str) -> None:
    look(desk.browser, 1280)
    altered(desk, client, MANY)
    out, cut, name = desk.run(LONGER)
    assert out <= 0
    assert cut == []
    assert name >= 40


def test_the_barcode_field_stays_on_screen(desk: Desk) -> None:
    """The demo desk lacks six rows of the real summary, where *Fines Owed* begins at 198 px."""
    look(desk.browser, 1280, height=900)
    assert len(altered(desk, "Angular", MANY)["members"]) == 8
    length = desk.run(
        "const owed = document.querySelector('[data-field=owed]').parentElement;"
        "const list = owed.parentElement;"
        "for (let i = 0; i < 6; i++) list.append(list.lastElementChild.cloneNode(true));"
        "const field = document.createElement('input'); document.getElementById('patron-tabs').prepend(field);"
        "return field.getBoundingClientRect().bottom - owed.getBoundingClientRect().top"
    )
    assert 198 + length < 900


@both_clients
def test_evergreens_threshold_is_named_where_it_explains_a_block(desk: Desk, client: str) -> None:
    block = {"name": "PATRON_EXCEEDS_FINES", "org_unit": "CONS", "since": None, "by_staff": False}
    fine, over = {"over_limit": False, "blocked_in_evergreen": [block]}, {"over_limit": True}
    found = {
        1015: {**fine, "recalculation": "reaches-threshold", "evergreen_threshold": "5.00"},
        1016: {**fine, "recalculation": "threshold-hidden", "evergreen_threshold": None},
        1017: {**over, "recalculation": "below-threshold", "evergreen_threshold": "10.00"},
        1018: {**over, "recalculation": "not-known", "evergreen_threshold": None},
    }
    panel = altered(
        desk,
        client,
        f"const found = {json.dumps(found)}; for (const one of answer.members)"
        " Object.assign(one, { blocked_in_evergreen: [], other_blocks: [] }, found[one.id])",
    )
    said = {member["name"]: member["about"][-1] for member in panel["members"]}
    own = "limit: $5.00"
    hidden = "Evergreen's threshold is hidden from your login"
    within = "blocked in Evergreen, own fines within the limit"
    assert said == {
        FAMILY[0][0]: f"{within}: PATRON_EXCEEDS_FINES (at CONS); Evergreen blocks at $5.00",
        FAMILY[1][0]: f"blocked in Evergreen: PATRON_EXCEEDS_FINES (at CONS); {hidden}",
        FAMILY[2][0]: f"over the limit, not blocked in Evergreen; {own}; Evergreen blocks at $10.00",
        FAMILY[3][0]: f"over the limit, not blocked in Evergreen; {own}; {hidden}",
    }


def test_what_is_not_in_the_list_is_counted(desk: Desk) -> None:
    panel = altered(
        desk,
        "Angular",
        "const [first] = answer.members; answer.members = [...answer.members, ...Array.from({ length: 40 },"
        " (_, at) => ({ ...first, id: 5000 + at, own_fines: '0.10', blocked: false, over_limit: false,"
        " blocked_in_evergreen: [] }))];"
        " answer.hidden_members = { count: 3, fines: '7.00' }",
    )
    assert panel["lines"][0].splitlines()[0] == "47 members"
    assert seen(panel)[:3] == FAMILY[:3]
    assert len(panel["members"]) == 8
    assert panel["rest"] == "36 more on the group page; 3 members hidden from your login, $7.00"


@both_clients
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_red_is_for_a_block_of_ones_own_and_the_group_is_neutral(desk: Desk, client: str, mode: str) -> None:
    desk.dark(mode)
    altered(
        desk,
        client,
        "for (const one of answer.members) one.blocked_in_evergreen = one.id === 1016 ? [{ name: 'X' }] : []",
    )
    desk.shows("$3.10")
    colors = (
        "return arguments[0].map((selector) => {"
        "  const { color, backgroundColor } = getComputedStyle(document.querySelector(selector));"
        "  return [color, backgroundColor]; })"
    )
    page, sum_, over, blocked = desk.run(
        colors, ["body", ".evergreen-groups-box", ".evergreen-groups-mark", ".evergreen-groups-blocked"]
    )
    if client.endswith("3.11"):
        page = ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]  # this client defines no colors, so the browser's defaults apply
    assert sum_ == page
    assert over[0] == page[0]
    assert blocked not in (page, over)
    owed = "[data-alert=owed], #patron-summary-grid > [ng-class*='fines.balance_owed']"
    assert desk.run(colors, [owed])[0] != page


@both_clients
def test_an_answer_that_comes_late_is_dropped(desk: Desk, client: str) -> None:
    with desk.gate.holding(1015):
        desk.open(client, "1015/checkout")
        desk.gate.arrived.wait()
        desk.shows("$14.75")
        assert desk.panel()["state"] == "loading"
        desk.watch()
        desk.go(client, 1007)
        desk.panel_of(1007)
    desk.shows("$5.00")
    assert desk.panel_of(1007)["amount"] != "$25.65"
    assert desk.watched() == {("20000000001007", 1007)}


@both_clients
def test_names_are_text(desk: Desk, client: str) -> None:
    for patron, name in zip(HOSTILE_PATRONS, HOSTILE, strict=True):
        desk.sandbox._store.update("au", patron, {"family_name": name, "master_account": "t"})
    desk.unfold()
    desk.open(client, f"{HOSTILE_PATRONS[0]}/checkout")
    panel = desk.panel_of(HOSTILE_PATRONS[0])
    names = " ".join(member["name"] for member in panel["members"])
    assert all(name in names for name in HOSTILE)
    assert desk.run("return document.querySelectorAll('.evergreen-groups img').length") == 0
    assert desk.run("return window.harmed") is None
    sum_, name = desk.run(
        "return [...document.querySelector('.evergreen-groups li .evergreen-groups-line').children]"
        ".map((one) => one.getBoundingClientRect().left)"
    )[::-1]
    assert name < sum_, "what stands after a name that turns the direction of writing"


@pytest.mark.parametrize(("account", "patron"), [("consortium_staff", DELETED), ("harbor_desk", 1012)])
def test_a_patron_who_is_deleted_or_hidden(desk: Desk, account: str, patron: int) -> None:
    opened(desk, "Angular")
    desk.have_cookie(session(desk.sandbox.url, username=account))  # perhaps another operator at the same desk
    desk.go("Angular", patron)
    panel = desk.problem("Deleted, or not visible to your login.")
    assert (panel["amount"], panel["members"], panel["page"]) == (None, [], None)
    assert "Try again" not in panel["text"]


@pytest.mark.parametrize("retry_after", ["86400000", "9" * 400])
def test_it_waits_some_minutes_at_most(desk: Desk, retry_after: str) -> None:
    """A delay of more than 24 days would make a browser's timer fire at once."""
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
    desk.problem("Not available right now.")
    assert max(desk.run("return waits")) == 300_000


@both_clients
def test_the_service_goes_down_and_comes_up(desk: Desk, client: str) -> None:
    desk.open(client, "1007/checkout")
    desk.panel_of(1007)
    desk.service_down()
    desk.go(client, 1017)
    desk.problem("Not available right now.")
    desk.until(desk.shown_stock_row)  # the client's own figure stays visible
    with desk.gate.holding(1017):  # hold the answer, or the panel might recover before the key is pressed
        desk.service_up()
        desk.run("document.querySelector('.evergreen-groups button').focus()")
        desk.press(Keys.ENTER)
        desk.gate.arrived.wait()
    assert desk.panel_of(1017)["amount"] == "$25.65"
    assert desk.focused() == "4 members"
    assert not desk.shown_stock_row()


@both_clients
def test_an_ended_session(desk: Desk, client: str) -> None:
    token = desk.log_in_as("consortium_staff")
    with desk.gate.holding(1017):
        desk.open(client, "1017/checkout")
        desk.gate.arrived.wait()
        desk.until(desk.shown_stock_row)  # the service is slow, so the client's own row appears after two seconds
        end_session(desk.sandbox.url, token)
    panel = desk.problem("Your session has ended.")
    assert "Nguy" not in panel["text"]
    assert desk.shown_stock_row()


def test_a_refusal_is_not_for_ever(desk: Desk) -> None:
    """Another operator may be logged in by the time the client reloads its amounts."""
    opened(desk, "Angular")
    desk.comes_to_rest()
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
    desk.log_in_as("north_manager")
    desk.unfold()
    desk.open("Angular", "1026/checkout")
    panel = desk.panel_of(1026)
    assert panel["amount"] == "$40.40"
    assert panel["lines"][1] == "Info only · at least 1 of 3 blocked"
    assert panel["lines"][0].splitlines()[0] == "3 members"
    assert [(member["name"], member["owed"]) for member in panel["members"]] == [
        ("O'Sullivan-Byrne, Siobhán", "$18.40"),
        ("O'Sullivan-Byrne, Aoife", "$0.00"),
    ]
    assert panel["rest"] == "1 member hidden from your login, $22.00"


@both_clients
def test_tabs_and_refreshing_penalties(desk: Desk, client: str) -> None:
    opened(desk, client)
    desk.run("window.kept = document.querySelector('.evergreen-groups')")
    desk.click("[data-tab=bills]")
    desk.until(lambda: desk.browser.current_url.endswith("/bills"))
    assert desk.panel_of(1017)
    assert desk.run("return window.kept === document.querySelector('.evergreen-groups')")
    desk.shows("$3.10")
    desk.comes_to_rest()
    desk.hold(REREAD)
    before = desk.gate.count(1017)
    refreshed(desk, {"Angular": "$0.00", "AngularJS": ""}[kind(client)])
    assert desk.panel_of(1017)["amount"] == "$25.65"
    assert not desk.shown_stock_row()
    assert desk.gate.count(1017) == before


def refreshed(desk: Desk, blank: str) -> None:
    """Have the client reload its amounts: briefly blank, then the same as before."""
    desk.run(
        "const cell = document.querySelector('[data-field=owed]'); window.owed = [];"
        "new MutationObserver(() => window.owed.push(cell.textContent))"
        ".observe(cell, { characterData: true, childList: true, subtree: true })"
    )
    desk.click("[data-tab=refresh]")
    desk.until(lambda: desk.run("return window.owed.length") == 2)
    assert desk.run("return window.owed") == [blank, "$3.10"]


def test_a_new_bill_is_read_again(desk: Desk) -> None:
    desk.open("Angular", "1001/checkout")
    assert desk.panel_of(1001)["amount"] == "$28.10"
    bill = idl_classes().wire_object("mb", {"xact": 70001, "amount": "2.00", "billing_type": "Misc", "btype": 101})
    caller = Caller(desk.sandbox.url)
    caller.body("open-ils.circ", "open-ils.circ.money.billing.create", caller.token("admin"), bill)
    desk.click("[data-tab=refresh]")
    panel = desk.until(lambda: (panel := desk.panel()) and panel["amount"] == "$30.10" and panel)
    assert panel["lines"][1].endswith("1 of 6 blocked")


def test_a_move_is_read_again_when_the_client_reloads_its_amounts(desk: Desk) -> None:
    opened(desk, "Angular")
    desk.comes_to_rest()
    desk.hold(REREAD)
    before = desk.gate.count(1017)
    move_out(desk)
    refreshed(desk, "$0.00")
    assert desk.gate.count(1017) == before
    desk.let_pass(REREAD)
    desk.comes_to("$27.15")
    assert not desk.shown_stock_row()
    assert desk.gate.count(1017) == before + 1


@both_clients
def test_who_is_in_the_group_is_read_again_after_its_tab(desk: Desk, client: str) -> None:
    """The client changes groups on this tab, and doesn't always reload its own amounts afterward."""
    opened(desk, client, tab="group")
    desk.comes_to_rest()
    move_out(desk)
    desk.click("[data-tab=checkout]")
    desk.comes_to("$27.15")


@both_clients
def test_a_move_in_the_clients_own_list_is_read_again_while_it_stays_open(desk: Desk, client: str) -> None:
    opened(desk, client, tab="group")
    desk.until(lambda: desk.run("return document.querySelectorAll('.eg-grid-row[data-patron]').length") == 4)
    desk.until(lambda: desk.run("return document.querySelector('[data-total]').textContent") == "$25.65")
    desk.comes_to_rest()
    desk.run("document.querySelector('.eg-grid-row input[value=\"1018\"]').click()")
    desk.run("[...document.querySelectorAll('button')].find((one) => /^Remove Selected/.test(one.textContent)).click()")
    desk.comes_to("$27.15")
    assert desk.panel()["lines"][0].splitlines()[0] == "3 members"


@both_clients
def test_a_change_on_the_page_is_heard_of(desk: Desk, client: str) -> None:
    opened(desk, client)
    desk.comes_to_rest()
    before = desk.gate.count(1017)
    move_out(desk)
    say = "new BroadcastChannel('evergreen-groups').postMessage(arguments[0])"
    for other in ({"kind": "changed", "patrons": [1001], "groups": [1001]}, {"kind": "other", "patrons": [1017]}, None):
        desk.run(say, other)
    desk.run(say, {"kind": "changed", "patrons": [1018], "groups": []})  # a member of the group
    desk.comes_to("$27.15")
    assert desk.gate.count(1017) == before + 1
    desk.run(say, {"kind": "changed", "patrons": [], "groups": [1005]})
    group = desk.run("return fetch('/evergreen-groups/api/v1/patrons/1017/summary').then((one) => one.json())")["group"]
    desk.run(say, {"kind": "changed", "patrons": [], "groups": [group]})
    desk.until(lambda: desk.gate.count(1017) >= before + 3)


# The AngularJS client's logout link removes the cookie without a broadcast. An event, because cookieStore isn't
# available over plain http.
FORGET = "document.cookie = 'eg.auth.token=; path=/; max-age=0'; document.dispatchEvent(new Event('visibilitychange'))"


@both_clients
@pytest.mark.parametrize("broadcast", [True, False])
def test_logging_out_removes_the_figures(desk: Desk, client: str, broadcast: bool) -> None:
    desk.unfold()
    opened(desk, client)
    say = "new BroadcastChannel('eg.auth').postMessage(arguments[0])"
    desk.run(say, {"action": "logout", "domain": "eg.other"})
    desk.run(say, {"action": "login"})
    assert desk.panel_of(1017)
    desk.run(say if broadcast else FORGET, {"action": "logout"})
    panel = desk.problem("Your session has ended.")
    assert "Nguy" not in panel["text"]
    assert (panel["amount"], panel["members"]) == (None, [])


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
    assert desk.run("return document.querySelectorAll('.evergreen-groups').length") == 1


def test_a_language_without_translations(desk: Desk) -> None:
    """Amounts are formatted for the language of the panel's texts."""
    desk.unfold()
    panel = opened(desk, "/eg2/ar-EG/staff/circ/patron")
    assert panel["amount"] == "$25.65"
    assert panel["members"][0]["link"] == "/eg2/ar-EG/staff/circ/patron/1015/checkout"


@both_clients
def test_a_walk_with_the_keyboard(desk: Desk, client: str) -> None:
    desk.unfold()
    opened(desk, client)
    desk.run("document.querySelector('#summary-toggle').focus()")
    stops: list[str] = []
    names = [name.split(", ")[1] for name, *_ in FAMILY]
    while names[-1] not in stops and len(stops) < 20:
        desk.press(Keys.TAB)
        stops.append(desk.focused().replace(", \n", ", ").splitlines()[0])
    first = stops.index("4 members")
    assert stops[first:] == ["4 members", "Info only · 2 of 4 blocked", *names]
    desk.press(Keys.ENTER)
    desk.until(lambda: desk.browser.current_url.endswith("/1018/checkout"))
    desk.panel_of(1018)


@both_clients
def test_axe_finds_nothing(desk: Desk, client: str) -> None:
    altered(desk, client, "answer.members.forEach((one, at) => (one.blocked_in_evergreen = at ? [] : [{ name: 'X' }]))")
    focus_first_member(desk)
    assert desk.flaws() == []


@pytest.mark.parametrize(
    ("settings", "target"),
    [
        (DeskSettings(panel_link="same"), "_self"),
        (DeskSettings(panel_link="new"), "_blank"),
        (DeskSettings(page=False), None),
    ],
)
def test_where_the_link_opens_the_page(desk: Desk, tmp_path: Path, settings: DeskSettings, target: str | None) -> None:
    with desk.with_settings(tmp_path, settings):
        desk.open("AngularJS", "1017/checkout")
        assert desk.panel_of(1017)["amount"] == "$25.65"
        desk.answered_with("/desk.json")
        if target is None:
            assert desk.panel()["page"] is None
            return
        desk.until(lambda: desk.panel()["page"])
        link = desk.element(".evergreen-groups-line a")
        assert link.get_attribute("target") == target
        assert link.get_attribute("href").endswith("/evergreen-groups/patrons/1017/group?client=eg")


def test_stripes_stay_in_turn_while_the_stock_row_is_hidden(desk: Desk) -> None:
    opened(desk, "AngularJS")
    colors = (
        "const rows = [...document.querySelectorAll('#patron-summary-grid > .row')].filter((row) => row.offsetHeight);"
        "const ours = rows.findIndex((row) => row.classList.contains('evergreen-groups'));"
        "return rows.slice(ours, ours + 3).map((row) => getComputedStyle(row).backgroundColor)"
    )
    desk.until(lambda: len(set(desk.run(colors)[:2])) == 2)
    first, second, third = desk.run(colors)
    assert first != second != third


def test_loading_it_twice_shows_it_once(desk: Desk) -> None:
    opened(desk, "Angular")
    desk.browser.execute_async_script(
        "const again = document.createElement('script'); again.src = '/evergreen-groups/panel.js';"
        "again.onload = arguments[0]; document.body.append(again)"
    )
    assert desk.run("return document.querySelectorAll('.evergreen-groups').length") == 1


def test_it_is_small() -> None:
    scripts = resources.files("evergreen_groups.web").joinpath("static")
    assert len(scripts.joinpath("panel.js").read_bytes()) < 22_500
    assert sum(len(scripts.joinpath(f"{name}.js").read_bytes()) for name in ("panel", "group", "tab", "texts")) < 54_500


def test_nothing_is_asked_without_a_patron(desk: Desk) -> None:
    desk.browser.get(f"{desk.sandbox.url}/eg2/en-US/staff/circ/patron/search")
    desk.until(lambda: desk.run("return document.querySelector('#merge')"))
    asked = len([path for path in desk.gate.asked if path.endswith("/summary")])
    desk.run("document.body.append(document.createElement('p'))")
    desk.browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => setTimeout(done))")
    assert len([path for path in desk.gate.asked if path.endswith("/summary")]) == asked
    assert desk.panel() is None


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
DATA = re.compile(r"Patron exceeds fine threshold|HARBOR|LAKELAND|STAFF_C|Group Fines")
"""Untranslated data: names of penalties and libraries, and the client's name for its own row."""


def test_every_text_of_the_panel_is_in_the_catalogue(desk: Desk) -> None:
    def texts() -> list[str]:
        language, direction, found = desk.run(SPOKEN)
        assert (language, direction) == ("ar-XB", "rtl")
        return [text for text in found if LATIN.search(DATA.sub("", text))]

    desk.unfold()
    opened(desk, MIRRORED)
    assert len(desk.run(SPOKEN)[2]) > 10
    assert texts() == []
    desk.service_down()
    desk.go(MIRRORED, 1007)
    desk.until(lambda: (panel := desk.panel()) and panel["state"] == "down")
    assert texts() == []


def test_the_tabs_own_words(desk: Desk) -> None:
    desk.open(MIRRORED, "1017/group")
    desk.tab_shown()
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
    desk.speak("ar-XB")
    opened(desk, MIRRORED if client == "Angular" else "/eg/staff/circ/patron")
    language, direction, texts = desk.run(ON_SCREEN)
    assert (language, direction) == ("ar-XB", "rtl")
    data = re.compile(
        r"Nguy.*Minh|HARBOR|AngularJS|Angular|Evergreen 3|\$|consortium_staff|[a-z]+\d+|Adults?|Child|^checkout$"
    )
    assert [text for text in texts if LATIN.search(data.sub("", text))] == []


@pytest.mark.parametrize(("tag", "amount"), [("fr-CA", "25,65\xa0$"), ("cs-CZ", "25,65\xa0$"), ("es-ES", "$25.65")])
def test_panel_tab_and_page_are_in_the_language_of_the_address(desk: Desk, tag: str, amount: str) -> None:
    with use_language(Language(tag)):
        label, title = gettext("Group Fines"), gettext("Group Member Details")
        assert price(Decimal("25.65")) == amount
    assert "Group" not in label + title
    panel = opened(desk, f"/eg2/{tag}/staff/circ/patron", tab="group")
    assert panel["amount"] == amount
    assert desk.flaws() == []
    assert label in panel["text"]
    desk.tab_shown()
    page = desk.run(
        "const page = document.querySelector('.evergreen-groups-tab iframe').contentDocument;"
        "return [page.documentElement.lang, page.querySelector('h1').innerText, page.querySelector('main').innerText]"
    )
    assert page[:2] == [tag, title]
    assert amount in page[2]
    assert label in page[2]
    desk.run("document.querySelector('.evergreen-groups-box').style.width = '200px'")
    desk.framed()
    assert desk.run(FORM)[1] == 24, "who is blocked takes one line"
