"""The texts of the scripts in pages and panel, as the browser gets them: JSON made when the package is built."""

from __future__ import annotations

from functools import cache

from evergreen_groups.language.catalogue import DIRECTORY, catalogue_for
from evergreen_groups.language.language import SOURCE

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
