"""Dates that say nothing: Evergreen sends 1970-01-01 for what is stored as infinity, and years of one digit for typos.

No library's Evergreen has anything from before 1971 but birth dates.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)
"""What a timestamp is read as that Python can't hold."""
_FIRST_YEAR = 1971
_OLDEST = 130


def known(moment: datetime | None) -> datetime | None:
    """Return a moment, None for one that says nothing.

    >>> known(UNKNOWN) is None
    True
    """
    return moment if moment is not None and moment.year >= _FIRST_YEAR else None


def known_birth(born: date | None, today: date) -> date | None:
    """Return a birth date, None for one that makes somebody younger than 0 or older than 130 years."""
    if born is None or not 0 <= age_of(born, today) <= _OLDEST:
        return None
    return born


def age_of(born: date, today: date) -> int:
    """Return how many years old somebody is."""
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))
