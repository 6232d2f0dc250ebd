"""Match barcodes as scanned, typed or pasted with those on cards."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from operator import eq
from string import digits
from typing import TypeVar

Found = TypeVar("Found")

# Ignore blanks, which separate the printed digits below the bars; control characters, which scanners send before and
# after a barcode; and invisible format characters copied from emails and web pages. Keep hyphens: some cards have them.
_IGNORED = ("Z", "Cc", "Cf")
_IMPOSSIBLE = re.compile("[\0\ud800-\udfff]")


def spellings(text: str) -> tuple[str, ...]:
    """Return the barcodes that a text may mean: with single blanks, if it has any, and without blanks.

    Some cards do have a blank in their barcode, and scanning one must find it. The result is empty for text that can't
    be a barcode. A NUL can't be in a PostgreSQL text, and OpenSRF turns a parameter with a NUL into null, so the search
    would end with status 500. Bytes that aren't UTF-8 arrive from the command line as lone surrogates, which can't be
    sent.

    >>> spellings("20000000001036"), spellings(" 2 0000 00000 1036\\t")
    (('20000000001036',), ('2 0000 00000 1036', '20000000001036'))
    """
    if _IMPOSSIBLE.search(text):
        return ()
    cleaned = "".join(
        " " if letter.isspace() else letter
        for letter in text
        if letter.isspace() or not unicodedata.category(letter).startswith(_IGNORED)
    )
    with_blanks = " ".join(cleaned.split())
    return tuple(filter(None, dict.fromkeys((with_blanks, with_blanks.replace(" ", "")))))


def without_blanks(text: str) -> str:
    """Return the barcode without ignored characters, or an empty string if the text can't be a barcode.

    >>> without_blanks("2 0000 00000 1036\\r\\n")
    '20000000001036'
    """
    return next(reversed(spellings(text)), "")


def first_match(text: str, found: Mapping[str, Found]) -> Found | None:
    """Return what was found (by barcode) for the first spelling of the text that has a match."""
    return next((found[spelling] for spelling in spellings(text) if spelling in found), None)


# Longer barcodes would produce thousands of variants. Libraries' own have 14 digits (Codabar) or fewer.
_MAX_LENGTH = 24
# Some scanners send Codabar's start and stop letters.
_START_AND_STOP = re.compile(r"[A-Da-d](.+)[A-Da-d]")
_MIN_CARDS = 5
_USUAL_SHARE = 0.8


def similar_barcodes(barcode: str) -> list[str]:
    """Return barcodes that differ by a single typing mistake, the likeliest first. There are at most a few hundred.

    Covers swapped neighbors, missing, extra and wrong digits, hyphens or start and stop letters that the card doesn't
    have, and upper or lower case.

    >>> similar_barcodes("12-3")[:3]
    ['123', '21-3', '1-23']
    >>> len(similar_barcodes("20000000001036"))
    273
    """
    if len(barcode) > _MAX_LENGTH:
        return []
    return [near for near in dict.fromkeys(_typos(barcode)) if near and near != barcode]


def _typos(barcode: str) -> Iterator[str]:
    yield barcode.replace("-", "")
    yield barcode.upper()
    yield barcode.lower()
    if framed := _START_AND_STOP.fullmatch(barcode):
        yield framed[1]
    positions = range(len(barcode))
    yield from (f"{barcode[:at]}{barcode[at + 1]}{barcode[at]}{barcode[at + 2 :]}" for at in positions[:-1])
    yield from (f"{barcode[:at]}{digit}{barcode[at:]}" for at in range(len(barcode) + 1) for digit in digits)
    numbers = [at for at in positions if barcode[at] in digits]
    yield from (f"{barcode[:at]}{barcode[at + 1 :]}" for at in numbers)
    yield from (f"{barcode[:at]}{digit}{barcode[at + 1 :]}" for at in numbers for digit in digits)


def difference(barcode: str, typed: str) -> tuple[str, str, str]:
    """Return a barcode in three parts. What was typed differs from it in the middle one.

    >>> difference("20000000001036", "20000000001063"), difference("1236", "12366")
    (('200000000010', '36', ''), ('1236', '', ''))
    """
    start = _shared(barcode, typed)
    end = len(barcode) - _shared(barcode[start:][::-1], typed[start:][::-1])
    return barcode[:start], barcode[start:end], barcode[end:]


def _shared(one: str, other: str) -> int:
    """Return how many characters both begin with."""
    return sum(takewhile(bool, map(eq, one, other)))


def usual_length(barcodes: Sequence[str]) -> int | None:
    """Return the length of nearly all of these barcodes, None if lengths vary or there are too few barcodes.

    >>> usual_length(["20000000001036"] * 9 + ["X1"]), usual_length(["123456"])
    (14, None)
    """
    if len(barcodes) < _MIN_CARDS:
        return None
    ((length, count),) = Counter(map(len, barcodes)).most_common(1)
    return length if count >= _USUAL_SHARE * len(barcodes) else None


def check_digit_fails(barcode: str, others: Sequence[str]) -> bool:
    """Return whether the check digit is wrong while those of other barcodes of this length are all right.

    The check digit is that of a library Codabar (modulo 10, Luhn). If the library's cards have no check digits, some of
    the others fail by chance, and the result is False.

    >>> right = ["21234567890124", "21234567890132", "21234567890140", "21234567890157", "21234567890165"]
    >>> check_digit_fails("21234567890123", right), check_digit_fails("21234567890173", right)
    (True, False)
    >>> check_digit_fails("21234567890123", [*right, "21234567890129"])
    False
    """
    alike = [other for other in others if len(other) == len(barcode)]
    if len(alike) < _MIN_CARDS or not all(map(_check_digit_ok, alike)):
        return False
    return barcode.isascii() and barcode.isdecimal() and not _check_digit_ok(barcode)


def _check_digit_ok(barcode: str) -> bool:
    if not (barcode.isascii() and barcode.isdecimal()):
        return False
    values = [int(digit) for digit in reversed(barcode)]
    return sum(values[::2] + [sum(divmod(2 * value, 10)) for value in values[1::2]]) % 10 == 0
