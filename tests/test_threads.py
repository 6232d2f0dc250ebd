"""The watcher, which ends what takes too long."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from evergreen_groups import threads


def test_its_thread_stays_though_it_begins_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not find that it isn't needed before it is noted as running: no deadline would be kept from then on."""

    def begin(function: Callable[[], None]) -> None:
        thread = threading.Thread(target=function, daemon=True)
        thread.start()
        thread.join(0.5)

    monkeypatch.setattr(threads, "begin", begin)
    watcher, called = threads.Watcher(), threading.Event()

    def look() -> bool:
        called.set()
        return False

    watcher.add(look)
    assert called.wait(10)


def test_a_function_that_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """All deadlines of a process depend on one thread. The log doesn't show the error's text: it may name a patron."""
    watcher, rounds, called_on = threads.Watcher(), [], threading.Event()

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
