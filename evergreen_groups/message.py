"""A text of the catalogue that stands where it isn't shown yet: in a table, or among the values of an error."""

from __future__ import annotations

from typing import Self


class Message(str):
    """A text that is translated where it is shown; until then, and for programs, it is the English text itself.

    ``context`` says what a word means that has several meanings, in a word or two; translators see it.

    >>> Message("lost", context="items"), Message("lost", context="items").context
    ('lost', 'items')
    """

    __slots__ = ("context",)
    context: str

    def __new__(cls, text: str, *, context: str = "") -> Self:
        made = super().__new__(cls, text)
        made.context = context
        return made
