"""Days, moments and enumerations, as the language that is written now has them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from evergreen_groups.language.language import current_language
from evergreen_groups.odd_dates import known

if TYPE_CHECKING:
    from babel import Locale


def local(moment: datetime) -> datetime:
    """A moment in the reader's time zone; at the edges of the calendar as it is."""
    try:
        return moment.astimezone(current_language().timezone)
    except OverflowError:
        return moment


def day(moment: date) -> str:
    """A day, of a moment the one in the reader's time zone: ``1 Aug 2026``."""
    return _day(moment, "medium")


def long_day(moment: date) -> str:
    """A day as letters have it.

    >>> long_day(date(2026, 8, 1))
    '1 August 2026'
    """
    return _day(moment, "long")


def minute(moment: datetime) -> str:
    """A moment in the reader's time zone, to the minute: ``1 Aug 2026, 09:05``."""
    return _both(moment, "medium")


def long_minute(moment: datetime) -> str:
    """A moment in the reader's time zone, as letters have it: ``1 August 2026, 09:05``."""
    return _both(moment, "long")


def clock_time(moment: datetime) -> str:
    """The time of a moment in the reader's time zone: ``09:05``."""
    from babel.dates import format_time

    return format_time(local(moment), "short", locale=current_language().date_locale)


def moment_with_zone(moment: datetime) -> str:
    """A moment to the minute, with the name of its time zone: ``1 August 2026, 09:05 UTC``."""
    here = local(moment)
    return f"{long_minute(moment)} {here.tzname() or here.strftime('%z')}"


def enumeration(parts: Iterable[str], style: str = "standard") -> str:
    """Several things in one sentence; ``style`` is ``standard`` (and) or ``or``.

    >>> enumeration(["BR1", "BR2", "BR3"]), enumeration(["BR1", "BR2"], "or")
    ('BR1, BR2 and BR3', 'BR1 or BR2')
    """
    from babel.lists import format_list

    return format_list(list(parts), style, locale=current_language().date_locale)  # type: ignore[arg-type]


def _day(moment: date, width: str) -> str:
    if isinstance(moment, datetime) and known(moment) is None:
        from evergreen_groups.language.messages import pgettext  # which writes dates

        return pgettext("a date", "unknown")
    that = local(moment).date() if isinstance(moment, datetime) else moment
    return _written_day(that, width, current_language().date_locale)


# A page has thousands of days, and many of them are the same.
@lru_cache(maxsize=4096)
def _written_day(that: date, width: str, locale: Locale) -> str:
    from babel.dates import format_date

    return format_date(that, width, locale=locale)


def _both(moment: datetime, width: str) -> str:
    # CLDR has other words between the two for each width ("1 August 2026 at 09:05"), and the shortest does for all.
    return str(current_language().date_locale.datetime_formats["short"].format(clock_time(moment), _day(moment, width)))
