"""Formats money, numbers, dates and times for the current language."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from evergreen_groups.language.catalogue import translations_for
from evergreen_groups.language.language import current_language
from evergreen_groups.message import Message
from evergreen_groups.values import plausible

if TYPE_CHECKING:
    from babel import Locale

_SAMPLE = Decimal("1234567.89")
_SAMPLE_COUNT = 1234567
_UNKNOWN = Message("unknown", context="a date")
_HIGHEST = Decimal(10**12)


def price(value: Decimal) -> str:
    """Format an amount of money with its currency.

    >>> price(Decimal("1234.5")), price(Decimal("-1.50")), price(Decimal("-0.0"))
    ('$1,234.50', '-$1.50', '$0.00')
    """
    language = current_language()
    return _price_writer(language.locale, language.currency)(value)


def signed_price(value: Decimal) -> str:
    """Format a difference between amounts: ``+$1,234.50``, ``-$3.25``, ``$0.00``."""
    return f"+{price(value)}" if value > 0 else price(value)


def number(value: int) -> str:
    """Format a count: ``1,200``."""
    return _number_writer(current_language().locale)(value)


def decimal_number(text: str) -> str:
    """Convert a number in Python's format (``1,234.5``) to the language's.

    >>> decimal_number("1,234.5")
    '1,234.5'
    """
    from babel.numbers import get_decimal_symbol, get_group_symbol

    locale = current_language().locale
    return text.translate({ord(","): get_group_symbol(locale), ord("."): get_decimal_symbol(locale)})


def decimal(value: float) -> str:
    """Format a number with one decimal place: ``1,234.5``."""
    from babel.numbers import format_decimal

    return str(format_decimal(value, "#,##0.0", locale=current_language().locale))


def currency_sign() -> str:
    """Return the currency's symbol, for example ``$``."""
    from babel.numbers import get_currency_symbol

    language = current_language()
    return str(get_currency_symbol(language.currency, locale=language.locale))


def percent(share: Decimal) -> str:
    """Format a share as a whole percentage: ``0.25`` is ``25%``."""
    from babel.numbers import format_percent

    return str(format_percent(share, locale=current_language().locale))


# A page with thousands of groups has some 100,000 amounts, and Babel evaluates its whole pattern for each. So format
# one sample with Babel and reuse its symbols, provided that the pattern is simple enough.
@lru_cache(maxsize=64)
def _price_writer(locale: Locale, currency: str) -> Callable[[Decimal], str]:
    from babel.numbers import format_currency

    def write(value: Decimal) -> str:
        return str(format_currency(value, currency, locale=locale))

    symbols, below = _symbols(write, _SAMPLE, "89"), _symbols(write, -_SAMPLE, "89")
    if symbols is None or below is None:
        return lambda value: write(value + 0)

    def write_fast(value: Decimal) -> str:
        before, group, point, after = symbols if value >= 0 else below
        if abs(value) >= _HIGHEST:
            return write(value)
        digits = f"{abs(value):,.2f}".translate({ord(","): group, ord("."): point})
        return f"{before}{digits}{after}"

    return write_fast


@lru_cache(maxsize=64)
def _number_writer(locale: Locale) -> Callable[[int], str]:
    from babel.numbers import format_decimal

    def write(value: int) -> str:
        return str(format_decimal(value, locale=locale))

    symbols = _symbols(write, _SAMPLE_COUNT, "")
    if symbols is None:
        return write
    _before, group, _point, _after = symbols
    separators = {ord(","): group}
    return lambda value: f"{value:,}".translate(separators) if value >= 0 else write(value)


def _symbols(write: Callable[[Any], str], sample: Any, cents: str) -> tuple[str, str, str, str] | None:
    """Extract prefix, group separator, decimal point and suffix from a sample; None if the pattern isn't so simple."""
    text = write(sample)
    first, last = text.find("1"), text.rfind(cents or "7") + len(cents or "7")
    digits = text[first:last]
    group, point = digits[1:2], digits[9:10] if cents else ""
    expected = f"1{group}234{group}567{point}{cents}"
    return (text[:first], group, point, text[last:]) if digits == expected else None


def local(moment: datetime) -> datetime:
    """Convert a time to the reader's time zone. Times at the limits of the calendar are returned unchanged."""
    try:
        return moment.astimezone(current_language().timezone)
    except OverflowError:
        return moment


def day(moment: date) -> str:
    """Format a date: ``1 Aug 2026``. A datetime is first converted to the reader's time zone."""
    return _day(moment, "medium")


def long_day(moment: date) -> str:
    """Format a date in the long form, for letters.

    >>> long_day(date(2026, 8, 1))
    '1 August 2026'
    """
    return _day(moment, "long")


def minute(moment: datetime) -> str:
    """Format a time in the reader's time zone, to the minute: ``1 Aug 2026, 09:05``."""
    return _date_and_time(moment, "medium")


def clock_time(moment: datetime) -> str:
    """Format the time of day in the reader's time zone: ``09:05``."""
    from babel.dates import format_time

    return format_time(local(moment), "short", locale=current_language().date_locale)


def time_with_zone(moment: datetime) -> str:
    """Format a time with the name of its time zone: ``1 August 2026, 09:05 UTC``."""
    here = local(moment)
    return f"{_date_and_time(moment, 'long')} {here.tzname() or here.strftime('%z')}"


def enumeration(parts: Iterable[str], style: str = "standard") -> str:
    """Join several phrases in a sentence. ``style`` is ``standard`` ("and") or ``or``.

    >>> enumeration(["BR1", "BR2", "BR3"]), enumeration(["BR1", "BR2"], "or")
    ('BR1, BR2 and BR3', 'BR1 or BR2')
    """
    from babel.lists import format_list

    return format_list(list(parts), style, locale=current_language().date_locale)  # type: ignore[arg-type]


def _day(moment: date, width: str) -> str:
    if isinstance(moment, datetime) and plausible(moment) is None:
        return translations_for(current_language().tag).pgettext(_UNKNOWN.context, _UNKNOWN.text)
    that = local(moment).date() if isinstance(moment, datetime) else moment
    return _written_day(that, width, current_language().date_locale)


# A page has thousands of dates, many of them equal.
@lru_cache(maxsize=4096)
def _written_day(that: date, width: str, locale: Locale) -> str:
    from babel.dates import format_date

    return format_date(that, width, locale=locale)


def _date_and_time(moment: datetime, width: str) -> str:
    # CLDR's longer patterns add words ("1 August 2026 at 09:05"). Use the shortest one for all widths.
    return str(current_language().date_locale.datetime_formats["short"].format(clock_time(moment), _day(moment, width)))
