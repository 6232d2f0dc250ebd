"""What comes in and goes out, as the desk sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """A request: ``target`` is path and query as sent, ``peer`` the address of whoever asks.

    The names of ``headers`` are in small letters.
    """

    command: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    peer: str

    @property
    def path(self) -> str:
        """The path, as sent."""
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; ``content_type`` none: there's no body."""

    status: int
    content_type: str | None
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
