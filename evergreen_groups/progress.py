"""Progress reports of long jobs."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A callback for progress."""

    def __call__(self, doing: str, done: int, total: int | None = None) -> None:
        """Report that ``done`` of ``total`` units of the task ``doing`` are finished. ``total`` None: not known yet."""


def silent(doing: str, done: int, total: int | None = None) -> None:
    """Ignore all progress reports."""
