"""Admission of staff, cached for a while, and how callers with made-up tokens are kept from the ILS."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import pytest
from support.fault_proxy import FaultProxy
from support.web_caller import Clock, end_session, session

from evergreen_groups.errors import NoSessionError, UnexpectedAnswerError, UnreachableError
from evergreen_groups.gateway import Gateway, RetryPolicy
from evergreen_groups.ils import VIEW_USER, ReferenceData
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings
from evergreen_groups.web.admission import CALLER_CACHE_SECONDS, Admission, Caller, Counters, has_permission
from evergreen_groups.web.problems import ProblemError

HERE, THERE = "203.0.113.5", "203.0.113.6"
CHECK, SESSION = "open-ils.actor.user.perm.check", "open-ils.auth.session.retrieve"
SEVERAL, BATCH = f"{CHECK}.multi_org", "open-ils.actor.user.has_work_perm_at.batch"
PER_MINUTE = 30  # three in six seconds
PAUSE = 6.01  # until failed tokens are forgotten


class Door:
    """The admission to a service on the proxy, and those who come there."""

    def __init__(self, sandbox: Sandbox, proxy: FaultProxy, gateway: Gateway, clock: Clock) -> None:
        self.proxy = proxy
        self.gateway = gateway
        self._url = sandbox.url
        reference = ReferenceData(PolicySettings(), clock=clock)
        self._admission = Admission(clock, Counters(), reference, per_minute=PER_MINUTE)

    def session(self, account: str = "harbor_desk") -> str:
        return session(self._url, username=account)

    def admit(self, token: str, address: str = HERE, *, gateway: Gateway | None = None) -> Caller:
        return self._admission.admit((gateway or self.gateway).acting_as(token), address)

    def refused(self, token: str) -> ProblemError:
        with pytest.raises(ProblemError) as refusal:
            self.admit(token)
        return refusal.value

    def strangers(self, tokens: Iterable[str], address: str = HERE) -> None:
        """Try tokens that belong to no session. Each of them costs a call to the ILS."""
        for token in tokens:
            with pytest.raises(NoSessionError):
                self.admit(token * 32 if len(token) == 1 else token, address)

    @property
    def calls(self) -> int:
        return len(self.proxy.seen)


@pytest.fixture
def door(sandbox: Sandbox, proxy: FaultProxy, clock: Clock) -> Iterator[Door]:
    with Gateway(proxy.url) as gateway:
        yield Door(sandbox, proxy, gateway, clock)


class TestCaller:
    def test_staff_are_admitted_and_remembered(self, door: Door, sandbox: Sandbox, clock: Clock) -> None:
        token = door.session()
        caller = door.admit(token)
        row = sandbox._store.row("au", caller.user)
        assert row is not None
        assert (row["usrname"], caller.lacks) == ("harbor_desk", frozenset())
        asked = door.calls
        clock.now += CALLER_CACHE_SECONDS - 1
        assert door.admit(token) == caller
        assert door.calls == asked
        clock.now += 1
        assert door.admit(token) == caller
        assert door.calls == asked + 2

    def test_the_look_does_not_prolong_the_session(self, door: Door) -> None:
        sent: list[int] = []
        door.proxy.before_answer = lambda call: sent.append(len(call.parameters)) if call.method == SESSION else None
        door.admit(door.session())
        assert sent == [3]

    @pytest.mark.parametrize("lacks", [["STAFF_LOGIN"], ["VIEW_USER"], ["VIEW_USER", "STAFF_LOGIN"]])
    def test_both_permissions_are_needed(self, door: Door, lacks: list[str], caplog: pytest.LogCaptureFixture) -> None:
        door.proxy.answer = lambda call: [[11, name] for name in lacks] if call.method == SEVERAL else None
        token = door.session()
        with caplog.at_level(logging.INFO, "evergreen_groups.web"):
            for _ in range(2):  # the second refusal comes from the cache
                refusal = door.refused(token)
                assert (refusal.status, refusal.code) == (403, "staff-only")
        assert caplog.messages[-1] == f"the session lacks the permission {' and '.join(sorted(lacks))}"

    @pytest.mark.parametrize("lacks", [["STAFF_LOGIN"], ["VIEW_USER"], ["VIEW_USER", "STAFF_LOGIN"]])
    def test_who_loses_one_is_out_when_they_are_looked_at_again(
        self, door: Door, clock: Clock, lacks: list[str]
    ) -> None:
        """The libraries they can see are cached for longer, but that doesn't admit them."""
        token = door.session()
        door.admit(token)
        door.proxy.answer = lambda call: lacks if call.method == CHECK else None
        clock.now += CALLER_CACHE_SECONDS
        assert door.refused(token).status == 403

    @pytest.mark.parametrize("method", [SEVERAL, BATCH])
    def test_who_may_not_even_ask_has_none_of_them(self, door: Door, method: str) -> None:
        event = {"ilsevent": 5000, "textcode": "PERM_FAILURE", "ilsperm": "VIEW_USER", "ilspermloc": 1}
        door.proxy.answer = lambda call: event if call.method in (method, CHECK) else None
        token = door.session()
        assert door.refused(token).status == 403
        assert not has_permission(door.gateway.acting_as(token), Caller(1, frozenset(), 1, None), 1, VIEW_USER)

    @pytest.mark.parametrize(
        "answer", [{}, "", 0, False, ["STAFF"], [[11]], [[999, "VIEW_USER"]], [[11, "MERGE_USERS"]]]
    )
    def test_an_unusable_answer_admits_no_one(self, door: Door, clock: Clock, answer: object) -> None:
        token = door.session()
        door.proxy.answer = lambda call: answer if call.method in (SEVERAL, CHECK) else None
        with pytest.raises(UnexpectedAnswerError):
            door.admit(token)
        door.proxy.answer = lambda call: None
        assert door.admit(token).user, "what can't be used isn't remembered"
        door.proxy.answer = lambda call: answer if call.method in (SEVERAL, CHECK) else None
        clock.now += CALLER_CACHE_SECONDS
        with pytest.raises(UnexpectedAnswerError):
            door.admit(token)

    @pytest.mark.parametrize("answer", [{}, [], {"VIEW_USER": [1]}, {"VIEW_USER": [None]}])
    def test_a_malformed_hint_admits_no_one(self, door: Door, answer: object) -> None:
        door.proxy.answer = lambda call: answer if call.method == BATCH else None
        with pytest.raises(UnexpectedAnswerError):
            door.admit(door.session())

    @pytest.mark.parametrize(("account", "everybody"), [("consortium_staff", True), ("north_manager", False)])
    def test_who_may_see_everybody(self, door: Door, account: str, everybody: bool) -> None:
        token = door.session(account)
        assert has_permission(door.gateway.acting_as(token), door.admit(token), 1, VIEW_USER) is everybody

    def test_permissions_count_where_the_account_works(self, door: Door, clock: Clock) -> None:
        asked: list[list[object]] = []
        door.proxy.before_answer = lambda call: (
            asked.append(call.parameters[2:]) if call.method in (SEVERAL, CHECK) else None
        )
        token = door.session()
        door.admit(token)
        ((units, names),) = asked
        assert isinstance(units, list)
        assert 11 in units
        assert names == ["STAFF_LOGIN", "VIEW_USER", "VIEW_CIRCULATIONS", "VIEW_USER_TRANSACTIONS"]
        clock.now += CALLER_CACHE_SECONDS
        door.admit(token)
        assert asked[1:] == [[11, ["STAFF_LOGIN", "VIEW_USER"]]]


