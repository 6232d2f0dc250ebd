"""What stands in an address: ids and barcodes, checked before anything is asked."""

from __future__ import annotations

import re

from evergreen_groups.web.problems import ProblemError

LARGEST_ID = 2**31 - 1
"""Evergreen's ids and group numbers are PostgreSQL integers."""

LONGEST_BARCODE = 64

_ID = re.compile(r"[1-9][0-9]{0,9}")
_BARCODE = re.compile(r"[0-9A-Za-z.$+_-]+")


def record_id(text: str) -> int:
    """Read an id.

    Raises:
        ProblemError: 400.
    """
    if not _ID.fullmatch(text) or int(text) > LARGEST_ID:
        raise ProblemError(400, f"An id is a whole number from 1 to {LARGEST_ID}, written in digits.")
    return int(text)


def barcode(text: str) -> str:
    """Take a barcode.

    Raises:
        ProblemError: 400.
    """
    if len(text) > LONGEST_BARCODE or not _BARCODE.fullmatch(text):
        raise ProblemError(400, f"A barcode has letters, digits and . $ + _ - only, at most {LONGEST_BARCODE} of them.")
    return text
