"""A supervisor approves a single change with their own login."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from support.circulators import take_away
from support.desk_caller import UPDATE, Answer, DeskCaller, caller_of, group_of
from support.fault_proxy import Fault, FaultProxy, alter_payloads
from support.web_caller import Clock

from evergreen_groups.sandbox import Sandbox

pytestmark = pytest.mark.long  # too slow for a plain pytest run

LOGIN = "open-ils.auth.login"
SUPERVISOR = {"username": "north_manager", "password": "sandbox"}
PASSWORD = "a password of somebody's"
STAFF = ("harbor_desk", "consortium_staff", "admin")
WAIT = 13.0
"""Seconds until the next login attempt is allowed."""
MANY = (1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 1017, 1018, 1051, 1052, 1053)


@pytest.fixture
def logins(proxy: FaultProxy) -> list[dict[str, Any]]:
    """The arguments of each login made through the service."""
    seen: list[dict[str, Any]] = []
    proxy.before_answer = lambda call: seen.append(call.parameters[0]) if call.method == LOGIN else None
    return seen


@pytest.fixture
def clerk(app: Flask, sandbox: Sandbox) -> DeskCaller:
    """A clerk at a workstation who sees the patrons of Harbor Street and may not change any."""
    return caller_of(app, sandbox, "harbor_desk", workstation="HARBOR-desk1")


@pytest.fixture
def sessions(sandbox: Sandbox, clerk: DeskCaller) -> Iterator[Callable[[], int]]:
    """Return the number of open sessions, not counting the clerk's. Check that none is left after the test."""
    opened = sandbox._server.sessions._open
    before = len(opened)
    yield lambda: len(opened) - before
    assert len(opened) == before


def planned(clerk: DeskCaller) -> str:
    return clerk.planned("move", 1052, target=1001)


def refused(answer: Answer, sandbox: Sandbox) -> str:
    assert answer.status == 403, answer.body
    assert group_of(sandbox, 1052) == 1015
    return answer.code


def test_what_the_clerk_may_not_the_supervisor_does(
    clerk: DeskCaller,
    sandbox: Sandbox,
    sessions: Callable[[], int],
    logins: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.DEBUG)
    without = clerk.apply(planned(clerk))
    assert (without.states, without.body["steps"][0]["org_unit"]) == (["failed"], 11)
    plan = planned(clerk)
    done = clerk.apply(plan, "k", approval=SUPERVISOR)
    assert (done.status, done.body["done"]) == (200, True)
    assert (done.body["staff"], done.body["approved_by"], done.body["workstation"]) == (4, 3, 1)
    assert group_of(sandbox, 1052) == 1001
    assert [(login["type"], login["workstation"]) for login in logins] == [("temp", "HARBOR-desk1")]
    assert sessions() == 0
    for approval in ({}, {"approval": SUPERVISOR}):
        assert clerk.apply(plan, "k", **approval).body == done.body
    assert len(logins) == 1, "what was made takes no supervisor again"
    (listed, *_) = clerk.send("GET", "changes").body["changes"]
    assert listed == done.body
    assert "north_manager" not in caplog.text + json.dumps(done.body)
    assert b"north_manager" not in kept_in(tmp_path)


def kept_in(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.rglob("*") if file.is_file())


def test_a_clerk_without_a_workstation(
    app: Flask, sandbox: Sandbox, logins: list[dict[str, Any]], sessions: Callable[[], int]
) -> None:
    clerk = caller_of(app, sandbox, "harbor_desk")
    done = clerk.apply(planned(clerk), approval=SUPERVISOR)
    assert (done.body["done"], done.body["workstation"]) == (True, None)
    assert "workstation" not in logins[0]
    sandbox._server.sessions.close(clerk.headers["Authorization"].split()[1])


