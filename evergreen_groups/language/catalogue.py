"""The translations, one file per language, each loaded when its first text is needed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from gettext import NullTranslations, translation
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.language.language import PSEUDO, SOURCE, Language

if TYPE_CHECKING:
    from datetime import tzinfo

# Parts that must stay as they are: placeholders in braces or with percent signs, HTML tags and entities.
_UNTRANSLATED = re.compile(r"(\{[^{}]*\}|%\([a-z_]+\)[sd]|%%|<[^<>]*>|&[a-z#0-9]+;)")
_LETTERS = str.maketrans("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "אבצדעףגהיגקלמנוךקרסטוואחןז" * 2)
_EXTRA_LENGTH = 0.4
_PADDING = "ארוך יותר "


class PseudoTranslations(NullTranslations):
    """A test language: every text in Hebrew letters, read from right to left, and 40% longer.

    >>> PseudoTranslations().gettext("Group {group}")
    'גרווך {group} אר'
    """

    def gettext(self, message: str) -> str:
        return _pseudo(message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return _pseudo(msgid1 if n == 1 else msgid2)

    def pgettext(self, context: str, message: str) -> str:  # noqa: ARG002 - the standard library's signature
        return _pseudo(message)

    def npgettext(self, context: str, msgid1: str, msgid2: str, n: int) -> str:  # noqa: ARG002 - same
        return _pseudo(msgid1 if n == 1 else msgid2)


def _pseudo(message: str) -> str:
    parts = _UNTRANSLATED.split(message)
    read = sum(len(part) for part in parts[::2])
    longer = (_PADDING * (int(read * _EXTRA_LENGTH) // len(_PADDING) + 1))[: int(read * _EXTRA_LENGTH)].strip()
    parts[::2] = [part.translate(_LETTERS) for part in parts[::2]]
    body = "".join(parts)
    ending = body[len(body.rstrip()) :]
    return f"{body.rstrip()} {longer}{ending}" if longer else body


DOMAIN = "evergreen_groups"
"""The base name of the catalogue's files."""
DIRECTORY = Path(__file__).with_name("locale")


@cache
def languages() -> tuple[str, ...]:
    """Return the tags of all languages with translations, English first."""
    found = (path.parts[-3].replace("_", "-") for path in DIRECTORY.glob(f"*/LC_MESSAGES/{DOMAIN}.mo"))
    return (SOURCE, *sorted(found))


# Browsers can send any number of different tags, so the cache is bounded.
@lru_cache(maxsize=256)
def catalogue_for(tag: str) -> str | None:
    """Return the one of :func:`languages` with this tag, or else with another region of the same language, or None."""
    if tag == PSEUDO:
        return PSEUDO
    spoken = tag.partition("-")[0]
    known = languages()
    return tag if tag in known else next((other for other in known if other.partition("-")[0] == spoken), None)


def translations_for(tag: str) -> NullTranslations:
    """Return the translations for readers of ``tag``, or English if there are none."""
    return _translations(catalogue_for(tag))


@cache
def _translations(known: str | None) -> NullTranslations:
    if known == PSEUDO:
        return PseudoTranslations()
    if known in (None, SOURCE):
        return NullTranslations()
    return translation(DOMAIN, DIRECTORY, [str(known).replace("-", "_")])


_TAG = re.compile(r"[A-Za-z]{2,3}([-_]([A-Za-z]{2}|[0-9]{3})(?![A-Za-z0-9]))?")
_LONGEST_HEADER = 500


def tag_of(text: str) -> str | None:
    """Normalize a language tag: ``fr-ca`` and ``fr_CA.UTF-8`` become ``fr-CA``. Return None for unknown languages."""
    found = _TAG.match(text)
    if found is None or (found.end() < len(text) and text[found.end()] not in ".@-_"):
        return None
    language, _, region = found[0].replace("_", "-").partition("-")
    tag = f"{language.lower()}-{region.upper()}" if region else language.lower()
    # Check our own languages first: loading CLDR would take a short command longer than everything else.
    if catalogue_for(tag) is None:
        try:
            Language(tag).locale  # noqa: B018 - raises if the language doesn't exist
        except ValueError:
            return None
    return tag


def first_available(tags: Iterable[str]) -> str | None:
    """Return the first tag with translations, or None."""
    found = (tag_of(text) for text in tags)
    return next((tag for tag in found if tag is not None and catalogue_for(tag) is not None), None)


def accepted_tags(header: str) -> list[str]:
    """Return the tags in an ``Accept-Language`` header, by preference (RFC 9110, 12.5.4)."""
    weighed = []
    for part in header[:_LONGEST_HEADER].split(","):
        tag, _, parameter = part.strip().partition(";")
        name, _, value = parameter.strip().partition("=")
        try:
            weight = float(value) if name.strip() == "q" else 1.0
        except ValueError:
            continue
        if tag.strip() not in ("", "*") and weight > 0:
            weighed.append((-weight, tag.strip()))
    return [tag for _weight, tag in sorted(weighed, key=lambda pair: pair[0])]


def terminal_language(environment: Mapping[str, str]) -> str | None:
    """Return the language named by the locale variables, as gettext reads them; None for ``C`` and ``POSIX``."""
    locale = next(filter(None, map(environment.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    preferred = environment.get("LANGUAGE", "").split(":") if tag_of(locale) else []
    return first_available([*filter(None, preferred), locale])


def timezone_of(name: str) -> tzinfo | None:
    """Return a time zone by its IANA name, for example ``America/Toronto``; None if it doesn't exist."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # the last two: a path, or the name of a directory
        return None


NAME = "scripts.json"
"""The file in the catalogue's directory with the texts of scripts (:mod:`evergreen_groups.language.compilation`)."""
NO_TEXTS = b'{"plurals": {}, "texts": {}}'


def texts_for_scripts(tag: str) -> bytes:
    """Return the scripts' translations for readers of ``tag``, as a JSON object in UTF-8.

    ``texts`` maps English texts to translations. A text with plural forms has a list of them, and ``plurals`` maps each
    CLDR category (``Intl.PluralRules``) to an index in the list. A text with a context is preceded by the context and
    U+0004. English has no entries, because the scripts contain the English texts.
    """
    return _texts(catalogue_for(tag))


@cache
def _texts(known: str | None) -> bytes:
    if known in (None, SOURCE):
        return NO_TEXTS
    return (DIRECTORY / str(known).replace("-", "_") / NAME).read_bytes()
