"""Looks up texts in the catalogue of the current language, and fills in values.

The functions have gettext's names, for the sake of its tools. A text is a whole sentence or phrase with placeholders in
braces. Money, counts and translatable texts among the values are formatted for the language; other numbers (a group's
number, for example) are inserted unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, cast

from evergreen_groups import message as english
from evergreen_groups.errors import EvergreenGroupsError, GatewayError
from evergreen_groups.language.catalogue import translations_for
from evergreen_groups.language.language import current_language
from evergreen_groups.language.numbers import clock_time, day, decimal_number, enumeration, minute, number, price
from evergreen_groups.message import Message
from evergreen_groups.values import Total


def gettext(message: str, /, **values: object) -> str:
    """Translate a text and fill in ``values``.

    >>> gettext("group {group} owes {owed}", group=1204, owed=Decimal("7.5"))
    'group 1204 owes $7.50'
    """
    if isinstance(message, Message):
        return _translate_message(message, values)
    return filled(translations_for(current_language().tag).gettext(message), values) if message else ""


def ngettext(singular: str, plural: str, count: int, /, **values: object) -> str:
    """Translate a text that depends on a count, which is ``{count}`` in the text.

    >>> ngettext("{count} member", "{count} members", 1), ngettext("{count} member", "{count} members", 1200)
    ('1 member', '1,200 members')
    """
    text = translations_for(current_language().tag).ngettext(singular, plural, count)
    return filled(text, {"count": number(count), **values})


def pgettext(context: str, message: str, /, **values: object) -> str:
    """Translate a text with an ambiguous word. ``context`` says which meaning applies."""
    return filled(translations_for(current_language().tag).pgettext(context, message), values)


def npgettext(context: str, singular: str, plural: str, count: int, /, **values: object) -> str:
    """Translate a text that depends on a count and has an ambiguous word."""
    text = translations_for(current_language().tag).npgettext(context, singular, plural, count)
    return filled(text, {"count": number(count), **values})


def _translate_message(message: Message, more: Mapping[str, object]) -> str:
    values = {**message.values, **more} if more else message.values
    context, text = message.context, message.text
    if message.plural:
        count = cast("int | Total[int]", values["count"])
        total = count if isinstance(count, Total) else Total(count)
        values = {**values, "count": describe_total(total)}
        if context:
            return npgettext(context, text, message.plural, total.at_least, **values)
        return ngettext(text, message.plural, total.at_least, **values)
    translations = translations_for(current_language().tag)
    if not text:
        return ""
    return filled(translations.pgettext(context, text) if context else translations.gettext(text), values)


def filled(template: str, values: Mapping[str, object]) -> str:
    """Fill values into a translated text. Without values, the text is returned unchanged, including braces."""
    return english.filled(template, values, _format)


def describe_total(total: Total[int] | Total[Decimal] | Decimal | None, *, short: bool = False) -> str:
    """Format a total, or an amount that may be unknown. ``short`` is for narrow table columns.

    >>> describe_total(Total(1200)), describe_total(Total(1200, exact=False)), describe_total(Total(0, exact=False))
    ('1,200', 'at least 1,200', 'unknown')
    >>> describe_total(Total(1200, exact=False), short=True), describe_total(Total(0, exact=False), short=True)
    ('1,200+', '0+')
    >>> describe_total(Decimal("7.50")), describe_total(None)
    ('$7.50', 'unknown')
    """
    if isinstance(total, Total):
        value = total.at_least
        written = price(value) if isinstance(value, Decimal) else number(value)
        if total.exact or short:
            return written if total.exact else f"{written}+"
        if value > 0:
            return gettext("at least {total}", total=written)
    elif total is not None:
        return price(total)
    return pgettext("a total", "unknown")


def describe_difference(difference: Decimal | None) -> str:
    """Format a difference between amounts that may be unknown: ``+$12.50``, ``-$3.25``, ``$0.00``."""
    written = describe_total(difference)
    return f"+{written}" if difference is not None and difference > 0 else written


def describe_error(error: EvergreenGroupsError) -> str:
    """Describe an error with its advice in one line."""
    return "; ".join(part for part in (describe_problem(error), describe_advice(error)) if part)


def describe_problem(error: EvergreenGroupsError) -> str:
    """Describe an error: what was attempted and what went wrong, without advice."""
    asked = gettext(error.asked) if isinstance(error, GatewayError) and error.asked else ""
    problem = gettext(error.message, **error.values)
    return gettext("{asked}: {problem}", asked=asked, problem=problem) if asked and problem else asked or problem


def describe_advice(error: EvergreenGroupsError) -> str:
    """Return the advice for an error, or ""."""
    return gettext(error.advice, **error.values) if error.advice else ""


def _format(value: Any, spec: str) -> str:
    """Format money, counts (``{count:,}``), dates and times, lists, and translatable texts."""
    if isinstance(value, Decimal) and not spec:
        return price(value)
    if isinstance(value, Total):
        return describe_total(value)
    if isinstance(value, int) and spec == ",":
        return number(value)
    if isinstance(value, datetime) and spec in ("", "time"):
        return clock_time(value) if spec else minute(value)
    if isinstance(value, date) and not spec:
        return day(value)
    if isinstance(value, tuple | list):
        parts = [_format(part, "") for part in value]
        value = enumeration(parts) if isinstance(value, list) else "; ".join(parts)
    elif isinstance(value, Message):
        value = gettext(value)
    elif isinstance(value, EvergreenGroupsError):
        value = describe_error(value)
    text = format(value, spec)
    return decimal_number(text) if isinstance(value, float) else text
