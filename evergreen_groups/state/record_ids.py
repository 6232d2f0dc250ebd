"""Ids of records for pages, answers and output: the record's number and a random part, as in ``2-k7q4tz``.

Restoring a backup can use a number again. The random part tells the two records apart, so that a request about one
never changes the other.
"""

from __future__ import annotations

import re
import secrets

PATTERN = "[1-9][0-9]{0,17}-[0-9a-z]{6}"
_ID = re.compile(PATTERN)
_SUFFIX_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # base32 without letters that look like digits


def new_suffix() -> str:
    return "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(6))


def of(number: int, suffix: str) -> str:
    return f"{number}-{suffix}"


def is_record_id(text: str) -> bool:
    """Return whether ``text`` has the form of a record's id.

    >>> is_record_id("2-k7q4tz"), is_record_id("2")
    (True, False)
    """
    return bool(_ID.fullmatch(text))


def number_of(id: str) -> int:
    """Return the number in a record's id. Later records have higher numbers."""
    return int(id.partition("-")[0])
