"""Resubmitting after an error: pages don't keep a supervisor's login, and ask for missing fields."""

from __future__ import annotations

import pytest
from support.desk_page import GROUP, DeskClerk, DeskPage
from support.fault_proxy import Fault, FaultProxy
from support.web_caller import PASSWORD

from evergreen_groups.gateway import Gateway

pytestmark = pytest.mark.long  # too slow for a plain pytest run

NGUYEN, RUTH = 1017, 1038
UPDATE = "open-ils.actor.patron.update"


def agreed(page: DeskPage, **filled: str) -> DeskPage:
    return page.send("/change", ("do", "apply"), **filled)


@pytest.fixture
def asks(clerk: DeskClerk) -> DeskPage:
    """The page that asks for a supervisor's approval of a move."""
    return clerk.open(NGUYEN).send("/plan", ("approve", "1"), card=f"2000000000{RUTH}")


def test_no_answer_contains_a_supervisors_login(asks: DeskPage, proxy: FaultProxy, admin: Gateway) -> None:
    proxy.decide = lambda call: Fault.DROP_REQUEST
    gone = agreed(asks, username="a-supervisor", password="a-password")
    assert gone.status in (502, 503, 504)
    assert "nothing is done twice" in gone.text
    assert "a-supervisor" not in gone.response.text
    assert "a-password" not in gone.response.text
    proxy.decide = lambda call: Fault.NONE
    again = gone.send("/change")
    assert again.message == "Type the supervisor's user name and password."
    assert int(admin.pcrud.retrieve("au", RUTH).usrgroup) == 1009
    assert again.tree.xpath("//input[@name='password' and not(@value)]")


def test_what_was_approved_is_found_without_another_login(asks: DeskPage) -> None:
    done = agreed(asks, username="admin", password=PASSWORD)
    assert "Done" in done.outcome
    assert agreed(asks, username="", password="").address == done.address


@pytest.mark.parametrize("plan", ["", "a\0b", "a b", "x" * 65])
def test_invalid_plan_ids(clerk: DeskClerk, plan: str) -> None:
    """PostgreSQL rejects NUL characters, which would look like an outage."""
    form = clerk.open(NGUYEN).form("/plan").fields["form"]
    fields = [("form", form), ("action", "join"), ("patron", str(RUTH)), ("do", "apply"), ("plan", plan)]
    assert clerk.post(f"{GROUP.format(NGUYEN)}/change", fields).status == 400


def test_what_could_not_be_undone_can_be_undone_later(clerk: DeskClerk, proxy: FaultProxy, admin: Gateway) -> None:
    done = agreed(clerk.open(NGUYEN).send("/plan", card=f"2000000000{RUTH}"))
    collision = {"ilsevent": 1512, "textcode": "XACT_COLLISION", "desc": "changed"}
    proxy.answer = lambda call: collision if call.method == UPDATE else None
    assert "Nothing was changed" in done.send("/undo").outcome
    proxy.answer = lambda call: None
    history = clerk.open(NGUYEN, "/history")
    assert len(history.tree.xpath("//form[contains(@action, '/undo')]")) == 1
    assert "Undone" in history.send("/undo").outcome
    assert int(admin.pcrud.retrieve("au", RUTH).usrgroup) == 1009
    entries = clerk.open(NGUYEN, "/history").tree.xpath("//section[@class='entry']")
    assert [bool(entry.xpath(".//form")) for entry in entries] == [True, False, False]
