"""Plans and changes over HTTP: every action and status, repeated requests, long changes, and supervisors' approvals."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from flask import Flask
from support.change_ids import UNKNOWN
from support.circulators import take_away
from support.desk_caller import UPDATE, WRITES, Answer, DeskCaller, caller_of, leads, new_key, plan_body
from support.family_moves import later
from support.fault_proxy import Call, Fault, FaultProxy, HeldCalls, alter_payloads
from support.gateway_time import GatewayTime
from support.web_caller import API, Clock, MakeApp, bearer, client_of, cookie, end_session, served, session, settings_of

from evergreen_groups.changes import Changer
from evergreen_groups.changes.reasons import TIMED_OUT, UNREADABLE
from evergreen_groups.errors import StateUnavailableError
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import ServeSettings
from evergreen_groups.settings.sections import DeskSettings
from evergreen_groups.web import close
from evergreen_groups.web.change_runs import MAX_AWAITED_STEPS, MAX_RUNNING
from evergreen_groups.web.requests import LARGEST_PLAN_BODY

pytestmark = pytest.mark.long  # too slow for a plain pytest run


@pytest.fixture
def desk(app: Flask, sandbox: Sandbox) -> DeskCaller:
    """A client that may change all patrons."""
    return caller_of(app, sandbox)


def writes(proxy: FaultProxy) -> list[str]:
    return [call.method for call in proxy.calls if call.method in WRITES and not call.asks_what_there_is]


class TestActions:
    @pytest.mark.parametrize(
        ("body", "patron", "group", "is_lead"),
        [
            (plan_body("move", "20000000001052", target="20000000001007"), 1052, 1002, False),
            (plan_body("remove", 1052), 1052, None, False),
            (plan_body("remove", 1052, lead=True), 1052, None, True),
            (plan_body("merge", 1044, target=1047), 1043, 1014, True),
            (plan_body("lead", 1002), 1002, 1001, True),
            (plan_body("lead", 1001, off=True), 1001, 1001, False),
        ],
    )
    def test_each(
        self, desk: DeskCaller, sandbox: Sandbox, body: dict[str, Any], patron: int, group: int | None, is_lead: bool
    ) -> None:
        before = desk.group_of(patron)
        plan = desk.send("POST", "plans", body)
        assert (plan.status, desk.group_of(patron)) == (201, before)
        done = desk.apply(plan.body["id"])
        assert (done.status, done.body["done"], {*done.states}) == (200, True, {"done"})
        if group is None:
            group = next(step["value"] for step in done.body["steps"] if step["field"] == "group")
            assert group not in (1015, 1002)
        assert (desk.group_of(patron), leads(sandbox, patron)) == (group, is_lead)

    def test_undo(self, desk: DeskCaller) -> None:
        first = desk.apply(desk.planned("move", 1052, 1053, target=1007)).body["id"]
        undone = desk.undo(first)
        assert (undone.status, undone.body["undoes"], undone.body["done"]) == (200, first, True)
        assert desk.group_of(1052) == desk.group_of(1053) == 1015
        for again in (desk.undo(first), desk.plan("undo", change=first)):
            assert (again.status, again.code) == (409, "already-undone")
            assert again.body["detail"] == f"change {first} is already undone"

    def test_undo_with_a_plan_that_is_shown(self, desk: DeskCaller) -> None:
        first = desk.apply(desk.planned("remove", 1052)).body["id"]
        plan = desk.plan("undo", change=first)
        assert [step["after"] for step in plan.body["steps"]] == [1015]
        assert desk.apply(plan.body["id"]).body["done"]
        assert desk.group_of(1052) == 1015

    def test_what_was_changed_is_listed(self, desk: DeskCaller) -> None:
        numbers = [desk.apply(desk.planned("lead", patron)).body["id"] for patron in (1002, 1052)]
        listed = desk.send("GET", "changes").body["changes"]
        assert [change["id"] for change in listed] == numbers[::-1]
        assert all(change["own"] and change["staff"] == 2 for change in listed)
        other = desk.colleague("harbor_desk")
        assert other.send("GET", "changes").body["changes"] == []
        seen = other.change(numbers[0])
        assert (seen.status, seen.body["own"]) == (200, False)

    def test_the_workstation_is_in_it(self, app: Flask, sandbox: Sandbox) -> None:
        desk = caller_of(app, sandbox, workstation="HARBOR-desk1")
        done = desk.apply(desk.planned("lead", 1002))
        assert (done.body["staff"], done.body["workstation"], done.body["approved_by"]) == (2, 1, None)


BAD_PATRONS: list[Any] = [
    {"id": True}, {"id": 1.5}, {"id": "1052"}, {"id": 0}, {"id": -1}, {"id": 2**31}, {"id": 1e400}, 1052, [1052],
    {"id": 1052, "barcode": "x"}, "", " 20000000001052", "a\nb", "x" * 101, "\ud800", "a\0",
]  # fmt: skip
BAD_PLANS: list[Any] = [
    *({"action": "remove", "patrons": [patron]} for patron in BAD_PATRONS),
    *({"action": action} for action in (None, [], {}, "MOVE", "batch", "move")), [], None, 7, "move", {},
    {"action": "move", "patrons": {"id": 7}, "target": "7"}, {"action": "remove", "patrons": [{"id": 1}] * 1001},
    {"action": "remove", "patrons": [{"id": 1052}], "lead": 1}, {"action": "lead", "patrons": [{"id": 1}], "off": "no"},
    {"action": "remove", "patrons": [{"id": 1052}], "more": 1}, {"action": "undo", "change": 1},
    {"action": "undo", "change": "1"}, {"action": "undo", "change": f"{10**18}-k7q4tz"},
]  # fmt: skip
BAD_AGREEMENTS: list[Any] = [
    [], {}, {"plan": None}, {"plan": 7}, {"plan": ""}, {"plan": "x" * 65}, {"plan": "a b"}, {"plan": ["x"]},
    {"plan": "x", "key": "y"}, {"plan": "x", "approval": []}, {"plan": "x", "approval": {}},
    {"plan": "x", "approval": {"username": "a"}}, {"plan": "x", "approval": {"username": "", "password": "b"}},
    {"plan": "x", "approval": {"username": "a", "password": 5}},
    {"plan": "x", "approval": {"username": "a", "password": "\ud800"}},
    {"plan": "x", "approval": {"username": "\ud800", "password": "b"}},
    {"plan": "x", "approval": {"username": "a", "password": "b" * 201}},
    {"plan": "x", "approval": {"username": "a", "password": "b", "type": "staff"}},
]  # fmt: skip

TWICE = b'{"action": "lead", "patrons": [{"id": 1002}], "action": "remove"}'


class TestBodies:
    def test_invalid_plans(self, desk: DeskCaller) -> None:
        for body in BAD_PLANS:
            answer = raw(desk, "plans", json.dumps(body).encode())
            assert answer.status == 400, (body, answer.body)
            assert answer.code in ("body-wrong", "key-unknown", "field-wrong", "plan-unclear"), body

    def test_invalid_agreements(self, desk: DeskCaller) -> None:
        for body in BAD_AGREEMENTS:
            assert raw(desk, "changes", json.dumps(body).encode()).status == 400, body

    def test_invalid_json(self, desk: DeskCaller) -> None:
        for body in (b"{", b"\xff", b"[" * 100_000, b'{"a":' * 20_000, b"9" * 5000, b"NaN", b"'x'", b'{"x": 1}', TWICE):
            for path in ("plans", "changes", "changes/1-k7q4tz/undo"):
                assert raw(desk, path, body).status == 400, (path, body[:20])

    def test_keys(self, desk: DeskCaller) -> None:
        plan = desk.planned("lead", 1002)
        for key in (None, "", " ", "a b", "x" * 101, "ü", "\x7f"):
            headers = {} if key is None else {"Idempotency_Key": key}
            for path, body in (("changes", {"plan": plan}), ("changes/1-k7q4tz/undo", None)):
                answer = desk.send("POST", path, body, **headers)
                assert (answer.status, answer.code) == (400, "key-missing")

    def test_longest_key_and_most_patrons(self, desk: DeskCaller) -> None:
        assert desk.apply(desk.planned("lead", 1002), "k" * 100).status == 200
        answer = desk.plan("remove", *(f"{number:020}" for number in range(1000)))
        assert answer.status == 422, answer.body

    @pytest.mark.parametrize("path", ["plans", "changes", "changes/1-k7q4tz/undo"])
    def test_other_types_and_sizes(self, desk: DeskCaller, path: str) -> None:
        for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            assert raw(desk, path, b"{}", content_type).status == 415
        too_large = raw(desk, path, b" " * (LARGEST_PLAN_BODY + 1))
        assert (too_large.status, too_large.code) == (413, "body-too-large")
        assert str(LARGEST_PLAN_BODY) in too_large.body["detail"]

    def test_the_largest_over_a_real_connection(self, desk: DeskCaller, app: Flask) -> None:
        """The server passes these bodies on, so the application can explain what's wrong."""
        plan = {"action": "remove", "patrons": [f"{number:020}" for number in range(1000)]}
        with served(app) as url:
            for body, status in (
                (json.dumps(plan).ljust(LARGEST_PLAN_BODY), 422),
                (json.dumps(plan).ljust(LARGEST_PLAN_BODY + 1), 413),
            ):
                headers = {**desk.headers, "Content-Type": "application/json"}
                answer = requests.post(f"{url}{API}/plans", data=body, headers=headers, timeout=30)
                assert answer.status_code == status, answer.text
                assert answer.headers["Content-Type"] == "application/problem+json"

    def test_ids(self, desk: DeskCaller) -> None:
        for number in ("0", "1", "x", "0-k7q4tz", "1-k7q4t", "1-K7Q4TZ", f"{10**18}-k7q4tz"):
            assert desk.send("GET", f"changes/{number}").status == 400
            assert desk.send("POST", f"changes/{number}/undo", Idempotency_Key="k").status == 400
        assert desk.send("GET", f"changes/{UNKNOWN}").status == 404
        assert desk.undo(UNKNOWN).status == 404


