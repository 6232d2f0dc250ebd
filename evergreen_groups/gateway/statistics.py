"""Counting what went over the wire."""

from __future__ import annotations

import threading


class Statistics:
    """What one gateway has cost so far. Safe to share between threads.

    ``calls`` counts HTTP requests, those for the IDL and repeated ones included; ``bytes_sent`` and
    ``bytes_received`` count bodies as they went over the wire; ``retries`` counts the requests that were repeats.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        self.retries = 0
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
