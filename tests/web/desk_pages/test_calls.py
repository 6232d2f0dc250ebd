"""The number of ILS calls for each action at the desk: fixed, for an ordinary account and one that sees all patrons.

Reference data is cached from an earlier look at a group. An additional call fails a test here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from decimal import Decimal

import pytest
from flask import Flask
from support.circulators import USER, change_rows, make_stock_circulator, take_away
from support.debts import owe
from support.desk_caller import caller_of
from support.desk_page import DeskClerk, DeskPage
from support.fault_proxy import Call, FaultProxy
from support.releases import differences_of
from support.web_caller import session

from evergreen_groups.sandbox import Sandbox

HARBOR, PINE, MILL = 11, 12, 21
OKONKWO, CHIDI, DESROSIERS, KONRAD = 1001, 1002, 1051, 1052
ITS_GROUP = 1015
"""The group of the Desrosiers. The Okonkwos' group has the number of a member."""
STAFF_CHR = 25
HIDDEN = (1012, 1013)
WRITING = ("UPDATE_USER", "CREATE_USER_GROUP_LINK", "group_application.user.patron", "group_application.user")
NewSession = Callable[[], DeskClerk]


pytestmark = pytest.mark.apache(reason="it counts calls")


ORDINARY, ALL = "an ordinary account", "one that sees everybody"


@pytest.fixture(params=[ORDINARY, ALL])
def account(request: pytest.FixtureRequest, sandbox: Sandbox) -> str:
    if request.param == ALL:
        sandbox._store.update("au", 2, {"home_ou": HARBOR})  # where it works: without a workstation, at home
        return "consortium_staff"
    name = make_stock_circulator(sandbox)
    with sandbox._store.transaction() as connection:
        for permission in WRITING:
            connection.execute("INSERT OR REPLACE INTO grants VALUES (?, ?, 1)", [USER, permission])
    return name


@pytest.fixture
def new_session(app: Flask, sandbox: Sandbox, proxy: FaultProxy, account: str) -> NewSession:
    def begun() -> DeskClerk:
        clerk = DeskClerk(app, session(sandbox.url, username=account), proxy.url)
        proxy.seen.clear()
        return clerk

    page = begun().open(OKONKWO)  # caches the data shared by all sessions
    page.send("/plan", card="20000000001052")
    return begun


@pytest.fixture
def calls(proxy: FaultProxy) -> Callable[[], int]:
    """Return the number of calls since the last time this was called."""

    def counted() -> int:
        count = len(proxy.seen)
        proxy.seen.clear()
        return count

    return counted


Calls = Callable[[], int]


def known(new_session: NewSession, calls: Calls) -> DeskClerk:
    """Return a clerk who has seen the group before."""
    clerk = new_session()
    clerk.open(OKONKWO)
    calls()
    return clerk


def scanned(page: DeskPage, card: int) -> DeskPage:
    return page.send("/plan", card=f"2000000000{card}")


