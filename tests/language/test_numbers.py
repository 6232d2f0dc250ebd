"""Money and counts: formatted fast, and always according to CLDR."""

from __future__ import annotations

from decimal import Decimal

import pytest
from babel import Locale
from babel.localedata import locale_identifiers
from babel.numbers import format_currency, format_decimal
from hypothesis import given
from hypothesis import strategies as st

from evergreen_groups.language import Language, number, price, use_language
from evergreen_groups.language.language import PSEUDO
from evergreen_groups.language.numbers import signed_price

AMOUNTS = st.decimals(min_value=-(10**13), max_value=10**13, places=2)
# Locales of Evergreen's translations, and some that group digits or place signs differently.
TAGS = ["en", "en-US", "en-CA", "fr-CA", "fr", "es", "es-MX", "cs", "fi", "hy", "ar", "hi", "de-CH", "pt-PT", "ja"]
CURRENCIES = ["USD", "CAD", "EUR", "CZK", "JPY", "JOD"]


@given(value=AMOUNTS, tag=st.sampled_from(TAGS), currency=st.sampled_from(CURRENCIES))
def test_money_is_written_as_cldr_has_it(value: Decimal, tag: str, currency: str) -> None:
    expected = format_currency(value + 0, currency, locale=Locale.parse(tag, sep="-"))
    with use_language(Language(tag, currency)):
        assert price(value) == expected


@given(value=st.integers(-(10**12), 10**12), tag=st.sampled_from(TAGS))
def test_counts_are_written_as_cldr_has_them(value: int, tag: str) -> None:
    with use_language(Language(tag)):
        assert number(value) == format_decimal(value, locale=Locale.parse(tag, sep="-"))


@pytest.mark.long
def test_every_locale_there_is() -> None:
    for name in locale_identifiers():
        locale = Locale.parse(name)
        for value in (Decimal("-1234567.89"), Decimal("0.05"), Decimal("1234.50")):
            with use_language(Language(name.replace("_", "-"), "EUR")):
                assert price(value) == format_currency(value, "EUR", locale=locale), name


@pytest.mark.parametrize(
    ("tag", "currency", "written"),
    [
        ("en", "USD", "$1,234.50"),
        ("fr-CA", "CAD", "1\xa0234,50\xa0$"),
        ("cs", "CZK", "1\xa0234,50\xa0Kč"),
        ("es", "USD", "1.234,50\xa0US$"),
        (PSEUDO, "USD", "\u200f1,234.50\xa0\u200f$"),
    ],
)
def test_examples(tag: str, currency: str, written: str) -> None:
    with use_language(Language(tag, currency)):
        assert price(Decimal("1234.5")) == written


def test_a_difference_has_its_sign() -> None:
    assert [signed_price(Decimal(value)) for value in ("1.5", "-1.5", "0", "-0.0")] == [
        "+$1.50",
        "-$1.50",
        "$0.00",
        "$0.00",
    ]
