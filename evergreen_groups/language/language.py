"""A reader's language, currency and time zone, which one is current, and the order of names in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import filterfalse
from typing import TYPE_CHECKING
from unicodedata import combining, normalize

if TYPE_CHECKING:
    from datetime import tzinfo

    from babel import Locale


SOURCE = "en"
"""The language of the texts in the source code."""
PSEUDO = "ar-XB"
"""A test language in which every text is longer and reads from right to left."""

# The test language uses Hebrew letters and dates.
_PSEUDO_LOCALE = "he"
# Without a country, put the day before the month and use 24 hours, which can't be misread.
_DATE_LOCALES = {"en": "en_GB"}


@dataclass(frozen=True)
class Language:
    """How to write for a reader: language ``tag`` (BCP 47, for example ``fr-CA``) and ``currency`` (ISO 4217).

    Times are in ``timezone``; None is this machine's. Texts come from the nearest catalogue. Dates are as in ``region``
    (ISO 3166), the library's; without one, as in the tag's country.

    Raises:
        ValueError: the tag is unknown. Raised on first use of the locale.
    """

    tag: str = SOURCE
    currency: str = "USD"
    timezone: tzinfo | None = None
    region: str = ""

    @cached_property
    def locale(self) -> Locale:
        """CLDR's data for the tag."""
        return _locale(_PSEUDO_LOCALE if self.tag == PSEUDO else self.tag.replace("-", "_"))

    @cached_property
    def number_locale(self) -> Locale:
        """CLDR's data for numbers: those of the currency's country if the language is spoken there.

        The tag's country makes no difference: at a library, all readers of a language see one form. In dollars, ``es``,
        ``es-ES`` and ``es-MX`` have ``$14.75``.
        """
        from babel.localedata import exists

        # In ISO 4217, a code begins with its country's (ISO 3166). EUR and a few others have no country.
        language = self.locale.language
        name = f"{language}_{self.currency[:2]}"
        return _locale(name if exists(name) else language)

    @cached_property
    def date_locale(self) -> Locale:
        """CLDR's data for dates: those of the region if the language is spoken there, or else those of the tag."""
        from babel.localedata import exists

        name = f"{self.locale.language}_{self.region}"
        if self.region and exists(name):
            return _locale(name)
        return _locale(_DATE_LOCALES[self.tag]) if self.tag in _DATE_LOCALES else self.locale

    @property
    def direction(self) -> str:
        """The text direction for HTML, ``ltr`` or ``rtl``."""
        return self.locale.text_direction


ENGLISH = Language()
"""The language of logs and of everything that programs read."""

_current: ContextVar[Language] = ContextVar("language", default=ENGLISH)


def current_language() -> Language:
    return _current.get()


@contextmanager
def use_language(language: Language) -> Iterator[None]:
    """Write in ``language`` within the block, in this thread only."""
    token = _current.set(language)
    try:
        yield
    finally:
        _current.reset(token)


def set_language(language: Language) -> None:
    """Write in ``language`` from now on, in this thread only. For programs with a single reader."""
    _current.set(language)


def own_name(tag: str) -> str:
    """Return the name of a language in that language.

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
        # CLDR may not know the country. Fall back to the language.
        try:
            return Locale.parse(name.partition("_")[0])
        except UnknownLocaleError:
            raise ValueError(f"no language has the tag {name.replace('_', '-')}") from None


# CLDR's nameOrderLocales, surnameFirst.
_FAMILY_FIRST = {"hu", "ja", "km", "ko", "mn", "vi", "yue", "zh"}
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")


def full_name(given: Iterable[str], family: str, suffix: str, tag: str = "") -> str:
    """Return a person's name in the order of their language, as on an envelope. ``tag`` is empty if it isn't known.

    >>> full_name(["Thị", "Hương"], "Nguyễn", "", "vi-VN"), full_name(["小明"], "李", "")
    ('Nguyễn Thị Hương', '李小明')
    """
    names = [*filter(None, given)]
    is_east_asian = bool(_EAST_ASIAN.search(family))
    if is_east_asian or tag.partition("-")[0] in _FAMILY_FIRST:
        names.insert(0, family)
    else:
        names.append(family)
    return ("" if is_east_asian and not suffix else " ").join(filter(None, (*names, suffix)))


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
