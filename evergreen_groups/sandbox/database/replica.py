"""A copy of the sandbox's database that is behind it, as sites have them for plain reads."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Replica:
    """The state as it was ``delay`` seconds ago at the latest; infinity: until :meth:`catch_up`.

    ``connect`` opens a database; ``original`` is the one to copy. One reader at a time.
    """

    def __init__(
        self,
        path: Path,
        delay: float,
        connect: Callable[[Path], sqlite3.Connection],
        original: Callable[[], sqlite3.Connection],
    ) -> None:
        path.touch(mode=0o600)
        self._delay = delay
        self._original = original
        self._connection = connect(path)
        self._lock = threading.RLock()
        self._local = threading.local()
        self._behind_since: float | None = None
        self.catch_up()

    @property
    def serves(self) -> sqlite3.Connection | None:
        """The connection for this thread while it is being served; None otherwise."""
        return self._connection if getattr(self._local, "served", False) else None

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Let this thread read from here."""
        with self._lock:
            if self._behind_since is not None and time.monotonic() - self._behind_since >= self._delay:
                self.catch_up()
            self._local.served = True
            try:
                yield
            finally:
                self._local.served = False

    def fall_behind(self) -> None:
        """Something was written into the original."""
        if self._behind_since is None:
            self._behind_since = time.monotonic()

    def catch_up(self) -> None:
        """Take over everything that the original has."""
        with self._lock:
            self._behind_since = None
            self._original().backup(self._connection)