def lend_elsewhere(sandbox: Sandbox, patron: int) -> None:
    """Lend an item at a library whose circulations an ordinary account doesn't see."""
    due = {"fine_interval": "1 day", "due_date": "2099-01-01T10:00:00+0000"}
    sandbox._store.insert("circ", {"usr": patron, "circ_lib": MILL, **due})


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
def test_the_page_in_a_new_session_and_in_a_known_one(new_session: NewSession, calls: Calls) -> None:
    clerk = new_session()
    assert (len(clerk.open(OKONKWO).members), calls()) == (6, 6 + 1)  # whether the login may move patrons
    clerk.open(OKONKWO)
    assert calls() == 3


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
def test_penalties_by_staff_and_several_libraries_cost_nothing(
    new_session: NewSession, calls: Calls, sandbox: Sandbox
) -> None:
    store = sandbox._store
    for staff in (USER, 3):
        store.insert("ausp", {"usr": CHIDI, "org_unit": HARBOR, "standing_penalty": STAFF_CHR, "staff": staff})
    for patron in (1003, 1004):
        store.update("au", patron, {"home_ou": PINE})
    clerk = new_session()
    assert "Alerting block on Circ, Hold and Renew" in clerk.open(OKONKWO).text
    assert calls() == 7
    clerk.open(OKONKWO)
    assert calls() == 3


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
def test_whether_a_login_may_move_patrons_is_asked_once(
    app: Flask, new_session: NewSession, calls: Calls, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the own library by the first page, and for another one by the first plan with a patron of it."""
    clerk = new_session()
    clerk.open(OKONKWO)
    kept = app.extensions["evergreen-groups"].caches["changes"]
    assert kept.misses == 2, "the fixture's session, and this one"
    monkeypatch.setattr(kept, "_clock", lambda: 1e9)
    page = clerk.open(DESROSIERS)
    assert kept.misses == 2, "kept as long as the session"
    sandbox._store.update("au", CHIDI, {"home_ou": PINE})
    for count in (5, 4):
        calls()
        assert scanned(page, CHIDI).heading.startswith("Move Okonkwo, Chidi")
        assert calls() == count


def put_in(sandbox: Sandbox, *patrons: int, group: int = OKONKWO) -> None:
    """Move patrons from Mill River into a group. An ordinary account doesn't see them."""
    for patron in patrons:
        sandbox._store.update("au", patron, {"usrgroup": group})


SEVERAL = (1001, CHIDI, 1003, 1004, 1005, 1006)
SEES_ALL = "consortium_staff"


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
@pytest.mark.parametrize(
    ("account", "lenders"), [(ORDINARY, (CHIDI,)), (ORDINARY, SEVERAL), (ALL, SEVERAL)], indirect=["account"]
)
def test_what_members_have_out_elsewhere(
    new_session: NewSession, calls: Calls, sandbox: Sandbox, account: str, lenders: tuple[int, ...]
) -> None:
    """An ordinary account takes another call to find hidden items out, and more to count them in an expanded row."""
    for patron in lenders:
        lend_elsewhere(sandbox, patron)
    clerk = known(new_session, calls)
    page = clerk.open(OKONKWO)
    assert calls() == (3 if account == SEES_ALL else 4)
    assert page.text.count("+ Some items may be hidden from your login.") == (
        0 if account == SEES_ALL else 3 * len(lenders)
    )
    assert ("Items out unknown" in page.text) is (account != SEES_ALL)
    clerk.headers["Sec-Fetch-Dest"] = "empty"  # as from the script, whose list has the remarks
    clerk.open(OKONKWO, f"/members/{CHIDI}")  # caches the billing types
    calls()
    unfolded = clerk.open(OKONKWO, f"/members/{CHIDI}")
    assert calls() == (5 if account == SEES_ALL else 7)
    assert ("Items out: 1; overdue: 0; lost: 0." in unfolded.text) is (account != SEES_ALL)


@pytest.mark.parametrize(
    ("account", "lenders", "owing"),
    [
        (ORDINARY, (), False),
        (ORDINARY, (), True),
        (ORDINARY, (CHIDI,), True),
        (ORDINARY, SEVERAL, False),
        (ALL, SEVERAL, True),
    ],
    indirect=["account"],
)
@pytest.mark.differs("copies-unsaid", reason="what was written is read where changes are written as well")
def test_hidden_members(
    new_session: NewSession,
    calls: Calls,
    sandbox: Sandbox,
    account: str,
    release: str,
    lenders: tuple[int, ...],
    *,
    owing: bool,
) -> None:
    """The check for hidden members is part of the call for items out."""
    most = 3 if account == SEES_ALL and "no-count" not in differences_of(release) else 4
    put_in(sandbox, *HIDDEN)
    owe(sandbox, HIDDEN[0], *([(MILL, "9.00")] if owing else []))
    for patron in lenders:
        lend_elsewhere(sandbox, patron)
    clerk = known(new_session, calls)
    page = clerk.open(OKONKWO)
    assert calls() == most
    if account != SEES_ALL:
        assert "2 members hidden from your login" in page.text
        assert page.text.count("+ Some items may be hidden from your login.") == (3 * len(SEVERAL) if lenders else 0)
    saved = clerk.open(OKONKWO, ".csv").response.text
    assert calls() == most
    assert len(saved.splitlines()) == 1 + (8 if account == SEES_ALL else 6)


@pytest.mark.parametrize(
    ("account", "hidden"), [(ORDINARY, ()), (ORDINARY, HIDDEN), (ALL, HIDDEN)], indirect=["account"]
)
@pytest.mark.differs("copies-unsaid", reason="what was written is read where changes are written as well")
def test_who_may_not_see_what_is_out(
    new_session: NewSession, calls: Calls, sandbox: Sandbox, account: str, hidden: tuple[int, ...]
) -> None:
    put_in(sandbox, *hidden)
    lend_elsewhere(sandbox, CHIDI)
    take_away(sandbox, "VIEW_CIRCULATIONS")
    clerk = known(new_session, calls)
    assert "not visible to your login" in clerk.open(OKONKWO).text
    assert calls() == (4 if hidden and account != SEES_ALL else 2)


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
def test_without_an_outside_circulation_to_check_against(
    new_session: NewSession, calls: Calls, sandbox: Sandbox, account: str
) -> None:
    """The check needs a circulation of an outside patron at a visible library. Without one it takes extra calls."""
    put_in(sandbox, *HIDDEN)
    change_rows(sandbox, f"DELETE FROM circ WHERE circ_lib <> {MILL} AND usr NOT IN {SEVERAL}")
    clerk = known(new_session, calls)
    page = clerk.open(OKONKWO)
    assert calls() == (3 if account == SEES_ALL else 6)
    assert account == SEES_ALL or "2 members hidden from your login" in page.text


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
def test_a_patron_is_moved_in_and_out_again(new_session: NewSession, calls: Calls) -> None:
    page = new_session().open(DESROSIERS)
    calls()
    plan = scanned(page, CHIDI)
    assert calls() == 4
    done = plan.send("/change", ("do", "apply"))
    assert "Done" in done.outcome
    assert calls() == 5 + 3  # including the list that shows the outcome
    undone = done.send("/undo")
    assert "Undone" in undone.outcome
    assert calls() == 8 + 4  # and the lead of the other group
    page.clerk.open(DESROSIERS, "/history")
    assert calls() == 4


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
def test_the_same_through_the_api(
    app: Flask, new_session: NewSession, calls: Calls, sandbox: Sandbox, account: str
) -> None:
    new_session()
    desk = caller_of(app, sandbox, account)
    plan = desk.planned("move", CHIDI, target=DESROSIERS)
    assert calls() == 4 + 3  # the session is new
    change = desk.apply(plan)
    assert (change.states, calls()) == (["done"], 5)
    assert (desk.undo(change.body["id"]).states, calls()) == (["done"], 8)
    plan = desk.planned("remove", CHIDI)
    assert calls() == 4  # includes the addresses, to warn a patron who leaves about a borrowed one
    change = desk.apply(plan)
    assert (change.states, calls()) == (["done"], 4)
    assert (desk.undo(change.body["id"]).states, calls()) == (["done"], 8)
    assert (desk.change(change.body["id"]).status, calls()) == (200, 1)
    for _ in range(2):
        assert (desk.send("GET", f"patrons/{CHIDI}/summary").status, calls()) == (200, 2)


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
def test_a_card_that_plans_nothing(new_session: NewSession, calls: Calls, sandbox: Sandbox) -> None:
    """A card that can't be planned costs one call more than the lookup."""
    card = sandbox._store.rows("ac", {"usr": CHIDI})[0]["id"]
    sandbox._store.update("ac", card, {"active": False})
    page = new_session().open(DESROSIERS)
    scanned(page, CHIDI)
    calls()
    assert "This card is inactive" in scanned(page, CHIDI).message
    assert calls() == 1 + 10  # including addresses and groups, to tell people apart
    page.send("/plan", card="Okonkwo, Chidi")
    by_name = calls()
    page.send("/plan", card="Okonkwo")
    assert calls() == by_name


def hide_in(sandbox: Sandbox, groups: Sequence[int], *, owing: bool) -> None:
    """Add two members from Mill River to each group. An ordinary account doesn't see them."""
    for group, patrons in zip(groups, (HIDDEN, (1014, 1040), (1008, 1009)), strict=False):
        for patron in patrons:
            sandbox._store.update("au", patron, {"usrgroup": group, "home_ou": MILL, "deleted": "f"})
            owe(sandbox, patron, *([(MILL, "9.00")] if owing and patron == patrons[0] else []))


def owed(sandbox: Sandbox, group: int) -> str:
    """Return the combined fines of a group."""
    members = [row["id"] for row in sandbox._store.rows("au", {"usrgroup": group}) if row["deleted"] in (False, "f", 0)]
    rows = [row for member in members for row in sandbox._store.rows("mous", {"usr": member})]
    return str(sum((Decimal(row["balance_owed"]) for row in rows), Decimal("0.00")))


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
@pytest.mark.parametrize(
    ("account", "hidden_in", "owing", "circulations"),
    [
        (ORDINARY, (), False, True),
        (ORDINARY, (OKONKWO,), True, True),
        (ORDINARY, (ITS_GROUP,), True, True),
        (ORDINARY, (OKONKWO, ITS_GROUP), False, True),
        (ORDINARY, (OKONKWO, ITS_GROUP), True, False),
        (ALL, (OKONKWO, ITS_GROUP), True, True),
    ],
    indirect=["account"],
)
def test_a_plan_with_hidden_members(
    app: Flask,
    new_session: NewSession,
    calls: Calls,
    sandbox: Sandbox,
    account: str,
    hidden_in: tuple[int, ...],
    *,
    owing: bool,
    circulations: bool,
) -> None:
    """Four calls, and two more for hidden members: the group's total, and whether the hidden patrons are members."""
    hide_in(sandbox, hidden_in, owing=owing)
    if not circulations:
        take_away(sandbox, "VIEW_CIRCULATIONS")
    page = new_session().open(DESROSIERS)
    desk = caller_of(app, sandbox, account)
    most = 6 if hidden_in and account != SEES_ALL else 4
    calls()
    plan = scanned(page, CHIDI)
    assert calls() == most
    assert plan.heading.startswith("Move Okonkwo")
    hidden = plan.tree.xpath("//details/p[. = '2 members hidden from your login']")
    assert len(hidden) == (len(hidden_in) if account != SEES_ALL else 0)
    desk.planned("move", CHIDI, target=DESROSIERS)
    calls()
    several = desk.plan("move", CHIDI, "20000000001003", 1006, target="20000000001051")
    assert calls() == most
    for group in several.body["groups"]:
        count = 2 if group["group"] in hidden_in and account != SEES_ALL else 0
        assert (group["hidden_member_count"], group["before"]["group_fines"]) == (count, owed(sandbox, group["group"]))
    for body in (("remove", CHIDI), ("lead", CHIDI)):
        assert desk.plan(*body).status == 201
        assert calls() == (most if OKONKWO in hidden_in else 4) - (body[0] == "lead")
    merge = desk.plan("merge", KONRAD, target=CHIDI)
    assert merge.status == (422 if ITS_GROUP in hidden_in and account != SEES_ALL else 201), merge.body
    assert calls() == most


def side_by_side(proxy: FaultProxy, *stages: set[str]) -> None:
    """Hold back the answers of each stage until all of its calls have arrived. Sequential calls would block forever."""
    barriers = [(stage, threading.Barrier(len(stage), timeout=60)) for stage in stages]
    seen: list[str] = []

    def wait(call: Call) -> None:
        position = seen.count(call.method)
        seen.append(call.method)
        of_it = [barrier for stage, barrier in barriers if call.method in stage]
        if position < len(of_it):
            of_it[position].wait()

    proxy.before_answer = wait


@pytest.mark.differs("copies-unsaid", reason="what was written is read where changes are written as well")
def test_calls_that_need_not_wait_for_one_another_do_not(
    app: Flask, new_session: NewSession, proxy: FaultProxy, sandbox: Sandbox, account: str
) -> None:
    clerk = new_session()
    desk = caller_of(app, sandbox, account)
    clerk.open(OKONKWO)
    assert desk.plan("move", "20000000001002", target="20000000001051").status == 201
    fines, addresses = (f"open-ils.pcrud.search.{name}.atomic" for name in ("mous", "aua"))
    side_by_side(proxy, {fines, "open-ils.pcrud.search.circ.atomic"})
    assert clerk.open(OKONKWO).members
    members = "open-ils.actor.usergroup.members.retrieve"
    side_by_side(proxy, {fines, members, addresses})
    assert desk.plan("move", "20000000001002", target="20000000001051").status == 201


@pytest.mark.differs("no-count", reason="whether there are more rows than came is asked as well")
def test_a_group_of_three_hundred(new_session: NewSession, calls: Calls, sandbox: Sandbox) -> None:
    store = sandbox._store
    flags = {"active": "t", **dict.fromkeys(("deleted", "barred", "juvenile", "master_account"), "f")}
    with store.transaction():
        for id in range(5001, 5295):
            values = {"usrgroup": OKONKWO, "home_ou": HARBOR, "profile": 2, "family_name": "L", "first_given_name": id}
            store.insert("au", {"id": id, "usrname": f"large{id}", **flags, **values})
    clerk = new_session()
    assert len(clerk.open(OKONKWO).members) > 1
    assert calls() == 7
    clerk.open(OKONKWO)
    assert calls() == 3
    for id in range(5001, 5051):
        lend_elsewhere(sandbox, id)
    clerk.open(OKONKWO)
    assert calls() <= 4
    put_in(sandbox, *HIDDEN)
    clerk.open(OKONKWO)
    assert calls() <= 4
    for patron in HIDDEN:
        put_in(sandbox, patron, group=90_000 + patron)
    page = clerk.open(DESROSIERS)
    calls()
    plan = scanned(page, OKONKWO)
    assert calls() == 4
    assert "Done" in plan.send("/change", ("do", "apply")).outcome
    assert calls() == 5 + 3
