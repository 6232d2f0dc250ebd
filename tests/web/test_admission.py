"""Who is let in: staff, cached for a while; made-up tokens, kept from the ILS; and rate limits, alone and shared."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fault_proxy import FaultProxy
from support.redis_server import RedisServer
from support.web_caller import API, Clock, MakeApp, bearer, client_of, end_session, session, settings_of

import evergreen_groups.state.shared_counters as shared_counters
from evergreen_groups.errors import ConfigurationError, NoSessionError, UnexpectedAnswerError, UnreachableError
from evergreen_groups.gateway import Gateway, RetryPolicy
from evergreen_groups.ils import RIGHTS_SECONDS, VIEW_USER, ReferenceData, SessionRights
from evergreen_groups.sandbox import Sandbox
from evergreen_groups.settings import PolicySettings, ServeSettings
from evergreen_groups.settings.sections import RedisSettings
from evergreen_groups.state import check_counter_store, counter_store
from evergreen_groups.web import admission
from evergreen_groups.web.admission import Admission, Caller, Counters, RateLimit, RetryTimes, permitted_at
from evergreen_groups.web.problems import ProblemError

HERE, THERE = "203.0.113.5", "203.0.113.6"
SESSION, BATCH = "open-ils.auth.session.retrieve", "open-ils.actor.user.has_work_perm_at.batch"
SEVERAL = "open-ils.actor.user.perm.check.multi_org"
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
        return self._admission.admit((gateway or self.gateway).acting_as(token), lambda: address, verify=False)

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
        clock.now += RIGHTS_SECONDS - 1
        assert door.admit(token) == caller
        assert door.calls == asked
        clock.now += 1
        assert door.admit(token) == caller
        assert door.calls == asked + 3

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
        token = door.session()
        door.admit(token)
        door.proxy.answer = lambda call: [[11, name] for name in lacks] if call.method == SEVERAL else None
        clock.now += RIGHTS_SECONDS
        assert door.refused(token).status == 403

    @pytest.mark.parametrize("method", [SEVERAL, BATCH])
    def test_who_may_not_even_ask_has_none_of_them(self, door: Door, method: str) -> None:
        event = {"ilsevent": 5000, "textcode": "PERM_FAILURE", "ilsperm": "VIEW_USER", "ilspermloc": 1}
        door.proxy.answer = lambda call: event if call.method in (method, SEVERAL) else None
        token = door.session()
        assert door.refused(token).status == 403
        assert not permitted_at(door.gateway.acting_as(token), Caller(1, SessionRights.none(), 1, None), {1}, VIEW_USER)

    @pytest.mark.parametrize(
        "answer", [{}, "", 0, False, ["STAFF"], [[11]], [[999, "VIEW_USER"]], [[11, "MERGE_USERS"]]]
    )
    def test_an_unusable_answer_admits_no_one(self, door: Door, clock: Clock, answer: object) -> None:
        token = door.session()
        door.proxy.answer = lambda call: answer if call.method == SEVERAL else None
        with pytest.raises(UnexpectedAnswerError):
            door.admit(token)
        door.proxy.answer = lambda call: None
        assert door.admit(token).user, "what can't be used isn't remembered"
        door.proxy.answer = lambda call: answer if call.method == SEVERAL else None
        clock.now += RIGHTS_SECONDS
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
        assert bool(permitted_at(door.gateway.acting_as(token), door.admit(token), {1}, VIEW_USER)) is everybody

    def test_permissions_count_where_the_account_works(self, door: Door, clock: Clock) -> None:
        asked: list[list[object]] = []
        door.proxy.before_answer = lambda call: asked.append(call.parameters[2:]) if call.method == SEVERAL else None
        token = door.session()
        door.admit(token)
        ((units, names),) = asked
        assert isinstance(units, list)
        assert 11 in units
        assert isinstance(names, list)
        assert {"STAFF_LOGIN", "VIEW_USER"} <= set(names)
        clock.now += RIGHTS_SECONDS
        door.admit(token)
        assert asked[1:] == [[units, names]]


class TestTooMany:
    def test_of_one_session(self, door: Door, clock: Clock) -> None:
        token = door.session()
        for _ in range(PER_MINUTE):
            door.admit(token)
        refusal = door.refused(token)
        assert (refusal.status, refusal.retry_after) == (429, pytest.approx(60.0))
        assert door.admit(door.session("admin")).user, "another session isn't refused for it"
        clock.now += 60.01
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
        clock.now += RIGHTS_SECONDS
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


PASSWORD = "secret-of-the-counters"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), PASSWORD) as server:
        yield server


def limit_of(
    counters: Counters, per_minute: int = 30, name: str = "session", *, at_once: int | None = None
) -> RateLimit:
    return RateLimit(counters, name, per_minute=per_minute, at_once=at_once)


def refused(limit: RateLimit, key: str = "one") -> ProblemError:
    with pytest.raises(ProblemError, match=r"^Too many attempts\. Try again in a moment\.$") as caught:
        limit.take(key)
    return caught.value


class TestInOneProcess:
    @pytest.mark.parametrize(
        ("per_minute", "at_once", "seconds"),
        [(1, None, 60), (90, None, 60), (10, 1, 6), (15, 1, 4), (20, 2, 6), (120, 12, 6)],
    )
    def test_all_of_a_minutes_requests_may_come_at_once_or_a_part(
        self, clock: Clock, per_minute: int, at_once: int | None, seconds: int
    ) -> None:
        limit = limit_of(Counters(), per_minute, at_once=at_once)
        for _ in range(at_once or per_minute):
            limit.take("one")
        refusal = refused(limit)
        assert (refusal.status, refusal.code) == (429, "too-many-requests")
        assert refusal.retry_after == pytest.approx(seconds)
        limit.take("another")
        clock.now += seconds + 0.01
        for _ in range(at_once or per_minute):
            limit.take("one")
        refused(limit)

    def test_being_refused_costs_nothing_and_so_does_a_look(self, clock: Clock) -> None:
        limit = limit_of(Counters(), 10, at_once=1)
        for _ in range(5):
            limit.check("one")
        limit.take("one")
        for _ in range(100):
            refused(limit)
            with pytest.raises(ProblemError):
                limit.check("one")
        clock.now += 6.01
        limit.take("one")

    def test_limits_do_not_count_for_each_other(self, clock: Clock) -> None:
        counters = Counters()
        for name in ("session", "stranger"):
            limit_of(counters, 1, name).take("one")

    @given(st.integers(1, 600), st.booleans(), st.lists(st.floats(0.0, 5.0), max_size=60))
    def test_never_more_than_the_limit_and_the_first_few(
        self, per_minute: int, all_at_once: bool, waits: list[float]
    ) -> None:
        at_once = per_minute if all_at_once else max(1, per_minute // 10)
        clock = Clock()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("evergreen_groups.web.admission.time", SimpleNamespace(time=clock, monotonic=clock))
            limit = limit_of(Counters(), per_minute, at_once=at_once)
            began, let_in = clock.now, 0
            for wait in waits:
                clock.now += wait
                try:
                    limit.take("one")
                except ProblemError:
                    continue
                let_in += 1
        assert let_in <= at_once + (clock.now - began) * per_minute / 60 + 1e-6

    def test_a_time_is_set_once_and_put_off_for_good(self, clock: Clock) -> None:
        times = RetryTimes(Counters())
        assert not times.is_due("one", 5.0, HERE)
        clock.now += 4
        assert not times.is_due("one", 0.0, HERE)
        clock.now += 1
        assert times.is_due("one", 5.0, HERE)
        times.give_up("one")
        assert not times.is_due("two", 5.0, HERE)
        times.give_up("two")  # while it still has to wait
        clock.now += 3600
        assert not any(times.is_due(key, 0.0, HERE) for key in ("one", "two"))

    @pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0])
    def test_a_short_time_is_a_time_as_well(self, clock: Clock, seconds: float) -> None:
        times = RetryTimes(Counters())
        assert not times.is_due("one", seconds, HERE)
        assert not times.is_due("one", seconds, HERE)
        clock.now += seconds + 1
        assert times.is_due("one", seconds, HERE)

    def test_one_that_has_not_to_wait_is_due(self, clock: Clock) -> None:
        times = RetryTimes(Counters())
        times.give_up("one")
        assert times.is_due("one", 0.0, HERE), "a key that was never here can't be put off"

    def test_what_is_over_is_forgotten(self, clock: Clock) -> None:
        counters = Counters()
        limit = limit_of(counters)
        for number in range(50):
            limit.take(str(number))
            RetryTimes(counters).is_due(str(number), 5.0, HERE)
        clock.now += 90_000
        limit.take("the next")
        assert len(counters._local) == 1, "whoever makes keys up fills no memory"

    def test_of_one_place_no_more_than_so_many_are_remembered(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(admission, "MAX_REFUSED_KEYS", 3)
        counters = Counters()
        times = RetryTimes(counters)
        for number in range(50):
            assert not times.is_due(str(number), 5.0, HERE)
        assert len(counters._local) <= 2 * 3 + 1
        assert not times.is_due("elsewhere", 5.0, "203.0.113.6")
        clock.now += 6
        assert times.is_due("elsewhere", 5.0, "203.0.113.6")
        assert times.is_due("2", 5.0, HERE)
        assert not times.is_due("40", 5.0, HERE)


class TestTogether:
    @pytest.fixture(autouse=True)
    def answers_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Allow for a busy machine."""
        monkeypatch.setattr(shared_counters, "_SECONDS_TO_ANSWER", 60.0)

    def test_several_count_as_one(self, server: RedisServer) -> None:
        limits = [limit_of(Counters(counter_store(server.url, PASSWORD)), per_minute=1) for _ in range(3)]
        limits[0].take("together")
        for limit in limits:
            refusal = refused(limit, "together")
            assert 0 < (refusal.retry_after or 0) <= 60
            limit.take(f"apart {limits.index(limit)}")

    def test_services_share_their_limits(
        self, make_app: MakeApp, sandbox: Sandbox, proxy: FaultProxy, tmp_path: Path
    ) -> None:
        with RedisServer(tmp_path) as own:
            settings = settings_of(proxy.url, serve=ServeSettings(rate_limit=1), redis=RedisSettings(url=own.url))
            services = [client_of(make_app(settings)) for _ in range(3)]
            known, new = (bearer(session(sandbox.url, username=name)) for name in ("harbor_desk", "admin"))
            address = f"{API}/patrons/1001/block"
            for headers, first in ((known, 200), (bearer("0" * 32), 401)):
                assert [one.get(address, headers=headers).status_code for one in services * 2] == [first] + [429] * 5
            before = len(proxy.seen)
            answers = [one.get(address, headers=new) for one in services]
            assert [answer.status_code for answer in answers] == [429] * 3, "a stranger was there a moment ago"
            assert all("Retry-After" in answer.headers for answer in answers)
            assert len(proxy.seen) == before, "the ILS isn't asked"

    def test_a_wait_imposed_by_one_server_counts_on_the_next(self, server: RedisServer) -> None:
        first, second = (RetryTimes(Counters(counter_store(server.url, PASSWORD))) for _ in range(2))
        assert not first.is_due("token", 60.0, HERE)
        assert not second.is_due("token", 0.0, HERE)
        assert first.is_due("another", 0.0, HERE)
        second.give_up("another")
        assert not first.is_due("another", 0.0, HERE)

    def test_nothing_stays_there_for_good(self, server: RedisServer) -> None:
        counters = Counters(counter_store(server.url, PASSWORD))
        limit_of(counters).take("one")
        RetryTimes(counters).is_due("one", 60.0, HERE)
        client = server.client()
        keys = list(client.scan_iter())
        assert len(keys) >= 3
        lives = [client.ttl(key) for key in keys]
        assert min(lives) > 0
        assert 24 * 3600 - 60 < max(lives) <= 24 * 3600

    def test_without_it_each_counts_by_itself_and_then_together_again(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, clock: Clock
    ) -> None:
        caplog.set_level(logging.INFO, "evergreen_groups")
        with RedisServer(tmp_path, PASSWORD) as own:
            limits = [limit_of(Counters(counter_store(own.url, PASSWORD)), 3) for _ in range(2)]
            own.stop()
            for limit in limits:
                for _ in range(3):
                    limit.take("one")
                refused(limit)
            assert caplog.text.count("this process counts alone for now") == 2
            assert PASSWORD not in caplog.text
            own.start()
            clock.now += 61  # the server isn't retried at every request
            for _ in range(3):
                limits[0].take("one")
            refused(limits[1])

    def test_one_that_takes_connections_and_says_nothing_keeps_nobody_waiting(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(shared_counters, "_SECONDS_TO_ANSWER", 0.05)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            store = counter_store(f"redis://127.0.0.1:{silent.getsockname()[1]}/1", None)
            assert store.storage.get_connection_kwargs()["socket_timeout"] == 0.05
            counters = Counters(store)
            last_resort = threading.Timer(60, silent.close)
            last_resort.start()
            began = time.monotonic()
            limit_of(counters).take("one")
            last_resort.cancel()
        assert time.monotonic() - began < 30
        assert "this process counts alone for now" in caplog.text

    def test_a_wrong_password_is_no_reason_to_let_everybody_in(self, server: RedisServer) -> None:
        limit = limit_of(Counters(counter_store(server.url, "wrong")), 3)
        for _ in range(3):
            limit.take("one")
        refused(limit)
        with pytest.raises(ConfigurationError, match=rf"^127\.0\.0\.1:{server.port} refused"):
            check_counter_store(server.url, "wrong")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "isn't a valid address"),
        ("http://localhost", "isn't a valid address"),
        ("redis://localhost:port/1", "isn't a valid address"),
        ("redis://localhost/1?whatever=1", "isn't a valid address"),
        ("redis://:very-secret@localhost/1", r"^\[redis\] url contains a password"),
        ("redis://localhost/1?password=very-secret", r"^\[redis\] url contains a password"),
    ],
)
def test_addresses_that_will_not_do(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        Counters(counter_store(url, None))
    assert "very-secret" not in str(caught.value)
    assert caught.value.code == ("redis-password-in-address" if "very-secret" in url else "redis-address-wrong")


@pytest.mark.parametrize("missing", ["redis", "limits.storage"])
def test_what_speaks_to_it_is_not_installed(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match="isn't installed") as caught:
        Counters(counter_store("redis://localhost/1", None))
    assert (caught.value.code, caught.value.setting) == ("redis-not-installed", "redis.url")
    assert "evergreen-groups[serve,redis]" in str(caught.value)
