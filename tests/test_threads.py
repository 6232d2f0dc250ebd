"""The watcher, which ends what takes too long."""

from __future__ import annotations

import threading

import pytest

from evergreen_groups.threads import Watcher


def test_a_function_that_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """All deadlines of a process depend on one thread. The log doesn't show the error's text: it may name a patron."""
    watcher, rounds, called_on = Watcher(), [], threading.Event()

    def fails() -> bool:
        raise ValueError("20000000001052")

    def count() -> bool:
        rounds.append(1)
        if len(rounds) == 3:
            called_on.set()
        return not called_on.is_set()

    with watcher.watching(fails):
        watcher.add(count)
        assert called_on.wait(10)
    assert caplog.messages == ["a watched function failed: ValueError"]
