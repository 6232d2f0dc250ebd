"""The language of a page or the panel: from the client, the browser, or the library's settings."""

from __future__ import annotations

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from evergreen_groups.language.language import PSEUDO
from evergreen_groups.settings import LanguageSettings
from evergreen_groups.web.requests import language_of_reader

GROUP = "/evergreen-groups/patrons/7/group"
SETTINGS = LanguageSettings(default="es", currency="CAD", timezone="America/Toronto")


def read(query: str, **headers: str) -> str:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(EnvironBuilder(path=GROUP, query_string=query, headers=names).get_environ())
    return language_of_reader(request, SETTINGS).tag


@pytest.mark.parametrize(
    ("query", "headers", "tag"),
    [
        ("client=eg2/fr-CA", {"Cookie": "eg_locale=cs_cz", "Accept_Language": "en"}, "fr-CA"),
        ("client=eg", {"Cookie": "eg_locale=cs_cz", "Accept_Language": "en"}, "cs-CZ"),
        ("", {"Cookie": "eg_locale=fr-CA"}, "fr-CA"),
        ("", {"Referer": "https://ils.example.org/eg2/cs-CZ/staff/circ/patron/7/checkout"}, "cs-CZ"),
        ("client=eg", {"Accept_Language": "fr-FR,fr;q=0.9,en;q=0.8"}, "fr-FR"),
        ("client=eg2/en-US", {"Accept_Language": "fr-FR"}, "en-US"),
        ("client=eg2/fi-FI", {"Accept_Language": "cs"}, "cs"),  # a client in a language without translations
        ("client=eg2/fr-CA&language=cs", {}, "cs"),
        (f"client=eg2/{PSEUDO}", {}, PSEUDO),
        ("", {}, "es"),
        ("client=eg2/../..&language=%00", {"Cookie": "eg_locale=;", "Accept_Language": "\x7f"}, "es"),
    ],
)
def test_which_language(query: str, headers: dict[str, str], tag: str) -> None:
    assert read(query, **headers) == tag


def test_currency_and_time_zone_are_the_librarys() -> None:
    language = language_of_reader(Request(EnvironBuilder(path=GROUP).get_environ()), SETTINGS)
    assert (language.currency, str(language.timezone)) == ("CAD", "America/Toronto")