def raw(desk: DeskCaller, path: str, body: bytes, content_type: str = "application/json") -> Answer:
    headers = {**desk.headers, "Content-Type": content_type, "Idempotency-Key": new_key()}
    answer = desk._client.post(f"{API}/{path}", data=body, headers=headers)
    return Answer(answer.status_code, answer.get_json(force=True), dict(answer.headers))


class TestWho:
    @pytest.mark.parametrize("site", [True, False])
    @pytest.mark.parametrize("origin", [True, False])
    def test_our_own_pages(self, desk: DeskCaller, proxy: FaultProxy, site: bool, origin: bool) -> None:
        headers = ({"Sec-Fetch-Site": "same-origin"} if site else {}) | ({"Origin": proxy.url} if origin else {})
        token = desk.headers["Authorization"].split()[1]
        desk.headers = {**cookie(token), **headers}
        assert desk.plan("lead", 1052).status == (201 if headers else 403)

    def test_plans_and_keys_are_one_s_own(self, desk: DeskCaller) -> None:
        admin, plan = desk.colleague("admin"), desk.planned("lead", 1002)
        assert (admin.apply(plan).status, admin.apply(plan).code) == (404, "no-such-plan")
        assert admin.apply(plan).body == admin.apply("A" * 22).body
        first = desk.apply(plan, "mine")
        assert admin.apply(plan, "mine").status == 404
        second = admin.apply(admin.planned("lead", 1052), "mine")
        assert (first.body["id"], first.status) != (second.body["id"], first.status)
        assert second.status == 200
        for session_of_the_same in (desk, desk.colleague("consortium_staff")):
            assert session_of_the_same.apply(plan, "mine").body == first.body

    def test_changes_of_patrons_elsewhere_are_hidden(self, desk: DeskCaller) -> None:
        elsewhere = desk.apply(desk.planned("lead", 1037)).body["id"]
        mixed = desk.apply(desk.planned("move", 1052, 1037, target=1007)).body["id"]
        harbor = desk.colleague("harbor_desk")
        hidden, unknown = harbor.change(elsewhere), harbor.change(UNKNOWN)
        assert (hidden.status, hidden.body) == (404, unknown.body)
        seen = harbor.change(mixed)
        assert [step["patron"] for step in seen.body["steps"]] == [1052]
        assert (seen.body["hidden_step_count"], seen.body["done"]) == (1, False)
        for ask in (harbor.undo, lambda id: harbor.plan("undo", change=id)):
            hidden, unknown = ask(elsewhere), ask(UNKNOWN)
            assert hidden.status == unknown.status == 404
            assert {**hidden.body, "detail": ""} == {**unknown.body, "detail": ""}
            assert hidden.body["detail"].replace(elsewhere, UNKNOWN) == unknown.body["detail"]

    def test_others_changes_are_taken_back_with_a_permission(
        self, desk: DeskCaller, make_app: MakeApp, proxy: FaultProxy
    ) -> None:
        change = desk.apply(desk.planned("move", 1052, target=1007)).body["id"]
        for permission, account, status in (
            (None, "admin", 403),
            ("MERGE_USERS", "north_manager", 403),
            ("MERGE_USERS", "admin", 200),
        ):
            app = make_app(settings_of(proxy.url, desk=DeskSettings(undo_others=permission)))
            clerk = caller_of(app, desk.sandbox, account)
            if status != 200:
                assert clerk.plan("undo", change=change).code == "undo-of-another"
            answer = clerk.undo(change)
            assert answer.status == status, answer.body
            assert status == 200 or answer.code == "undo-of-another"
        assert desk.group_of(1052) == 1015

    def test_those_who_are_hidden_are_counted_and_not_named_in_an_undo(
        self, desk: DeskCaller, make_app: MakeApp, proxy: FaultProxy
    ) -> None:
        seen, hidden = 1052, 1038
        change = desk.apply(desk.planned("move", seen, hidden, target=1001)).body["id"]
        app = make_app(settings_of(proxy.url, desk=DeskSettings(undo_others="VIEW_USER")))
        plan = caller_of(app, desk.sandbox, "harbor_desk").plan("undo", change=change)
        assert [step["patron"]["id"] for step in plan.body["steps"]] == [seen]
        assert str(hidden) not in str(plan.body)
        assert plan.body["unchanged"] == ["1 change to patrons your login can't see"]


