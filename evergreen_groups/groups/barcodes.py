"""Barcodes as they are scanned, typed or pasted, against those that cards have."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
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
