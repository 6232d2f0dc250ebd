"""The IDL's datatypes: what a field's wire value is as a Python value, and the other way round."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from evergreen_groups.errors import DataError
from evergreen_groups.message import Message
from evergreen_groups.odd_dates import UNKNOWN

_CENT = Decimal("0.01")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_MOST_DIGITS = 20  # of PostgreSQL's bigint, with its sign; int() refuses more than 4,300
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
# Years beyond 9999 or before 1, months and days that there aren't, infinities.
_ODD_DATE = re.compile(r"[+-]?\d{1,6}-\d\d-\d\d([T ]\d\d:\d\d.*)?( BC)?|-?infinity", re.ASCII)
# pcrud sends "t" and "f" (pcrud-007), full_path "1" (settings-034), other methods numbers.
TRUE = ("t", "true", "1", 1)
FALSE = ("f", "false", "0", "", 0)


def encode(value: Any, datatype: str) -> Any:
    """Return the wire form of a value of a field. Raises TypeError for a type that no field holds."""
    if isinstance(value, bool):
        # Never JSON's own: false matches nothing in a condition (pcrud-011).
        return "t" if value else "f"
    if isinstance(value, Decimal):
        return str(value.quantize(_CENT) if datatype == "money" else value)
    if isinstance(value, date):
        return _encode_date(value)
    if value is not None and not isinstance(value, int | str):
        raise TypeError(f"a field can't hold {type(value).__name__}")
    return value


def _encode_date(value: date) -> str:
    if not isinstance(value, datetime):
        return value.isoformat()
    if value.tzinfo is None:
        raise TypeError("a timestamp needs a time zone")
    return value.strftime("%Y-%m-%dT%H:%M:%S%z")


def wrong_value(class_id: str, name: str, what: str) -> DataError:
    """The error for a field's value that isn't ``what`` is due."""
    return DataError(
        "the field {field} of class {name} has a wrong value; expected: {what}",
        code="field-broken",
        values={"field": name, "name": class_id, "what": what},
    )


def whole_number(value: Any) -> int | None:
    """A whole number, or the same as text; None for anything else, a truth value among it.

    >>> whole_number("247"), whole_number(True), whole_number("7.0")
    (247, None, None)
    """
    if isinstance(value, str) and len(value) <= _MOST_DIGITS and _INTEGER.fullmatch(value):
        return int(value)
    return value if type(value) is int else None


def finite_number(value: Any) -> Decimal | None:
    """A number, or the same as text; None for anything else, a truth value, NaN and infinities among it.

    >>> finite_number("7.50"), finite_number(True), finite_number("1_0"), finite_number("NaN")
    (Decimal('7.50'), None, None, None)
    """
    # Python takes true for 1, and "1_0", or digits of any script, for numbers.
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        return None
    try:
        number = Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        return None
    return number if number.is_finite() else None


def _decode_text(value: Any, class_id: str, name: str) -> str:
    if isinstance(value, dict | list):
        raise wrong_value(class_id, name, Message("a text"))
    return value if isinstance(value, str) else str(value)


# Ids come as numbers from pcrud, as text from usergroup.new (usergroup-new-001), patron search (patrons-085) and
# full_path (settings-034). A link may lead to a key that is a text, with leading zeros: that stays one.
def _decode_id(value: Any, class_id: str, name: str) -> Any:
    number = whole_number(value)
    if number is None and (not isinstance(value, str) or _INTEGER.fullmatch(value)):
        raise wrong_value(class_id, name, Message("an id"))
    return value if number is None else number


def _decode_integer(value: Any, class_id: str, name: str) -> int:
    number = whole_number(value)
    if number is None:
        raise wrong_value(class_id, name, Message("a whole number"))
    return number


def _decode_number(value: Any, class_id: str, name: str) -> Decimal:
    number = finite_number(value)
    if number is None:
        raise wrong_value(class_id, name, Message("a number"))
    return number


def _decode_money(value: Any, class_id: str, name: str) -> Decimal:
    try:
        # "0.0" is an open circulation without bills (groups-026), "0.00" one that is paid up (groups-008): one amount.
        return _decode_number(value, class_id, name).quantize(_CENT)
    except InvalidOperation:
        raise wrong_value(class_id, name, Message("an amount of money")) from None


def _decode_boolean(value: Any, class_id: str, name: str) -> bool:
    if isinstance(value, str | int):
        if value in TRUE:
            return True
        if value in FALSE:
            return False
    raise wrong_value(class_id, name, Message("a boolean"))


def decode_date(value: Any, class_id: str, name: str) -> date | None:
    """Decode a timestamp or a plain date. One that Python can't hold is ``UNKNOWN``, or None without a time of day."""
    try:
        if _DATE.fullmatch(value):
            return date.fromisoformat(value)
        moment = datetime.fromisoformat(value)
    except TypeError:
        raise wrong_value(class_id, name, Message("a time")) from None
    except ValueError:
        if not _ODD_DATE.fullmatch(value):
            raise wrong_value(class_id, name, Message("a time")) from None
        return UNKNOWN if "T" in value or "infinity" in value else None
    offset = moment.utcoffset()
    if offset is None:
        raise wrong_value(class_id, name, Message("a time with its zone"))
    return moment.replace(tzinfo=_zone(offset))


@cache
def _zone(offset: timedelta) -> timezone:
    """One time zone for all moments with its offset from UTC: reports have them by the 100,000."""
    return timezone(offset)


_DECODERS: dict[str, Callable[[Any, str, str], Any]] = {
    "text": _decode_text,
    "interval": _decode_text,
    "int": _decode_integer,
    "number": _decode_number,
    "float": _decode_number,
    "money": _decode_money,
    "bool": _decode_boolean,
    "timestamp": decode_date,
}
"""How the datatypes are decoded; those of ids and links (``id``, ``link``, ``org_unit``) have :func:`_decode_id`."""

AS_IT_COMES: dict[Callable[[Any, str, str], Any], type] = {_decode_text: str, _decode_id: int, _decode_integer: int}
"""The type, by decoder, of wire values that the decoder gives back as they are."""


def decoder_of(datatype: str) -> Callable[[Any, str, str], Any]:
    """Return what decodes a field's wire value, given the value, the class's id and the field's name."""
    return _DECODERS.get(datatype, _decode_id)
