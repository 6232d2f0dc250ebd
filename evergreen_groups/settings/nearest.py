"""The name that somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of these names that is the nearest to another; None where none is near.

    >>> nearest("min_totl", ["min_total", "top"]), nearest("speed", ["url", "timeout"])
    ('min_total', None)
    """
    from difflib import get_close_matches  # only who has made a mistake needs it

    return next(iter(get_close_matches(name, list(names), 1, 0.7)), None)
