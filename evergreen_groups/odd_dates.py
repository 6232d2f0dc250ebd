"""Recognize dates that can't be real.

Evergreen sends 1970-01-01 for timestamps stored as infinity, and typos lead to years with one digit. Apart from birth
dates, no Evergreen holds a date before 1971.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)
"""The placeholder for timestamps that Python's ``datetime`` can't represent."""
_FIRST_YEAR = 1971
_OLDEST = 130


def plausible(moment: datetime | None) -> datetime | None:
    """Return the timestamp, or None if it can't be real.

    >>> plausible(UNKNOWN) is None
    True
    """
    return moment if moment is not None and moment.year >= _FIRST_YEAR else None


def plausible_birth_date(born: date | None, today: date) -> date | None:
    """Return the birth date, or None if the person would be younger than 0 or older than 130 years."""
    if born is None or not 0 <= age_of(born, today) <= _OLDEST:
        return None
    return born


def age_of(born: date, today: date) -> int:
    """Return a person's age in completed years."""
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))