class TestRefusals:
    def test_another_key(self, desk: DeskCaller) -> None:
        plan = desk.planned("lead", 1002)
        change = desk.apply(plan, "one").body["id"]
        again = desk.apply(plan, "two")
        assert (again.status, again.code) == (409, "plan-applied-before")
        other = desk.apply(desk.planned("lead", 1052), "one")
        assert (other.status, other.code) == (422, "key-of-another-change")
        assert desk.undo(change, "one").code == "key-of-another-change"

    def test_too_old(self, desk: DeskCaller, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
        plan, done = desk.planned("lead", 1002), desk.planned("lead", 1052)
        later(monkeypatch, minutes=59)
        first = desk.apply(done, "k")
        later(monkeypatch, minutes=61)
        answer = desk.apply(plan)
        assert (answer.status, answer.code) == (410, "plan-expired")
        assert desk.apply(done, "k").body == first.body
        assert len(writes(proxy)) == 1

    def test_what_cannot_be_done(self, desk: DeskCaller) -> None:
        for body in (
            plan_body("move", "29999999999999", target=1007),
            plan_body("move", 1052, 1052, target=1007),
            plan_body("move", 1052, target=999_999),
            plan_body("remove", 999_999),
        ):
            answer = desk.send("POST", "plans", body)
            assert answer.status == 422, answer.body
        hidden = desk.colleague("harbor_desk").plan("move", "20000000001037", target="20000000001001")
        assert hidden.status == 422
        assert "Whitfield" not in json.dumps(hidden.body)
        empty = desk.planned("move", 1008, target=1007)
        assert (desk.apply(empty).status, desk.apply(empty).code) == (422, "plan-empty")
        assert desk.plan("undo", change=UNKNOWN).status == 404

    def test_somebody_else_is_at_it(
        self, desk: DeskCaller, app: Flask, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(Changer.apply.__kwdefaults__, "timeout", 0.2)
        plan = desk.planned("move", 1052, target=1007)
        with app.extensions["evergreen-groups"].state.change_lease(proxy.url, [1052]):
            answer = desk.apply(plan)
        assert (answer.status, answer.code) == (503, "others-at-it")
        assert int(answer.headers["Retry-After"]) >= 1
        assert writes(proxy) == []
        assert desk.apply(plan).body["done"]

    def test_waiting_for_another_desk_does_not_block_reading(
        self, make_app: MakeApp, proxy: FaultProxy, sandbox: Sandbox, clock: Clock
    ) -> None:
        app = make_app(settings_of(proxy.url, serve=ServeSettings(port=0, threads=4)))
        desk = caller_of(app, sandbox)
        plans = [desk.planned("move", 1052, target=1007) for _ in range(2)]
        running = app.extensions["evergreen-groups"]
        with ThreadPoolExecutor(2) as pool, running.state.change_lease(proxy.url, [1052]):
            waiting = [pool.submit(desk.apply, plan) for plan in plans]
            while sum(began > clock.now for began in list(running.breaker._began.values())) < len(plans):
                pass
            clock.now += 4
            assert desk.send("GET", "patrons/1017/summary").status == 200
        assert sorted(answer.result().status for answer in waiting) == [200, 409]


def test_double_click(desk: DeskCaller, proxy: FaultProxy) -> None:
    plan = desk.planned("move", 1052, 1053, target=1007)
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda _: desk.apply(plan, "k"), range(4)))
        undone = list(pool.map(lambda _: desk.undo(applied[0].body["id"], "u"), range(4)))
    for answers in (applied, undone):
        assert [answer.status for answer in answers] == [200] * 4, [answer.body for answer in answers]
        assert len({json.dumps(answer.body) for answer in answers}) == 1
    assert writes(proxy) == [UPDATE] * 4


