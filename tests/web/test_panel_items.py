"""The panel for a family in which nobody owes anything, in a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from support.bills_and_items import lend
from support.circulators import change_rows
from support.debts import owe
from support.desk_browser import CLIENTS, Desk

pytestmark = pytest.mark.long  # needs a browser

HARBOR, ELM, MILL = 11, 22, 21
OVERDUE_COUNT, LOST_COUNT, STAFF_BLOCK = 2, 5, 25
PAST, FUTURE = "2026-09-20", "2039-01-15"
MINH, LAN = "Nguyễn, Minh", "Nguyễn, Lan"
both_clients = pytest.mark.parametrize("client", list(CLIENTS))


@pytest.fixture
def fine_free(desk: Desk) -> Desk:
    for patron in range(1015, 1019):
        owe(desk.sandbox, patron)
        change_rows(desk.sandbox, "DELETE FROM ausp WHERE usr = ?", patron)
    desk.unfold()
    return desk


def block(desk: Desk, patron: int, penalty: int) -> None:
    desk.sandbox._store.insert("ausp", {"usr": patron, "org_unit": HARBOR, "standing_penalty": penalty})


def shown(desk: Desk, client: str = "Angular", patron: int = 1017) -> Any:
    """Return a patron's panel; isolates around names are left out."""
    desk.open(client, f"{patron}/checkout")
    panel = desk.panel_of(patron)
    lines = [line.translate({0x2068: None, 0x2069: None}).splitlines()[-1] for line in panel["lines"]]
    return {**panel, "lines": lines, "own": {member["name"]: member["owed"] for member in panel["members"]}}


@both_clients
def test_overdue_items_instead_of_zeros(fine_free: Desk, client: str) -> None:
    for patron, count in ((1016, 1), (1017, 3)):
        for _ in range(count):
            lend(fine_free.sandbox, patron, PAST)
    lend(fine_free.sandbox, 1018, FUTURE)
    panel = shown(fine_free, client)
    assert panel["lines"] == ["Group: 4 items overdue", "Info only · no one blocked"]
    assert list(panel["own"].items())[:2] == [(MINH, "3 overdue"), ("Nguyễn, Văn Đức", "1 overdue")]
    assert set(list(panel["own"].values())[2:]) == {""}
    assert "$" not in panel["text"]
    assert fine_free.flaws() == []


def test_lost_items_alone_and_both_together(fine_free: Desk) -> None:
    lend(fine_free.sandbox, 1018, PAST, state="LOST")
    assert shown(fine_free)["lines"][0] == "Group: 1 item lost"
    lend(fine_free.sandbox, 1018, PAST)
    panel = shown(fine_free)
    assert panel["lines"][0] in ("Group: 1 item overdue, 1 item lost", "Group: 1 overdue, 1 lost")
    assert panel["own"][LAN] == "1 overdue, 1 lost"


@both_clients
def test_a_group_without_debts_and_late_items_stays_quiet(fine_free: Desk, client: str) -> None:
    lend(fine_free.sandbox, 1018, FUTURE)
    panel = shown(fine_free, client)
    assert (panel["lines"], panel["amount"]) == (["$0.00", "Info only · no one blocked"], "$0.00")


def test_money_is_shown_where_anyone_owes_any(fine_free: Desk) -> None:
    lend(fine_free.sandbox, 1018, PAST)
    owe(fine_free.sandbox, 1015, (HARBOR, "0.10"))
    panel = shown(fine_free)
    assert (panel["amount"], panel["own"][LAN]) == ("$0.10", "$0.00")


def test_who_is_blocked_for_own_items(fine_free: Desk) -> None:
    lend(fine_free.sandbox, 1017, PAST)
    lend(fine_free.sandbox, 1018, PAST)
    block(fine_free, 1017, OVERDUE_COUNT)
    panel = shown(fine_free)
    assert panel["lines"][1] in (f"{MINH}: blocked for own items", "Minh: blocked for own items")
    said = fine_free.run("return document.querySelector('.evergreen-groups-info').firstChild.textContent")
    assert said == f"\u2068{MINH}\u2069: blocked for own items"
    about = {member["name"]: (member["blocked"], member["about"]) for member in panel["members"]}
    why = "blocked in Evergreen for own items: Patron exceeds max overdue item threshold (at HARBOR)"
    assert (about[MINH], about[LAN]) == ((["Blocked"], [why]), ([], []))
    block(fine_free, 1018, LOST_COUNT)
    both = (f"{LAN}; {MINH}: blocked for own items", "2 of 4 blocked for own items")
    assert shown(fine_free)["lines"][1] in both


def test_a_block_for_something_else_is_not_put_down_to_items(fine_free: Desk) -> None:
    lend(fine_free.sandbox, 1017, PAST)
    block(fine_free, 1017, LOST_COUNT)
    block(fine_free, 1018, STAFF_BLOCK)
    panel = shown(fine_free)
    assert panel["lines"][1] == "Info only · 2 of 4 blocked"


def test_hidden_members_and_hidden_items_make_lower_bounds(fine_free: Desk) -> None:
    sandbox = fine_free.sandbox
    lend(sandbox, 1017, PAST)
    lend(sandbox, 1018, PAST, library=ELM)
    owe(sandbox, 1012)
    sandbox._store.update("au", 1012, {"usrgroup": sandbox._store.rows("au", {"id": 1015})[0]["usrgroup"]})
    fine_free.log_in_as("harbor_desk")
    fine_free.unfold()
    panel = shown(fine_free)
    assert panel["lines"][0] in ("Group: at least 1 item overdue", "Group: at least 1 overdue")
    assert (panel["own"][MINH], panel["own"][LAN]) == ("1 overdue", "unknown")
    assert panel["rest"] == "1 member hidden from your login"


def test_names_are_only_text(fine_free: Desk) -> None:
    fine_free.sandbox._store.update("au", 1017, {"family_name": "<img src=x onerror='window.harmed = 1'>"})
    lend(fine_free.sandbox, 1017, PAST)
    block(fine_free, 1017, OVERDUE_COUNT)
    shown(fine_free)
    assert fine_free.run("return window.harmed ?? document.querySelector('.evergreen-groups img')") is None
