"""Compiles the translators' catalogues to what the program reads: ``.mo`` files, and JSON for the scripts.

Runs when the package is built or installed (``hatch_build.py``), and by ``nox -s messages``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from gettext import c2py
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evergreen_groups.language.catalogue import DOMAIN, NAME, PseudoTranslations
from evergreen_groups.language.language import PSEUDO

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog

_NO_DATE = datetime(1970, 1, 1, tzinfo=UTC)
_HIGHEST_TESTED = 200
"""Plural rules are evaluated up to this number. All rules of the languages repeat before."""


def compile_catalogues(directory: Path) -> list[Path]:
    """Compile every catalogue below ``directory``, without *fuzzy* translations. Return the files that were written."""
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    written = []
    for source in sorted(directory.glob(f"*/LC_MESSAGES/{DOMAIN}.po")):
        with source.open("rb") as file:
            catalog = read_po(file, locale=source.parts[-3], domain=DOMAIN)
        # The sources contain no dates. Babel would insert the current time, so that no two builds would be equal.
        catalog.creation_date = catalog.revision_date = _NO_DATE
        with source.with_suffix(".mo").open("wb") as file:
            write_mo(file, catalog)
        written += [source.with_suffix(".mo"), _write_scripts(source.parent.parent, _document(catalog))]
    template = directory / f"{DOMAIN}.pot"
    if template.is_file():
        with template.open("rb") as file:
            pseudo = _pseudo_document(read_po(file, domain=DOMAIN))
        written.append(_write_scripts(directory / PSEUDO.replace("-", "_"), pseudo))
    return written


def _write_scripts(directory: Path, document: dict[str, Any]) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / NAME
    path.write_text(json.dumps(document, ensure_ascii=False, sort_keys=True), encoding="utf-8")
    return path


def _document(catalog: Catalog) -> dict[str, Any]:
    texts = {
        key: list(message.string) if message.pluralizable else message.string
        for key, message in _script_messages(catalog)
        if not message.fuzzy and all(message.string if message.pluralizable else [message.string])
    }
    return {"plurals": _plurals(catalog), "texts": texts}


def _pseudo_document(template: Catalog) -> dict[str, Any]:
    changed = PseudoTranslations()
    texts = {
        key: [changed.gettext(form) for form in message.id] if message.pluralizable else changed.gettext(message.id)
        for key, message in _script_messages(template)
    }
    return {"plurals": {"one": 0, "two": 1, "many": 1, "other": 1}, "texts": texts}


def _script_messages(catalog: Catalog) -> Iterator[tuple[str, Any]]:
    """Yield the texts that occur in scripts, with their lookup keys."""
    for message in catalog:
        if message.id and any(name.endswith(".js") for name, _line in message.locations):
            text = str(message.id[0] if message.pluralizable else message.id)
            yield (f"{message.context}\x04{text}" if message.context else text), message


def _plurals(catalog: Catalog) -> dict[str, int]:
    """Map CLDR's plural categories, which browsers use, to the indexes of the catalogue's plural forms."""
    category_of: Any = catalog.locale.plural_form if catalog.locale else None
    index_of = c2py(catalog.plural_expr)
    indexes: dict[str, int] = {}
    for number in range(_HIGHEST_TESTED):
        category, index = category_of(number), index_of(number)
        if indexes.setdefault(category, index) != index:
            raise ValueError(f"{catalog.locale}: {number} is {category}, whose plural form isn't that of others")
    # Default for the categories of fractions and millions, which are never counted here.
    return {"many": catalog.num_plurals - 1, "other": catalog.num_plurals - 1, **indexes}
