"""The translations of the texts, one file for each language, read when its first text is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen_groups.language.language import PSEUDO, SOURCE, Language

if TYPE_CHECKING:
    from datetime import tzinfo

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


DOMAIN = "evergreen_groups"
"""The name of the catalogue's files."""
DIRECTORY = Path(__file__).with_name("locale")


@cache
def languages() -> tuple[str, ...]:
    """The tags of the languages that there are texts in, English first."""
    found = (path.parts[-3].replace("_", "-") for path in DIRECTORY.glob(f"*/LC_MESSAGES/{DOMAIN}.mo"))
    return (SOURCE, *sorted(found))


# Browsers send any tag of a million, so nothing is kept for each.
@lru_cache(maxsize=256)
def catalogue_for(tag: str) -> str | None:
    """The one of :func:`languages` for somebody who reads this tag; None where there is none.

    A region of its own comes first, then any other region of the same language.
    """
    if tag == PSEUDO:
        return PSEUDO
    spoken = tag.partition("-")[0]
    return next((known for known in languages() if known == tag), None) or next(
        (known for known in languages() if known.partition("-")[0] == spoken), None
    )


def translations_for(tag: str) -> NullTranslations:
    """The texts for somebody who reads this tag: the English ones where there is no catalogue."""
    return _translations(catalogue_for(tag))


@cache
def _translations(known: str | None) -> NullTranslations:
    if known == PSEUDO:
        return PseudoTranslations()
    if known in (None, SOURCE):
        return NullTranslations()
    with (DIRECTORY / str(known).replace("-", "_") / "LC_MESSAGES" / f"{DOMAIN}.mo").open("rb") as file:
        return GNUTranslations(file)


_TAG = re.compile(r"[A-Za-z]{2,3}([-_]([A-Za-z]{2}|[0-9]{3})(?![A-Za-z0-9]))?")
_LONGEST_HEADER = 500


def tag_of(text: str) -> str | None:
    """A tag as this package writes it (``fr-CA``), of ``fr-ca``, ``fr_CA.UTF-8``, and so on; None of others."""
    found = _TAG.match(text)
    if found is None or (found.end() < len(text) and text[found.end()] not in ".@-_"):
        return None
    language, _, region = found[0].replace("_", "-").partition("-")
    tag = f"{language.lower()}-{region.upper()}" if region else language.lower()
    return tag if _exists(tag) else None


def first_known(tags: Iterable[str]) -> str | None:
    """The first of these tags that there are texts for."""
    found = (tag_of(text) for text in tags)
    return next((tag for tag in found if tag is not None and catalogue_for(tag) is not None), None)


def accepted(header: str) -> list[str]:
    """The tags of an ``Accept-Language`` header, the best first (RFC 9110, 12.5.4)."""
    weighed = []
    for part in header[:_LONGEST_HEADER].split(","):
        tag, _, parameter = part.strip().partition(";")
        weight = _weight(parameter)
        if tag.strip() and tag.strip() != "*" and weight > 0:
            weighed.append((-weight, tag.strip()))
    return [tag for _weight, tag in sorted(weighed, key=lambda pair: pair[0])]


def of_terminal(environment: Mapping[str, str]) -> str | None:
    """The tag that the locale's variables name, as gettext reads them; None where they name none (``C``, ``POSIX``)."""
    locale = next(filter(None, map(environment.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    preferred = environment.get("LANGUAGE", "").split(":") if tag_of(locale) else []
    return first_known([*filter(None, preferred), locale])


def timezone_of(name: str) -> tzinfo | None:
    """The time zone of a name in the IANA database, such as ``America/Toronto``; None where there is none."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a path, or the name of a directory
        return None


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if not name:
        return 1.0
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0


def _exists(tag: str) -> bool:
    # Those with texts need no look into CLDR, which takes a short command longer than the rest of it.
    if catalogue_for(tag) is not None:
        return True
    try:
        Language(tag).locale  # noqa: B018 - looked up only to see whether it is there
    except ValueError:
        return False
    return True


NAME = "scripts.json"
"""The file's name, beside the catalogue that it is made from (:mod:`evergreen_groups.language.compilation`)."""
NO_TEXTS = b'{"plurals": {}, "texts": {}}'


def texts_for_scripts(tag: str) -> bytes:
    """The texts for somebody who reads this tag, as a JSON object in UTF-8.

    ``texts`` has the translation of each English text; where it is one for a number of things, a list, and then
    ``plurals`` has the place in it for each of CLDR's categories (``Intl.PluralRules``). A text in a context has that
    before it, and U+0004 between the two. English has none: the script's own texts are.
    """
    return _texts(catalogue_for(tag))


@cache
def _texts(known: str | None) -> bytes:
    if known in (None, SOURCE):
        return NO_TEXTS
    return (DIRECTORY / str(known).replace("-", "_") / NAME).read_bytes()
