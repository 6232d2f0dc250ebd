"""Calls plug-ins: other people's code that is notified of finished work, and must not harm it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from evergreen_groups.threads import begin

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

log = logging.getLogger("evergreen_groups.plugins")

GROUP = "evergreen_groups.plugins"
METHODS = ("report_finished", "change_applied", "follow_up_added")
"""What a plug-in may have, each optional. Each is called with one record, once that is recorded."""
_Result = TypeVar("_Result")


class PluginFailedError(Exception):
    """A plug-in isn't installed, raised an error, or is late. The text says which, without patron data."""


class Plugin:
    """A plug-in by the name of its entry point, loaded on first use. Safe to share between threads.

    It runs in daemon threads, because Python can't end a thread that hangs, and waits at exit for any other kind. It
    gets one thread at a time, so that a plug-in that hangs holds no more than one.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._changed = threading.Condition()
        self._loaded: object = None
        self._busy_until: float | None = None  # the deadline of the current call, by the monotonic clock

    def inspect(self, seconds: float) -> tuple[str, tuple[str, ...]]:
        """Load the plug-in, and return its distribution's version and the methods that it has.

        Raises:
            PluginFailedError: the plug-in can't be used.
        """
        methods = self._run(lambda loaded: tuple(name for name in METHODS if hasattr(loaded, name)), seconds)
        if not methods:
            raise PluginFailedError(f"no {', '.join(METHODS)}")
        distribution = self._entry_point().dist
        return distribution.version if distribution else "", methods

    def call(self, method: str, records: Sequence[object], seconds: float) -> None:
        """Call a method, if the plug-in has it, with one record after the other. Wait up to ``seconds`` for all.

        Raises:
            PluginFailedError: a call failed, or the plug-in is late.
        """

        def work(loaded: object) -> None:
            if function := getattr(loaded, method, None):
                for record in records:
                    function(record)

        self._run(work, seconds)

    def _entry_point(self) -> EntryPoint:
        from importlib.metadata import entry_points  # slow to import

        for found in entry_points(group=GROUP, name=self.name):
            return found
        raise PluginFailedError("not installed")

    def _load(self) -> object:
        """Return the plug-in, loaded on first use. Only one thread at a time calls this."""
        # Before Python 3.12, all instances share the lock of a cached_property, and a plug-in whose import hangs would
        # make all others late.
        if self._loaded is None:
            loaded = self._entry_point().load()
            self._loaded = loaded() if isinstance(loaded, type) else loaded
        return self._loaded

    def _run(self, work: Callable[[object], _Result], seconds: float) -> _Result:
        def run() -> _Result:
            try:
                return work(self._load())
            finally:
                self._release()

        deadline = monotonic() + seconds
        with self._changed:
            # Wait for the call of another thread, but not for one that is late.
            while self._busy_until is not None:
                if (left := min(deadline, self._busy_until) - monotonic()) <= 0:
                    raise PluginFailedError("still busy with an earlier call")
                self._changed.wait(left)
            self._busy_until = deadline
        try:
            result = begin(run)
        except RuntimeError:  # no more threads
            self._release()
            raise PluginFailedError("no thread") from None
        try:
            error = result.exception(max(0.0, deadline - monotonic()))
        except TimeoutError:
            raise PluginFailedError("timed out") from None
        if isinstance(error, PluginFailedError):
            raise error
        if error is not None:  # only its type: the text may name a patron
            raise PluginFailedError(type(error).__name__) from None
        return result.result()

    def _release(self) -> None:
        with self._changed:
            self._busy_until = None
            self._changed.notify_all()


class Plugins:
    """The ``enabled`` plug-ins, in the order in which they are called. Each may delay its caller by ``seconds``."""

    def __init__(self, names: Sequence[str] = (), seconds: float = 0.0) -> None:
        self.enabled = tuple(map(Plugin, names))
        self.seconds = seconds

    def notify(self, method: str, *records: object) -> None:
        """Call the method of each plug-in that has it. A failure is logged, without patron data."""
        for plugin in self.enabled if records else ():
            try:
                plugin.call(method, records, self.seconds)
            except PluginFailedError as error:
                log.error("plug-in %s, %s: %s", plugin.name, method, error)  # noqa: TRY400 - patron data
