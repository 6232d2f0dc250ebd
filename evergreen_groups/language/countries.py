"""Countries, as people write them in addresses."""

from __future__ import annotations

from functools import cache

from evergreen_groups.language.catalogue import languages
from evergreen_groups.language.language import Language

# CLDR has only today's short names.
_ALSO = {"united states of america": "US", "czech republic": "CZ", "great britain": "GB", "england": "GB"}


def same_country(one: str, other: str) -> bool:
    """Return whether two addresses are in the same country, by its name or code.

    >>> same_country("USA", "United States"), same_country("U.S.", "CA"), same_country("Česko", "Czech Republic")
    (True, False, True)
    """
    return _code(one) == _code(other)


def _code(text: str) -> str:
    """Return a country's code (ISO 3166), or the text in lowercase if it names no country."""
    from babel.core import get_global

    name = text.strip().replace(".", "").casefold()
    (alias,) = get_global("territory_aliases").get(name.upper(), [name.upper()])[:1]
    return _names().get(name) or (alias if alias in _names().values() else name)


@cache
def _names() -> dict[str, str]:
    found = {
        name.casefold(): code
        for tag in languages()
        for code, name in Language(tag).locale.territories.items()
        if len(code) == 2
    }
    return found | _ALSO
