"""The language that somebody reads, and with it currency and time zone; which one it is now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import tzinfo

    from babel import Locale

SOURCE = "en"
"""The language of the texts in the source."""
PSEUDO = "ar-XB"
"""A language that nobody speaks, for tests: every text of the catalogue is longer in it, and reads from the right."""

# Its own letters are Hebrew ones, and so are its dates.
_PSEUDO_LOCALE = "he"
# Where no country is named, the day comes before the month, and hours are counted to 24: that can't be misread.
_DATE_LOCALES = {"en": "en_GB"}


@dataclass(frozen=True)
class Language:
    """How somebody reads: in the language of a ``tag`` (BCP 47, such as ``fr-CA``), with a ``currency`` (ISO 4217).

    Moments are shown in ``timezone``; None is that of this machine. Texts come from the nearest catalogue, numbers and
    dates are those of the very tag.

    Raises:
        ValueError: no language has this tag.
    """

    tag: str = SOURCE
    currency: str = "USD"
    timezone: tzinfo | None = None

    @cached_property
    def locale(self) -> Locale:
        """What CLDR knows of numbers in it."""
        return _locale(_PSEUDO_LOCALE if self.tag == PSEUDO else self.tag.replace("-", "_"))

    @cached_property
    def date_locale(self) -> Locale:
        """What CLDR knows of dates in it."""
        return _locale(_DATE_LOCALES[self.tag]) if self.tag in _DATE_LOCALES else self.locale

    @property
    def direction(self) -> str:
        """``ltr`` or ``rtl``, as HTML has it."""
        return self.locale.text_direction


ENGLISH = Language()
"""The language of everything that programs read, and of logs."""

_now: ContextVar[Language] = ContextVar("language", default=ENGLISH)


def current_language() -> Language:
    """The language that is written now."""
    return _now.get()


@contextmanager
def use_language(language: Language) -> Iterator[None]:
    """Write in this language within the block, in this thread alone."""
    token = _now.set(language)
    try:
        yield
    finally:
        _now.reset(token)


def set_language(language: Language) -> None:
    """Write in this language from now on, in this thread alone: for a program that has one reader."""
    _now.set(language)


def own_name(tag: str) -> str:
    """What those who read a language call it.

    >>> own_name("fr-CA"), own_name("en")
    ('français (Canada)', 'English')
    """
    return str(Language(tag).locale.get_display_name())


@lru_cache(maxsize=64)
def _locale(name: str) -> Locale:
    from babel import Locale, UnknownLocaleError

    try:
        return Locale.parse(name)
    except UnknownLocaleError:
        # A country that CLDR doesn't know: its language then.
        try:
            return Locale.parse(name.partition("_")[0])
        except UnknownLocaleError:
            raise ValueError(f"no language has the tag {name.replace('_', '-')}") from None
