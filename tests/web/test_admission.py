"""Admission of staff, cached for a while, and how callers with made-up tokens are kept from the ILS."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from support.fault_proxy import FaultProxy
from support.web_caller import Clock, end_session, session

from evergreen_groups.errors import (
    NoSessionError,
    UnexpectedAnswerError,
    UnreachableError,
)
from evergreen_groups.gateway import Gateway, RetryPolicy
from evergreen_groups.ils import VIEW_USER, ReferenceData
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings
from evergreen_groups.web.admission import CALLER_CACHE_SECONDS, Admission, Caller, has_permission
from evergreen_groups.web.problems import ProblemError
from evergreen_groups.web.rate_limits import Counters

HERE, THERE = "203.0.113.5", "203.0.113.6"
CHECK, SESSION = "open-ils.actor.user.perm.check", "open-ils.auth.session.retrieve"
SEVERAL = "open-ils.actor.user.perm.check.multi_org"
PER_MINUTE = 30  # three in six seconds
PAUSE = 6.01  # until failed tokens are forgotten


@pytest.fixture
def plain(proxy: FaultProxy) -> Iterator[Gateway]:
    with Gateway(proxy.url) as gateway:
        yield gateway


@pytest.fixture
def admission(clock: Clock) -> Admission:
    return Admission(clock, Counters(), ReferenceData(PolicySettings(), clock=clock), per_minute=PER_MINUTE)


class TestCaller:
    def test_staff_are_admitted_and_remembered(
        self, sandbox: Sandbox, proxy: FaultProxy, plain: Gateway, admission: Admission, clock: Clock
    ) -> None:
        token = session(sandbox.url, username="harbor_desk")
        caller = admission.admit(plain.acting_as(token), HERE)
        row = sandbox._store.row("au", caller.user)
        assert row is not None
        assert (row["usrname"], caller.lacks) == ("harbor_desk", frozenset())
        asked = len(proxy.seen)
        clock.now += CALLER_CACHE_SECONDS - 1
        assert admission.admit(plain.acting_as(token), HERE) == caller
        assert len(proxy.seen) == asked
        clock.now += 1
        assert admission.admit(plain.acting_as(token), HERE) == caller
        assert len(proxy.seen) == asked + 2

    def test_the_look_does_not_prolong_the_session(
        self, sandbox: Sandbox, proxy: FaultProxy, plain: Gateway, admission: Admission
    ) -> None:
        sent: list[int] = []
        proxy.before_answer = lambda call: sent.append(len(call.parameters)) if call.method == SESSION else None
        admission.admit(plain.acting_as(session(sandbox.url, username="harbor_desk")), HERE)
        assert sent == [3]

    @pytest.mark.parametrize("lacks", [["STAFF_LOGIN"], ["VIEW_USER"], ["VIEW_USER", "STAFF_LOGIN"]])
    def test_both_permissions_are_needed(
        self,
        sandbox: Sandbox,
        proxy: FaultProxy,
        plain: Gateway,
        admission: Admission,
        lacks: list[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        proxy.answer = lambda call: [[11, name] for name in lacks] if call.method == SEVERAL else None
        gateway = plain.acting_as(session(sandbox.url, username="harbor_desk"))
        with caplog.at_level(logging.INFO, "evergreen_groups.web"):
            for _ in range(2):  # the second refusal comes from the cache
                with pytest.raises(ProblemError) as refused:
                    admission.admit(gateway, HERE)
                assert (refused.value.status, refused.value.code) == (403, "staff-only")
        assert caplog.messages[-1] == f"the session lacks the permission {' and '.join(sorted(lacks))}"

    @pytest.mark.parametrize("lacks", [["STAFF_LOGIN"], ["VIEW_USER"], ["VIEW_USER", "STAFF_LOGIN"]])
    def test_who_loses_one_is_out_when_they_are_looked_at_again(
        self,
        sandbox: Sandbox,
        proxy: FaultProxy,
        plain: Gateway,
        admission: Admission,
        clock: Clock,
        lacks: list[str],
    ) -> None:
        """The libraries they can see are cached for longer, but that doesn't admit them."""
        gateway = plain.acting_as(session(sandbox.url, username="harbor_desk"))
        admission.admit(gateway, HERE)
        proxy.answer = lambda call: lacks if call.method == CHECK else None
        clock.now += CALLER_CACHE_SECONDS
        with pytest.raises(ProblemError) as refused:
            admission.admit(gateway, HERE)
        assert refused.value.status == 403

    def test_what_holds_above_and_is_said_to_be_missing_here_is_missing(
        self, sandbox: Sandbox, proxy: FaultProxy, plain: Gateway, admission: Admission
    ) -> None:
        proxy.answer = lambda call: [[11, "VIEW_USER"]] if call.method == SEVERAL else None
        with pytest.raises(ProblemError) as refused:
            admission.admit(plain.acting_as(session(sandbox.url, username="harbor_desk")), HERE)
        assert refused.value.status == 403

    @pytest.mark.parametrize("method", [SEVERAL, "open-ils.actor.user.has_work_perm_at.batch"])
    def test_who_may_not_even_ask_has_none_of_them(
        self, sandbox: Sandbox, proxy: FaultProxy, plain: Gateway, admission: Admission, method: str
    ) -> None:
        event = {"ilsevent": 5000, "textcode": "PERM_FAILURE", "ilsperm": "VIEW_USER", "ilspermloc": 1}
        proxy.answer = lambda call: event if call.method in (method, CHECK) else None
        gateway = plain.acting_as(session(sandbox.url, username="harbor_desk"))
        with pytest.raises(ProblemError) as refused:
            admission.admit(gateway, HERE)
        assert refused.value.status == 403
        assert not has_permission(gateway, Caller(1, frozenset(), 1, None), 1, VIEW_USER)

    @pytest.mark.parametrize(
        "answer", [{}, "", 0, False, ["STAFF"], [[11]], [[999, "VIEW_USER"]], [[11, "MERGE_USERS"]]]
    )
    def test_an_unusable_answer_admits_no_one(
        self, sandbox: Sandbox, proxy: FaultProxy, plain: Gateway, admission: Admission, clock: Clock, answer: object
    ) -> None:
        gateway = plain.acting_as(session(sandbox.url, username="harbor_desk"))
        proxy.answer = lambda call: answer if call.method in (SEVERAL, CHECK) else None
        with pytest.raises(UnexpectedAnswerError):
            admission.admit(gateway, HERE)
        proxy.answer = lambda call: None
        assert admission.admit(gateway, HERE).user, "what can't be used isn't remembered"
        proxy.answer = lambda call: answer if call.method in (SEVERAL, CHECK) else None
        clock.now += CALLER_CACHE_SECONDS
        with pytest.raises(UnexpectedAnswerError):
            admission.admit(gateway, HERE)

    @pytest.mark.parametrize("answer", [{}, [], {"VIEW_USER": [1]}, {"VIEW_USER": [None]}])
    def test_a_malformed_hint_admits_no_one(
        self, sandbox: Sandbox, proxy: FaultProxy, plain: Gateway, admission: Admission, answer: object
    ) -> None:
        batch = "open-ils.actor.user.has_work_perm_at.batch"
        proxy.answer = lambda call: answer if call.method == batch else None
        with pytest.raises(UnexpectedAnswerError):
            admission.admit(plain.acting_as(session(sandbox.url, username="harbor_desk")), HERE)

    @pytest.mark.parametrize(("account", "everybody"), [("consortium_staff", True), ("north_manager", False)])
    def test_who_may_see_everybody(
        self, sandbox: Sandbox, plain: Gateway, admission: Admission, account: str, everybody: bool
    ) -> None:
        gateway = plain.acting_as(session(sandbox.url, username=account))
        assert has_permission(gateway, admission.admit(gateway, HERE), 1, VIEW_USER) is everybody

    def test_permissions_count_where_the_account_works(
        self, sandbox: Sandbox, proxy: FaultProxy, plain: Gateway, admission: Admission, clock: Clock
    ) -> None:
        asked: list[list[object]] = []
        proxy.before_answer = lambda call: (
            asked.append(call.parameters[2:]) if call.method in (SEVERAL, CHECK) else None
        )
        gateway = plain.acting_as(session(sandbox.url, username="harbor_desk"))
        admission.admit(gateway, HERE)
        ((units, names),) = asked
        assert isinstance(units, list)
        assert 11 in units
        assert names == ["STAFF_LOGIN", "VIEW_USER", "VIEW_CIRCULATIONS", "VIEW_USER_TRANSACTIONS"]
        clock.now += CALLER_CACHE_SECONDS
        admission.admit(gateway, HERE)
        assert asked[1:] == [[11, ["STAFF_LOGIN", "VIEW_USER"]]]


