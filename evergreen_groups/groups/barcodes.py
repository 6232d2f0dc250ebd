"""Barcodes as they are scanned, typed or pasted, against those that cards have."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from string import digits
from typing import TypeVar

Found = TypeVar("Found")

# A blank is what stands between the groups of digits that are printed below the bars; a tab, a line's end or another
# control character is what scanners send before and behind them; marks that nobody sees come along where text is copied
# out of a mail or a page. A hyphen isn't among them: cards have such barcodes.
_IGNORED = ("Z", "Cc", "Cf")
_IMPOSSIBLE = re.compile("[\0\ud800-\udfff]")


def spellings(text: str) -> tuple[str, ...]:
    """The barcodes that somebody may mean by a text: without its blanks, and before that with them, where it has some.

    There are cards with a blank in their barcode, and whoever scans one is to find it. The answer is empty where no
    card can have such a barcode: no text in a PostgreSQL database has a NUL, and OpenSRF takes a parameter with one in
    it for null, so that a search for it would end in status 500. Bytes that aren't UTF-8 arrive from the command line
    as half surrogate pairs, which no request can hold.

    >>> spellings("20000000001036"), spellings(" 2 0000 00000 1036\\t")
    (('20000000001036',), ('2 0000 00000 1036', '20000000001036'))
    """
    if _IMPOSSIBLE.search(text):
        return ()
    seen = "".join(" " if letter.isspace() else letter for letter in text if letter.isspace() or not _ignored(letter))
    with_blanks = " ".join(seen.split())
    return tuple(filter(None, dict.fromkeys((with_blanks, with_blanks.replace(" ", "")))))


def without_blanks(text: str) -> str:
    """A barcode without what is ignored in it; empty where no card can have it.

    >>> without_blanks("2 0000 00000 1036\\r\\n")
    '20000000001036'
    """
    return next(reversed(spellings(text)), "")


def first_spelled(text: str, found: Mapping[str, Found]) -> Found | None:
    """What was found, by barcode, for the first of a text's spellings for which something was."""
    return next((found[spelling] for spelling in spellings(text) if spelling in found), None)


def all_spellings(texts: Iterable[str]) -> list[str]:
    """Every spelling of some texts, each once."""
    return list(dict.fromkeys(spelling for text in texts for spelling in spellings(text)))


def _ignored(letter: str) -> bool:
    return unicodedata.category(letter).startswith(_IGNORED)


# The digits of longer ones would make thousands of others; libraries' own have 14 (Codabar) or fewer.
_LONGEST = 24
# Some scanners send the letters with which a Codabar begins and ends.
_START_AND_STOP = re.compile(r"[A-Da-d](.+)[A-Da-d]")
_FEWEST = 5
_NEARLY_ALL = 0.8


def similar_barcodes(barcode: str) -> list[str]:
    """The barcodes that differ from one by a single mistake, the likeliest first; at most some hundred.

    Two neighbours exchanged, a digit left out, one too many, a wrong digit; hyphens or a scanner's own letters that the
    card doesn't have; capitals.

    >>> similar_barcodes("12-3")[:3]
    ['123', '21-3', '1-23']
    >>> len(similar_barcodes("20000000001036"))
    273
    """
    if len(barcode) > _LONGEST:
        return []
    return [near for near in dict.fromkeys(_mistaken(barcode)) if near and near != barcode]


def _mistaken(barcode: str) -> Iterator[str]:
    yield barcode.replace("-", "")
    yield barcode.upper()
    yield barcode.lower()
    if framed := _START_AND_STOP.fullmatch(barcode):
        yield framed[1]
    places = range(len(barcode))
    yield from (f"{barcode[:at]}{barcode[at + 1]}{barcode[at]}{barcode[at + 2 :]}" for at in places[:-1])
    yield from (f"{barcode[:at]}{digit}{barcode[at:]}" for at in range(len(barcode) + 1) for digit in digits)
    numbers = [at for at in places if barcode[at] in digits]
    yield from (f"{barcode[:at]}{barcode[at + 1 :]}" for at in numbers)
    yield from (f"{barcode[:at]}{digit}{barcode[at + 1 :]}" for at in numbers for digit in digits)


def usual_length(barcodes: Sequence[str]) -> int | None:
    """How many characters nearly all of some cards have; None where that is different, or they are too few to say.

    >>> usual_length(["20000000001036"] * 9 + ["X1"]), usual_length(["123456"])
    (14, None)
    """
    if len(barcodes) < _FEWEST:
        return None
    ((length, count),) = Counter(map(len, barcodes)).most_common(1)
    return length if count >= _NEARLY_ALL * len(barcodes) else None


def check_digit_fails(barcode: str, others: Sequence[str]) -> bool:
    """Whether the last digit of a barcode doesn't fit, where that of each of some cards with as many digits does.

    It is that of a library's Codabar (modulo 10, Luhn). Where cards have none, some won't fit by chance, and nothing
    can be concluded.

    >>> right = ["21234567890124", "21234567890132", "21234567890140", "21234567890157", "21234567890165"]
    >>> check_digit_fails("21234567890123", right), check_digit_fails("21234567890173", right)
    (True, False)
    >>> check_digit_fails("21234567890123", [*right, "21234567890129"])
    False
    """
    alike = [other for other in others if len(other) == len(barcode)]
    if len(alike) < _FEWEST or not all(map(_fits, alike)):
        return False
    return barcode.isascii() and barcode.isdecimal() and not _fits(barcode)


def _fits(barcode: str) -> bool:
    if not (barcode.isascii() and barcode.isdecimal()):
        return False
    values = [int(digit) for digit in reversed(barcode)]
    return sum(values[::2] + [sum(divmod(2 * value, 10)) for value in values[1::2]]) % 10 == 0
