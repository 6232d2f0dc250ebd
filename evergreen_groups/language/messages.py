"""The texts themselves: looked up in the catalogue of the language that is written now, and filled in.

The names are those of gettext, so that the tools for catalogues and whoever knows one find their way. A text is a whole
sentence, or as much of one as stands alone; what varies in it has a name in braces. Money, counts and texts of the
catalogue among the values are written as the language has them; numbers such as a group's are as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from string import Formatter
from typing import Any, cast

from evergreen_groups.errors import EvergreenGroupsError, GatewayError
from evergreen_groups.language.catalogue import translations_for
from evergreen_groups.language.language import current_language
from evergreen_groups.language.numbers import (
    clock_time,
    day,
    decimal_number,
    enumeration,
    minute,
    number,
    price,
    signed_price,
)
from evergreen_groups.message import Message
from evergreen_groups.total import Total


def gettext(message: str, /, **values: object) -> str:
    """A text, filled in with ``values``.

    >>> gettext("group {group} owes {owed}", group=1204, owed=Decimal("7.5"))
    'group 1204 owes $7.50'
    """
    if isinstance(message, Message):
        return _of_message(message, values)
    return filled(translations_for(current_language().tag).gettext(message), values) if message else ""


def ngettext(singular: str, plural: str, count: int, /, **values: object) -> str:
    """A text for a number of things, which is ``{count}`` in it.

    >>> ngettext("{count} member", "{count} members", 1), ngettext("{count} member", "{count} members", 1200)
    ('1 member', '1,200 members')
    """
    text = translations_for(current_language().tag).ngettext(singular, plural, count)
    return filled(text, {"count": number(count), **values})


def pgettext(context: str, message: str, /, **values: object) -> str:
    """A text with a word in it that means several things; ``context`` says which of them."""
    return filled(translations_for(current_language().tag).pgettext(context, message), values)


def npgettext(context: str, singular: str, plural: str, count: int, /, **values: object) -> str:
    """A text for a number of things, with a word in it that means several things."""
    text = translations_for(current_language().tag).npgettext(context, singular, plural, count)
    return filled(text, {"count": number(count), **values})


def _of_message(message: Message, more: Mapping[str, object]) -> str:
    values = {**message.values, **more} if more else message.values
    context, text = message.context, message.text
    if message.plural:
        count = cast("int", values["count"])
        if context:
            return npgettext(context, text, message.plural, count, **{**values, "count": number(count)})
        return ngettext(text, message.plural, count, **{**values, "count": number(count)})
    translations = translations_for(current_language().tag)
    if not text:
        return ""
    return filled(translations.pgettext(context, text) if context else translations.gettext(text), values)


def filled(template: str, values: Mapping[str, object]) -> str:
    """A text that is translated already with its values; where there are none it is taken as it is, braces and all."""
    if not values:
        return template
    parts = _parts(template)
    if parts is None:
        return _FILLER.vformat(template, (), values)
    return "".join([_part(part, values) for part in parts])


def _part(part: str | tuple[str, str], values: Mapping[str, object]) -> str:
    if isinstance(part, str):
        return part
    name, spec = part
    value = values[name]
    return value if type(value) is str and not spec else str(_FILLER.format_field(value, spec))


# A page of thousands of groups has some hundred thousand sentences of a few texts, and Formatter reads each anew.
@lru_cache(maxsize=4096)
def _parts(template: str) -> tuple[str | tuple[str, str], ...] | None:
    """The text cut at its values, which are names with how to write them; None where it isn't as plain as that."""
    found: list[str | tuple[str, str]] = []
    for text, name, spec, conversion in _FILLER.parse(template):
        if text:
            found.append(text)
        if name is None:
            continue
        if not name.isidentifier() or conversion or "{" in (spec or ""):
            return None
        found.append((name, spec or ""))
    return tuple(found)


def describe_total(total: Total[int] | Total[Decimal] | Decimal | None, *, short: bool = False) -> str:
    """Write a total, or an amount that may be unknown; ``short`` is for the narrow columns of a table.

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
    """Write a difference of money that may be unknown: ``+$12.50``."""
    return describe_total(None) if difference is None else signed_price(difference)


def describe_error(error: EvergreenGroupsError) -> str:
    """An error for people, the problem and the advice in one line."""
    return "; ".join(part for part in (describe_problem(error), describe_advice(error)) if part)


def describe_problem(error: EvergreenGroupsError) -> str:
    """What was being done and what came back, without the advice."""
    asked = gettext(error.asked) if isinstance(error, GatewayError) and error.asked else ""
    return ": ".join(part for part in (asked, gettext(error.message, **error.values)) if part)


def describe_advice(error: EvergreenGroupsError) -> str:
    """What there is to do about an error; empty where there is nothing."""
    return gettext(error.advice, **error.values) if error.advice else ""


class _Filler(Formatter):
    """Fills in values as the language has them."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        """Money with its currency, counts (``{count:,}``) with the language's separators, days, moments, and texts."""
        if isinstance(value, Decimal) and not format_spec:
            return price(value)
        if isinstance(value, Total):
            return describe_total(value)
        if isinstance(value, int) and format_spec == ",":
            return number(value)
        if isinstance(value, datetime) and format_spec in ("", "time"):
            return clock_time(value) if format_spec else minute(value)
        if isinstance(value, date) and not format_spec:
            return day(value)
        if isinstance(value, tuple | list):
            parts = [self.format_field(part, "") for part in value]
            value = enumeration(parts) if isinstance(value, list) else "; ".join(parts)
        elif isinstance(value, Message):
            value = gettext(value)
        elif isinstance(value, EvergreenGroupsError):
            value = describe_error(value)
        text = super().format_field(value, format_spec)
        return decimal_number(text) if isinstance(value, float) else text


_FILLER = _Filler()
