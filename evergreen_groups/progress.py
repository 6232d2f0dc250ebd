"""How a long job reports how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with what is being done and how much of it is done; ``total`` is None while it isn't known."""

    def __call__(self, doing: str, done: int, total: int | None = None) -> None:
        """Take note."""


def silent(doing: str, done: int, total: int | None = None) -> None:
    """Report nothing."""
