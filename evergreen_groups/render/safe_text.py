"""Text that does no harm where it is shown: no control characters, no formulas, no turned directions."""

from __future__ import annotations

import re
from unicodedata import bidirectional

from evergreen_groups.language import current_language

# The last four are the wide forms that East Asian keyboards give. LibreOffice takes a cell with blanks before the sign
# for text, but other programs trim cells, and a reader doesn't see what stands there.
_INVISIBLE = "\\s\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
_FORMULA = re.compile(f"'*(?:[\t\r\n]|[{_INVISIBLE}]*[=+\\-@\uff1d\uff0b\uff0d\uff20])")

_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def harmless(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would calculate."""
    if text.isascii() and text[:1].isalnum():  # as nearly all of thousands of cells
        return text
    text = _HALF_A_PAIR.sub("\ufffd", text)
    return f"'{text}" if _FORMULA.match(text) else text


# Invisible characters that reorder the text around them: embeddings, overrides and isolates, and the marks, which make
# signs and numbers beside them read from the other side.
_DIRECTION_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_BREAKS = re.compile("[\t\n\r\x0b\x0c\x85\u2028\u2029]+")

# Terminals obey the control characters; half a surrogate pair can't be encoded, and HTML has neither.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Make ``text`` safe to show on one line: no line breaks, control characters or reordering of what follows."""
    if text.isascii() and text.isprintable():
        return text
    text = _BREAKS.sub(" ", _DIRECTION_CONTROLS.sub("", text))
    return _UNPRINTABLE.sub("\ufffd", text)


# The classes of letters that are written from the right (UAX 9), and of those from the left.
_LETTERS_AGAINST = {"ltr": ("R", "AL"), "rtl": ("L",)}
_ISOLATE, _END = "\u2068", "\u2069"


def isolated(text: str) -> str:
    """A name, say, for the middle of a sentence: printable, and its direction of writing is its own.

    Where all of its letters are written as the sentence is, that needs no marks.
    """
    text = printable(text)
    direction = current_language().direction
    if direction == "ltr" and text.isascii():
        return text
    against = _LETTERS_AGAINST[direction]
    return f"{_ISOLATE}{text}{_END}" if any(bidirectional(letter) in against for letter in text) else text
