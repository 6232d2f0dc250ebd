"""The gateway."""

from typing import Any


class Gateway:
    """A connection to one Evergreen gateway (being written)."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.url = url