class TestTheIls:
    def test_what_may_still_come_in_is_found_out_later(self, desk: DeskCaller, proxy: FaultProxy) -> None:
        plan = desk.planned("move", 1052, target=1007)
        faults = iter([Fault.HELD_REQUEST])
        proxy.decide = lambda call: next(faults, Fault.DROP_REQUEST) if call.method == UPDATE else Fault.NONE
        sent = desk.apply(plan, "k")
        assert (sent.status, sent.states, sent.body["done"], sent.body["under_way"]) == (200, ["sending"], False, False)
        assert desk.apply(plan, "k").states == ["sending"]
        proxy.let_go()
        proxy.decide = lambda call: Fault.NONE
        assert desk.group_of(1052) == 1002
        found = desk.change(sent.body["id"])
        assert (found.states, found.body["done"]) == (["done"], True)
        assert desk.apply(plan, "k").states == ["done"]
        assert desk.send("GET", "changes").body["changes"][0]["steps"][0]["state"] == "done"

    def test_a_session_that_ends_in_the_middle(self, desk: DeskCaller, sandbox: Sandbox, proxy: FaultProxy) -> None:
        token = desk.headers["Authorization"].split()[1]
        plan = desk.planned("move", 1051, 1052, 1053, target=1007)
        ended = []

        def end_after_the_first(call: Call) -> None:
            if call.method == UPDATE and not ended:
                ended.append(end_session(sandbox.url, token))

        proxy.before_answer = end_after_the_first
        answer = desk.apply(plan, "k")
        assert answer.status == 200
        assert not answer.body["done"]
        assert answer.states == ["sending", "planned", "planned"], "the first was written, but couldn't be read back"
        assert desk.group_of(1051) == 1002
        assert {desk.group_of(patron) for patron in (1052, 1053)} == {1015}
        assert desk.change(answer.body["id"]).status == 401
        desk.headers = bearer(session(sandbox.url, username="consortium_staff"))
        found = desk.change(answer.body["id"])
        assert found.states == ["done", "planned", "planned"]
        assert (found.status, found.body["under_way"]) == (200, False)


