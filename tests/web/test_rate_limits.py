"""Rate limits, in one process and shared by several."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.redis_server import RedisServer
from support.web_caller import Clock

import evergreen_groups.state.shared_counters as shared_counters
from evergreen_groups.errors import ConfigurationError
from evergreen_groups.state import counter_store
from evergreen_groups.web import admission
from evergreen_groups.web.admission import Counters, RateLimit, RetryTimes
from evergreen_groups.web.problems import ProblemError

PASSWORD = "secret-of-the-counters"
HERE = "203.0.113.5"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), PASSWORD) as server:
        yield server


def limit_of(counters: Counters, per_minute: int = 30, name: str = "session") -> RateLimit:
    return RateLimit(counters, name, per_minute=per_minute)


def refused(limit: RateLimit, key: str = "one") -> ProblemError:
    with pytest.raises(ProblemError, match=r"^Too many attempts\. Try again in a moment\.$") as caught:
        limit.take(key)
    return caught.value


class TestInOneProcess:
    @pytest.mark.parametrize(
        ("per_minute", "at_once", "seconds"), [(1, 1, 60), (10, 1, 6), (15, 1, 4), (20, 2, 6), (120, 12, 6)]
    )
    def test_a_tenth_in_a_tenth_of_the_time_and_one_at_least(
        self, clock: Clock, per_minute: int, at_once: int, seconds: int
    ) -> None:
        limit = limit_of(Counters(), per_minute)
        for _ in range(at_once):
            limit.take("one")
        refusal = refused(limit)
        assert (refusal.status, refusal.code) == (429, "too-many-requests")
        assert refusal.retry_after == pytest.approx(seconds)
        limit.take("another")
        clock.now += seconds + 0.01
        for _ in range(at_once):
            limit.take("one")
        refused(limit)

    def test_being_refused_costs_nothing_and_so_does_a_look(self, clock: Clock) -> None:
        limit = limit_of(Counters(), 10)
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
            limit_of(counters, 10, name).take("one")

    @given(st.integers(1, 600), st.lists(st.floats(0.0, 5.0), max_size=60))
    def test_never_more_than_the_limit_and_the_first_few(self, per_minute: int, waits: list[float]) -> None:
        clock = Clock()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("limits.storage.memory.time", SimpleNamespace(time=clock))
            patch.setattr("evergreen_groups.web.admission.time", SimpleNamespace(time=clock, monotonic=clock))
            limit = limit_of(Counters(), per_minute)
            began, let_in = clock.now, 0
            for wait in waits:
                clock.now += wait
                try:
                    limit.take("one")
                except ProblemError:
                    continue
                let_in += 1
        assert let_in <= max(1.0, per_minute / 10) + (clock.now - began) * per_minute / 60 + 1e-6

    def test_a_time_is_set_once_and_put_off_for_good(self, clock: Clock) -> None:
        times = RetryTimes(Counters())
        assert not times.is_due("one", 5.0, HERE)
        clock.now += 4
        assert not times.is_due("one", 0.0, HERE)
        clock.now += 1
        assert times.is_due("one", 5.0, HERE)
        times.give_up("one")
        clock.now += 3600
        assert not times.is_due("one", 0.0, HERE)

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
        clock.now += 3600
        limit.take("the next")
        assert len(counters._local.events) == 1, "whoever makes keys up fills no memory"

    def test_counting_starts_no_thread(self) -> None:
        limit = limit_of(Counters())
        for timer in (thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)):
            timer.join(1.0)  # the one that the store begins with
        before = set(threading.enumerate())
        limit.take("one")
        assert set(threading.enumerate()) <= before

    def test_of_one_place_no_more_than_so_many_are_remembered(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(admission, "MAX_REFUSED_KEYS", 3)
        counters = Counters()
        times = RetryTimes(counters)
        for number in range(50):
            assert not times.is_due(str(number), 5.0, HERE)
        assert len(counters._local.storage) <= 2 * 3 + 1
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
            limits = [limit_of(Counters(counter_store(own.url, PASSWORD))) for _ in range(2)]
            own.stop()
            for limit in limits:
                for _ in range(3):
                    limit.take("one")
                refused(limit)
            assert caplog.text.count("this process counts alone for now") == 2
            assert PASSWORD not in caplog.text
            own.start()
            clock.now += 31  # the server isn't retried at every request
            for _ in range(3):
                limits[0].take("one")
            refused(limits[1])

    def test_one_that_takes_connections_and_says_nothing_keeps_nobody_waiting(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(shared_counters, "_SECONDS_TO_ANSWER", 0.05)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            counters = Counters(counter_store(f"redis://127.0.0.1:{silent.getsockname()[1]}/1", None))
            last_resort = threading.Timer(60, silent.close)
            last_resort.start()
            began = time.monotonic()
            limit_of(counters).take("one")
            last_resort.cancel()
        assert time.monotonic() - began < 30
        assert "this process counts alone for now" in caplog.text

    def test_a_wrong_password_is_no_reason_to_let_everybody_in(self, server: RedisServer) -> None:
        limit = limit_of(Counters(counter_store(server.url, "wrong")))
        for _ in range(3):
            limit.take("one")
        refused(limit)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "isn't a valid address"),
        ("http://localhost", "isn't a valid address"),
        ("redis://localhost:port/1", "isn't a valid address"),
        ("redis://localhost/1?whatever=1", "isn't a valid address"),
        ("redis://:very-secret@localhost/1", "contains a password"),
        ("redis://localhost/1?password=very-secret", "contains a password"),
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
