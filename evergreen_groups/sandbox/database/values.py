"""Values between the wire and the database: money as cents, booleans as 0 and 1, timestamps in UTC."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from hashlib import md5
from typing import Any

_TRUE, _FALSE = ("t", "true", "y", "yes", "on", "1"), ("f", "false", "n", "no", "off", "0")
_UNITS = {"second": 1, "sec": 1, "minute": 60, "min": 60, "hour": 3600, "day": 86_400, "week": 604_800} | {
    "month": 2_592_000,
    "mon": 2_592_000,
    "year": 31_104_000,
}
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d)?(?:\.\d+)?)?\s*(Z|[+-]\d\d(?::?\d\d)?)?$")


class BadValueError(ValueError):
    """A value that PostgreSQL would not take for the column's type."""


def now() -> datetime:
    """The current time, aware, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def timestamp_text(moment: datetime) -> str:
    """Write a moment as pcrud does: ``2026-11-24T22:24:11+0000``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise BadValueError("boolean for an integer")
    if isinstance(value, float | Decimal):
        return int(Decimal(value).quantize(Decimal(1), ROUND_HALF_UP))
    try:
        return int(str(value).strip())
    except ValueError:
        raise BadValueError("not an integer") from None


def cents(value: Any) -> int:
    """Read an amount, text or number, as a whole number of cents."""
    try:
        return int((Decimal(str(value).strip()) * 100).quantize(Decimal(1), ROUND_HALF_UP))
    except (InvalidOperation, ValueError):
        raise BadValueError("not an amount") from None


def amount_text(value: int) -> str:
    """Write a whole number of cents as an amount with two places.

    >>> amount_text(-325)
    '-3.25'
    """
    sign = "-" if value < 0 else ""
    return f"{sign}{abs(value) // 100}.{abs(value) % 100:02d}"


def _boolean(value: Any) -> int:
    text = str(value).strip().lower()
    if text in _TRUE:
        return 1
    if text in _FALSE:
        return 0
    raise BadValueError("not a boolean")


def _timestamp(value: Any) -> str:
    text = str(value).strip()
    if text.lower() == "now":
        return timestamp_text(now())
    match = _TIMESTAMP.match(text)
    if not match:
        raise BadValueError("not a timestamp")
    date, minutes, seconds, zone = match.groups()
    offset = "+0000" if zone in (None, "Z") else zone.replace(":", "").ljust(5, "0")
    try:
        moment = datetime.strptime(f"{date}T{minutes or '00:00'}{seconds or ':00'}{offset}", "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        raise BadValueError("not a timestamp") from None
    return timestamp_text(moment)


def _date(value: Any) -> str:
    return _timestamp(value)[:10]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def hash_of(key: int) -> str:
    """What a column holds that is no longer used for what it was: always the same for a key."""
    return md5(str(key).encode(), usedforsecurity=False).hexdigest()


def interval_seconds(text: str) -> int | None:
    """The length of an interval such as ``14 days`` or ``1 day 02:00:00``; None if it isn't one.

    A month counts 30 days, as when PostgreSQL compares intervals.
    """
    rest, total = text.strip(), 0
    clock = re.search(r"(?:^|\s)(-?)(\d+):(\d\d)(?::(\d\d))?$", rest)
    if clock:
        hours, minutes, seconds = (int(part or 0) for part in clock.groups()[1:])
        total = (hours * 3600 + minutes * 60 + seconds) * (-1 if clock[1] else 1)
        rest = rest[: clock.start()].strip()
    if re.fullmatch(r"-?\d+", rest) and not clock:
        return int(rest)
    if not rest and not clock:
        return None
    for number, unit in (parts := re.findall(r"(-?\d+)\s*([a-z]+)", rest.lower())):
        if unit.rstrip("s") not in _UNITS:
            return None
        total += int(number) * _UNITS[unit.rstrip("s")]
    return total if re.sub(r"-?\d+\s*[a-z]+\s*", "", rest.lower()) == "" and (parts or clock) else None


_TO_STORAGE: dict[str, Callable[[Any], Any]] = {
    "integer": _integer,
    "money": cents,
    "bool": _boolean,
    "timestamp": _timestamp,
    "date": _date,
    "text": _text,
    "interval": _text,
}


def to_storage(kind: str, value: Any) -> Any:
    """Turn a wire value into what the database keeps for a field of this kind; null stays null.

    Raises:
        BadValueError: the value doesn't fit the kind.
    """
    return None if value is None else _TO_STORAGE[kind](value)


def _amount(value: int | str) -> str:
    return value if isinstance(value, str) else amount_text(value)


def _boolean_text(value: int) -> str:
    return "t" if value else "f"


TO_WIRE: dict[str, Callable[[Any], Any] | None] = {
    "integer": None,
    "money": _amount,
    "bool": _boolean_text,
    "timestamp": None,
    "date": None,
    "text": None,
    "interval": None,
}


def to_wire(kind: str, value: Any) -> Any:
    """Turn what the database keeps into the wire value that pcrud gives."""
    convert = TO_WIRE[kind]
    return value if convert is None or value is None else convert(value)
