"""The figures of all processes that serve together, for whoever looks at those of one."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from evergreen_groups.metrics import counts_of, exposition_of, gathered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client.core import Metric

    from evergreen_groups.web.serving_process import ServingProcess

SECONDS = 2.0
"""How long a process may take to give its figures before those that it gave last are taken."""


class Gathering:
    """Asks each of ``processes``, which come and go, and gives those that want to know the figures of all.

    What one has counted that has ended stays counted, as far as it was known.
    """

    def __init__(self, processes: Sequence[ServingProcess]) -> None:
        self._processes = processes
        self._waiting: list[ServingProcess] = []
        self._gone: list[Metric] = []
        self.until: float | None = None
        """When those that want to know get what there is, in seconds of the monotonic clock; None: nobody does."""

    def begin(self, process: ServingProcess) -> None:
        """One wants to know: ask all, but for those who have been asked and haven't answered yet."""
        self._waiting.append(process)
        self.until = time.monotonic() + SECONDS
        for one in self._processes:
            if one.is_ready and not one.asked_for_figures:
                one.asked_for_figures = True
                with suppress(OSError):  # it has just ended
                    one.orders.send(("figures", None))

    def take(self, process: ServingProcess, seconds_ago: float | None, figures: list[Metric]) -> None:
        """What one has counted; it last heard of the gateway ``seconds_ago``, None where it hasn't yet."""
        process.figures = figures
        process.asked_for_figures = False
        process.seen = 0.0 if seconds_ago is None else time.monotonic() - seconds_ago

    def bury(self, process: ServingProcess) -> None:
        """One has ended."""
        self._gone = gathered([self._gone, counts_of(process.figures)])
        self._waiting = [one for one in self._waiting if one is not process]

    def end_if_due(self) -> None:
        """Give those that wait the figures, when all have come or it is time."""
        if self.until is None or (
            time.monotonic() < self.until and any(one.asked_for_figures for one in self._processes)
        ):
            return
        latest_first = sorted(self._processes, key=lambda one: one.seen, reverse=True)
        text = exposition_of(gathered([*(one.figures for one in latest_first), self._gone]))
        waiting, self._waiting, self.until = self._waiting, [], None
        for process in waiting:
            with suppress(OSError):
                process.orders.send(("gathered", text))
