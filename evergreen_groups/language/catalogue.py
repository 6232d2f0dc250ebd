"""The translations of the texts, one file for each language, read when its first text is wanted."""

from __future__ import annotations

from functools import cache, lru_cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path

from evergreen_groups.language.language import PSEUDO, SOURCE
from evergreen_groups.language.pseudo import PseudoTranslations

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
