"""Formats money, numbers, dates and times for the current language."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from evergreen_groups.language.catalogue import translations_for
from evergreen_groups.language.language import current_language
from evergreen_groups.message import Message
from evergreen_groups.values import plausible

if TYPE_CHECKING:
    from babel import Locale

_UNKNOWN = Message("unknown", context="a date")
# CLDR's narrow symbols, which Babel doesn't have: a library's amounts are all in its own currency, so "$" needs no
# country ("CA$", "$ US"). It would be ambiguous only with a second kind of dollars, which Evergreen doesn't know.
_NARROW = {
    code: sign
    for sign, codes in {
        "$": "ARS AUD BBD BMD BND BSD BZD CAD CLP COP CUP DOP FJD GYD HKD JMD KYD LRD MXN NAD NZD SBD SGD SRD TTD TWD "
        "USD UYU XCD",
        **{"£": "FKP GBP GIP SHP SSP SYP", "kr": "DKK ISK NOK SEK", "Rs": "LKR MUR NPR PKR", "¥": "CNY JPY"},
        **{"֏": "AMD", "Kz": "AOA", "₼": "AZN", "KM": "BAM", "৳": "BDT", "Bs": "BOB", "R$": "BRL", "P": "BWP"},
        **{"₡": "CRC", "Kč": "CZK", "€": "EUR", "₾": "GEL", "GH₵": "GHS", "Q": "GTQ", "L": "HNL", "Ft": "HUF"},
        **{"Rp": "IDR", "₪": "ILS", "₹": "INR", "⃀": "KGS", "៛": "KHR", "₩": "KPW KRW", "₸": "KZT", "₭": "LAK"},
        **{"Ar": "MGA", "K": "MMK", "₮": "MNT", "RM": "MYR", "₦": "NGN", "C$": "NIO", "₱": "PHP", "zł": "PLN"},
        **{"₲": "PYG", "₽": "RUB", "฿": "THB", "₺": "TRY", "₴": "UAH", "₫": "VND", "R": "ZAR", "ZK": "ZMW"},
    }.items()
    for code in codes.split()
}


class MoneyForm(NamedTuple):
    """How to write amounts of money. Scripts use it too, so that an amount looks the same everywhere."""

    around: tuple[tuple[str, str], tuple[str, str]]
    """What is before and after the digits: of amounts from zero, and of those below."""
    point: str
    places: int
    """The currency's decimal places."""
    separator: str
    """What separates groups of digits."""
    groups: tuple[int, int]
    """The sizes of the last group of digits and of those before."""


def money_form() -> MoneyForm:
    """Return how to write amounts in the current language and currency."""
    language = current_language()
    return _money_form(language.number_locale, language.currency)


def price(value: Decimal) -> str:
    """Format an amount of money with its currency.

    >>> price(Decimal("1234.5")), price(Decimal("-1.50")), price(Decimal("-0.0"))
    ('$1,234.50', '-$1.50', '$0.00')
    """
    language = current_language()
    return _price_writer(language.number_locale, language.currency)(value)


def number(value: int) -> str:
    """Format a count: ``1,200``."""
    return _number_writer(current_language().number_locale)(value)


def decimal_number(text: str) -> str:
    """Convert a number in Python's format (``1,234.5``) to the language's.

    >>> decimal_number("1,234.5")
    '1,234.5'
    """
    from babel.numbers import get_decimal_symbol, get_group_symbol

    locale = current_language().number_locale
    return text.translate({ord(","): get_group_symbol(locale), ord("."): get_decimal_symbol(locale)})


def decimal(value: float) -> str:
    """Format a number with one decimal place: ``1,234.5``."""
    from babel.numbers import format_decimal

    return str(format_decimal(value, "#,##0.0", locale=current_language().number_locale))


@lru_cache(maxsize=64)
def _money_form(locale: Locale, currency: str) -> MoneyForm:
    from babel.numbers import get_currency_precision, get_currency_symbol, get_decimal_symbol, get_group_symbol

    pattern = locale.currency_formats["standard"]
    sign = _NARROW.get(currency) or get_currency_symbol(currency, locale)
    # CLDR's currencySpacing, which Babel doesn't have: a letter doesn't touch a digit.
    before = f"{sign}\N{NO-BREAK SPACE}" if sign[-1].isalpha() else sign
    after = f"\N{NO-BREAK SPACE}{sign}" if sign[0].isalpha() else sign
    around = [
        (re.sub("¤$", before, prefix).replace("¤", sign), re.sub("^¤", after, suffix).replace("¤", sign))
        for prefix, suffix in zip(pattern.prefix, pattern.suffix, strict=True)
    ]
    return MoneyForm(
        (around[0], around[1]),
        get_decimal_symbol(locale),
        get_currency_precision(currency),
        get_group_symbol(locale),
        pattern.grouping,
    )


