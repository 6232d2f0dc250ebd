"""Counting what went over the wire."""

from __future__ import annotations

import logging
import threading

log = logging.getLogger("evergreen_groups.gateway")


class Statistics:
    """What one gateway has cost so far. Safe to share between threads.

    ``calls`` counts HTTP requests, those for the IDL and repeated ones included; ``bytes_sent`` and
    ``bytes_received`` count bodies as they went over the wire; ``retries`` counts the requests that were repeats.
    ``unreadable_dates`` are the dates of rows that couldn't be read: class, key and field of each, once.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        self.retries = 0
        self.unreadable_dates: list[tuple[str, object, str]] = []
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return (
            f"Statistics(calls={self.calls}, bytes_sent={self.bytes_sent}, "
            f"bytes_received={self.bytes_received}, retries={self.retries})"
        )

    def request(self, sent: int) -> None:
        """Count a request with a body of ``sent`` bytes."""
        with self._lock:
            self.calls += 1
            self.bytes_sent += sent

    def answer(self, received: int) -> None:
        """Count the ``received`` bytes of an answer's body."""
        with self._lock:
            self.bytes_received += received

    def retry(self) -> None:
        """Count a repeat; the request itself is counted as any other."""
        with self._lock:
            self.retries += 1

    def unreadable_date(self, class_id: str, key: object, field: str) -> None:
        """Note that a date of a row can't be read, so that it counts as unknown."""
        found = (class_id, key, field)
        with self._lock:
            if found in self.unreadable_dates:
                return
            self.unreadable_dates.append(found)
        log.warning("the field %s of %s %s has a date that can't be read; it counts as unknown", field, class_id, key)
