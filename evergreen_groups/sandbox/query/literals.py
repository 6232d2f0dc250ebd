"""Values of a query as SQL literals, refused where PostgreSQL would refuse them for the other side's type."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from evergreen_groups.sandbox.database import BadValueError, interval_seconds, now, timestamp_text, to_storage
from evergreen_groups.sandbox.query.frames import MalformedError, QueryError

_RANGES = {"integer": 2**31, "bigint": 2**63}
_SPECIAL_TIMES = {"epoch": "1970-01-01T00:00:00+0000"}
_BOOLEANS = {"true": 1, "yes": 1, "on": 1, "1": 1, "false": 0, "no": 0, "off": 0, "0": 0}


def text_literal(value: str) -> str:
    """A text as an SQL literal."""
    if "\0" in value:
        raise QueryError("a null character")
    return "'" + value.replace("'", "''") + "'"


def number_text(value: int | float) -> str:
    """A JSON number as text."""
    return str(value)


def _scaled(number: Decimal, kind: str) -> str:
    """A number for comparison: money counts in cents, and amounts between two cents stay between them."""
    scaled = number * 100 if kind == "money" else number
    return str(int(scaled)) if scaled == scaled.to_integral_value() else repr(float(scaled))


def raw_number(value: int | float, kind: str) -> str:
    """A number written into the SQL without quotation marks; it is compared by value with any number.

    Raises:
        QueryError: the other side isn't a number.
    """
    if kind not in ("integer", "bigint", "money", "numeric"):
        raise QueryError(f"a number for {kind}")
    return _scaled(Decimal(str(value)), kind)


def quoted_value(text: str, kind: str) -> str:
    """A value written in quotation marks: PostgreSQL reads it as the other side's type.

    Raises:
        QueryError: it can't be read as that type.
    """
    if kind in _RANGES:
        return _quoted_integer(text, _RANGES[kind])
    return _READERS.get(kind, text_literal)(text)


def _quoted_number(text: str, kind: str) -> str:
    try:
        number = Decimal(text.strip().replace("_", "x"))
    except InvalidOperation:
        raise QueryError("not a number") from None
    if not number.is_finite():  # NaN is greater than every number in PostgreSQL
        return "-9e999" if number == Decimal("-Infinity") else "9e999"
    return _scaled(number, kind)


def _quoted_integer(text: str, limit: int) -> str:
    if not re.fullmatch(r"\s*[-+]?\d+\s*", text, re.ASCII):
        raise QueryError("not an integer")
    if not -limit <= int(text) < limit:
        raise QueryError("integer out of range")
    return str(int(text))


def _quoted_interval(text: str) -> str:
    seconds = interval_seconds(text)
    if seconds is None:
        raise QueryError("not an interval")
    return str(seconds)


def _quoted_boolean(text: str) -> str:
    word = text.strip().lower()
    found = {value for name, value in _BOOLEANS.items() if word and name.startswith(word)}
    if len(found) != 1 or word == "o":
        raise QueryError("not a boolean")
    return str(found.pop())


def _quoted_time(text: str, kind: str) -> str:
    word = text.strip().lower()
    if word in _SPECIAL_TIMES:
        return text_literal(_SPECIAL_TIMES[word])
    if word in ("now", "today"):
        moment = timestamp_text(now())
        return text_literal(
            moment[:10] if kind == "date" else f"{moment[:10]}T00:00:00+0000" if word == "today" else moment
        )
    try:
        return text_literal(to_storage(kind, text))
    except BadValueError:
        raise QueryError("not a time") from None


_READERS: dict[str, Callable[[str], str]] = {
    "money": lambda text: _quoted_number(text, "money"),
    "numeric": lambda text: _quoted_number(text, "numeric"),
    "bool": _quoted_boolean,
    "interval": _quoted_interval,
    "timestamp": lambda text: _quoted_time(text, "timestamp"),
    "date": lambda text: _quoted_time(text, "date"),
}


def field_value(value: Any, field_kind: str, kind: str) -> str | None:
    """A scalar of a query as a literal to compare with something of ``kind``; None for null and booleans.

    The service writes a JSON number bare when the field it stands beside (``field_kind``) is an integer in the
    database, and everything else in quotation marks; it has no text for JSON's true and false (``pcrud-011``).
    """
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        if field_kind in _RANGES:
            return raw_number(value, kind)
        return quoted_value(number_text(value), kind)
    if isinstance(value, str):
        return quoted_value(value, kind)
    raise MalformedError("a scalar was expected")
