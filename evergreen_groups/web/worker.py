"""One of several processes that serve together, as it sees the process that started it."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from evergreen_groups import exit_status
from evergreen_groups.web.rate_limits import Counters
from evergreen_groups.web.shared_storage import SharedStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from evergreen_groups.settings import Settings
    from evergreen_groups.web.server import Server
    from evergreen_groups.web.succession import Succession

log = logging.getLogger("evergreen_groups.web")

GATHERING_SECONDS = 5.0
"""How long it may take until all figures have come together."""


class Worker:
    """One of the processes. ``settings`` are its own share of them, ``is_first`` is so of one at a time.

    ``asked`` counts requests together with the others. ``counting`` and ``orders`` lead to the process that started it.
    """

    def __init__(
        self,
        settings: Settings,
        counting: Connection[Any, Any],
        orders: Connection[Any, Any],
        *,
        is_first: bool,
    ) -> None:
        self.settings = settings
        self.is_first = is_first
        self.asked = Counters(SharedStorage(counting))
        for connection in (counting, orders):
            os.dup(connection.fileno())  # open until the process has ended, whose end the other side sees by this
        self._orders = orders
        self._sending = threading.Lock()
        self._gathering = threading.Lock()
        self._gathered = threading.Event()
        self._exposition = b""
        self._stopping = False

    def serve(self, server: Server, succession: Succession, reload: Callable[[], bool]) -> None:
        """Say that requests are answered, and do from now on, in a thread, what the process that started this one says.

        ``reload`` has the settings as they are now count, and gives whether they do.
        """
        succession.counters.gathered_by(self._gather)
        threading.Thread(target=self._obey, args=(server, succession, reload), name="orders", daemon=True).start()
        self._send("ready", server.url)

    def _obey(self, server: Server, succession: Succession, reload: Callable[[], bool]) -> None:
        with suppress(EOFError, OSError):
            while True:
                order, value = self._orders.recv()
                if order == "stop":
                    self._stopping = True
                    server.stop()
                elif order == "settings":
                    succession.counters.reload(taken=reload())
                    self._send("settings", None)
                elif order == "refused":
                    succession.counters.reload(taken=False)
                elif order == "figures":
                    last = succession.current.breaker.last_outcome()
                    self._send("figures", (last and last.seconds_ago, succession.counters.figures()))
                elif order == "gathered":
                    self._exposition = value
                    self._gathered.set()
        # Whoever started this one is gone: nobody would start another, or end this one.
        if self._stopping:
            os._exit(exit_status.TERMINATED)
        log.error("the process that watches over this one has ended, so this one ends")
        server.stop()

    def _gather(self) -> bytes:
        """The figures of all processes.

        Raises:
            TimeoutError: they don't come, which says that the process that watches over this one hangs.
        """
        with self._gathering:
            self._gathered.clear()
            self._send("gather", None)
            if not self._gathered.wait(GATHERING_SECONDS):
                raise TimeoutError("the figures of the other processes don't come")
            return self._exposition

    def _send(self, order: str, value: object) -> None:
        with self._sending:
            self._orders.send((order, value))
