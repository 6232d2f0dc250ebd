"""Sorts names as people expect: by letters first, then by accents and case."""

from __future__ import annotations

from itertools import filterfalse
from unicodedata import combining, normalize

from evergreen_groups.language.language import current_language

# Letters that Unicode doesn't decompose, and apostrophes that have several forms.
_PLAIN = str.maketrans(
    {"æ": "ae", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "ł": "l", "ø": "o", "œ": "oe", "‘": "'", "’": "'", "ʼ": "'"}
)
# Letters that sort after their base letter. "\uffff" is higher than every letter.
_CARON, _TILDE = "\u030c", "\u0303"
_OWN_LETTERS = {
    "cs": (("ch", "h\uffff"), *((f"{letter}{_CARON}", f"{letter}\uffff") for letter in "crsz")),
    "es": ((f"n{_TILDE}", "n\uffff"),),
}


def name_key(name: str) -> str:
    """Return the key to sort a name by in the current language.

    >>> sorted(["Raghunathan", "de León", "Ñandú", "DeLong", "nandu"], key=name_key)
    ['de León', 'DeLong', 'nandu', 'Ñandú', 'Raghunathan']
    """
    letters = name.lower() if name.isascii() else normalize("NFKD", name.casefold())
    plain = letters
    for letter, key in _OWN_LETTERS.get(current_language().tag.partition("-")[0], ()):
        plain = plain.replace(letter, key)
    if not plain.isascii():
        plain = "".join(filterfalse(combining, plain)).translate(_PLAIN)
    # Lowercase before uppercase, as browsers sort (Intl.Collator).
    return f"{plain}\0{letters}\0{name.swapcase()}"
