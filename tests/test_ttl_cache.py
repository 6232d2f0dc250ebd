"""Values that are kept for a while."""

import pytest
from support.web_caller import Clock

from evergreen_groups import ttl_cache
from evergreen_groups.ttl_cache import TimeToLiveCache


def test_a_value_is_read_again_when_it_is_too_old() -> None:
    clock, values = Clock(), iter("abc")
    cache: TimeToLiveCache[str] = TimeToLiveCache(clock, 10.0)
    assert cache.get("key", lambda: next(values)) == "a"
    clock.now += 9.9
    assert cache.get("key", lambda: next(values)) == "a"
    clock.now += 0.1
    assert cache.get("key", lambda: next(values)) == "b"
    assert cache.get("other", lambda: next(values)) == "c"
    clock.now += 10.0
    assert cache.knows("key")
    assert not cache.knows("never read")
    assert (cache.hits, cache.misses) == (1, 3)


def test_what_cannot_be_read_is_not_kept() -> None:
    cache: TimeToLiveCache[float] = TimeToLiveCache(Clock(), 10.0)
    with pytest.raises(ZeroDivisionError):
        cache.get("key", lambda: 1 / 0)
    assert cache.get("key", lambda: 1.0) == 1.0


def test_the_oldest_go_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ttl_cache, "MOST", 2)
    cache: TimeToLiveCache[int] = TimeToLiveCache(Clock(), 10.0)
    for number, key in enumerate("abc"):
        cache.get(key, lambda number=number: number)
    assert [cache.get(key, lambda: -1) for key in "bca"] == [1, 2, -1]
