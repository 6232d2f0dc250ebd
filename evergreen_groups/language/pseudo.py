"""A language for tests: what a text outside the catalogue, a short column or a fixed direction does, shows at once."""

from __future__ import annotations

import re
from gettext import NullTranslations

# What isn't read: values in braces or percents, tags and entities of HTML.
_NOT_READ = re.compile(r"(\{[^{}]*\}|%\([a-z_]+\)[sd]|%%|<[^<>]*>|&[a-z#0-9]+;)")
_LETTERS = str.maketrans("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "אבצדעףגהיגקלמנוךקרסטוואחןז" * 2)
_LONGER = 0.4
_FILLING = "ארוך יותר "


class PseudoTranslations(NullTranslations):
    """Every text in Hebrew letters, which read from the right, and 40 % longer.

    >>> PseudoTranslations().gettext("Group {group}")
    'גרווך {group} אר'
    """

    def gettext(self, message: str) -> str:
        """The text, changed."""
        return _pseudo(message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        """The text for a number, changed."""
        return _pseudo(msgid1 if n == 1 else msgid2)

    def pgettext(self, context: str, message: str) -> str:  # noqa: ARG002 - as the standard library has it
        """The text in a context, changed."""
        return _pseudo(message)

    def npgettext(self, context: str, msgid1: str, msgid2: str, n: int) -> str:  # noqa: ARG002 - likewise
        """The text for a number in a context, changed."""
        return _pseudo(msgid1 if n == 1 else msgid2)


def _pseudo(message: str) -> str:
    parts = _NOT_READ.split(message)
    read = sum(len(part) for part in parts[::2])
    longer = (_FILLING * (int(read * _LONGER) // len(_FILLING) + 1))[: int(read * _LONGER)].strip()
    parts[::2] = [part.translate(_LETTERS) for part in parts[::2]]
    body = "".join(parts)
    ending = body[len(body.rstrip()) :]
    return f"{body.rstrip()} {longer}{ending}" if longer else body