def test_where_the_database_is_lost_in_the_middle_it_does_not_say_that_nothing_was_changed(
    app: Flask, desk: DeskCaller, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise StateUnavailableError("the database is away", code="state-unavailable")

    def lose_it(call: Call) -> None:
        if call.method == UPDATE:
            for name in ("reading", "writing"):
                monkeypatch.setattr(app.extensions["evergreen-groups"].state.database, name, gone)

    plan = desk.planned("move", 1052, target=1007)
    proxy.before_answer = lose_it
    answer = desk.apply(plan, "k")
    assert (answer.status, answer.code) == (503, "state-not-available")
    assert "othing was changed" not in answer.body["detail"]
    proxy.before_answer = lambda call: None
    monkeypatch.undo()
    assert desk.group_of(1052) == 1002
    again = desk.apply(plan, "k")
    assert (again.status, again.states) == (200, ["done"])
    assert desk.change(again.body["id"]).states == ["done"]
    assert writes(proxy) == [UPDATE]


MANY = (1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 1017, 1018, 1051, 1052, 1053)
"""More steps than a request waits for, from three groups."""
assert len(MANY) > MAX_AWAITED_STEPS


@pytest.fixture
def gate(proxy: FaultProxy) -> HeldCalls:
    """It lets two writes through."""
    return HeldCalls(proxy, lambda call: call.method == UPDATE and proxy.seen.count(UPDATE) > 2)


def followed(desk: DeskCaller, id: str) -> Answer:
    """Poll a change until it has ended, as the answers ask."""
    while (answer := desk.change(id)).status == 202:
        assert answer.headers["Retry-After"]
    return answer


def test_one_is_followed_to_its_end(desk: DeskCaller, gate: HeldCalls, proxy: FaultProxy) -> None:
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
    assert {desk.group_of(patron) for patron in MANY} == {1002}


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
    desk: DeskCaller, app: Flask, gate: HeldCalls, proxy: FaultProxy, make_app: MakeApp
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
    assert [desk.group_of(patron) == 1002 for patron in MANY] == [True] * 3 + [False] * (len(MANY) - 3)
    undone = followed(restarted, restarted.undo(id).body["id"])
    assert undone.body["done"], [(s["patron"], s["state"], s["reason"]) for s in undone.body["steps"]]
    assert 1002 not in {desk.group_of(patron) for patron in MANY}
    rest = restarted.apply(restarted.planned("move", *MANY, target=1007)).body["id"]
    assert followed(restarted, rest).body["done"]


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

    def test_before_anything_is_sent(self, desk: DeskCaller, proxy: FaultProxy) -> None:
        plan = desk.planned("move", 1052, target=1007)
        self.late(proxy, self.READ)
        answer = desk.apply(plan)
        assert (answer.status, answer.states) == (200, ["not done"]), answer.body
        assert answer.body["steps"][0]["reason"] == str(TIMED_OUT)
        assert answer.body["steps"][0]["code"] == "no-time"
        assert UPDATE not in proxy.seen
        proxy.decide = lambda call: Fault.NONE
        assert desk.apply(desk.planned("move", 1052, target=1007)).body["done"]

    def test_after_it_was_sent(self, desk: DeskCaller, proxy: FaultProxy) -> None:
        plan = desk.planned("move", 1052, 1053, target=1007)
        self.late(proxy, UPDATE)
        answer = desk.apply(plan, "k")
        assert (answer.status, answer.states) == (200, ["sending", "planned"]), answer.body
        assert answer.body["steps"][0]["reason"] == str(UNREADABLE)
        assert answer.body["steps"][0]["code"] == "not-certain"
        assert desk.group_of(1052) == 1002, "the ILS has done it"
        proxy.decide = lambda call: Fault.NONE
        looked_at = desk.change(answer.body["id"])
        assert looked_at.states == ["done", "planned"]


# --- With the approval of a supervisor, who logs in for this change ---


LOGIN = "open-ils.auth.login"
SUPERVISOR = {"username": "north_manager", "password": "sandbox"}
PASSWORD = "a password of somebody's"
STAFF = ("harbor_desk", "consortium_staff", "admin")
WAIT = 13.0
"""Seconds until the next login attempt is allowed."""


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


def refused(clerk: DeskCaller, answer: Answer) -> str:
    assert answer.status == 403, answer.body
    assert clerk.group_of(1052) == 1015
    return answer.code


def test_what_the_clerk_may_not_the_supervisor_does(
    clerk: DeskCaller,
    sessions: Callable[[], int],
    logins: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.DEBUG)
    without = clerk.apply(planned(clerk))
    assert (without.status, without.body["done"], without.states) == (200, False, ["failed"])
    (step,) = without.body["steps"]
    assert (step["permission"], step["org_unit"]) in (("UPDATE_USER", 11), ("group_application.user.patron", 11))
    plan = planned(clerk)
    done = clerk.apply(plan, "k", approval=SUPERVISOR)
    assert (done.status, done.body["done"]) == (200, True)
    assert (done.body["staff"], done.body["approved_by"], done.body["workstation"]) == (4, 3, 1)
    assert clerk.group_of(1052) == 1001
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
    assert refused(clerk, answer) == code
    assert UPDATE not in proxy.seen
    assert sessions() == 0
    for secret in (approval["username"], PASSWORD):
        assert secret not in caplog.text
        assert secret not in json.dumps(answer.body)
        assert secret.encode() not in kept_in(tmp_path)
    assert clerk.apply(plan, "k").states == ["failed"], "the plan can still be applied"


def test_a_second_factor(clerk: DeskCaller, proxy: FaultProxy) -> None:
    alter_payloads(proxy, LOGIN, lambda event: {**event, "payload": {**event["payload"], "provisional": 1}})
    assert refused(clerk, clerk.apply(planned(clerk), approval=SUPERVISOR)) == "approval-second-factor"
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
    assert refused(clerk, answer) == "approval-permission-missing"
    assert answer.body["detail"].startswith("the supervisor's login lacks the permission VIEW_USER at HARBOR")
    assert UPDATE not in proxy.seen
    admin = {"username": "admin", "password": "sandbox"}
    assert clerk.apply(plan, "k", approval=admin).status == 200


def test_another_s_plan_is_no_reason_to_log_in(clerk: DeskCaller, logins: list[dict[str, Any]]) -> None:
    admin = clerk.colleague("admin")
    assert clerk.apply(planned(admin), approval=SUPERVISOR).status == 404
    assert logins == []


WRONG = {**SUPERVISOR, "password": "x"}


def test_mistakes_are_limited_for_each_supervisor_at_each_desk(
    clerk: DeskCaller, sandbox: Sandbox, clock: Clock, logins: list[dict[str, Any]]
) -> None:
    plan = planned(clerk)
    assert [clerk.apply(plan, approval=WRONG).status for _ in range(2)] == [403, 403]
    for approval in (SUPERVISOR, {**SUPERVISOR, "username": "North_Manager"}):
        answer = clerk.apply(plan, approval=approval)
        assert (answer.status, answer.code) == (429, "too-many-requests")
        assert int(answer.headers["Retry-After"]) >= 1
    assert len(logins) == 2
    other = clerk.colleague("consortium_staff")
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
    clerk: DeskCaller, sandbox: Sandbox, logins: list[dict[str, Any]]
) -> None:
    """Up to twenty cards a minute, with two in quick succession. A successful login never counts as a failure."""
    for patron in (1052, 1053) * 3:
        sandbox._store.update("au", patron, {"usrgroup": 1015})
        assert clerk.apply(clerk.planned("move", patron, target=1001), approval=SUPERVISOR).body["done"]
    assert len(logins) == 6
    sandbox._store.update("au", 1052, {"usrgroup": 1015})
    answer = clerk.apply(planned(clerk), approval=SUPERVISOR)
    assert (answer.status, answer.code) == (429, "too-many-requests"), "more than a desk needs is guessing"


def test_a_long_change(clerk: DeskCaller, app: Flask, sessions: Callable[[], int]) -> None:
    plan = clerk.planned("move", *MANY, target=1039)
    begun = clerk.apply(plan, "k", approval=SUPERVISOR)
    assert begun.status == 202, begun.body
    ended = followed(clerk, begun.body["id"])
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
