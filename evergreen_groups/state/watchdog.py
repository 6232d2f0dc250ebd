"""Time limits for connections to PostgreSQL, without which a frozen server would keep its clients forever."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg.pq import TransactionStatus

from evergreen_groups.state.engine import NoAnswerError
from evergreen_groups.threads import begin

_TICK = 0.1  # seconds between two looks at the clock


class Watchdog:
    """Shuts the socket of a connection that waits for its server past a deadline, so that the waiting thread goes on.

    Calls ``on_silence`` each time. Safe to share between threads.
    """

    def __init__(self, on_silence: Callable[[], None]) -> None:
        self._on_silence = on_silence
        self._lock = threading.Lock()
        self._deadlines: dict[Any, tuple[float, float]] = {}
        self._silent: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        self._is_running = False

    def expect(self, connection: Any, seconds: float) -> None:
        """Give the server ``seconds`` to answer what is sent next."""
        with self._lock:
            self._deadlines[connection] = time.monotonic() + seconds, seconds
            if not self._is_running:
                with suppress(RuntimeError):  # Python is exiting, and starts no more threads
                    begin(self._run)
                    self._is_running = True

    def forget(self, connection: Any) -> None:
        """Stop watching a connection."""
        with self._lock:
            self._deadlines.pop(connection, None)

    @contextmanager
    def watching(self, connection: Any, seconds: float) -> Iterator[None]:
        """Raise NoAnswerError if the block gets no answer in time."""
        self.expect(connection, seconds)
        try:
            yield
        except psycopg.Error:
            if silence := self.silence_of(connection):
                raise silence from None
            raise
        finally:
            self.forget(connection)

    def silence_of(self, connection: Any) -> NoAnswerError | None:
        """Return the error for a connection that was shut because its server was silent, None for any other."""
        seconds = self._silent.get(connection)
        return None if seconds is None else NoAnswerError(f"no answer within {seconds:g} seconds")

    def _run(self) -> None:
        while True:
            time.sleep(_TICK)
            with self._lock:
                for connection, (deadline, seconds) in list(self._deadlines.items()):
                    if time.monotonic() >= deadline:
                        del self._deadlines[connection]
                        self._shut_if_waiting(connection, seconds)
                if not self._deadlines:
                    self._is_running = False
                    return

    def _shut_if_waiting(self, connection: Any, seconds: float) -> None:
        if connection.info.transaction_status != TransactionStatus.ACTIVE:
            return
        self._silent[connection] = seconds
        self._on_silence()
        # The driver goes on using its own descriptor, and reads the end of the connection.
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)