class TestTooMany:
    def test_of_one_session(self, door: Door, clock: Clock) -> None:
        token = door.session()
        for _ in range(3):
            door.admit(token)
        refusal = door.refused(token)
        assert (refusal.status, refusal.retry_after) == (429, pytest.approx(6.0))
        assert door.admit(door.session("admin")).user, "another session isn't refused for it"
        clock.now += PAUSE
        door.admit(token)

    def test_from_one_address(self, door: Door, clock: Clock) -> None:
        known, new = door.session(), door.session("consortium_staff")
        door.admit(known)
        door.strangers("abc")
        asked = door.calls
        refusal = door.refused(new)
        assert (refusal.status, refusal.retry_after) == (429, pytest.approx(6.0))
        assert door.calls == asked, "the ILS isn't asked"
        door.strangers("d", THERE)
        clock.now += CALLER_CACHE_SECONDS
        door.strangers("efg")
        assert door.admit(known).user, "who has been here gets in, though forgotten"

    def test_a_caller_who_waits_as_told_is_admitted(self, door: Door, clock: Clock) -> None:
        new = door.session()
        door.strangers("abc")
        wait = door.refused(new).retry_after or 0.0
        clock.now += wait / 2
        assert door.refused(new).status == 429
        clock.now += wait / 2 + 0.01
        door.strangers("dgh")
        assert door.admit(new).user

    def test_waiting_helps_once_where_there_is_no_session(self, door: Door, clock: Clock) -> None:
        door.strangers("abc")
        door.refused("f" * 32)
        clock.now += PAUSE
        door.strangers("dgf")
        clock.now += 1
        asked = door.calls
        assert door.refused("f" * 32).status == 429
        assert door.calls == asked

    def test_those_who_wait_are_counted_too(self, door: Door, clock: Clock) -> None:
        """Tokens that were refused before have a budget five times as large: 15 at once."""
        door.strangers("abc")
        tokens = [f"{number:032}" for number in range(16)]
        for token in tokens:
            door.refused(token)
        clock.now += PAUSE
        door.strangers("dgh")
        asked = door.calls
        door.strangers(tokens[:15])
        assert door.calls == asked + 15
        assert door.refused(tokens[15]).status == 429
        assert door.calls == asked + 15

    def test_a_session_that_has_ended_counts_as_none(self, door: Door, sandbox: Sandbox) -> None:
        token = door.session()
        end_session(sandbox.url, token)
        door.strangers([token] * 3)
        assert door.refused("a" * 32).status == 429

    def test_an_ils_that_is_away_counts_against_nobody(self, door: Door) -> None:
        with Gateway("http://127.0.0.1:9", retries=RetryPolicy(tries=1)) as dead:
            for name in "abcdef":
                with pytest.raises(UnreachableError):
                    door.admit(name * 32, gateway=dead)
        assert door.admit(door.session()).user
