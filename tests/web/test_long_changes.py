"""Changes with many steps: answered at once, run in the background, polled, and ended cleanly."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from types import SimpleNamespace

import pytest
from flask import Flask
from support.desk_caller import UPDATE, Answer, DeskCaller, caller_of, group_of
from support.fault_proxy import Fault, FaultProxy, HeldCalls
from support.gateway_time import GatewayTime
from support.web_caller import API, MakeApp, client_of, end_session, session, settings_of

from evergreen_groups.changes import JournalStep, StepState
from evergreen_groups.changes.journal import Journal
from evergreen_groups.changes.reasons import TIMED_OUT, UNREADABLE
from evergreen_groups.render.desk.outcome import explain_open_step, explain_step
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.web import close
from evergreen_groups.web.change_runs import MAX_AWAITED_STEPS, MAX_RUNNING

pytestmark = pytest.mark.long  # too slow for a plain pytest run

MANY = (1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 1017, 1018, 1051, 1052, 1053)
"""More steps than a request waits for, from three groups."""
assert len(MANY) > MAX_AWAITED_STEPS


@pytest.fixture
def desk(app: Flask, sandbox: Sandbox) -> DeskCaller:
    return caller_of(app, sandbox)


@pytest.fixture
def gate(proxy: FaultProxy) -> HeldCalls:
    """It lets two writes through."""
    return HeldCalls(proxy, lambda call: call.method == UPDATE and proxy.seen.count(UPDATE) > 2)


def followed(desk: DeskCaller, id: str) -> Answer:
    """Poll a change until it has ended, as the answers ask."""
    while (answer := desk.change(id)).status == 202:
        assert answer.headers["Retry-After"]
    return answer


def test_one_is_followed_to_its_end(desk: DeskCaller, sandbox: Sandbox, gate: HeldCalls, proxy: FaultProxy) -> None:
    plan = desk.planned("move", *MANY, target=1007)
    begun = desk.apply(plan, "k")
    id = begun.body["id"]
    assert (begun.status, begun.body["under_way"], begun.body["done"]) == (202, True, False)
    assert begun.headers["Location"] == f"{API}/changes/{id}"
    gate.wait_for()
    asked = desk.change(id)
    assert asked.status == 202
    assert asked.states == ["done"] * 2 + ["sending"] + ["planned"] * (len(MANY) - 3)
    again = desk.apply(plan, "k")
    assert (again.status, again.body["id"]) == (202, id), "and it isn't waited for"
    early = desk.undo(id)
    assert (early.status, early.code) == (503, "undo-too-early"), early.body
    assert early.headers["Retry-After"]
    gate.let_go()
    ended = followed(desk, id)
    assert (ended.status, ended.body["done"], ended.states) == (200, True, ["done"] * len(MANY))
    assert desk.apply(plan, "k").body == ended.body
    assert proxy.seen.count(UPDATE) == len(MANY)
    assert {group_of(sandbox, patron) for patron in MANY} == {1002}


def test_so_is_taking_it_back(desk: DeskCaller, sandbox: Sandbox) -> None:
    before = {patron: group_of(sandbox, patron) for patron in MANY}
    id = desk.apply(desk.planned("move", *MANY, target=1007)).body["id"]
    followed(desk, id)
    undoing = desk.undo(id, "u")
    assert undoing.status in (200, 202), undoing.body
    ended = followed(desk, undoing.body["id"])
    assert (ended.body["done"], ended.body["undoes"]) == (True, id), [
        (s["patron"], s["state"], s["reason"]) for s in ended.body["steps"]
    ]
    assert {patron: group_of(sandbox, patron) for patron in MANY} == before
    assert desk.undo(id, "u").body == ended.body


def test_double_click(desk: DeskCaller, proxy: FaultProxy) -> None:
    plan = desk.planned("move", *MANY, target=1007)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: desk.apply(plan, "k"), range(3)))
    assert {answer.status for answer in answers} <= {200, 202}, [answer.body for answer in answers]
    assert len({answer.body["id"] for answer in answers}) == 1
    assert followed(desk, answers[0].body["id"]).body["done"]
    assert proxy.seen.count(UPDATE) == len(MANY)


def test_a_refusal_is_the_answer(desk: DeskCaller) -> None:
    plan = desk.planned("move", *MANY, target=1007)
    assert desk.apply(desk.planned("move", 1052, target=1001)).body["done"]
    assert (answer := desk.apply(plan)).code == "plan-outdated"
    assert answer.status == 409


def test_too_many_at_once(desk: DeskCaller, app: Flask) -> None:
    runs = app.extensions["evergreen-groups"].change_runs
    hold = threading.Event()
    plan = desk.planned("move", *MANY, target=1007)

    def held() -> AbstractContextManager[object]:
        return nullcontext(SimpleNamespace(id="1", apply=lambda _progress: hold.wait(60)))

    for _ in range(MAX_RUNNING):
        runs.begin(held)
    answer = desk.apply(plan)
    assert (answer.status, answer.code) == (503, "too-many-changes")
    assert int(answer.headers["Retry-After"]) >= 1
    assert desk.apply(desk.planned("lead", 1046)).body["done"], "short ones go on"
    hold.set()
    while (answer := desk.apply(plan, "k")).status == 503:
        assert answer.code == "too-many-changes"
    assert followed(desk, answer.body["id"]).body["done"]
    for _ in range(MAX_RUNNING):
        runs.begin(held)
    assert desk.apply(plan, "k").status == 200, "what has been made needs no room"


def test_a_service_that_ends_finishes_the_step_at_hand(
    desk: DeskCaller, app: Flask, sandbox: Sandbox, gate: HeldCalls, proxy: FaultProxy, make_app: MakeApp
) -> None:
    plan = desk.planned("move", *MANY, target=1007)
    id = desk.apply(plan, "k").body["id"]
    gate.wait_for()
    ending = threading.Thread(target=close, args=(app,))
    ending.start()
    while app.extensions["evergreen-groups"].change_runs._stopping.is_set() is False:
        pass
    gate.let_go()
    ending.join(60)
    assert not ending.is_alive()
    assert proxy.seen.count(UPDATE) == 3
    restarted = DeskCaller(client_of(make_app(settings_of(proxy.url))), "")
    restarted.headers = desk.headers
    for answer in (restarted.change(id), restarted.apply(plan, "k")):
        assert answer.status == 200
        assert (answer.body["under_way"], answer.body["done"]) == (False, False)
        assert answer.states == ["done"] * 3 + ["planned"] * (len(MANY) - 3)
    assert [group_of(sandbox, patron) == 1002 for patron in MANY] == [True] * 3 + [False] * (len(MANY) - 3)
    undone = followed(restarted, restarted.undo(id).body["id"])
    assert undone.body["done"], [(s["patron"], s["state"], s["reason"]) for s in undone.body["steps"]]
    assert 1002 not in {group_of(sandbox, patron) for patron in MANY}
    rest = restarted.apply(restarted.planned("move", *MANY, target=1007)).body["id"]
    assert followed(restarted, rest).body["done"]


def test_a_session_that_ends_in_the_middle(desk: DeskCaller, sandbox: Sandbox, gate: HeldCalls) -> None:
    token = desk.headers["Authorization"].split()[1]
    id = desk.apply(desk.planned("move", *MANY, target=1007)).body["id"]
    gate.wait_for()
    end_session(sandbox.url, token)
    gate.let_go()
    desk.headers["Authorization"] = f"Bearer {session(sandbox.url, username='consortium_staff')}"
    ended = followed(desk, id)
    assert ended.states[:2] == ["done"] * 2
    assert set(ended.states[3:]) <= {"planned", "not done"}
    assert not ended.body["done"]


def test_an_unexpected_error_is_logged(desk: DeskCaller, app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """An error in a change that no request waits for is logged, but only by its type."""
    runs = app.extensions["evergreen-groups"].change_runs

    def fail(_progress: object) -> None:
        raise ZeroDivisionError("20000000001001 Okonkwo")

    assert runs.begin(lambda: nullcontext(SimpleNamespace(id="7", apply=fail))) == "7"
    with suppress(Exception):
        runs.close()
    assert "ZeroDivisionError" in caplog.text
    assert "Okonkwo" not in json.dumps(caplog.text)


class TestTheTimeForARequest:
    """``[serve] timeout`` interrupts a change. The answer reports what is known by then."""

    READ = "open-ils.actor.user.retrieve.authoritative"

    @pytest.fixture
    def app(self, make_app: MakeApp, proxy: FaultProxy, gateway_time: GatewayTime) -> Flask:
        proxy.too_late = gateway_time.pass_over
        return make_app(settings_of(proxy.url))

    def late(self, proxy: FaultProxy, method: str) -> None:
        proxy.decide = lambda call: Fault.LATE_ANSWER if call.method == method else Fault.NONE

    def journaled(self, app: Flask) -> JournalStep:
        """Return the first step of the only change."""
        (entry,) = Journal(app.extensions["evergreen-groups"].state.database).entries()
        return entry.steps[0]

    def test_before_anything_is_sent(self, desk: DeskCaller, app: Flask, sandbox: Sandbox, proxy: FaultProxy) -> None:
        plan = desk.planned("move", 1052, target=1007)
        self.late(proxy, self.READ)
        answer = desk.apply(plan)
        assert (answer.status, answer.states) == (200, ["not done"]), answer.body
        assert answer.body["steps"][0]["reason"] == str(TIMED_OUT)
        step = self.journaled(app)
        assert (step.state, step.reason, step.reason.code) == (StepState.NOT_DONE, TIMED_OUT, "no-time")
        why = explain_step(step, {}, approved=False)
        assert why.text == "Evergreen didn't answer in time"
        assert "Try again" in why.advice
        assert UPDATE not in proxy.seen
        proxy.decide = lambda call: Fault.NONE
        assert desk.apply(desk.planned("move", 1052, target=1007)).body["done"]

    def test_after_it_was_sent(self, desk: DeskCaller, app: Flask, sandbox: Sandbox, proxy: FaultProxy) -> None:
        plan = desk.planned("move", 1052, 1053, target=1007)
        self.late(proxy, UPDATE)
        answer = desk.apply(plan, "k")
        assert (answer.status, answer.states) == (200, ["sending", "planned"]), answer.body
        assert answer.body["steps"][0]["reason"] == str(UNREADABLE)
        step = self.journaled(app)
        assert (step.state, step.reason, step.reason.code) == (StepState.SENDING, UNREADABLE, "not-certain")
        assert explain_open_step(step).advice == "Don't repeat it: the result will be checked automatically."
        assert group_of(sandbox, 1052) == 1002, "the ILS has done it"
        proxy.decide = lambda call: Fault.NONE
        looked_at = desk.change(answer.body["id"])
        assert looked_at.states == ["done", "planned"]