@pytest.mark.parametrize(
    ("approval", "code"),
    [
        ({"username": "north_manager", "password": PASSWORD}, "approval-refused"),
        ({"username": "nobody at all", "password": "sandbox"}, "approval-refused"),
        ({"username": "20000000001001", "password": "sandbox"}, "approval-refused"),
        ({"username": "harbor_desk", "password": "sandbox"}, "approval-by-oneself"),
    ],
    ids=["wrong password", "nobody", "a patron", "oneself"],
)
def test_refused(
    clerk: DeskCaller,
    sandbox: Sandbox,
    proxy: FaultProxy,
    sessions: Callable[[], int],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    approval: dict[str, str],
    code: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    plan = planned(clerk)
    answer = clerk.apply(plan, "k", approval=approval)
    assert refused(answer, sandbox) == code
    assert UPDATE not in proxy.seen
    assert sessions() == 0
    for secret in (approval["username"], PASSWORD):
        assert secret not in caplog.text
        assert secret not in json.dumps(answer.body)
        assert secret.encode() not in kept_in(tmp_path)
    assert clerk.apply(plan, "k").states == ["failed"], "the plan can still be applied"


@pytest.mark.parametrize("field", ["username", "password"])
def test_half_a_character_is_no_login(
    clerk: DeskCaller, sandbox: Sandbox, logins: list[dict[str, Any]], field: str
) -> None:
    """JSON can contain a lone surrogate, but it can't be sent to the ILS."""
    answer = clerk.apply(planned(clerk), approval={**SUPERVISOR, field: "\ud800"})
    assert (answer.status, answer.code) == (400, "field-wrong")
    assert logins == []


def test_a_second_factor(clerk: DeskCaller, sandbox: Sandbox, proxy: FaultProxy) -> None:
    alter_payloads(proxy, LOGIN, lambda event: {**event, "payload": {**event["payload"], "provisional": 1}})
    assert refused(clerk.apply(planned(clerk), approval=SUPERVISOR), sandbox) == "approval-second-factor"
    assert UPDATE not in proxy.seen


def test_the_session_ends_where_the_change_fails(
    clerk: DeskCaller, sandbox: Sandbox, proxy: FaultProxy, sessions: Callable[[], int], clock: Clock
) -> None:
    outdated, dropped, empty = planned(clerk), planned(clerk), clerk.planned("move", 1002, target=1001)
    sandbox._store.update("au", 1053, {"usrgroup": 1001})
    assert clerk.apply(outdated, approval=SUPERVISOR).code == "plan-outdated"
    assert sessions() == 0
    clock.now += WAIT
    sandbox._store.update("au", 1053, {"usrgroup": 1015})
    proxy.decide = lambda call: Fault.DROP_REQUEST if call.method == UPDATE else Fault.NONE
    assert clerk.apply(dropped, approval=SUPERVISOR).states == ["sending"]
    assert sessions() == 0
    proxy.decide = lambda call: Fault.NONE
    clock.now += WAIT
    assert clerk.apply(empty, approval=SUPERVISOR).code == "plan-empty"


def test_a_supervisor_who_may_not_either(clerk: DeskCaller, sandbox: Sandbox, sessions: Callable[[], int]) -> None:
    take_away(sandbox, "UPDATE_USER", user=3)
    done = clerk.apply(planned(clerk), approval=SUPERVISOR)
    assert (done.status, done.states, done.body["approved_by"]) == (200, ["failed"], 3)
    assert done.body["steps"][0]["permission"] == "UPDATE_USER"


@pytest.mark.parametrize("action", ["move", "remove", "recalculate"])
def test_a_supervisor_who_may_not_see_the_patron(
    clerk: DeskCaller, sandbox: Sandbox, sessions: Callable[[], int], proxy: FaultProxy, action: str
) -> None:
    """The message names the login, the missing permission and the library. The plan can still be applied."""
    take_away(sandbox, "VIEW_USER", user=3)
    plan = clerk.planned(action, 1052, **({"target": 1001} if action == "move" else {}))
    answer = clerk.apply(plan, "k", approval=SUPERVISOR)
    assert refused(answer, sandbox) == "approval-permission-missing"
    assert answer.body["detail"].startswith("the supervisor's login lacks the permission VIEW_USER at HARBOR")
    assert UPDATE not in proxy.seen
    admin = {"username": "admin", "password": "sandbox"}
    assert clerk.apply(plan, "k", approval=admin).status == 200


def test_another_s_plan_is_no_reason_to_log_in(
    clerk: DeskCaller, app: Flask, sandbox: Sandbox, logins: list[dict[str, Any]]
) -> None:
    admin = caller_of(app, sandbox, "admin")
    assert clerk.apply(planned(admin), approval=SUPERVISOR).status == 404
    assert logins == []


WRONG = {**SUPERVISOR, "password": "x"}


def test_the_first_mistake_costs_no_wait(clerk: DeskCaller) -> None:
    plan = planned(clerk)
    assert clerk.apply(plan, approval=WRONG).code == "approval-refused"
    assert clerk.apply(plan, approval=SUPERVISOR).body["done"]


def test_mistakes_are_limited_for_each_supervisor_at_each_desk(
    clerk: DeskCaller, app: Flask, sandbox: Sandbox, clock: Clock, logins: list[dict[str, Any]]
) -> None:
    plan = planned(clerk)
    assert [clerk.apply(plan, approval=WRONG).status for _ in range(2)] == [403, 403]
    for approval in (SUPERVISOR, {**SUPERVISOR, "username": "North_Manager"}):
        answer = clerk.apply(plan, approval=approval)
        assert (answer.status, answer.code) == (429, "too-many-requests")
        assert int(answer.headers["Retry-After"]) >= 1
    assert len(logins) == 2
    other = caller_of(app, sandbox, "consortium_staff")
    assert other.apply(planned(other), approval=SUPERVISOR).body["done"], "at another desk nobody waits"
    sandbox._store.update("au", 1052, {"usrgroup": 1015})
    admin = {"username": "admin", "password": "sandbox"}
    assert clerk.apply(planned(clerk), approval=admin).body["done"], "another supervisor doesn't wait either"
    clock.now += WAIT
    sandbox._store.update("au", 1052, {"usrgroup": 1015})
    assert clerk.apply(planned(clerk), approval=SUPERVISOR).body["done"]


def test_guessing_at_many_desks_is_limited_for_each_supervisor(app: Flask, sandbox: Sandbox) -> None:
    places = ({"account": "harbor_desk", "workstation": "HARBOR-desk1"}, *({"account": it} for it in STAFF))
    desks = [caller_of(app, sandbox, **place) for place in places]
    *guessing, last = [(desk, planned(desk)) for desk in desks]
    assert [desk.apply(plan, approval=WRONG).status for desk, plan in guessing * 2] == [403] * 6
    desk, plan = last
    assert desk.apply(plan, approval=SUPERVISOR).status == 429


def test_a_supervisor_who_approves_one_change_after_another_is_let_in(
    clerk: DeskCaller, sandbox: Sandbox, clock: Clock, logins: list[dict[str, Any]]
) -> None:
    """Up to twenty cards a minute, with two in quick succession. A successful login never counts as a failure."""
    for patron in (1052, 1053) * 3:
        sandbox._store.update("au", patron, {"usrgroup": 1015})
        assert clerk.apply(clerk.planned("move", patron, target=1001), approval=SUPERVISOR).body["done"]
    assert len(logins) == 6
    sandbox._store.update("au", 1052, {"usrgroup": 1015})
    answer = clerk.apply(planned(clerk), approval=SUPERVISOR)
    assert (answer.status, answer.code) == (429, "too-many-requests"), "more than a desk needs is guessing"


def followed(clerk: DeskCaller, answer: Answer) -> Answer:
    number = answer.body["id"]
    while answer.status == 202:
        answer = clerk.change(number)
    return answer


def test_a_long_change(
    clerk: DeskCaller, app: Flask, sandbox: Sandbox, sessions: Callable[[], int], clock: Clock
) -> None:
    plan = clerk.planned("move", *MANY, target=1039)
    begun = clerk.apply(plan, "k", approval=SUPERVISOR)
    assert begun.status == 202, begun.body
    ended = followed(clerk, begun)
    assert (ended.body["done"], ended.body["approved_by"]) == (True, 3)
    app.extensions["evergreen-groups"].change_runs.close()
    assert sessions() == 0


def test_where_there_is_no_room_for_it_the_session_ends(
    clerk: DeskCaller, app: Flask, sessions: Callable[[], int]
) -> None:
    plan = clerk.planned("move", *MANY, target=1039)
    app.extensions["evergreen-groups"].change_runs.close()
    answer = clerk.apply(plan, approval=SUPERVISOR)
    assert (answer.status, answer.code) == (503, "too-many-changes")
    assert sessions() == 0


def test_a_long_change_that_is_refused(
    clerk: DeskCaller, sandbox: Sandbox, sessions: Callable[[], int], app: Flask
) -> None:
    plan = clerk.planned("move", *MANY, target=1039)
    sandbox._store.update("au", 1052, {"usrgroup": 1001})
    assert clerk.apply(plan, approval=SUPERVISOR).code == "plan-outdated"
    app.extensions["evergreen-groups"].change_runs.close()
    assert sessions() == 0
