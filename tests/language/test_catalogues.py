"""The catalogues are up to date, complete and well-formed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest
from babel.messages.catalog import Catalog
from support.error_catalog import PACKAGE
from support.message_catalogue import DIRECTORY as SOURCES
from support.message_catalogue import TEMPLATE, catalogues, collected, problems, template, written
from support.repository import REPOSITORY

from evergreen_groups.language import catalogue, languages
from evergreen_groups.language.catalogue import DIRECTORY
from evergreen_groups.language.compilation import compile_catalogues

GLOSSARY = REPOSITORY / "docs" / "glossary.md"


def test_the_template_is_up_to_date_with_the_source() -> None:
    assert TEMPLATE.read_text("utf-8") == written(template())


def test_every_language_is_whole() -> None:
    english = template()
    assert [line for name, catalog in catalogues().items() for line in problems(name, catalog, english)] == []


def test_no_text_of_a_script_is_overlooked() -> None:
    """The extractor stumbles over a slash in a regular expression's set and then finds nothing in the file."""
    for path in sorted(PACKAGE.rglob("*.js")):
        calls = set(re.findall(r'\b(?:n|p|np)?gettext\(\s*"(?:[^"]*", ")?([^"]*)"', path.read_text("utf-8")))
        place = str(path.relative_to(PACKAGE.parent))
        found = {text.plural or text.text for text in collected() if text.place == place}
        assert calls - found - {text.text for text in collected() if text.place == place} == set(), place


def test_scripts_get_their_texts_alone_with_the_plurals_of_browsers(tmp_path: Path) -> None:
    catalog = Catalog(locale="cs", domain="evergreen_groups")
    catalog.add("of a page", "stránky", locations=[("evergreen_groups/a.html", 0)])
    catalog.add("lost", "ztraceno", locations=[("evergreen_groups/a.js", 0)], context="items")
    catalog.add("doubtful", "pochybné", locations=[("evergreen_groups/a.js", 0)], flags=["fuzzy"])
    catalog.add(("{count} member", "{count} members"), ("a", "b", "c"), locations=[("evergreen_groups/a.js", 0)])
    source = tmp_path / "cs" / "LC_MESSAGES" / "evergreen_groups.po"
    source.parent.mkdir(parents=True)
    source.write_text(written(catalog), "utf-8")
    assert {path.name for path in compile_catalogues(tmp_path)} == {"evergreen_groups.mo", "scripts.json"}
    document = json.loads((tmp_path / "cs" / "scripts.json").read_bytes())
    assert document == {
        "plurals": {"one": 0, "few": 1, "many": 2, "other": 2},
        "texts": {"items\x04lost": "ztraceno", "{count} member": ["a", "b", "c"]},
    }


def test_what_is_installed_is_what_the_sources_say(tmp_path: Path) -> None:
    """If this fails, compile them with ``nox -s messages``."""
    copytree(SOURCES, tmp_path / "locale", ignore=ignore_patterns("*.mo", "*.json"))
    for path in compile_catalogues(tmp_path / "locale"):
        assert path.read_bytes() == (DIRECTORY / path.relative_to(tmp_path / "locale")).read_bytes()


@pytest.mark.parametrize("tag", ["en", "fi", "fr-FR", "cs", "ar-XB"])
def test_what_browsers_get(tag: str) -> None:
    document = json.loads(catalogue.texts_for_scripts(tag))
    assert bool(document["texts"]) == (tag not in ("en", "fi"))


def test_the_glossary_is_in_every_language() -> None:
    """Names of Evergreen's penalties and settings, which are code there, stay as they are."""
    rows = [line.strip("|").split("|") for line in GLOSSARY.read_text("utf-8").splitlines() if line.startswith("| ")]
    terms = {row[0].strip(): [cell.strip() for cell in row[2:]] for row in rows}
    tags = [tag for tag in languages() if tag != "en"]
    assert sorted(terms.pop("Term")) == sorted(tags)
    terms.pop("---")
    assert len(terms) > 80
    assert [term for term, found in terms.items() if len([*filter(None, found)]) < len(tags) and term[0] != "`"] == []


def test_french_has_the_spaces_and_apostrophes_of_quebec() -> None:
    """By the Office québécois de la langue française: a no-break space before a colon, none before ; ? and !."""
    wrong = re.compile(
        r"[^\xa0\s:\[(] ?:(?= [^B])|[ \xa0\u202f][;?!]|«[^\xa0]|[^\xa0]»|[ldnsmjcLDNSMJC]'(?=[a-zéèêàh])"
    )
    texts = [text for message in catalogues()["fr_CA"] if message.id for text in _forms(message.string)]
    assert [text for text in texts if wrong.search(text)] == []


def _forms(string: str | tuple[str, ...]) -> tuple[str, ...]:
    return string if isinstance(string, tuple) else (string,)
