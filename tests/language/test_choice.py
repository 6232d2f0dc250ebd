"""The choice of the reader's language."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen_groups.language import Language, catalogue, first_available, languages
from evergreen_groups.language.catalogue import translations_for
from evergreen_groups.language.language import PSEUDO

LATIN_AMERICA = "es" + "-419"  # in one piece, it would look like the id of a recorded exchange


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("fr-CA", "fr-CA"),
        ("fr_CA.UTF-8", "fr-CA"),
        ("FR-ca", "fr-CA"),
        ("cs_CZ@euro", "cs-CZ"),
        ("es_419", LATIN_AMERICA),
        ("en", "en"),
        ("zh-Hant-TW", "zh"),
        ("ar-XB", PSEUDO),
        ("C", None),
        ("C.UTF-8", None),
        ("POSIX", None),
        ("", None),
        ("xx-XX", None),
        ("french", None),
        ("../../etc", None),
        ("fr;DROP", None),
    ],
)
def test_tags_are_read_however_they_are_written(text: str, tag: str | None) -> None:
    assert catalogue.tag_of(text) == tag


@given(st.text(max_size=30))
def test_whatever_is_read_is_a_language_or_nothing(text: str) -> None:
    tag = catalogue.tag_of(text)
    assert tag is None or Language(tag).locale is not None


def test_the_catalogue_of_another_country_does() -> None:
    assert {"en", "fr-CA", "es", "cs"} <= set(languages())
    tags = "fr-CA", "fr", "fr-FR", "es-MX", "cs-CZ", "en-GB", "fi", PSEUDO
    assert list(map(catalogue.catalogue_for, tags)) == [
        *["fr-CA"] * 3,
        "es",
        "cs",
        "en",
        None,
        PSEUDO,
    ]


def test_the_first_that_there_are_texts_for() -> None:
    assert first_available(["fi-FI", "xx", "fr-FR", "en"]) == "fr-FR"
    assert first_available(["fi"]) is None


@pytest.mark.parametrize(
    ("header", "tags"),
    [
        ("fr-CA,fr;q=0.8,en;q=0.9", ["fr-CA", "en", "fr"]),
        ("en;q=0, fr", ["fr"]),
        ("*;q=0.5, cs ;q=0.7", ["cs"]),
        ("fr;q=lots, es", ["es"]),
        ("", []),
        (",,;", []),
    ],
)
def test_what_browsers_accept(header: str, tags: list[str]) -> None:
    assert catalogue.accepted_tags(header) == tags


def test_a_header_without_end_is_cut() -> None:
    assert len(catalogue.accepted_tags("fr," * 100_000)) < 200


@pytest.mark.parametrize(
    ("variables", "tag"),
    [
        ({"LANG": "fr_CA.UTF-8"}, "fr-CA"),
        ({"LANG": "fr_CA.UTF-8", "LC_ALL": "C.UTF-8"}, None),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "cs_CZ.UTF-8"}, "cs-CZ"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "es:fr"}, "es"),
        ({"LANG": "C", "LANGUAGE": "es"}, None),
        ({"LANG": "fi_FI.UTF-8"}, None),
        ({}, None),
    ],
)
def test_what_the_terminal_says(variables: dict[str, str], tag: str | None) -> None:
    assert catalogue.terminal_language(variables) == tag


def test_time_zones_by_name() -> None:
    assert catalogue.timezone_of("America/Toronto") is not None
    assert [catalogue.timezone_of(name) for name in ("Mars/Olympus", "", "../etc/passwd", "America")] == [None] * 4


def test_one_catalogue_is_read_for_all_regions() -> None:
    """Browsers may send any region without a session, so regions must not fill the memory."""
    regions = [f"fr-{number:03}" for number in range(300)]
    assert {first_available([tag]) for tag in regions} == set(regions)
    assert len({id(translations_for(tag)) for tag in ("fr-CA", "fr", *regions)}) == 1
    assert len({id(catalogue.texts_for_scripts(tag)) for tag in ("fr-CA", "fr", *regions)}) == 1


def test_a_terminals_language_is_known_without_the_data_of_all_languages() -> None:
    """Every command chooses a language when it starts, even for ``--help``."""
    code = "import sys; from evergreen_groups.language import catalogue"
    code += "; print(catalogue.terminal_language({'LC_ALL': 'fr_CA.UTF-8'})); print('babel' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["fr-CA", "False"]