class TestTooMany:
    def refused(self, admission: Admission, gateway: Gateway, token: str, address: str = HERE) -> ProblemError:
        with pytest.raises(ProblemError) as refusal:
            admission.admit(gateway.acting_as(token), address)
        return refusal.value

    def strangers(self, admission: Admission, gateway: Gateway, names: str, address: str = HERE) -> None:
        """Try tokens that belong to no session. Each of them costs a call to the ILS."""
        for name in names:
            with pytest.raises(NoSessionError):
                admission.admit(gateway.acting_as(name * 32), address)

    def test_of_one_session(
        self, sandbox: Sandbox, proxy: FaultProxy, plain: Gateway, admission: Admission, clock: Clock
    ) -> None:
        gateway = plain.acting_as(session(sandbox.url, username="harbor_desk"))
        for _ in range(3):
            admission.admit(gateway, HERE)
        refusal = self.refused(admission, plain, gateway.token)
        assert (refusal.status, refusal.retry_after) == (429, pytest.approx(6.0))
        assert "in this session" in str(refusal)
        clock.now += PAUSE
        admission.admit(gateway, HERE)

    def test_from_one_address(
        self, sandbox: Sandbox, proxy: FaultProxy, plain: Gateway, admission: Admission, clock: Clock
    ) -> None:
        known, new = (session(sandbox.url, username=name) for name in ("harbor_desk", "consortium_staff"))
        admission.admit(plain.acting_as(known), HERE)
        self.strangers(admission, plain, "abc")
        asked = len(proxy.seen)
        refusal = self.refused(admission, plain, new)
        assert (refusal.status, refusal.retry_after) == (429, pytest.approx(6.0))
        assert "without a session" in str(refusal)
        assert len(proxy.seen) == asked, "the ILS isn't asked"
        self.strangers(admission, plain, "d", THERE)
        clock.now += CALLER_CACHE_SECONDS
        self.strangers(admission, plain, "efg")
        assert admission.admit(plain.acting_as(known), HERE).user, "who has been here gets in, though forgotten"

    def test_a_caller_who_waits_as_told_is_admitted(
        self, sandbox: Sandbox, plain: Gateway, admission: Admission, clock: Clock
    ) -> None:
        new = session(sandbox.url, username="harbor_desk")
        self.strangers(admission, plain, "abc")
        wait = self.refused(admission, plain, new).retry_after or 0.0
        clock.now += wait / 2
        assert self.refused(admission, plain, new).status == 429
        clock.now += wait / 2 + 0.01
        self.strangers(admission, plain, "dgh")
        assert admission.admit(plain.acting_as(new), HERE).user

    def test_waiting_helps_once_where_there_is_no_session(
        self, proxy: FaultProxy, plain: Gateway, admission: Admission, clock: Clock
    ) -> None:
        self.strangers(admission, plain, "abc")
        self.refused(admission, plain, "f" * 32)
        clock.now += PAUSE
        self.strangers(admission, plain, "dgf")
        clock.now += 1
        asked = len(proxy.seen)
        assert self.refused(admission, plain, "f" * 32).status == 429
        assert len(proxy.seen) == asked

    def test_those_who_wait_are_counted_too(
        self, proxy: FaultProxy, plain: Gateway, admission: Admission, clock: Clock
    ) -> None:
        """Tokens that were refused before have a budget five times as large: 15 at once."""
        self.strangers(admission, plain, "abc")
        tokens = [f"{number:032}" for number in range(16)]
        for token in tokens:
            self.refused(admission, plain, token)
        clock.now += PAUSE
        self.strangers(admission, plain, "dgh")
        asked = len(proxy.seen)
        for token in tokens[:15]:
            with pytest.raises(NoSessionError):
                admission.admit(plain.acting_as(token), HERE)
        assert len(proxy.seen) == asked + 15
        assert self.refused(admission, plain, tokens[15]).status == 429
        assert len(proxy.seen) == asked + 15

    def test_a_session_that_has_ended_counts_as_none(
        self, sandbox: Sandbox, plain: Gateway, admission: Admission
    ) -> None:
        token = session(sandbox.url, username="harbor_desk")
        end_session(sandbox.url, token)
        for _ in range(3):
            with pytest.raises(NoSessionError):
                admission.admit(plain.acting_as(token), HERE)
        assert self.refused(admission, plain, "a" * 32).status == 429

    def test_an_ils_that_is_away_counts_against_nobody(
        self, sandbox: Sandbox, plain: Gateway, admission: Admission
    ) -> None:
        with Gateway("http://127.0.0.1:9", retries=RetryPolicy(tries=1)) as dead:
            for name in "abcdef":
                with pytest.raises(UnreachableError):
                    admission.admit(dead.acting_as(name * 32), HERE)
        assert admission.admit(plain.acting_as(session(sandbox.url, username="harbor_desk")), HERE).user
