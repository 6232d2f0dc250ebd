"""Sentences, of what is said without a capital letter and dot elsewhere: in a list, or behind a colon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen_groups.language import describe_advice, describe_problem, gettext
from evergreen_groups.message import Message

if TYPE_CHECKING:
    from evergreen_groups.errors import EvergreenGroupsError

# Its own text of the catalogue, since not every script ends a sentence with a dot.
_SENTENCE = Message("{text}.")


def sentence(text: str) -> str:
    """A sentence with its first letter and its dot, of one that has neither.

    >>> sentence("they are already in the same group, 7")
    'They are already in the same group, 7.'
    """
    if not text or text.endswith((".", "?", "!")):
        return _begun(text)
    return gettext(_SENTENCE, text=_begun(text))


def error_sentences(error: EvergreenGroupsError) -> str:
    """What went wrong, and what there is to do about it."""
    return " ".join(sentence(part) for part in (describe_problem(error), describe_advice(error)) if part)


def _begun(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
