"""What was read of patrons is asked for once, and let go of when it was given."""

from collections.abc import Collection

import pytest

from evergreen_groups.groups import reader
from evergreen_groups.groups.reader import ReadOnceCache


def test_what_is_kept_is_not_read_again_until_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_MAX_CACHED", 3)
    asked: list[list[int]] = []

    def read(ids: Collection[int]) -> dict[int, str]:
        asked.append(list(ids))
        return dict.fromkeys(ids, "read")

    cache: ReadOnceCache[str] = ReadOnceCache()
    cache.put({1: "kept", 2: "kept"})
    cache.put({3: "kept", 4: "too many"})
    assert cache.take([1, 4, 5], read) == {1: "kept", 4: "read", 5: "read"}
    assert cache.take([1, 2], read) == {1: "read", 2: "kept"}
    assert asked == [[4, 5], [1]]