# A page with thousands of groups has some 100,000 amounts, and Babel evaluates its whole pattern for each. Babel also
# takes Swiss apostrophes between digits for quotation marks.
@lru_cache(maxsize=64)
def _price_writer(locale: Locale, currency: str) -> Callable[[Decimal], str]:
    form = _money_form(locale, currency)
    from_zero, below = form.around
    separators = {ord(","): form.separator, ord("."): form.point}
    last, others = form.groups
    between = re.compile(rf"(?<=\d)(?=(\d{{{others}}})*\d{{{last}}}(\.|$))")

    def write(value: Decimal) -> str:
        before, after = from_zero if value >= 0 else below
        if form.groups == (3, 3):
            digits = f"{abs(value):,.{form.places}f}"
        else:
            digits = between.sub(",", f"{abs(value):.{form.places}f}")
        return f"{before}{digits.translate(separators)}{after}"

    return write


@lru_cache(maxsize=64)
def _number_writer(locale: Locale) -> Callable[[int], str]:
    from babel.numbers import format_decimal, get_group_symbol

    if locale.decimal_formats[None].grouping != (3, 3):
        return lambda value: str(format_decimal(value, locale=locale))
    separators = {ord(","): get_group_symbol(locale)}
    return lambda value: f"{value:,}".translate(separators)


def local(moment: datetime) -> datetime:
    """Convert a time to the reader's time zone. Times at the limits of the calendar are returned unchanged."""
    try:
        return moment.astimezone(current_language().timezone)
    except OverflowError:
        return moment


def day(moment: date) -> str:
    """Format a date: ``1 Aug 2026``. A datetime is first converted to the reader's time zone.

    Every date that people read is written here, so that there is one form on pages, letters, mails and terminals.
    """
    if isinstance(moment, datetime) and plausible(moment) is None:
        return translations_for(current_language().tag).pgettext(_UNKNOWN.context, _UNKNOWN.text)
    that = local(moment).date() if isinstance(moment, datetime) else moment
    return _written_day(that, current_language().date_locale)


def minute(moment: datetime) -> str:
    """Format a time in the reader's time zone, to the minute: ``1 Aug 2026, 09:05``."""
    # CLDR's longer patterns add words ("1 August 2026 at 09:05").
    return str(current_language().date_locale.datetime_formats["short"].format(clock_time(moment), day(moment)))


def clock_time(moment: datetime) -> str:
    """Format the time of day in the reader's time zone: ``09:05``."""
    from babel.dates import format_time

    return format_time(local(moment), "short", locale=current_language().date_locale)


def time_with_zone(moment: datetime) -> str:
    """Format a time with the name of its time zone: ``1 Aug 2026, 09:05 UTC``."""
    here = local(moment)
    return f"{minute(moment)} {here.tzname() or here.strftime('%z')}"


def weekly_hours(days: Sequence[tuple[time, time] | None]) -> str:
    """List opening hours, from Monday on. None: closed.

    >>> weekly_hours([*[(time(9), time(17))] * 5, (time(10), time(14)), None])
    'Mon–Fri 09:00–17:00, Sat 10:00–14:00'
    """
    from babel.dates import format_time, get_day_names

    locale = current_language().date_locale
    names = get_day_names("abbreviated", locale=locale)
    parts = []
    for hours, some in groupby(range(len(days)), key=days.__getitem__):
        if hours is not None:
            first, *_, last = [*some] * 2
            named = names[first] if first == last else f"{names[first]}–{names[last]}"
            opens, closes = (format_time(one, "short", locale=locale) for one in hours)
            parts.append(f"{named} {opens}–{closes}")
    return ", ".join(parts)


def enumeration(parts: Iterable[str], style: str = "standard") -> str:
    """Join several phrases in a sentence. ``style`` is ``standard`` ("and") or ``or``.

    >>> enumeration(["BR1", "BR2", "BR3"]), enumeration(["BR1", "BR2"], "or")
    ('BR1, BR2 and BR3', 'BR1 or BR2')
    """
    from babel.lists import format_list

    locale, listed = current_language().date_locale, list(parts)
    joined = format_list(listed, style, locale=locale)  # type: ignore[arg-type]
    # CLDR has only "y" and "o", which change before the same sound: "Ana e Inés", "siete u ocho".
    changed = _CHANGED_BEFORE.get(style) if locale.language == "es" and len(listed) > 1 else None
    if changed and changed.sound.match(listed[-1]):
        joined = changed.word.join(joined.rsplit(changed.usual, 1))
    return joined


class _Changed(NamedTuple):
    """A conjunction that changes before its own sound. Isolation characters may precede the sound."""

    usual: str
    word: str
    sound: re.Pattern[str]


_CHANGED_BEFORE = {
    "standard": _Changed(" y ", " e ", re.compile("[\u2066-\u2068]?h?[ií](?![aeo])", re.IGNORECASE)),
    "or": _Changed(" o ", " u ", re.compile("[\u2066-\u2068]?h?[oó]", re.IGNORECASE)),
}


# A page has thousands of dates, many of them equal.
@lru_cache(maxsize=4096)
def _written_day(that: date, locale: Locale) -> str:
    from babel.dates import format_date

    written = format_date(that, "medium", locale=locale)
    # CLDR writes "1 août", but French has an ordinal number for the first day of a month.
    return re.sub(r"^1(?= )", "1er", written) if locale.language == "fr" else written
