"""Names made comparable: without accents, blanks, punctuation and capitals."""

from __future__ import annotations

import re
import string
import unicodedata

_UNLIKE = str.maketrans({"ł": "l", "đ": "d", "ð": "d", "ø": "o", "ß": "ss", "æ": "ae", "œ": "oe", "þ": "th", "ı": "i"})
_SQUASHED = re.compile(rf"[\s{re.escape(string.punctuation)}]")


def squash(text: str) -> str:
    """The text as PostgreSQL's function ``evergreen.unaccent_and_squash`` leaves it.

    >>> squash("O'Brien-Ñandú Łukasz")
    'obriennandulukasz'
    """
    lowered = _SQUASHED.sub("", text).lower().translate(_UNLIKE)
    return "".join(sign for sign in unicodedata.normalize("NFKD", lowered) if not unicodedata.combining(sign))
