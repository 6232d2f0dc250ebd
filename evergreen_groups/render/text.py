"""Text for terminals and spreadsheets: characters that need escaping, and sentences from messages.

Without rich, which :mod:`~evergreen_groups.render.columns` needs: nearly every command imports this module.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING
from unicodedata import bidirectional

from evergreen_groups.language import current_language, describe_advice, describe_problem, gettext
from evergreen_groups.message import Message
from evergreen_groups.values import plain_amount

if TYPE_CHECKING:
    from evergreen_groups.errors import EvergreenGroupsError

# The last four are the full-width signs of East Asian keyboards. LibreOffice takes a cell with a space before the sign
# for text, but other programs trim cells, and readers can't see invisible characters.
_INVISIBLE = "\\s\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
_FORMULA = re.compile(f"'*(?:[\t\r\n]|[{_INVISIBLE}]*[=+\\-@\uff1d\uff0b\uff0d\uff20])")

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
BYTE_ORDER_MARK = "\ufeff"


def escape_formula(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would take for a formula."""
    if text.isascii() and text[:1].isalnum():  # true of nearly all cells, and fast
        return text
    text = LONE_SURROGATE.sub("\ufffd", text)
    return f"'{text}" if _FORMULA.match(text) else text


def csv_cell(value: object) -> object:
    """Return a value for a cell of a CSV file: ``true`` or ``false``, amounts as they are, and no formulas."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return plain_amount(value)
    return escape_formula(value) if isinstance(value, str) else value


# Invisible characters that reorder the text around them: embeddings, overrides, isolates and direction marks.
_DIRECTION_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_BREAKS = re.compile("[\t\n\r\x0b\x0c\x85\u2028\u2029]+")

# Terminals interpret control characters, lone surrogates can't be encoded, and HTML allows neither.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Make ``text`` safe to show on one line: without line breaks, control characters or direction controls."""
    if text.isascii() and text.isprintable():
        return text
    text = _BREAKS.sub(" ", _DIRECTION_CONTROLS.sub("", text))
    return _UNPRINTABLE.sub("\ufffd", text)


# For each direction of a sentence, the Unicode bidirectional classes (UAX 9) of letters that run the other way.
_OPPOSITE_LETTERS = {"ltr": ("R", "AL"), "rtl": ("L",)}
_ISOLATE, _END = "\u2068", "\u2069"


def isolated(text: str) -> str:
    """Make a name printable and keep it from reordering the sentence around it.

    Isolation marks are added only if the name has letters that run against the sentence.
    """
    text = printable(text)
    direction = current_language().direction
    if direction == "ltr" and text.isascii():
        return text
    opposite = _OPPOSITE_LETTERS[direction]
    return f"{_ISOLATE}{text}{_END}" if any(bidirectional(letter) in opposite for letter in text) else text


# In the catalogue, because not every script ends sentences with a period.
_SENTENCE = Message("{text}.")


def sentence(text: str) -> str:
    """Capitalize a phrase and end it with a period, unless it already ends in punctuation.

    >>> sentence("they are already in the same group, 7")
    'They are already in the same group, 7.'
    """
    if not text or text.endswith((".", "?", "!")):
        return capitalized(text)
    return gettext(_SENTENCE, text=capitalized(text))


def error_sentences(error: EvergreenGroupsError) -> str:
    """Return an error and its advice as sentences."""
    return " ".join(sentence(part) for part in (describe_problem(error), describe_advice(error)) if part)


def capitalized(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
