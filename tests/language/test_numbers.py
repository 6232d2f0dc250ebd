"""Money and counts: formatted fast, and always according to CLDR."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from babel import Locale
from babel.numbers import format_currency, format_decimal, get_currency_symbol
from hypothesis import given
from hypothesis import strategies as st

from evergreen_groups.language import Language, describe_difference, number, price, use_language
from evergreen_groups.language.language import PSEUDO

AMOUNTS = st.decimals(min_value=-(10**13), max_value=10**13, places=2)
# Locales of Evergreen's translations, and some that group digits or place signs differently.
TAGS = ["en", "en-US", "en-CA", "fr-CA", "fr", "es", "es-MX", "cs", "fi", "hy", "ar", "hi", "de-CH", "pt-PT", "ja"]
NARROW = {"USD": "$", "CAD": "$", "EUR": "€", "CZK": "Kč", "JPY": "¥"}
CURRENCIES = [*NARROW, "JOD"]


@given(value=AMOUNTS, tag=st.sampled_from(TAGS), currency=st.sampled_from(CURRENCIES))
def test_money_is_written_as_cldr_has_it(value: Decimal, tag: str, currency: str) -> None:
    language = Language(tag, currency)
    with use_language(language):
        written, locale = price(value), language.number_locale
    assert written == _with_narrow_symbol(format_currency(value + 0, currency, locale=locale), currency, locale)


def _with_narrow_symbol(text: str, currency: str, locale: Locale) -> str:
    sign = NARROW.get(currency) or get_currency_symbol(currency, locale)
    text = text.replace(get_currency_symbol(currency, locale), sign)
    return re.sub(rf"({sign})(?=\d)|(?<=\d)({sign})", "\\1\xa0\\2", text) if sign.isalpha() else text


@given(value=st.integers(-(10**12), 10**12), tag=st.sampled_from(TAGS))
def test_counts_are_written_as_cldr_has_them(value: int, tag: str) -> None:
    language = Language(tag)
    with use_language(language):
        assert number(value) == format_decimal(value, locale=language.number_locale)


@pytest.mark.parametrize(
    ("tags", "currency", "written"),
    [
        ("en en-US en-CA en-GB", "USD", "$1,234.50"),
        ("en en-US en-CA en-GB", "CAD", "$1,234.50"),
        ("en en-US en-CA en-GB", "EUR", "€1,234.50"),
        ("fr fr-CA fr-FR", "CAD", "1\xa0234,50\xa0$"),
        ("fr fr-CA fr-FR", "USD", "1\u202f234,50\xa0$"),
        ("fr fr-CA fr-FR", "EUR", "1\u202f234,50\xa0€"),
        ("cs cs-CZ", "CZK", "1\xa0234,50\xa0Kč"),
        ("cs cs-CZ", "USD", "1\xa0234,50\xa0$"),
        ("es es-ES es-MX es-US", "USD", "$1,234.50"),
        ("es es-ES es-MX es-US", "MXN", "$1,234.50"),
        ("es es-ES es-MX es-US", "EUR", "1.234,50\xa0€"),
        ("es es-ES es-MX es-US", "CZK", "1.234,50\xa0Kč"),
        (PSEUDO, "USD", "\u200f1,234.50\xa0\u200f$"),
    ],
)
def test_a_library_has_one_form_per_language(tags: str, currency: str, written: str) -> None:
    for tag in tags.split():
        with use_language(Language(tag, currency)):
            assert price(Decimal("1234.5")) == written


def test_a_difference_has_its_sign() -> None:
    assert [describe_difference(Decimal(value)) for value in ("1.5", "-1.5", "0", "-0.0")] == [
        "+$1.50",
        "-$1.50",
        "$0.00",
        "$0.00",
    ]
